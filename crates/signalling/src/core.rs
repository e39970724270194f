//! One room as a machine without I/O: connections, messages and the clock go in, frames and events come out.
//!
//! ```text
//!               connect, message, alive, disconnect        Send frame / Close / Cut
//!   hub  ───────────────────────────────────────────▶ Room ──────────────────────────▶ hub: outboxes
//!               tick(now), mend(now), reseed, retire       Event                       hub: /api/events
//! ```
//!
//! Time is a [`Duration`](std::time::Duration) since the server's start and comes with each call; nothing here reads a
//! clock, a socket or a file, or waits. Rooms share nothing but the counter of route numbers, so each can be locked by itself.

mod dispatch;
mod holdings;
mod lost;
mod output;
mod parse;
mod room;
mod routes;
mod untold;
mod view;

pub use lost::MEND_EVERY;
pub use output::{
    ConnectionId, Cut, Dialect, Event, LinkEvent, Output, Outputs, PathEvent, PeerEvent, RouteDownEvent,
    Tally,
};
pub use parse::Fault;
pub use room::{Policy, Room};
pub use routes::Epoch;
pub use view::{GraphView, LinkView, PeerView, RoomView, Way};
