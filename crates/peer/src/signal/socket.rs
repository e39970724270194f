//! The task that keeps one room's connection: connect, say everything, listen, and come back when it breaks.

use std::{cell::RefCell, collections::VecDeque, io::Cursor, rc::Rc, time::Duration};

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocketError, WebSocketRead, WebSocketWrite};
use hopcast_protocol::{
    ServerMessage,
    limits::{CLOSE_REPLACED, DEAD_AFTER, PING_EVERY, SUBPROTOCOL},
};
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite},
    net::{TcpStream, tcp},
    time::{Instant, timeout},
};

use super::{
    Endpoint, Received, Room,
    assembly::{Assembly, Broken},
};
use crate::{
    backoff::Backoff,
    net,
    node::{Exit, Node},
};

/// The server pings after [`PING_EVERY`] without a frame: after this long without one it is gone.
const SILENCE: Duration = DEAD_AFTER.saturating_add(PING_EVERY);
/// How long one message may take to leave.
const SEND: Duration = Duration::from_secs(10);
/// Longest message of the server's: a path of a thousand long names fits.
const MESSAGE: usize = 256 * 1024;
/// Most pongs that wait to be sent.
const PONGS: usize = 16;

/// How a connection ended.
enum End {
    Lost(String),
    Replaced,
    Stopped,
}

/// Keeps the room connected until it is stopped.
pub async fn run(node: Rc<Node>, room: Rc<Room>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut logged = None;
    loop {
        let began = Instant::now();
        let stream = tokio::select! {
            stream = connect(&node, &room) => stream,
            () = stopped(&room) => return,
        };
        let end = match stream {
            Ok(stream) => session(&node, &room, stream).await,
            Err(why) => End::Lost(why),
        };
        let was_connected = room.is_connected();
        room.disconnected();
        node.released.notify_waiters();
        match end {
            End::Stopped => return,
            // Its successor in this very process was faster.
            End::Replaced if room.stopping.get() => return,
            End::Replaced => {
                tracing::error!(room = %room.name, "another process took this peer's name; it stays, this one ends");
                node.exit(Exit::Replaced);
                return;
            }
            End::Lost(why) => {
                // One reason is told once: a server may stay away for long.
                if was_connected || logged.as_ref() != Some(&why) {
                    tracing::warn!(room = %room.name, "signalling lost: {why}");
                }
                logged = Some(why);
            }
        }
        // A server that takes connections and drops them at once is not asked faster than one that is away.
        if was_connected && began.elapsed() > SILENCE {
            backoff.reset();
        }
        let until = Instant::now() + backoff.next(node.random.unit());
        while !room.stopping.get() && timeout(until - Instant::now(), room.wake.notified()).await.is_ok() {}
        if room.stopping.get() {
            return;
        }
    }
}

/// Waits until the room is to be left. What else wakes a room is said once it is connected.
async fn stopped(room: &Room) {
    while !room.stopping.get() {
        room.wake.notified().await;
    }
}

struct Stream {
    stream: TcpStream,
    early: Bytes,
}

