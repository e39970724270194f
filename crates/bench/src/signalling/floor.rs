//! The floor: a bare server of the same parts (hyper, fastwebsockets) that writes as many frames of the same size, and does
//! nothing else. No names, no rooms, no liveness, no search: a message says how many connections get how many bytes.
//!
//! As good as one would write it: a task for each connection, a frame is made once and its bytes are shared, whatever
//! waits for a connection goes out in one write. All connections are told apart by the number in their name.

use std::{
    convert::Infallible,
    future::ready,
    io::IoSlice,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, Result};
use fastwebsockets::{OpCode, Role, WebSocketError};
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream, tcp::OwnedWriteHalf},
    sync::Notify,
};

/// Most connections.
const PLACES: usize = 32_768;
/// Connections that may wait to be accepted: more than the clients open at a time.
const BACKLOG: u32 = 4096;
/// Frames that go into one write.
const BATCH: usize = 64;

/// What waits for one connection.
#[derive(Default)]
struct Queue {
    frames: Mutex<Vec<Bytes>>,
    ready: Notify,
}

struct Floor {
    queues: Vec<Mutex<Option<Arc<Queue>>>>,
    connections: AtomicUsize,
    messages: AtomicUsize,
}

/// Serves until the process is killed.
pub fn serve(at: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = listen(at).with_context(|| format!("{at} cannot be bound"))?;
        let floor = Arc::new(Floor {
            queues: (0..PLACES).map(|_| Mutex::default()).collect(),
            connections: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
        });
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let floor = floor.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| ready(Ok::<_, Infallible>(answer(&floor, request))));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
                // How a client ends its connection is its own business.
                let _ = connection.await;
            });
        }
    })
}

