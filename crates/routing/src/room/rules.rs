//! How a room reads what it is told.

/// Which links peers may announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Links {
    /// Any: a server without a file.
    #[default]
    Open,
    /// Seed links only; an announcement that names another is refused whole and the earlier one stands.
    Declared,
}

/// Which peers a path may run through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Liveness {
    /// Those that are connected.
    #[default]
    Connected,
    /// Those too that an announcement of a connected peer names: the original's looser reading.
    Announced,
}

/// How a room reads what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Which links peers may announce.
    pub links: Links,
    /// Which peers a path may run through.
    pub liveness: Liveness,
}
