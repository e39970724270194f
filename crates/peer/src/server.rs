//! The listening side: accepts connections, and says which part answers which path.

use std::{convert::Infallible, net::IpAddr, rc::Rc};

use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Duration, Instant, sleep},
};

use crate::{
    conn::{Conn, Socket},
    metrics,
    node::Node,
    page,
    payload::{Reply, Served},
    player, relay, reply,
    wire::BUFFER,
};

/// Connections at a time; more are closed at once.
const CONNECTIONS: usize = 96;
/// For each neighbour so many more, which no player gets: players cannot shut the neighbours out.
const EACH_NEIGHBOR: usize = 4;

/// Accepts until the task is dropped.
pub(crate) async fn run(node: Rc<Node>, listener: &TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                if node.connections.get() >= most(&node, remote.ip()) {
                    continue; // dropping it closes it
                }
                let conn = Conn::new(remote, Instant::now());
                node.spawn(connection(node.clone(), conn, stream));
            }
            // Out of descriptors, or the connection is gone already: neither is mended by asking again at once.
            Err(error) => {
                tracing::warn!("failed to accept: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// How many connections there may be when one more comes from this address.
fn most(node: &Node, remote: IpAddr) -> usize {
    let config = node.config();
    // Without a range of addresses (a peer started by hand) a neighbour looks like anyone.
    if config.peer_addresses.is_some() && !player::is_other_peer(&config, remote) {
        return CONNECTIONS;
    }
    CONNECTIONS + EACH_NEIGHBOR * config.neighbors.len()
}

struct Counted(Rc<Node>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.released.notify_waiters();
    }
}

async fn connection(node: Rc<Node>, conn: Rc<Conn>, stream: TcpStream) {
    node.connections.set(node.connections.get() + 1);
    let _counted = Counted(node.clone());
    let _ = stream.set_nodelay(true); // without it the connection is slower, not wrong
    let service = {
        let (node, conn) = (node.clone(), conn.clone());
        service_fn(move |request| serve(node.clone(), conn.clone(), request))
    };
    let socket = TokioIo::new(Socket::new(stream, conn.clone()));
    let serving = http1::Builder::new().max_buf_size(BUFFER).serve_connection(socket, service);
    tokio::select! {
        _ = serving => {} // the other end learns of errors; here they concern nobody
        () = conn.killed() => {}
        () = conn.expired() => {}
    }
}

async fn serve(node: Rc<Node>, conn: Rc<Conn>, request: Request<Incoming>) -> Served {
    conn.set_busy(true);
    let (head, _body) = request.into_parts();
    // RFC 9112 3.2: one Host, whatever it is.
    let hosts = head.headers.get_all(header::HOST).iter().count();
    let reply = match head.uri.path() {
        _ if head.version == Version::HTTP_11 && hosts != 1 => {
            reply::plain(StatusCode::BAD_REQUEST, "a request has one Host header\n")
        }
        path if path.starts_with("/relay/") => relay::handle(&node, &conn, &head).await,
        path if path.starts_with("/hls/") => player::handle(&node, &conn, &head).await,
        _ => {
            let reply = small(&node, &head);
            if head.method == Method::HEAD { reply::without_body(reply) } else { reply }
        }
    };
    Ok::<_, Infallible>(reply.map(|payload| payload.on(conn)))
}

fn small(node: &Node, head: &http::request::Parts) -> Reply {
    if head.method != Method::GET && head.method != Method::HEAD {
        return reply::method_not_allowed();
    }
    let config = node.config();
    let mut reply = match head.uri.path() {
        "/health" => reply::plain(StatusCode::OK, format!("{}: ok", config.name)),
        "/name" => reply::plain(StatusCode::OK, config.name.as_str().to_owned()),
        "/peers" => {
            let mut names = String::new();
            for link in node.links().iter() {
                names.push_str(link.name.as_str());
                names.push('\n');
            }
            reply::plain(StatusCode::OK, names)
        }
        "/metrics" => {
            reply::text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::page(node))
        }
        "/" => reply::text(StatusCode::OK, "text/html; charset=utf-8", page::page(node, head.uri.query())),
        "/hops" => reply::text(StatusCode::OK, "application/json", node.last.borrow().json()),
        _ => reply::plain(
            StatusCode::NOT_FOUND,
            "nothing here: try /, /health, /peers, /metrics or /hls/<song>/master.m3u8\n",
        ),
    };
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
