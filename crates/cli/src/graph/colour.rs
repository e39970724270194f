//! The colours. Rooms and edges have palettes that do not meet, so that a band is never taken for a database.

/// Links of the mesh.
pub(super) const LINK: &str = "#94a3b8";
/// Links beside a highlighted way.
pub(super) const FAINT: &str = "#cbd5e1";
/// Links with emulated properties.
pub(super) const EMULATED: &str = "#0891b2";
/// Links that are down, peers that are away.
pub(super) const DEAD: &str = "#dc2626";
/// Links of dead peers: they would be up.
pub(super) const DEAD_LINK: &str = "#f87171";
/// A dead peer's inside.
pub(super) const DEAD_FILL: &str = "#fee2e2";
/// The highlighted way.
pub(super) const PATH: &str = "#0f172a";
/// A peer's outline, and text.
pub(super) const INK: &str = "#334155";
/// The origin database.
pub(super) const ORIGIN: &str = "#475569";

const ROOMS: [&str; 8] =
    ["#f59e0b", "#3b82f6", "#8b5cf6", "#ec4899", "#eab308", "#06b6d4", "#f97316", "#a78bfa"];
/// Outline, and the light inside of the gateways.
const EDGES: [(&str, &str); 6] = [
    ("#0f766e", "#99f6e4"),
    ("#4d7c0f", "#d9f99d"),
    ("#9a3412", "#fed7aa"),
    ("#1e40af", "#bfdbfe"),
    ("#86198f", "#f5d0fe"),
    ("#854d0e", "#fef08a"),
];

/// The band of the room with that place in the file.
pub(super) fn room(place: usize) -> &'static str {
    ROOMS[place % ROOMS.len()]
}

/// The edge database with that place in the file.
pub(super) fn edge(place: usize) -> &'static str {
    EDGES[place % EDGES.len()].0
}

/// The gateways of the edge with that place in the file.
pub(super) fn gateway(place: usize) -> &'static str {
    EDGES[place % EDGES.len()].1
}
