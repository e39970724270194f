//! A player as plain as can be: one blocking HTTP/1.1 request for each connection, no library.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use hopcast_protocol::{LinkKey, PeerName, RelayAuth};

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// False where the connection ended before the announced length.
    pub(crate) whole: bool,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The peers of `Via`.
    pub(crate) fn via(&self) -> Vec<String> {
        self.header("via").split(", ").map(|entry| entry.trim_start_matches("1.1 ").to_owned()).collect()
    }
}

/// Sends a request and leaves the reading to the caller.
pub(crate) fn open(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> BufReader<TcpStream> {
    send(TcpStream::connect(to).expect("the peer listens"), to, method, path, headers)
}

fn send(
    mut stream: TcpStream,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> BufReader<TcpStream> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    stream.write_all((text + "\r\n").as_bytes()).unwrap();
    BufReader::new(stream)
}

/// Reads a status line and headers.
pub(crate) fn head(reader: &mut BufReader<TcpStream>) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status line");
    let status =
        line.split(' ').nth(1).unwrap_or_else(|| panic!("no status line: {line:?}")).parse().unwrap();
    let mut headers = vec![];
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    (status, headers)
}

pub(crate) fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    exchange(TcpStream::connect(to).expect("the peer listens"), to, method, path, headers)
}

fn exchange(
    stream: TcpStream,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    let mut reader = send(stream, to, method, path, headers);
    let (status, headers) = head(&mut reader);
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map(|(_, value)| value.parse().unwrap());
    let wanted =
        if method == "HEAD" || status == 304 || status == 204 { 0 } else { length.expect("a length") };
    let mut body = vec![];
    let whole = reader.take(wanted).read_to_end(&mut body).is_ok() && body.len() as u64 == wanted;
    Response { status, headers, body, whole }
}

pub(crate) fn get(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response {
    request(to, "GET", path, headers)
}

/// A relay request as a neighbour sends it.
pub(crate) fn relay(to: SocketAddr, from: &PeerName, key: &LinkKey, path: &str, range: &str) -> Response {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let auth = RelayAuth::sign(key, "GET", path, range, from, now);
    let mut headers = vec![("Authorization", auth.as_str())];
    if !range.is_empty() {
        headers.push(("Range", range));
    }
    get(to, path, &headers)
}

/// A GET from a given source address.
pub(crate) fn get_from(from: std::net::IpAddr, to: SocketAddr, path: &str) -> Response {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    exchange(stream, to, "GET", path, &[])
}
