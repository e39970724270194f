//! Asking a neighbour: one request over one link, and the body that comes back.
//!
//! Whoever asks gets a status and headers within the hop's patience or an error; the body applies the same patience to
//! each piece. What an error means for the link is acted upon here, by the hop it happened at.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use hopcast_protocol::RelayAuth;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    emulation, health,
    link::{HopError, Link, Patience},
    net,
    node::Node,
    wire::Wire,
};

/// What a neighbour answered.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; empty for HEAD.
    pub body: UpstreamBody,
}

/// Seconds since 1970, for `Authorization`.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Opens a connection and the task that keeps it; the task ends with the connection or with the link.
pub(crate) async fn open(node: &Node, link: &Rc<Link>) -> Result<Wire, HopError> {
    let config = node.config();
    let stream = net::dial(&link.endpoint, config.dial_from, net::Buffers::asking(&config.limits)).await?;
    let (wire, keeper) = Wire::open(stream).await.map_err(|error| HopError::Broken(error.to_string()))?;
    let link = link.clone();
    node.spawn(async move {
        tokio::select! {
            () = keeper => {}
            () = link.was_cut() => {}
        }
    });
    Ok(wire)
}

/// Sends a request over a link, signed with the link's key.
pub(crate) async fn request(
    node: &Rc<Node>,
    link: &Rc<Link>,
    method: &Method,
    uri: &Uri,
    range: Option<&str>,
    patience: Patience,
) -> Result<Upstream, HopError> {
    let result = exchange(node, link, method, uri, range, patience).await;
    if let Err(error) = &result {
        node.blame(link, error);
    }
    result
}

async fn exchange(
    node: &Rc<Node>,
    link: &Rc<Link>,
    method: &Method,
    uri: &Uri,
    range: Option<&str>,
    patience: Patience,
) -> Result<Upstream, HopError> {
    let feel = link.emulation();
    let delay = emulation::delay(&feel, node.random.unit());
    if delay > Duration::ZERO {
        tokio::time::sleep(delay).await;
    }
    if emulation::lost(&feel, node.random.unit()) {
        return Err(HopError::Lost);
    }
    let mut given_up = Box::pin(health::given_up(node.clone(), link.clone(), patience));
    loop {
        if link.is_cut() {
            return Err(HopError::Cut);
        }
        let (mut wire, reused) = if let Some(wire) = link.take_idle(Instant::now()) {
            (wire, true)
        } else {
            tokio::select! {
                opened = open(node, link) => (opened?, false),
                () = &mut given_up => return Err(HopError::Stalled),
            }
        };
        let response = tokio::select! {
            response = wire.ask(build(node, link, method, uri, range)) => response,
            () = &mut given_up => return Err(HopError::Stalled),
            () = link.was_cut() => return Err(HopError::Cut),
        };
        match response {
            Ok(response) => {
                let (head, incoming) = response.into_parts();
                let body = UpstreamBody {
                    incoming,
                    wire: Some(wire),
                    link: link.clone(),
                    node: node.clone(),
                    patience,
                    hurried: None,
                    timer: None,
                };
                return Ok(Upstream { status: head.status, headers: head.headers, body });
            }
            // A kept connection may have been closed at the other side in the meantime: that says nothing.
            Err(_) if reused => {}
            Err(_) if link.is_cut() => return Err(HopError::Cut),
            Err(error) => return Err(HopError::Broken(error.to_string())),
        }
    }
}

fn build(node: &Node, link: &Link, method: &Method, uri: &Uri, range: Option<&str>) -> Request<Empty<Bytes>> {
    let config = node.config();
    let auth = RelayAuth::sign(
        &link.key,
        method.as_str(),
        uri.path(),
        range.unwrap_or_default(),
        &config.name,
        unix_now(),
    );
    let mut request = Request::new(Empty::new());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();
    let headers = request.headers_mut();
    headers.insert(header::HOST, link.host.clone());
    headers.insert(header::AUTHORIZATION, header_value(auth));
    if let Some(range) = range {
        headers.insert(header::RANGE, header_value(range.to_owned()));
    }
    request
}

/// A header's value out of names, digits and signs.
fn header_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text)
        .expect("visible ASCII: a name, digits and signs, or what was a header's value before")
}

/// A body on its way from a neighbour.
pub(crate) struct UpstreamBody {
    incoming: Incoming,
    wire: Option<Wire>,
    link: Rc<Link>,
    node: Rc<Node>,
    patience: Patience,
    hurried: Option<Duration>,
    timer: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl std::fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UpstreamBody(from {})", self.link.name)
    }
}

