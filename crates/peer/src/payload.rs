//! The body of a response: nothing, bytes that are here, or bytes on their way from a neighbour.
//!
//! Pieces are pulled by hyper when the socket takes them: that is the backpressure, there is no queue.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    conn::Conn,
    emulation,
    link::{HopError, Link},
    routes::Route,
    upstream::UpstreamBody,
    wire::BUFFER,
};

/// Bytes handed to the socket at a time.
const PIECE: usize = BUFFER;

enum Kind {
    Bytes(Bytes),
    Upstream { body: Box<UpstreamBody>, left: u64, piece: Bytes },
}

/// A response's body.
pub(crate) struct Payload {
    kind: Kind,
    place: Option<(OwnedSemaphorePermit, Rc<Conn>)>,
    conn: Option<Rc<Conn>>,
    over: Option<Rc<Link>>,
    /// Held only: a route that somebody holds is in use.
    along: Option<Rc<Route>>,
    wait: Option<Pin<Box<Sleep>>>,
    sent: Option<Rc<Cell<u64>>>,
}

impl Payload {
    /// Bytes that are here; may be empty.
    pub(crate) fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self {
            kind: Kind::Bytes(bytes.into()),
            place: None,
            conn: None,
            over: None,
            along: None,
            wait: None,
            sent: None,
        }
    }

    /// `left` bytes on their way from a neighbour.
    pub(crate) fn upstream(body: UpstreamBody, left: u64) -> Self {
        let kind = Kind::Upstream { body: Box::new(body), left, piece: Bytes::new() };
        Self { kind, place: None, conn: None, over: None, along: None, wait: None, sent: None }
    }

    /// The transfer keeps `place` until its last byte has left over `conn`.
    #[must_use]
    pub(crate) fn holding(mut self, place: OwnedSemaphorePermit, conn: Rc<Conn>) -> Self {
        self.place = Some((place, conn));
        self
    }

    /// Ends the request on `conn`.
    #[must_use]
    pub(crate) fn on(mut self, conn: Rc<Conn>) -> Self {
        self.conn = Some(conn);
        self
    }

    /// Leaves at the rate of `link`, where it has one.
    #[must_use]
    pub(crate) fn over(mut self, link: Rc<Link>) -> Self {
        self.over = Some(link);
        self
    }

    /// Keeps the route in use until the last byte is gone.
    #[must_use]
    pub(crate) fn along(mut self, route: Rc<Route>) -> Self {
        self.along = Some(route);
        self
    }

    /// Counts the bytes.
    #[must_use]
    pub(crate) fn counted(mut self, counter: &Rc<Cell<u64>>) -> Self {
        self.sent = Some(counter.clone());
        self
    }

    fn take(&mut self, most: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, HopError>>> {
        match &mut self.kind {
            Kind::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Bytes(bytes) => Poll::Ready(Some(Ok(bytes.split_to(most.min(bytes.len()))))),
            Kind::Upstream { body, left, piece } => {
                while piece.is_empty() {
                    if *left == 0 {
                        return Poll::Ready(None);
                    }
                    match ready!(body.poll_piece(cx)) {
                        Some(Ok(more)) if more.len() as u64 > *left => {
                            return Poll::Ready(Some(Err(HopError::Malformed("more bytes than announced"))));
                        }
                        Some(Ok(more)) => *piece = more,
                        Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                        None => {
                            return Poll::Ready(Some(Err(HopError::Broken("the body ended early".into()))));
                        }
                    }
                }
                let taken = piece.split_to(most.min(piece.len()));
                *left -= taken.len() as u64;
                Poll::Ready(Some(Ok(taken)))
            }
        }
    }

    fn left(&self) -> u64 {
        match &self.kind {
            Kind::Bytes(bytes) => bytes.len() as u64,
            Kind::Upstream { left, .. } => *left,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = HopError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HopError>>> {
        let this = &mut *self;
        let rate = this.over.as_ref().and_then(|link| link.emulation().rate);
        if let Some(wait) = &mut this.wait {
            ready!(wait.as_mut().poll(cx));
            this.wait = None;
        }
        let most = rate.map_or(PIECE, |rate| emulation::piece(rate, PIECE));
        let Some(piece) = ready!(this.take(most, cx)) else { return Poll::Ready(None) };
        if let Ok(bytes) = &piece {
            if let Some(sent) = &this.sent {
                sent.set(sent.get() + bytes.len() as u64);
            }
            // The piece goes now, the next one when this one would have left a line of that rate.
            if let (Some(rate), Some(link)) = (rate, &this.over) {
                let until = link.pace.send(bytes.len(), rate, Instant::now());
                this.wait = Some(Box::pin(sleep_until(until)));
            }
        }
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some((place, conn)) = self.place.take() {
            conn.leave(place);
        }
        if let Some(conn) = &self.conn {
            conn.set_busy(false);
        }
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes)", self.left())
    }
}

/// What hyper's service returns: every failure is a response.
pub(crate) type Reply = http::Response<Payload>;
/// A service never fails.
pub(crate) type Served = Result<Reply, Infallible>;

#[cfg(test)]
mod tests {
    use hopcast_protocol::{Emulation, LinkKey, NeighborConfig, PeerName};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::testing::paused;

    fn link(rate: Option<u64>) -> Rc<Link> {
        Link::new(&NeighborConfig {
            name: PeerName::new("peer-2").unwrap(),
            endpoint: "127.0.0.1:1".to_owned(),
            key: LinkKey([1; 32]),
            rooms: vec![],
            emulation: Emulation { rate, ..Emulation::default() },
        })
    }

    #[test]
    fn bytes_come_in_pieces_and_are_counted() {
        paused(async {
            let (bytes, sent) = (Bytes::from(vec![7; 3 * PIECE + 1]), Rc::new(Cell::new(0)));
            let mut payload = Payload::bytes(bytes.clone()).counted(&sent);
            let mut pieces = vec![];
            while let Some(frame) = payload.frame().await {
                pieces.push(frame.unwrap().into_data().unwrap());
            }
            assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE, PIECE, PIECE, 1]);
            assert_eq!((pieces.concat(), sent.get()), (bytes.to_vec(), bytes.len() as u64));
        });
    }

    #[test]
    fn two_answers_share_the_rate_of_a_link() {
        paused(async {
            let (link, began) = (link(Some(100_000)), Instant::now());
            let body = || Payload::bytes(vec![0; 50_000]).over(link.clone()).collect();
            let (one, other) = tokio::join!(body(), body());
            assert_eq!(one.unwrap().to_bytes().len() + other.unwrap().to_bytes().len(), 100_000);
            // All but the last pieces have left at 100 kB a second, on the test's own clock.
            let took = began.elapsed().as_millis();
            assert!((900..=1010).contains(&took), "{took}");
        });
    }
}