fn listen(at: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

fn answer(floor: &Arc<Floor>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let number = |request: &Request<Incoming>| {
        let query = request.uri().query()?;
        query.split('&').find_map(|pair| pair.strip_prefix("peer=peer-"))?.parse::<usize>().ok()
    };
    let number = number(&request).filter(|&number| number < PLACES);
    let (Some(number), true) = (number, fastwebsockets::upgrade::is_upgrade_request(&request)) else {
        let (connections, messages) =
            (floor.connections.load(Ordering::Relaxed), floor.messages.load(Ordering::Relaxed));
        return Response::new(Full::from(format!("connections {connections}\nmessages {messages}\n")));
    };
    let upgrade = hyper::upgrade::on(&mut request);
    match fastwebsockets::upgrade::upgrade(&mut request) {
        Ok((accepted, _)) => {
            let floor = floor.clone();
            tokio::spawn(async move {
                let Ok(upgraded) = upgrade.await else { return };
                if let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() {
                    talk(&floor, number, parts.io.into_inner(), parts.read_buf).await;
                }
            });
            accepted.map(|_| Full::default())
        }
        Err(_) => Response::new(Full::from("not a WebSocket\n")),
    }
}

async fn talk(floor: &Floor, number: usize, stream: TcpStream, early: Bytes) {
    let queue = Arc::new(Queue::default());
    set(&floor.queues[number], Some(queue.clone()));
    floor.connections.fetch_add(1, Ordering::Relaxed);
    let (read, mut write) = stream.into_split();
    // A copy: the bytes, also none, hold hyper's whole buffer for as long as the connection lives.
    let ahead = Bytes::copy_from_slice(&early);
    drop(early);
    let mut read = std::io::Cursor::new(ahead).chain(read);
    let (mut frames, _) = fastwebsockets::after_handshake_split(&mut read, tokio::io::sink(), Role::Server);
    frames.set_auto_close(false);
    frames.set_auto_pong(false);
    let reading = async {
        while let Ok(frame) = frames.read_frame(&mut |_| ready(Ok::<_, WebSocketError>(()))).await {
            match frame.opcode {
                OpCode::Text => floor.message(&frame.payload),
                OpCode::Close => return,
                _ => {}
            }
            tokio::task::consume_budget().await;
        }
    };
    tokio::select! {
        () = reading => {}
        _ = write_all(&queue, &mut write) => {}
    }
    set(&floor.queues[number], None);
    floor.connections.fetch_sub(1, Ordering::Relaxed);
}

fn set(place: &Mutex<Option<Arc<Queue>>>, queue: Option<Arc<Queue>>) {
    *place.lock().unwrap_or_else(PoisonError::into_inner) = queue;
}

/// Writes whatever comes, as much as there is at a time.
async fn write_all(queue: &Queue, write: &mut OwnedWriteHalf) -> std::io::Result<()> {
    loop {
        let frames = std::mem::take(&mut *queue.frames.lock().unwrap_or_else(PoisonError::into_inner));
        if frames.is_empty() {
            queue.ready.notified().await;
            continue;
        }
        for batch in frames.chunks(BATCH) {
            let mut slices = [IoSlice::new(&[]); BATCH];
            for (slice, frame) in slices.iter_mut().zip(batch) {
                *slice = IoSlice::new(frame);
            }
            let mut left = &mut slices[..batch.len()];
            while !left.is_empty() {
                let written = write.write_vectored(left).await?;
                if written == 0 {
                    return Err(std::io::ErrorKind::WriteZero.into());
                }
                IoSlice::advance_slices(&mut left, written);
            }
        }
    }
}

impl Floor {
    /// `write <key> <count> <step> <peers> <hop bytes> <requester bytes> <first>`: that many connections, each `step` further
    /// round, get a frame; the first one the requester's. Anything else is read and that is all.
    fn message(&self, payload: &[u8]) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        let Some(rest) = payload.strip_prefix(b"write ") else { return };
        let Ok(text) = std::str::from_utf8(rest) else { return };
        let mut fields = text.split(' ');
        let Some(key) = fields.next() else { return };
        let mut number = || fields.next()?.parse::<usize>().ok();
        let (Some(count), Some(step), Some(peers), Some(small), Some(large), Some(first)) =
            (number(), number(), number(), number(), number(), number())
        else {
            return;
        };
        let (hop, requester) = (frame(key, "", small), frame(key, r#","path":["#, large));
        // The requester last, as the real server does it.
        for at in (0..count).rev() {
            let place = self.queues.get((first + at * step) % peers);
            let queue = place.and_then(|place| place.lock().unwrap_or_else(PoisonError::into_inner).clone());
            if let Some(queue) = queue {
                let frame = if at == 0 { &requester } else { &hop };
                queue.frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame.clone());
                queue.ready.notify_one();
            }
        }
    }
}

/// A text frame of so many bytes of payload that begins as a path of the real server does.
fn frame(key: &str, mark: &str, bytes: usize) -> Bytes {
    let mut payload = format!(r#"{{"type":"path","route":"{key}"{mark}"#).into_bytes();
    payload.resize(bytes.max(payload.len()), b' ');
    let mut wire = Vec::with_capacity(payload.len() + 10);
    wire.push(0x81);
    match payload.len() {
        short if short < 126 => wire.push(short as u8),
        medium if medium < 65_536 => {
            wire.push(126);
            wire.extend((medium as u16).to_be_bytes());
        }
        long => {
            wire.push(127);
            wire.extend((long as u64).to_be_bytes());
        }
    }
    wire.extend(payload);
    wire.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::parse;

    #[test]
    fn as_many_frames_of_the_asked_sizes_the_requesters_last() {
        let floor = Floor {
            queues: (0..10).map(|_| Mutex::new(Some(Arc::default()))).collect(),
            connections: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
        };
        floor.message(br#"{"type":"announce"}"#);
        floor.message(b"write 7-1 3 4 10 100 70000 7");
        let lengths: Vec<Vec<usize>> = floor
            .queues
            .iter()
            .map(|place| {
                let queue = place.lock().unwrap().clone().unwrap();
                let frames = queue.frames.lock().unwrap();
                frames.iter().map(|frame| parse(frame).map_or(0, |(_, begin, end)| end - begin)).collect()
            })
            .collect();
        let expected: Vec<Vec<usize>> = (0..10)
            .map(|at| match at {
                7 => vec![70_000],
                1 | 5 => vec![100],
                _ => vec![],
            })
            .collect();
        assert_eq!(lengths, expected);
        assert_eq!(floor.messages.into_inner(), 2);
    }
}
