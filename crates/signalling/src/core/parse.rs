//! A client's text to a message, or to the answer that says what is wrong with it. Every text gets one of the two.

use hopcast_protocol::{
    ClientMessage, ErrorCode,
    limits::{EXCLUDE, HOLD_BATCH, NAME_BYTES, NEIGHBORS, ROUTE_TABLE},
};
use serde_json::Value;

/// Longest sentence of an answer, in bytes: what a client sent is quoted in part only.
const SENTENCE: usize = 300;

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The request's `id`, where it could be read.
    pub id: Option<u64>,
}

impl Fault {
    /// A fault with one sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(SENTENCE));
        Self { code, message, id: None }
    }

    /// Says which request it answers.
    #[must_use]
    pub fn of(mut self, id: Option<u64>) -> Self {
        self.id = id;
        self
    }
}

/// Reads one message and checks the bounds of its lists.
pub(super) fn parse(payload: &[u8]) -> Result<ClientMessage, Fault> {
    let message = serde_json::from_slice(payload).map_err(|error| explain(payload, &error))?;
    check_bounds(&message)?;
    Ok(message)
}

/// The `type` of a message.
pub(super) fn kind(message: &ClientMessage) -> &'static str {
    match message {
        ClientMessage::Announce { .. } => "announce",
        ClientMessage::RequestPath { .. } => "request_path",
        ClientMessage::Hold { .. } => "hold",
        ClientMessage::Drop { .. } => "drop",
        ClientMessage::Link { .. } => "link",
        ClientMessage::Use { .. } => "use",
    }
}

fn check_bounds(message: &ClientMessage) -> Result<(), Fault> {
    let (what, len, most, id) = match message {
        ClientMessage::Announce { neighbors, .. } => ("neighbors", neighbors.len(), NEIGHBORS, None),
        ClientMessage::RequestPath { avoid, id, .. } if avoid.len() > EXCLUDE => {
            ("avoid", avoid.len(), EXCLUDE, *id)
        }
        ClientMessage::RequestPath { exclude, id, .. } => ("exclude", exclude.len(), EXCLUDE, *id),
        ClientMessage::Hold { contents, .. } | ClientMessage::Drop { contents, .. } => {
            ("contents", contents.len(), HOLD_BATCH, None)
        }
        ClientMessage::Use { routes } => ("routes", routes.len(), ROUTE_TABLE, None),
        ClientMessage::Link { .. } => return Ok(()),
    };
    if len > most {
        let sentence = format!("`{what}` has {len} entries, at most {most} are taken in one message");
        return Err(Fault::new(ErrorCode::TooLarge, sentence).of(id));
    }
    Ok(())
}

/// The slow way, for a text that is no message: which part of it is not.
fn explain(payload: &[u8], error: &serde_json::Error) -> Fault {
    let value: Value = match serde_json::from_slice(payload) {
        Ok(value) => value,
        Err(error) => return Fault::new(ErrorCode::BadMessage, format!("not JSON: {error}")),
    };
    let Value::Object(fields) = &value else {
        return Fault::new(ErrorCode::BadMessage, "not a JSON object: a message is {\"type\":...}");
    };
    let id = fields.get("id").and_then(Value::as_u64);
    let fault = match fields.get("type") {
        None => Fault::new(ErrorCode::BadMessage, "`type` is missing"),
        Some(Value::String(kind)) if !known(kind) => unknown_type(kind),
        Some(Value::String(_)) if has_long_name(&value) => Fault::new(
            ErrorCode::TooLarge,
            format!("a name has more than the {NAME_BYTES} bytes that a name may have"),
        ),
        Some(Value::String(_)) => Fault::new(ErrorCode::BadMessage, error.to_string()),
        Some(_) => Fault::new(ErrorCode::BadMessage, "`type` is not a string"),
    };
    fault.of(id)
}

/// The answer to a `type` that this connection may not use.
pub(super) fn unknown_type(kind: &str) -> Fault {
    let shown = &kind[..kind.floor_char_boundary(64)];
    Fault::new(ErrorCode::UnknownType, format!("`{shown}` is not a type that this connection may send"))
}

fn known(kind: &str) -> bool {
    matches!(kind, "announce" | "request_path" | "hold" | "drop" | "link" | "use")
}

fn has_long_name(message: &Value) -> bool {
    let long = |value: &Value| value.as_str().is_some_and(|name| name.len() > NAME_BYTES);
    let any = |field: &str| message[field].as_array().is_some_and(|names| names.iter().any(long));
    ["peer", "room", "target", "neighbor"].iter().any(|field| long(&message[field]))
        || any("neighbors")
        || any("exclude")
        || any("routes")
        || any("avoid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> ErrorCode {
        parse(text.as_bytes()).unwrap_err().code
    }

    #[test]
    fn each_fault_has_its_own_code() {
        assert_eq!(code("{"), ErrorCode::BadMessage);
        assert_eq!(code("[1]"), ErrorCode::BadMessage);
        assert_eq!(code(r#"{"peer":"a"}"#), ErrorCode::BadMessage);
        assert_eq!(code(r#"{"type":7}"#), ErrorCode::BadMessage);
        assert_eq!(code(r#"{"type":"announce","peer":"a"}"#), ErrorCode::BadMessage);
        assert_eq!(code(r#"{"type":"dance"}"#), ErrorCode::UnknownType);
        let long = "x".repeat(64);
        assert_eq!(code(&format!(r#"{{"type":"request_path","target":"{long}"}}"#)), ErrorCode::TooLarge);
        let many = vec![r#""p""#; NEIGHBORS + 1].join(",");
        assert_eq!(
            code(&format!(r#"{{"type":"announce","peer":"a","room":"r","neighbors":[{many}]}}"#)),
            ErrorCode::TooLarge
        );
    }

    #[test]
    fn the_id_of_a_faulty_request_comes_back() {
        let fault = parse(br#"{"type":"request_path","target":"a b","id":7}"#).unwrap_err();
        assert_eq!((fault.code, fault.id), (ErrorCode::BadMessage, Some(7)));
    }
}
