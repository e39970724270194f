//! `/api/events`: what happens in the rooms, as server-sent events (WHATWG HTML 9.2).
//!
//! An event is encoded once and shared. A reader that falls behind loses events and is told how many; it never holds up
//! a room.

use std::{
    convert::Infallible,
    sync::{PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use hyper::body::Frame;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::core::Event;

/// Events that a reader may be behind.
const BEHIND: usize = 4096;
/// A comment keeps an idle stream alive this often.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

/// Where rooms put their events.
#[derive(Debug)]
pub struct Events {
    /// Absent once the server drains.
    sender: RwLock<Option<broadcast::Sender<Bytes>>>,
    most_readers: usize,
}

/// There are as many readers as are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyReaders;

impl Events {
    /// Nobody reads yet.
    pub fn new(most_readers: usize) -> Self {
        Self { sender: RwLock::new(Some(broadcast::Sender::new(BEHIND))), most_readers }
    }

    /// Whether somebody reads.
    pub fn watched(&self) -> bool {
        self.readers() > 0
    }

    fn readers(&self) -> usize {
        self.sender().as_ref().map_or(0, broadcast::Sender::receiver_count)
    }

    fn sender(&self) -> RwLockReadGuard<'_, Option<broadcast::Sender<Bytes>>> {
        self.sender.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every reader's stream after what waits for it.
    pub fn close(&self) {
        *self.sender.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// To everyone who reads.
    pub fn publish(&self, event: &Event) {
        let text = format!("event: {}\ndata: {}\n\n", event.name(), event.data());
        if let Some(sender) = self.sender().as_ref() {
            let _ = sender.send(text.into()); // the last reader may have gone meanwhile
        }
    }

    /// A response body of all events from now on.
    pub fn subscribe(
        &self,
    ) -> Result<impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + 'static, TooManyReaders> {
        if self.readers() >= self.most_readers {
            return Err(TooManyReaders);
        }
        let receiver = self.sender().as_ref().ok_or(TooManyReaders)?.subscribe();
        // The first bytes tell the reader that it is subscribed: what happens from here on, it gets.
        let hello = Some(Bytes::from_static(b": events of this server's rooms\n\n"));
        Ok(stream::unfold((receiver, hello), |(mut receiver, hello)| async move {
            if let Some(hello) = hello {
                return Some((Ok(Frame::data(hello)), (receiver, None)));
            }
            let bytes = match tokio::time::timeout(COMMENT_EVERY, receiver.recv()).await {
                Ok(Ok(bytes)) => bytes,
                Ok(Err(RecvError::Lagged(missed))) => {
                    format!("event: lagged\ndata: {{\"missed\":{missed}}}\n\n").into()
                }
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => Bytes::from_static(b":\n\n"),
            };
            Some((Ok(Frame::data(bytes)), (receiver, None)))
        }))
    }
}
