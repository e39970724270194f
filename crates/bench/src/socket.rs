//! A WebSocket client that costs next to nothing, so that what is measured is the server: no task and no buffer of its own
//! besides what has come of an unfinished frame. Its frames carry an all-zero mask (RFC 6455 5.3 allows any).

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// Bytes that have come and were not looked at: an unfinished frame mostly.
    rest: Vec<u8>,
    /// How much of `rest` was handed out.
    used: usize,
}

/// The request that opens a WebSocket.
pub(crate) fn upgrade(host: &str, peer: &str, room: &str, subprotocol: bool) -> String {
    let offered = if subprotocol { "Sec-WebSocket-Protocol: hopcast.1\r\n" } else { "" };
    format!(
        "GET /ws?peer={peer}&room={room} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{offered}\r\n"
    )
}

/// A whole frame of a client's.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    encode(TEXT, payload)
}

fn encode(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = vec![0x80 | opcode];
    match payload.len() {
        short if short < 126 => wire.push(0x80 | short as u8),
        long => {
            // Nothing here is longer than 64 KiB: the server would not take it.
            wire.push(0x80 | 0x7e);
            wire.extend((long as u16).to_be_bytes());
        }
    }
    wire.extend([0; 4]);
    wire.extend(payload);
    wire
}

/// The first whole frame of a server's: its opcode, where its payload begins, and where it ends.
pub(crate) fn parse(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (head, len) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= head + len).then_some((first & 0xf, head, head + len))
}

/// Connects, and upgrades; what came behind the answer's head is kept.
pub(crate) async fn open(address: SocketAddr, request: &str) -> Result<(TcpStream, Vec<u8>)> {
    let socket = TcpSocket::new_v4()?;
    let mut stream =
        socket.connect(address).await.with_context(|| format!("failed to connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await.with_context(|| format!("{address} takes no request"))?;
    let mut head = Vec::with_capacity(256);
    let end = loop {
        let more =
            stream.read_buf(&mut head).await.with_context(|| format!("{address} answers no upgrade"))?;
        ensure!(more > 0, "{address} closed instead of upgrading");
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        ensure!(head.len() < 8192, "{address} answered with a head that never ends");
    };
    ensure!(
        head.starts_with(b"HTTP/1.1 101"),
        "{address} did not upgrade: {}",
        String::from_utf8_lossy(&head[..end]).lines().next().unwrap_or_default()
    );
    Ok((stream, head.split_off(end)))
}

impl Client {
    /// Enters a room as a client of `hopcast.1`.
    pub(crate) async fn enter(address: SocketAddr, peer: &str, room: &str) -> Result<Self> {
        let (stream, rest) = open(address, &upgrade(&address.to_string(), peer, room, true)).await?;
        Ok(Self { stream, rest, used: 0 })
    }

    pub(crate) async fn send(&mut self, text: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(&frame(text)).await?)
    }

    /// The next message. Nothing is lost where this is dropped half-way.
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            self.rest.drain(..std::mem::take(&mut self.used));
            if let Some((opcode, begin, end)) = parse(&self.rest) {
                self.used = end;
                let payload = &self.rest[begin..end];
                match opcode {
                    PING => drop(self.stream.try_write(&encode(PONG, payload))),
                    PONG => {}
                    CLOSE => bail!("the server closed: {}", String::from_utf8_lossy(payload)),
                    _ => return Ok(payload.to_vec()),
                }
                continue;
            }
            ensure!(self.stream.read_buf(&mut self.rest).await? > 0, "the server closed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_lengths_are_read_as_far_as_they_have_come() {
        for (len, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut wire = vec![0x81];
            match head {
                2 => wire.push(len as u8),
                4 => wire.extend([[126].as_slice(), &(len as u16).to_be_bytes()].concat()),
                _ => wire.extend([[127].as_slice(), &(len as u64).to_be_bytes()].concat()),
            }
            wire.resize(head + len, b'x');
            assert_eq!(parse(&wire), Some((TEXT, head, head + len)));
            assert_eq!(parse(&wire[..wire.len() - 1]), None);
            wire.push(0x89);
            assert_eq!(parse(&wire), Some((TEXT, head, head + len)));
        }
        assert_eq!(frame(b"{}"), [0x81, 0x82, 0, 0, 0, 0, b'{', b'}']);
    }
}