impl UpstreamBody {
    /// From now on each piece has to come within `patience`: the route is known to be broken somewhere. That it stands
    /// still is then no proof against the link beside this peer.
    pub(crate) fn hurry(&mut self, patience: Duration) {
        self.hurried = Some(patience);
        self.timer = None;
    }

    /// The next piece; `None` at the end.
    pub(crate) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, HopError>>> {
        loop {
            let mut frame = Pin::new(&mut self.incoming).poll_frame(cx);
            if frame.is_pending()
                && let Some(wire) = &self.wire
            {
                wire.drive(cx);
                frame = Pin::new(&mut self.incoming).poll_frame(cx);
            }
            let Poll::Ready(frame) = frame else {
                // The clock runs only while this side wants more: a slow reader is not the neighbour's fault.
                let timer = self.timer.get_or_insert_with(|| match self.hurried {
                    Some(patience) => Box::pin(tokio::time::sleep(patience)),
                    None => Box::pin(health::given_up(self.node.clone(), self.link.clone(), self.patience)),
                });
                ready!(timer.as_mut().poll(cx));
                self.wire = None;
                let error = if self.hurried.is_some() {
                    HopError::Broken("it stands still, and its route is no more".to_owned())
                } else {
                    HopError::Stalled
                };
                return Poll::Ready(Some(Err(self.fail(error))));
            };
            self.timer = None;
            return match frame {
                None => {
                    self.finish();
                    Poll::Ready(None)
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if self.incoming.is_end_stream() {
                            self.finish();
                        }
                        Poll::Ready(Some(Ok(data)))
                    }
                    Err(_) => continue, // trailers
                },
                Some(Err(error)) => {
                    self.wire = None;
                    let error =
                        if self.link.is_cut() { HopError::Cut } else { HopError::Broken(error.to_string()) };
                    Poll::Ready(Some(Err(self.fail(error))))
                }
            };
        }
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, HopError>> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// Gives the connection back if there is no body, so that the next request finds it.
    pub(crate) fn finish_if_empty(&mut self) {
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(wire) = self.wire.take() {
            self.link.put_idle(wire, Instant::now());
        }
    }

    fn fail(&self, error: HopError) -> HopError {
        self.node.blame(&self.link, &error);
        error
    }
}

#[cfg(test)]
mod tests {
    use hopcast_protocol::{Emulation, LinkKey, NeighborConfig, PeerName};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;
    use crate::{link, testing};

    /// A neighbour that answers `/health`, and begins every other answer without ever going on.
    async fn neighbour(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let mut request = vec![0; 4096];
                let len = stream.read(&mut request).await.unwrap_or_default();
                let text: &[u8] = if request[..len].starts_with(b"GET /health ") {
                    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npeer-2: ok"
                } else {
                    b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nthe first bytes"
                };
                let _ = stream.write_all(text).await;
                let _ = stream.read(&mut request).await; // until the other end closes
            });
        }
    }

    #[test]
    fn a_body_that_stands_still_is_the_links_fault_unless_its_route_is_known_to_be_broken() {
        testing::paused(async {
            for hurried in [true, false] {
                let listener = TcpListener::bind("127.84.100.1:0").await.unwrap();
                let link = Link::new(&NeighborConfig {
                    name: PeerName::new("peer-2").unwrap(),
                    endpoint: listener.local_addr().unwrap().to_string(),
                    key: LinkKey([1; 32]),
                    rooms: vec![],
                    emulation: Emulation::default(),
                });
                let serving = tokio::task::spawn_local(neighbour(listener));
                let node = testing::node(vec![]);
                let patience = link::patience(1, &Emulation::default());
                let asked =
                    request(&node, &link, &Method::GET, &Uri::from_static("/relay/e-1/x"), None, patience)
                        .await;
                let mut body = asked.unwrap().body;
                assert_eq!(body.piece().await.unwrap().unwrap(), "the first bytes");
                if hurried {
                    body.hurry(Duration::from_millis(250));
                }
                assert!(body.piece().await.unwrap().is_err());
                // Time for a probe: the neighbour is well, so a link that was reported down is up again.
                tokio::time::sleep(Duration::from_secs(1)).await;
                assert_eq!(node.metrics.link_reports.get(), u64::from(!hurried));
                assert!(link.is_up() && !link.probing.get());
                link.cut();
                serving.abort();
            }
        });
    }
}