async fn connect(node: &Node, room: &Room) -> Result<Stream, String> {
    let config = node.config();
    let endpoint = Endpoint::parse(&config.signal_url).map_err(|error| error.to_string())?;
    let stream = net::dial(&endpoint.authority, config.dial_from, net::Buffers::MESSAGES)
        .await
        .map_err(|error| error.to_string())?;
    let mut request = Request::get(format!("{}?peer={}&room={}", endpoint.path, config.name, room.name))
        .header(header::HOST, &endpoint.authority)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, fastwebsockets::handshake::generate_key())
        .header(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    if let Some(token) = &room.membership.token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let upgrade = async {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(16 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let response = async {
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            match response.status() {
                StatusCode::SWITCHING_PROTOCOLS => Ok(response),
                StatusCode::UNAUTHORIZED => Err(
                    "the server does not take this peer's token (401): `hopcast up` gives both the same keys"
                        .to_owned(),
                ),
                StatusCode::FORBIDDEN => {
                    Err("the server's topology has no such peer in this room (403): give both the same file"
                        .to_owned())
                }
                status => Err(format!("the server answered {status}")),
            }
        };
        let parts = async { connection.without_shutdown().await.map_err(|error| error.to_string()) };
        tokio::try_join!(response, parts)
    };
    let (response, parts) =
        timeout(SEND, upgrade).await.map_err(|_| "no answer to the handshake".to_owned())??;
    if response.headers().get(header::SEC_WEBSOCKET_PROTOCOL).is_none_or(|chosen| chosen != SUBPROTOCOL) {
        return Err(format!("the server does not speak {SUBPROTOCOL}"));
    }
    Ok(Stream { stream: parts.io.into_inner(), early: parts.read_buf })
}

async fn session(node: &Rc<Node>, room: &Rc<Room>, Stream { stream, early }: Stream) -> End {
    let (read, write) = stream.into_split();
    let read = Cursor::new(early).chain(read);
    let (mut reader, writer) = fastwebsockets::after_handshake_split(read, write, Role::Client);
    reader.set_auto_pong(false);
    reader.set_auto_close(false);
    reader.set_max_message_size(MESSAGE);
    let pongs = RefCell::new(VecDeque::new());
    room.connected.set(true);
    room.forget_refusals();
    node.signal_connected(room);
    // Both halves run in this one task, so that a frame half read is never abandoned.
    tokio::select! {
        end = listen(node, room, reader, &pongs) => end,
        end = speak(node, room, writer, &pongs) => end,
    }
}

type Reader = WebSocketRead<tokio::io::Chain<Cursor<Bytes>, tcp::OwnedReadHalf>>;

async fn listen(
    node: &Rc<Node>,
    room: &Rc<Room>,
    mut reader: Reader,
    pongs: &RefCell<VecDeque<Vec<u8>>>,
) -> End {
    let mut assembly = Assembly::new(MESSAGE);
    loop {
        let mut unused = |_: Frame<'_>| async { Ok::<_, WebSocketError>(()) };
        let frame = match timeout(SILENCE, reader.read_frame(&mut unused)).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(error)) => return End::Lost(error.to_string()),
            Err(_) => return End::Lost(format!("no frame for {} s", SILENCE.as_secs())),
        };
        match frame.opcode {
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                match assembly.add(frame.opcode, frame.fin, &frame.payload) {
                    Ok(Some((OpCode::Text, message))) => receive(node, room, &message),
                    Ok(_) => {}
                    Err(Broken::TooLong) => {
                        return End::Lost(format!("a message of more than {MESSAGE} bytes"));
                    }
                    Err(Broken::OutOfOrder) => return End::Lost("fragments out of order".to_owned()),
                }
            }
            OpCode::Ping => {
                if pongs.borrow().len() >= PONGS {
                    return End::Lost("pings faster than they can be answered".to_owned());
                }
                pongs.borrow_mut().push_back(frame.payload.to_vec());
                room.wake.notify_one();
            }
            OpCode::Close => {
                let code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                return match code {
                    Some(CLOSE_REPLACED) => End::Replaced,
                    Some(code) => End::Lost(format!("the server closed the connection ({code})")),
                    None => End::Lost("the server closed the connection".to_owned()),
                };
            }
            OpCode::Pong => {}
        }
    }
}

/// A whole message, whatever is in it.
fn receive(node: &Rc<Node>, room: &Rc<Room>, message: &[u8]) {
    match serde_json::from_slice::<ServerMessage>(message) {
        Ok(message) => match room.receive(message, &mut node.routes.borrow_mut(), Instant::now()) {
            Received::Route => {
                node.route_news.notify_waiters();
                node.routes_used();
            }
            Received::Retired => node.route_news.notify_waiters(),
            Received::Refused => introduce_later(node, room),
            Received::Nothing => {}
        },
        Err(error) => tracing::warn!(room = %room.name, "a message that is not understood: {error}"),
    }
}

/// The server may reread its file later than this peer.
fn introduce_later(node: &Rc<Node>, room: &Rc<Room>) {
    let Some(wait) = room.introduce_in(Instant::now()) else { return };
    let room = Rc::downgrade(room);
    node.spawn(async move {
        tokio::time::sleep(wait).await;
        if let Some(room) = room.upgrade() {
            room.introduce();
        }
    });
}

async fn speak<W: AsyncWrite + Unpin>(
    node: &Node,
    room: &Room,
    mut writer: WebSocketWrite<W>,
    pongs: &RefCell<VecDeque<Vec<u8>>>,
) -> End {
    loop {
        loop {
            if room.stopping.get() {
                let close = writer.write_frame(Frame::close(1001, b"the peer stops"));
                let _ = timeout(Duration::from_millis(500), close).await;
                return End::Stopped;
            }
            let pong = pongs.borrow_mut().pop_front();
            let frame = if let Some(payload) = pong {
                Frame::pong(Payload::Owned(payload))
            } else {
                let Some(message) = room.outbox.borrow_mut().next_message() else { break };
                let text = serde_json::to_vec(&message).expect("names, numbers and lists always serialise");
                Frame::text(Payload::Owned(text))
            };
            match timeout(SEND, writer.write_frame(frame)).await {
                Ok(Ok(())) => {
                    if room.outbox.borrow_mut().said() {
                        node.released.notify_waiters();
                    }
                }
                Ok(Err(error)) => return End::Lost(error.to_string()),
                Err(_) => return End::Lost("the server takes no more messages".to_owned()),
            }
        }
        room.wake.notified().await;
    }
}
