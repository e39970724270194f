//! Every bound of the protocol in one place, so that both sides of a connection agree on it.

use std::time::Duration;

/// The WebSocket subprotocol of hopcast's own peers. A client that does not offer it gets the original's messages only.
pub const SUBPROTOCOL: &str = "hopcast.1";

/// Longest name of a peer, room, song, rendition, network or database, in bytes (a DNS label's limit, RFC 1035 2.3.4).
pub const NAME_BYTES: usize = 63;
/// Longest WebSocket message that a client may send, in bytes.
pub const MESSAGE_BYTES: usize = 64 * 1024;
/// Most neighbours in one announcement.
pub const NEIGHBORS: usize = 1024;
/// Most contents in one `hold` or `drop`.
pub const HOLD_BATCH: usize = 512;
/// Most contents that one peer may hold in one room.
pub const HELD: usize = 8192;
/// Most names in one `exclude`, and in one `avoid`.
pub const EXCLUDE: usize = 64;
/// Most rooms of one server without a topology file.
pub const ROOMS: usize = 1024;

/// The server pings an idle connection this often.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// A connection without any frame for this long is dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(10);

/// A route without use for this long is forgotten.
pub const ROUTE_IDLE: Duration = Duration::from_secs(60);
/// A requester tells the server of routes that are in use this often at most, and no later than this after the use.
pub const USE_EVERY: Duration = Duration::from_secs(25);
/// A peer remembers this many routes; the least recently used falls out.
pub const ROUTE_TABLE: usize = 256;
/// A relay request that comes before its route's broadcast waits this long at most.
pub const ROUTE_WAIT: Duration = Duration::from_secs(2);
/// That many relay requests may wait for a broadcast at one peer.
pub const ROUTE_WAITERS: usize = 16;
/// A relay request without progress for this long has failed.
pub const NO_PROGRESS: Duration = Duration::from_secs(2);
/// Added to [`NO_PROGRESS`] for each further hop to the holder, so that the hop beside a fault is the one that reports it.
pub const NO_PROGRESS_PER_HOP: Duration = Duration::from_millis(100);
/// Clocks of two neighbours may differ by this much.
pub const CLOCK_WINDOW: Duration = Duration::from_secs(30);
/// Transfers that one peer carries at a time.
pub const TRANSFERS: usize = 8;
/// Close code for a connection that a newer one under the same name replaced.
pub const CLOSE_REPLACED: u16 = 4409;
/// Exit code of a peer that was replaced (`EX_TEMPFAIL`, sysexits.h).
pub const EXIT_REPLACED: i32 = 75;
/// Exit code of a program whose configuration is wrong (`EX_USAGE`, sysexits.h).
pub const EXIT_CONFIG: i32 = 64;
/// Exit code of a peer whose address is taken or not here (`EX_UNAVAILABLE`, sysexits.h).
pub const EXIT_UNAVAILABLE: i32 = 69;
