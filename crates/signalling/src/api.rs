//! Everything under HTTP but the WebSocket: health, metrics, and the rooms as JSON, DOT and events.

use std::collections::HashSet;

use hopcast_protocol::{ErrorCode, PeerName, RoomName, RouteId};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, StreamBody};
use serde::Serialize;
use serde_json::json;

use crate::{
    core::GraphView,
    http::{Body, bearer, named, parameter, text, typed},
    hub::Hub,
    metrics,
};

const ROUTES: &str = "/api/routes/";

/// Answers a request to anything but `/ws`.
pub(crate) fn answer<B>(hub: &Hub, request: &Request<B>) -> Response<Body> {
    let path = request.uri().path();
    let allowed = match path {
        "/healthz" | "/metrics" | "/api/rooms" | "/api/graph" | "/api/path" | "/api/events" => "GET, HEAD",
        _ if path.starts_with(ROUTES) => "DELETE",
        _ => return text(StatusCode::NOT_FOUND, "not found; see /healthz, /metrics, /api/rooms\n"),
    };
    if !allowed.split(", ").any(|method| method == request.method().as_str()) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {allowed} is served here\n"));
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    match path {
        "/healthz" => text(StatusCode::OK, "ok"),
        "/metrics" => {
            let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
            let open = accept.is_some_and(|accept| accept.contains(metrics::OPEN_METRICS));
            let kind = if open { metrics::CONTENT_TYPE } else { metrics::CLASSIC_CONTENT_TYPE };
            typed(StatusCode::OK, kind, hub.metrics_text())
        }
        "/api/rooms" => as_json(StatusCode::OK, &json!({ "rooms": hub.rooms() })),
        "/api/graph" => graph(hub, request.uri().query()),
        "/api/path" => way(hub, request.uri().query()),
        "/api/events" => events(hub, request.method()),
        _ => retire(hub, request),
    }
}

fn as_json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let text = serde_json::to_vec(value).expect("views are structs of strings and numbers");
    typed(status, "application/json", text)
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    as_json(status, &json!({ "code": code, "message": message }))
}

fn bad_request(message: &str) -> Response<Body> {
    problem(StatusCode::BAD_REQUEST, ErrorCode::BadMessage.as_str(), message)
}

fn unknown_room(room: &RoomName) -> Response<Body> {
    problem(StatusCode::NOT_FOUND, "unknown_room", &format!("there is no room `{room}` here"))
}

/// `GET /api/graph[?room=R][&format=dot]`.
fn graph(hub: &Hub, query: Option<&str>) -> Response<Body> {
    let room = match parameter(query, "room") {
        None => None,
        Some(_) => match named::<RoomName>(query, "room") {
            Ok(room) => Some(room),
            Err(sentence) => return bad_request(&sentence),
        },
    };
    let Some(graphs) = hub.graphs(room.as_ref()) else {
        return room.map_or_else(|| bad_request("no room"), |room| unknown_room(&room));
    };
    match parameter(query, "format").as_deref() {
        None | Some("json") => as_json(StatusCode::OK, &json!({ "rooms": graphs })),
        Some("dot") => typed(StatusCode::OK, "text/vnd.graphviz; charset=utf-8", dot(&graphs)),
        Some(_) => bad_request("`format` is `json` or `dot`"),
    }
}

/// All rooms as one DOT graph, a cluster each. A peer in two rooms has two nodes: rooms are independent.
fn dot(rooms: &[GraphView]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("graph hopcast {\n  node [shape=circle];\n");
    for (number, room) in rooms.iter().enumerate() {
        let _ = writeln!(text, "  subgraph cluster_{number} {{\n    label=\"{}\";", room.name);
        for peer in &room.peers {
            let style = if peer.connected { "" } else { ", style=dashed" };
            let _ = writeln!(text, "    \"{0}/{1}\" [label=\"{1}\"{style}];", room.name, peer.name);
        }
        let away: HashSet<_> =
            room.peers.iter().filter(|peer| !peer.connected).map(|peer| &peer.name).collect();
        for link in &room.links {
            let style = match link.up {
                false => " [style=dashed, color=red]",
                true if away.contains(&link.a) || away.contains(&link.b) => " [style=dashed, color=gray]",
                true => "",
            };
            let _ = writeln!(text, "    \"{0}/{1}\" -- \"{0}/{2}\"{style};", room.name, link.a, link.b);
        }
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text
}

/// `GET /api/path?room=R&from=A&to=B`.
fn way(hub: &Hub, query: Option<&str>) -> Response<Body> {
    let asked = || -> Result<(RoomName, PeerName, PeerName), String> {
        Ok((named(query, "room")?, named(query, "from")?, named(query, "to")?))
    };
    let (room, from, to) = match asked() {
        Ok(asked) => asked,
        Err(sentence) => return bad_request(&sentence),
    };
    match hub.way(&room, &from, &to) {
        None => unknown_room(&room),
        Some(Ok(way)) => as_json(StatusCode::OK, &way),
        Some(Err(fault)) => problem(StatusCode::NOT_FOUND, fault.code.as_str(), &fault.message),
    }
}

/// `GET /api/events`.
fn events(hub: &Hub, method: &Method) -> Response<Body> {
    if method == Method::HEAD {
        return typed(StatusCode::OK, "text/event-stream", "");
    }
    let Ok(stream) = hub.events.subscribe() else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "as many readers of events as are served\n");
    };
    let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `DELETE /api/routes/<route>`.
fn retire<B>(hub: &Hub, request: &Request<B>) -> Response<Body> {
    if !hub.has_operator() {
        return text(StatusCode::FORBIDDEN, "an open server has no operator\n");
    }
    if !bearer(request.headers()).is_some_and(|token| hub.is_operator(token)) {
        let mut response = text(StatusCode::UNAUTHORIZED, "the operator's token is needed\n");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    let route = RouteId::new(request.uri().path().strip_prefix(ROUTES).unwrap_or_default());
    if route.is_ok_and(|route| hub.retire_route(&route)) {
        let mut response = text(StatusCode::NO_CONTENT, "");
        response.headers_mut().remove(header::CONTENT_TYPE);
        response
    } else {
        text(StatusCode::NOT_FOUND, "there is no such route\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{LinkView, PeerView};

    #[test]
    fn dot_shows_who_is_away_and_what_is_down() {
        let peer = |name: &str| PeerName::new(name).unwrap();
        let room = GraphView {
            name: RoomName::new("rock").unwrap(),
            peers: vec![
                PeerView { name: peer("a"), connected: true },
                PeerView { name: peer("b"), connected: false },
            ],
            links: vec![LinkView { a: peer("a"), b: peer("b"), up: false }],
        };
        let text = dot(std::slice::from_ref(&room));
        assert!(text.contains("\"rock/b\" [label=\"b\", style=dashed];"), "{text}");
        assert!(text.contains("\"rock/a\" -- \"rock/b\" [style=dashed, color=red];"), "{text}");
        let text = dot(&[GraphView { links: vec![LinkView { up: true, ..room.links[0].clone() }], ..room }]);
        assert!(text.contains("\"rock/a\" -- \"rock/b\" [style=dashed, color=gray];"), "{text}");
    }
}
