//! An echo endpoint over the server's own connection code, for WebSocket conformance suites (`scripts/conformance`).
//!
//! The shipped server has none. `cargo run -p hopcast-signalling --example echo [ADDR]` prints `listening on ADDR`.

use std::{convert::Infallible, error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use hopcast_signalling::{
    connection::{self, ConnectionLimits, Handler},
    frame::Frame,
    group::Turns,
    outbox::{Outbox, OutboxLimits},
};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The suites send up to 16 MiB in one message.
const MESSAGE: usize = 17 << 20;

struct Echo(Arc<Outbox>);

impl Handler for Echo {
    fn alive(&mut self) {}

    fn message(&mut self, payload: &[u8], text: bool) {
        let frame = if text { Frame::text(payload) } else { Frame::binary(payload) };
        if self.0.push(frame).is_err() {
            self.0.abort();
        }
    }

    fn too_large(&mut self) {}
}

async fn answer(
    mut request: Request<Incoming>,
) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    let Ok((response, _)) = fastwebsockets::upgrade::upgrade(&mut request) else {
        let mut response = Response::new(Full::from("a WebSocket is wanted\n").boxed_unsync());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (read, write) = tokio::io::split(TokioIo::new(upgraded));
        let outbox = Arc::new(Outbox::new(OutboxLimits { frames: 1 << 20, bytes: 4 * MESSAGE }));
        let limits =
            ConnectionLimits { message: MESSAGE, linger: Duration::from_secs(1), ..Default::default() };
        connection::serve(read, write, &outbox, &Turns::default(), Echo(outbox.clone()), limits).await;
    });
    Ok(response.map(BodyExt::boxed_unsync))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            let _ = connection.with_upgrades().await; // how a suite ends its connections is its own business
        });
    }
}
