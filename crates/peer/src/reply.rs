//! Responses that several parts make.

use hopcast_protocol::PeerName;
use http::{HeaderValue, Response, StatusCode, header};

use crate::{
    headers::{HOPCAST_ERROR, PROXY_STATUS, proxy_status},
    payload::{Payload, Reply},
};

/// A short text.
pub(crate) fn text(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> Reply {
    let mut reply = Response::new(Payload::bytes(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// A short plain text.
pub(crate) fn plain(status: StatusCode, body: impl Into<bytes::Bytes>) -> Reply {
    text(status, "text/plain; charset=utf-8", body)
}

/// Nothing but a status.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Payload::bytes(""));
    *reply.status_mut() = status;
    reply
}

/// Another method than GET and HEAD.
pub(crate) fn method_not_allowed() -> Reply {
    let mut reply = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
    reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    reply
}

/// A failure that is this peer's to tell: `Proxy-Status`, and `Retry-After` where it may pass.
pub(crate) fn failed(status: StatusCode, peer: &PeerName, error: &str, next: Option<&PeerName>) -> Reply {
    let mut reply = empty(status);
    reply.headers_mut().insert(PROXY_STATUS, proxy_status(peer, error, next));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    reply
}

/// The holder does not have it.
pub(crate) fn not_held() -> Reply {
    refused(StatusCode::NOT_FOUND, "not_held")
}

/// No route of that id leads from the sender through this peer.
pub(crate) fn no_route() -> Reply {
    refused(StatusCode::MISDIRECTED_REQUEST, "no_route")
}

/// Without a body: each hop on the way back can use its connection again at once.
fn refused(status: StatusCode, error: &'static str) -> Reply {
    let mut reply = empty(status);
    reply.headers_mut().insert(HOPCAST_ERROR, HeaderValue::from_static(error));
    reply
}

/// Takes the body away for HEAD, but leaves its length. Of 304 and 204 there is none to tell (RFC 9110 8.6).
pub(crate) fn without_body(mut reply: Reply) -> Reply {
    if matches!(reply.status(), StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
        return reply;
    }
    let len = http_body::Body::size_hint(reply.body()).exact().unwrap_or_default();
    reply.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(len));
    reply.map(|_| Payload::bytes(""))
}
