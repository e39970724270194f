//! An HTTP client that asks for one thing after the other over one kept connection. It blocks: a thread for each.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::stop;

/// Nothing moves for so long: given up.
const STALL: Duration = Duration::from_secs(15);

/// One connection to a peer or a proxy.
pub(crate) struct Flow {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Flow {
    /// Connects; a relay that was just started gets some time.
    pub(crate) fn connect(to: SocketAddr, deadline: Instant) -> Result<Self> {
        let stream = loop {
            match TcpStream::connect(to) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => bail!("nothing listens at {to}: {error}"),
                Err(_) => stop::pause(Duration::from_millis(10))?,
            }
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(STALL))?;
        Ok(Self { stream, buffer: vec![0; 256 << 10] })
    }

    /// Asks, and reads the whole answer; the length of its body.
    pub(crate) fn ask(&mut self, request: &str) -> Result<usize> {
        stop::check()?;
        self.stream.write_all(request.as_bytes())?;
        let mut filled = 0;
        let (end, length) = loop {
            let count = self.stream.read(&mut self.buffer[filled..]).context("no answer in time")?;
            ensure!(count > 0, "the relay closed");
            filled += count;
            let Some(end) = self.buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else {
                ensure!(filled < self.buffer.len(), "an answer with a head that never ends");
                continue;
            };
            let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
            ensure!(head.starts_with("http/1.1 200"), "{}", head.lines().next().unwrap_or_default());
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.context("an answer without a length")?.trim().parse()?;
            break (end + 4, length);
        };
        let mut got = filled - end;
        while got < length {
            let count = self.stream.read(&mut self.buffer).context("the body stands still")?;
            ensure!(count > 0, "the body ended too soon");
            got += count;
        }
        Ok(length)
    }

    /// Asks, and reads an answer that has to be the connection's last, whole.
    pub(crate) fn text(mut self, request: &str) -> Result<String> {
        let last = request.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        self.stream.write_all(last.as_bytes())?;
        let mut text = String::new();
        self.stream.read_to_string(&mut text)?;
        Ok(text)
    }
}
