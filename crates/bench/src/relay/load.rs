//! The far end of every chain: a source that answers any request with a body. Threads that block: nothing here takes more of
//! a processor than it must.

use std::{
    io::{IoSlice, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result};

/// Answers each request with so many bytes as were last asked for. Its threads end with their connections.
#[derive(Debug, Clone)]
pub(super) struct Source(Arc<AtomicUsize>);

impl Source {
    pub(super) fn listen(at: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(at)
            .with_context(|| format!("{at} cannot be bound: is another bench running?"))?;
        let length = Arc::new(AtomicUsize::new(0));
        let source = Self(length.clone());
        // Until the program ends: a listener that nobody connects to costs nothing.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let length = length.clone();
                thread::spawn(move || {
                    // The other end went: that is how each of these ends.
                    let _ = answer(stream, &length);
                });
            }
        });
        Ok(source)
    }

    pub(super) fn set_length(&self, length: usize) {
        self.0.store(length, Ordering::Relaxed);
    }
}

fn answer(mut stream: TcpStream, length: &AtomicUsize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 8192];
    let mut filled = 0;
    let mut response = Vec::new();
    loop {
        let count = stream.read(&mut buffer[filled..])?;
        filled += count;
        if count == 0 || filled == buffer.len() {
            return Ok(());
        }
        // One request at a time on a connection.
        if !buffer[..filled].ends_with(b"\r\n\r\n") {
            continue;
        }
        filled = 0;
        let length = length.load(Ordering::Relaxed);
        if response.len() < length {
            response.resize(length, b'x');
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n"
        );
        // Together, as a server does: a head that goes alone wakes the next relay for itself.
        let mut parts = [IoSlice::new(head.as_bytes()), IoSlice::new(&response[..length])];
        let mut rest = parts.as_mut_slice();
        while !rest.is_empty() {
            match stream.write_vectored(rest)? {
                0 => return Ok(()),
                count => IoSlice::advance_slices(&mut rest, count),
            }
        }
    }
}
