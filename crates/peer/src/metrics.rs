//! What a peer counts, as Prometheus text. Label sets are bounded: status codes that occur, roles, rooms of the file.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt::{Display, Write as _},
    rc::Rc,
};

use crate::node::Node;

/// A number that only grows.
pub(crate) type Counter = Rc<Cell<u64>>;

/// Everything that is counted as it happens; the rest is read when somebody asks.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Bytes sent to neighbours, as a relay.
    pub relayed_bytes: Counter,
    /// Bytes sent to neighbours, as the holder.
    pub held_bytes: Counter,
    /// Bytes sent to players.
    pub player_bytes: Counter,
    /// Player's requests that were in the cache.
    pub hits: Counter,
    /// Player's requests that were not.
    pub misses: Counter,
    /// Blobs that left the cache for others.
    pub evictions: Counter,
    /// Blobs and manifests fetched over the mesh.
    pub fetches: Counter,
    /// Attempts that failed and were followed by another.
    pub retries: Counter,
    /// Transfers that went on from the byte where an earlier one stopped.
    pub resumes: Counter,
    /// Bytes that were not what they should be, by SHA-256 or signature.
    pub corrupt: Counter,
    /// Reads from an edge database.
    pub database_reads: Counter,
    /// Reads from an edge database that failed.
    pub database_errors: Counter,
    /// Links reported down.
    pub link_reports: Counter,
    /// Connections to the signalling server.
    pub signal_connects: Counter,
    /// Times that memory was given back.
    pub trims: Counter,
    /// Configurations reread.
    pub reloads: Counter,
    relay_codes: RefCell<BTreeMap<u16, u64>>,
    player_codes: RefCell<BTreeMap<u16, u64>>,
}

/// Counts one more.
pub(crate) fn count(counter: &Counter) {
    counter.set(counter.get() + 1);
}

impl Metrics {
    /// A relay request was answered.
    pub fn relay_answered(&self, code: u16) {
        *self.relay_codes.borrow_mut().entry(code).or_default() += 1;
    }

    /// A player's request was answered.
    pub fn player_answered(&self, code: u16) {
        *self.player_codes.borrow_mut().entry(code).or_default() += 1;
    }
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP hopcast_{name} {help}\n# TYPE hopcast_{name} {kind}\n");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "hopcast_{name} {value}");
    }

    fn many<L: Display, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        self.head(name, kind, help);
        for (key, value) in values {
            let _ = writeln!(self.0, "hopcast_{name}{{{label}=\"{key}\"}} {value}");
        }
    }
}

/// The page `/metrics`.
pub(crate) fn page(node: &Node) -> String {
    let (metrics, mut page) = (&node.metrics, Page(String::with_capacity(4096)));
    let config = node.config();
    page.head("peer_info", "gauge", "This peer; the value is always 1.");
    let _ = writeln!(
        page.0,
        "hopcast_peer_info{{mesh=\"{}\",peer=\"{}\",version=\"{}\"}} 1",
        config.mesh,
        config.name,
        env!("CARGO_PKG_VERSION")
    );
    {
        let cache = node.cache.borrow();
        page.one(
            "cache_bytes",
            "gauge",
            "Bytes of blobs kept or on their way into the cache.",
            cache.bytes(),
        );
        page.one("cache_limit_bytes", "gauge", "The bound of hopcast_cache_bytes.", cache.limit());
        page.one("cache_blobs", "gauge", "Blobs kept.", cache.len());
    }
    page.one("cache_hits_total", "counter", "Player's requests served from the cache.", metrics.hits.get());
    page.one(
        "cache_misses_total",
        "counter",
        "Player's requests that had to be fetched.",
        metrics.misses.get(),
    );
    page.one("cache_evictions_total", "counter", "Blobs that made room for others.", metrics.evictions.get());
    let codes = metrics.relay_codes.borrow();
    page.many("relay_requests_total", "counter", "Relay requests by status.", "code", codes.iter());
    page.many(
        "relay_bytes_total",
        "counter",
        "Bytes sent to neighbours.",
        "role",
        [("relay", metrics.relayed_bytes.get()), ("holder", metrics.held_bytes.get())],
    );
    page.one("relay_transfers", "gauge", "Transfers to neighbours under way.", node.transfers_active());
    page.one("route_waiters", "gauge", "Relay requests that wait for a broadcast.", node.route_waiters.get());
    let codes = metrics.player_codes.borrow();
    page.many("player_requests_total", "counter", "Player's requests by status.", "code", codes.iter());
    page.one("player_bytes_total", "counter", "Bytes sent to players.", metrics.player_bytes.get());
    page.one("fetches_total", "counter", "Contents fetched over the mesh.", metrics.fetches.get());
    page.one("fetches_active", "gauge", "Contents being fetched.", node.flights.len());
    page.one(
        "fetch_retries_total",
        "counter",
        "Attempts that failed and were repeated.",
        metrics.retries.get(),
    );
    page.one("fetch_resumes_total", "counter", "Transfers resumed from a byte.", metrics.resumes.get());
    page.one(
        "fetch_corrupt_total",
        "counter",
        "Contents whose hash or signature was wrong.",
        metrics.corrupt.get(),
    );
    page.one("database_reads_total", "counter", "Reads from edge databases.", metrics.database_reads.get());
    page.one("database_errors_total", "counter", "Reads that failed.", metrics.database_errors.get());
    page.one("routes", "gauge", "Routes known.", node.routes.borrow().len());
    let (up, down): (Vec<_>, Vec<_>) = node.links().iter().cloned().partition(|link| link.is_up());
    page.many("links", "gauge", "Links by state.", "state", [("up", up.len()), ("down", down.len())]);
    page.one("link_reports_total", "counter", "Links reported down.", metrics.link_reports.get());
    let rooms = node.rooms();
    let connected = rooms.iter().map(|room| (&room.name, u8::from(room.is_connected())));
    page.many("signal_connected", "gauge", "1 while the room's server is connected.", "room", connected);
    page.one("signal_connects_total", "counter", "Connections to the server.", metrics.signal_connects.get());
    page.one("connections", "gauge", "Accepted connections.", node.connections.get());
    page.one("config_reloads_total", "counter", "Configurations reread.", metrics.reloads.get());
    let help = "Times that what a burst took was given back to the system.";
    page.one("memory_trims_total", "counter", help, metrics.trims.get());
    if let Some(bytes) = crate::memory::resident() {
        // Prometheus' own name for it, which every exporter uses.
        let name = "process_resident_memory_bytes";
        let _ = write!(page.0, "# HELP {name} Resident set size.\n# TYPE {name} gauge\n{name} {bytes}\n");
    }
    page.0
}
