//! The door's page: one link for each peer, to that peer's own page with its player.

use std::fmt::Write as _;

use hopcast_protocol::PeerName;
use http::{HeaderValue, Response, StatusCode, header};

use super::{Body, refuse};

/// The page. Names need no escaping: they are letters, digits, `.`, `_` and `-`.
pub(super) fn peers<'a>(peers: impl ExactSizeIterator<Item = &'a PeerName>) -> Response<Body> {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>hopcast: peers</title><style>body{font:16px system-ui;margin:2rem}\
         ul{columns:8rem;padding:0;list-style:none}</style><h1>Peers</h1>",
    );
    let _ = write!(page, "<p>{} peers. Each link opens that peer's player.<ul>", peers.len());
    let mut peers: Vec<_> = peers.collect();
    peers.sort_by_key(|peer| number_last(peer.as_str()));
    for peer in peers {
        let _ = write!(page, "<li><a href=\"/p/{peer}/\">{peer}</a>");
    }
    page.push_str("</ul>");
    let mut response = refuse(StatusCode::OK, page);
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    response
}

/// `peer-2` comes before `peer-10`.
fn number_last(name: &str) -> (&str, u64) {
    let word = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (word, name[word.len()..].parse().unwrap_or(0))
}
