//! One request, passed on to a peer; its answer, streamed back (RFC 9110 7.6).

use std::{fmt::Display, time::Duration};

use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{Body, refuse};

/// A peer must take the connection within this time: three lost SYNs are forgiven (RFC 6298: 1, 2 and 4 s apart).
const CONNECT: Duration = Duration::from_secs(10);
/// A peer holds a request for as long as its `patience` says; after this long nothing more is expected.
const HEAD: Duration = Duration::from_mins(5);

/// Headers that concern one connection only (RFC 9110 7.6.1); those that `Connection` names come on top.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Passes a request on; whatever goes wrong before the answer's head is a 502 or 504 with the reason.
pub(super) async fn forward(
    peer: &str,
    endpoint: &str,
    target: &str,
    request: Request<Incoming>,
) -> Response<Body> {
    match exchange(endpoint, target, request).await {
        Ok(response) => response,
        Err((status, reason)) => refuse(status, format!("{peer} does not answer at {endpoint}: {reason}\n")),
    }
}

type Failure = (StatusCode, String);

fn failed(error: impl Display) -> Failure {
    (StatusCode::BAD_GATEWAY, error.to_string())
}

async fn exchange(
    endpoint: &str,
    target: &str,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Failure> {
    let late = |what: &str| (StatusCode::GATEWAY_TIMEOUT, what.to_owned());
    *request.uri_mut() =
        target.parse::<Uri>().map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    strip(request.headers_mut());
    let stream = timeout(CONNECT, TcpStream::connect(endpoint))
        .await
        .map_err(|_| late("the peer does not take the connection"))?
        .map_err(failed)?;
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Ends with the request: when the sender and the answer's body are gone.
    tokio::spawn(connection);
    let mut response = timeout(HEAD, sender.send_request(request))
        .await
        .map_err(|_| late("the peer does not answer"))?
        .map_err(failed)?;
    strip(response.headers_mut());
    Ok(response.map(BodyExt::boxed_unsync))
}

fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, x-mine"), ("x-mine", "1"), ("keep-alive", "1"), ("range", "bytes=5-")]
        {
            headers.append(name, value.parse().unwrap());
        }
        strip(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["range"]);
    }
}
