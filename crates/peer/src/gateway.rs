//! What makes a peer a gateway: the edge databases that it may read.
//!
//! Reads are single-flight, few at a time, bounded in time (shorter than a neighbour's patience), and checked against
//! the hash before anybody sees them. What finds no room in the cache keeps its place among the reads until nobody holds its
//! bytes any more: readers that stand still hold back other reads, and not ever more memory.

use std::{cell::RefCell, collections::HashMap, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    FutureExt as _,
    future::{LocalBoxFuture, Shared},
};
use hopcast_protocol::{ContentId, PeerLimits, Sha256, SongName};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

use crate::{cache::Space, metrics::count, node::Node};

/// Most reads at a time; deeper only adds latency.
const READS: u64 = 4;
/// How long a read may take over all databases, the wait for a place included: less than a neighbour waits for a
/// first byte.
const READ: Duration = Duration::from_millis(1500);
const _: () = assert!(hopcast_store::STATEMENT_TIMEOUT.as_millis() < READ.as_millis());

/// Why a database did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// A source's answer: bytes, nothing of that name, or an error.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Option<Bytes>, SourceError>> + 'a>>;

/// Something that songs are read from: an edge database, or memory in tests.
pub trait Source {
    /// A blob by its hash.
    fn blob<'a>(&'a self, sha256: &'a Sha256) -> Answer<'a>;
    /// A song's signed manifest.
    fn manifest<'a>(&'a self, song: &'a SongName) -> Answer<'a>;
    /// Its name, for messages.
    fn name(&self) -> String;
}

type Read = Shared<LocalBoxFuture<'static, Result<Option<Bytes>, SourceError>>>;

/// The databases of one gateway, in the order in which they are tried.
pub struct Gateway {
    sources: Rc<[Rc<dyn Source>]>,
    reads: RefCell<HashMap<ContentId, Read>>,
    places: Arc<Semaphore>,
}

/// Bytes that are in no cache.
struct Loose {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Loose {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Gateway {
    /// A gateway of these; `None` without any. As many reads go on at a time as longest segments fit into the cache.
    pub fn new(sources: Vec<Rc<dyn Source>>, limits: &PeerLimits) -> Option<Rc<Self>> {
        let reads = (limits.cache / limits.max_segment.max(1)).clamp(1, READS);
        (!sources.is_empty()).then(|| {
            Rc::new(Self {
                sources: sources.into(),
                reads: RefCell::default(),
                places: Arc::new(Semaphore::new(reads as usize)),
            })
        })
    }

    /// Reads a content; a blob also goes into the cache.
    pub async fn read(
        self: &Rc<Self>,
        node: &Rc<Node>,
        content: &ContentId,
    ) -> Result<Option<Bytes>, SourceError> {
        let known = self.reads.borrow().get(content).cloned();
        let read = known.unwrap_or_else(|| {
            let (gateway, node, wanted) = (self.clone(), node.clone(), content.clone());
            let read = async move {
                let answer = gateway.read_once(&node, &wanted).await;
                gateway.reads.borrow_mut().remove(&wanted);
                answer
            };
            let read = read.boxed_local().shared();
            self.reads.borrow_mut().insert(content.clone(), read.clone());
            // It belongs to nobody who waits for it.
            tokio::task::spawn_local(read.clone().map(|_| ()));
            read
        });
        read.await
    }

    async fn read_once(&self, node: &Rc<Node>, content: &ContentId) -> Result<Option<Bytes>, SourceError> {
        let deadline = Instant::now() + READ;
        // The wait counts too: the neighbour who asked takes a late answer for a broken link.
        let Ok(place) = timeout_at(deadline, self.places.clone().acquire_owned()).await else {
            return Err(SourceError("all reads wait for slow databases".to_owned()));
        };
        let place = place.expect("it is never closed");
        count(&node.metrics.database_reads);
        let left = deadline.saturating_duration_since(Instant::now());
        let each = left / u32::try_from(self.sources.len()).unwrap_or(1);
        let mut failed = None;
        for source in self.sources.iter() {
            let read = match content {
                ContentId::Blob(sha256) => source.blob(sha256),
                ContentId::Manifest(song) => source.manifest(song),
            };
            let answer = timeout(each, read).await;
            let error = match (answer, content) {
                (Ok(Ok(Some(bytes))), ContentId::Blob(sha256)) => {
                    if Sha256::of(&bytes) == *sha256 {
                        if node.make_room(bytes.len() as u64) == Space::Free {
                            node.keep(*sha256, &bytes, &[]);
                            return Ok(Some(bytes));
                        }
                        return Ok(Some(Bytes::from_owner(Loose { bytes, _place: place })));
                    }
                    count(&node.metrics.corrupt);
                    format!("{content} has other bytes there")
                }
                (Ok(Ok(Some(bytes))), ContentId::Manifest(_)) => return Ok(Some(bytes)),
                (Ok(Ok(None)), _) => continue,
                (Ok(Err(error)), _) => error.to_string(),
                (Err(_), _) => "no answer in time".to_owned(),
            };
            tracing::warn!(database = source.name(), "{error}");
            failed = Some(SourceError(error));
        }
        failed.map_or(Ok(None), |error| {
            count(&node.metrics.database_errors);
            Err(error)
        })
    }
}

/// Songs in memory: a gateway without a database.
#[derive(Debug, Default)]
pub struct Memory {
    blobs: RefCell<HashMap<Sha256, Bytes>>,
    manifests: RefCell<HashMap<SongName, Bytes>>,
    broken: RefCell<Option<String>>,
    reads: RefCell<u64>,
}

impl Memory {
    /// Keeps a blob under the hash it is said to have.
    pub fn put_blob(&self, sha256: Sha256, bytes: impl Into<Bytes>) {
        self.blobs.borrow_mut().insert(sha256, bytes.into());
    }

