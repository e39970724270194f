//! One HTTP request: which answer, or the upgrade to a WebSocket.
//!
//! Runs with the handshakes; an upgraded connection moves to its room's.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use hopcast_protocol::{NameError, PeerName, RoomName, limits::SUBPROTOCOL};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Parts},
};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncReadExt as _, net::TcpStream, sync::OwnedSemaphorePermit};
use tracing::debug;

use crate::{
    api,
    connection::{self, ConnectionLimits},
    core::Dialect,
    group::Turns,
    hub::{Hub, Refusal, Session},
    patient::Patient,
};

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer with a text.
pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", text)
}

/// An answer with any content type.
pub(crate) fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Who was let into a room, before the answer that says so has gone out.
pub(crate) struct Entered {
    upgrade: OnUpgrade,
    session: Session,
}

/// Answers one request. Where that is an upgrade, `entered` has what comes of it.
pub(crate) fn answer(
    hub: &Arc<Hub>,
    entered: &Mutex<Option<Entered>>,
    request: Request<Incoming>,
) -> Response<Body> {
    let response = match request.uri().path() {
        _ if !names_its_host(&request) => text(StatusCode::BAD_REQUEST, "a request has one Host header\n"),
        "/ws" => join(hub, entered, request),
        _ => api::answer(hub, &request),
    };
    hub.metrics.request(response.status().as_u16());
    response
}

/// A request of HTTP/1.1 has one Host, whatever it is (RFC 9112 3.2).
pub(crate) fn names_its_host<B>(request: &Request<B>) -> bool {
    request.version() != Version::HTTP_11 || request.headers().get_all(header::HOST).iter().count() == 1
}

/// The value of a query's first parameter of that name, percent-decoded.
pub(crate) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        (decode(key) == name).then(|| decode(value))
    })
}

/// A query's parameter as a name; the error is the sentence for a 400.
pub(crate) fn named<T: std::str::FromStr<Err = NameError>>(
    query: Option<&str>,
    key: &str,
) -> Result<T, String> {
    let value = parameter(query, key).unwrap_or_default();
    if value.is_empty() {
        return Err(format!("the parameter `{key}` is missing"));
    }
    value.parse().map_err(|error| format!("the parameter `{key}`: {error}"))
}

/// `Authorization: Bearer <token>`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// `GET /ws?peer=<name>&room=<interest>`. The peer is in the room before its 101 goes out.
fn join(hub: &Arc<Hub>, entered: &Mutex<Option<Entered>>, mut request: Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    let query = request.uri().query();
    let names = named::<PeerName>(query, "peer")
        .and_then(|peer| named::<RoomName>(query, "room").map(|room| (peer, room)));
    let (peer, room) = match names {
        Ok(names) => names,
        Err(sentence) => {
            return text(
                StatusCode::BAD_REQUEST,
                format!("{sentence}: GET /ws?peer=<name>&room=<interest>\n"),
            );
        }
    };
    if let Err(refusal) = hub.admit(&peer, &room, bearer(request.headers())) {
        return refused(&refusal);
    }
    if !fastwebsockets::upgrade::is_upgrade_request(&request) {
        return upgrade_required("this is a WebSocket endpoint: send Upgrade: websocket\n");
    }
    if request.headers().get(header::SEC_WEBSOCKET_KEY).is_none_or(|key| !is_key(key.as_bytes())) {
        return text(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key has to be 16 bytes in base64\n");
    }
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let hopcast = offered
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|protocol| protocol.trim() == SUBPROTOCOL);
    let dialect = if hopcast { Dialect::Hopcast } else { Dialect::Original };
    let upgrade = hyper::upgrade::on(&mut request);
    let (accepted, _) = match fastwebsockets::upgrade::upgrade(&mut request) {
        Ok(accepted) => accepted,
        Err(fastwebsockets::WebSocketError::InvalidSecWebsocketVersion) => {
            return upgrade_required("only version 13 of the WebSocket protocol is spoken here\n");
        }
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    };
    let session = match hub.enter(&peer, &room, dialect) {
        Ok(session) => session,
        Err(refusal) => return refused(&refusal),
    };
    *entered.lock().unwrap_or_else(PoisonError::into_inner) = Some(Entered { upgrade, session });
    let mut response = accepted.map(BodyExt::boxed_unsync);
    if hopcast {
        let selected = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, selected);
    }
    response
}

/// 16 bytes in base64 (RFC 6455 4.2.1).
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    key.len() == 24 && key.strip_suffix(b"==").is_some_and(|digits| digits.iter().all(is_digit))
}

fn refused(refusal: &Refusal) -> Response<Body> {
    let status = match refusal {
        Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
        Refusal::Unknown(_) => StatusCode::FORBIDDEN,
        Refusal::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = text(status, format!("{refusal}\n"));
    match refusal {
        Refusal::Unauthorized => {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Refusal::Full(_) => {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Refusal::Unknown(_) => {}
    }
    response
}

/// RFC 6455 4.4 and RFC 9110 15.5.22.
fn upgrade_required(sentence: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::UPGRADE_REQUIRED, sentence);
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    response
}

impl Entered {
    /// Hands the WebSocket over to its room's group, which serves it until it ends; `permit` stands for its place among the
    /// connections. To be called when the answer has gone out, or nobody is there any more.
    pub(crate) async fn hand_over(self, limits: ConnectionLimits, permit: OwnedSemaphorePermit) {
        let Self { upgrade, session } = self;
        let Ok(upgraded) = upgrade.await else { return };
        // The bare socket again: its halves need no lock between them, and a WebSocket has its own deadline.
        let Ok(parts) = upgraded.downcast::<TokioIo<Patient<TcpStream>>>() else { return };
        session.group().join_with(|turns| talk(parts, session, turns, limits, permit));
    }
}

/// One WebSocket connection.
async fn talk(
    parts: Parts<TokioIo<Patient<TcpStream>>>,
    session: Session,
    turns: Turns,
    limits: ConnectionLimits,
    permit: OwnedSemaphorePermit,
) {
    let (read, write) = parts.io.into_inner().into_inner().into_split();
    // What the client sent behind its request head is read first. A copy: the bytes, also none, hold hyper's whole buffer
    // for as long as the connection lives.
    let early = Bytes::copy_from_slice(&parts.read_buf);
    drop(parts.read_buf);
    let read = std::io::Cursor::new(early).chain(read);
    let outbox = session.outbox();
    let ended = connection::serve(read, write, &outbox, &turns, session, limits).await;
    debug!("a connection ended: {ended:?}");
    drop(permit);
}