    /// Keeps a signed manifest.
    pub fn put_manifest(&self, song: SongName, bytes: impl Into<Bytes>) {
        self.manifests.borrow_mut().insert(song, bytes.into());
    }

    /// From now on every read fails with this text, or works again.
    pub fn set_broken(&self, why: Option<String>) {
        *self.broken.borrow_mut() = why;
    }

    /// How often it was read.
    pub fn reads(&self) -> u64 {
        *self.reads.borrow()
    }

    fn answer(&self, bytes: Option<Bytes>) -> Answer<'static> {
        *self.reads.borrow_mut() += 1;
        let answer = self.broken.borrow().clone().map_or(Ok(bytes), |why| Err(SourceError(why)));
        // One turn of the scheduler: a read is never instant.
        Box::pin(async move {
            tokio::task::yield_now().await;
            answer
        })
    }
}

impl Source for Memory {
    fn blob<'a>(&'a self, sha256: &'a Sha256) -> Answer<'a> {
        self.answer(self.blobs.borrow().get(sha256).cloned())
    }

    fn manifest<'a>(&'a self, song: &'a SongName) -> Answer<'a> {
        self.answer(self.manifests.borrow().get(song).cloned())
    }

    fn name(&self) -> String {
        "memory".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// A database that never answers.
    struct Silent;

    impl Source for Silent {
        fn blob<'a>(&'a self, _: &'a Sha256) -> Answer<'a> {
            Box::pin(std::future::pending())
        }

        fn manifest<'a>(&'a self, _: &'a SongName) -> Answer<'a> {
            Box::pin(std::future::pending())
        }

        fn name(&self) -> String {
            "silent".to_owned()
        }
    }

    #[test]
    fn the_second_database_is_asked_when_the_first_is_silent_wrong_or_without_it() {
        testing::paused(async {
            let (wrong, right, bytes) =
                (Memory::default(), Rc::new(Memory::default()), Bytes::from_static(b"abc"));
            let content = ContentId::Blob(Sha256::of(&bytes));
            wrong.put_blob(Sha256::of(&bytes), "abd");
            right.put_blob(Sha256::of(&bytes), bytes.clone());
            let firsts: [Rc<dyn Source>; 3] = [Rc::new(Silent), Rc::new(wrong), Rc::new(Memory::default())];
            for first in firsts {
                let node = testing::node(vec![first, right.clone()]);
                let gateway = node.gateway().unwrap();
                let (one, other) = tokio::join!(gateway.read(&node, &content), gateway.read(&node, &content));
                assert_eq!((one.unwrap().unwrap(), other.unwrap().unwrap()), (bytes.clone(), bytes.clone()));
                assert_eq!(node.cache.borrow().bytes(), 3);
            }
            assert_eq!(right.reads(), 3, "two readers cost one read");
        });
    }

    #[test]
    fn reads_that_queue_behind_a_silent_database_fail_in_the_same_time() {
        testing::paused(async {
            let node = testing::node(vec![Rc::new(Silent)]);
            let (gateway, began) = (node.gateway().unwrap(), Instant::now());
            let contents: Vec<_> = (0..3 * READS as u8).map(|n| ContentId::Blob(Sha256([n; 32]))).collect();
            let reads = contents.iter().map(|content| gateway.read(&node, content));
            let answers = futures_util::future::join_all(reads).await;
            assert!(answers.iter().all(Result::is_err));
            // The clock is the test's own.
            let took = began.elapsed();
            assert!(took < hopcast_protocol::limits::NO_PROGRESS, "a neighbour gave up before: {took:?}");
            assert!(gateway.reads.borrow().is_empty());
        });
    }

    #[test]
    fn what_finds_no_room_keeps_its_place_until_its_readers_are_gone() {
        testing::paused(async {
            // A cache of 4 MiB and segments of 1 MiB: four places beside it. The first segment fills the cache.
            let last = READS as usize + 1;
            let blobs: Vec<Bytes> = (0..=last).map(|n| Bytes::from(vec![n as u8; 4 << 20])).collect();
            let contents: Vec<_> = blobs.iter().map(|bytes| ContentId::Blob(Sha256::of(bytes))).collect();
            let source = Rc::new(Memory::default());
            for bytes in &blobs {
                source.put_blob(Sha256::of(bytes), bytes.clone());
            }
            let node = testing::node(vec![source]);
            let gateway = node.gateway().unwrap();
            let mut held = Vec::new();
            for content in &contents[..last] {
                held.push(gateway.read(&node, content).await.unwrap().unwrap());
            }
            assert_eq!(node.cache.borrow().bytes(), 4 << 20);
            assert!(gateway.read(&node, &contents[last]).await.is_err(), "no place");
            held.pop();
            assert_eq!(gateway.read(&node, &contents[last]).await.unwrap().unwrap(), blobs[last]);
        });
    }

    #[test]
    fn an_error_is_not_the_same_as_nothing() {
        testing::paused(async {
            let content = ContentId::Blob(Sha256([1; 32]));
            let node = testing::node(vec![Rc::new(Memory::default())]);
            assert_eq!(node.gateway().unwrap().read(&node, &content).await, Ok(None));
            assert_eq!(node.metrics.database_errors.get(), 0);
            let node = testing::node(vec![Rc::new(Silent), Rc::new(Silent)]);
            assert!(node.gateway().unwrap().read(&node, &content).await.is_err());
            let counted = (node.metrics.database_reads.get(), node.metrics.database_errors.get());
            assert_eq!(counted, (1, 1), "two databases, one read");
            let node = testing::node(vec![Rc::new(Silent), Rc::new(Memory::default())]);
            assert!(node.gateway().unwrap().read(&node, &content).await.is_err());
        });
    }
}
