//! The server's own counters, in the text format that Prometheus reads (OpenMetrics 1.0).
//!
//! Label sets are fixed by this file: no name that a client chooses becomes a label.

use std::{sync::atomic::AtomicU64, time::Duration};

use hopcast_protocol::{ErrorCode, MeshName};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::core::{Cut, Tally};

/// The content type of [`Metrics::text`] for who accepts [`OPEN_METRICS`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type for everyone else: no metric here has a form that the older format lacks.
pub const CLASSIC_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// What a scraper's `Accept` names.
pub const OPEN_METRICS: &str = "application/openmetrics-text";

/// A message's type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    r#type: &'static str,
}

/// An error's code.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

/// Why a connection was cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// The program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    mesh: String,
}

/// Whether there was another way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Found {
    found: &'static str,
}

/// An HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: u16,
}

/// See the module.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    messages: Family<Kind, Counter>,
    errors: Family<Code, Counter>,
    paths: Counter,
    hops: Histogram,
    routes_down: Counter,
    mended: Family<Found, Counter>,
    cuts: Family<Reason, Counter>,
    requests: Family<Status, Counter>,
    /// Frames queued for clients.
    pub frames: Counter,
    /// Connections that were admitted.
    pub accepted: Counter,
    /// Connections that are open, WebSocket only.
    pub connections: Gauge,
    /// Rooms that exist.
    pub rooms: Gauge,
    /// Routes that somebody may still use.
    pub routes: Gauge,
    resident: Gauge,
    cpu: Counter<f64, AtomicU64>,
    open_files: Gauge,
}

impl Metrics {
    /// All at zero. The mesh's name becomes a label of `build_info`.
    pub fn new(mesh: Option<&MeshName>) -> Self {
        let mut registry = Registry::default();
        let start =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let started = Gauge::<i64>::default();
        started.set(start.as_secs() as i64);
        let build = Family::<Build, Gauge>::default();
        let mesh = mesh.map_or_else(String::new, MeshName::to_string);
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION"), mesh }).set(1);
        let metrics = Self {
            messages: Family::default(),
            errors: Family::default(),
            paths: Counter::default(),
            hops: Histogram::new([1., 2., 4., 6., 8., 12., 16., 24., 32., 64., 128.]),
            routes_down: Counter::default(),
            mended: Family::default(),
            cuts: Family::default(),
            requests: Family::default(),
            frames: Counter::default(),
            accepted: Counter::default(),
            connections: Gauge::default(),
            rooms: Gauge::default(),
            routes: Gauge::default(),
            resident: Gauge::default(),
            cpu: Counter::default(),
            open_files: Gauge::default(),
            registry: Registry::default(),
        };
        {
            let r = registry.sub_registry_with_prefix("hopcast_signalling");
            r.register("build_info", "The program", build);
            r.register("messages", "Messages read, by type", metrics.messages.clone());
            r.register("errors", "Errors answered, by code", metrics.errors.clone());
            r.register("paths", "Paths broadcast", metrics.paths.clone());
            r.register("path_hops", "Hops of broadcast paths", metrics.hops.clone());
            r.register("routes_down", "Routes ended", metrics.routes_down.clone());
            r.register("paths_recomputed", "Lost paths computed anew", metrics.mended.clone());
            r.register("connections_cut", "Connections cut by the server, by reason", metrics.cuts.clone());
            r.register("http_requests", "HTTP requests answered, by status", metrics.requests.clone());
            r.register("frames_queued", "Frames queued for clients", metrics.frames.clone());
            r.register("connections_accepted", "WebSocket connections admitted", metrics.accepted.clone());
            r.register("connections", "WebSocket connections that are open", metrics.connections.clone());
            r.register("rooms", "Rooms that exist", metrics.rooms.clone());
            r.register("routes", "Routes that somebody may still use", metrics.routes.clone());
        }
        let r = registry.sub_registry_with_prefix("process");
        r.register_with_unit("cpu", "CPU time", Unit::Seconds, metrics.cpu.clone());
        r.register_with_unit("resident_memory", "Resident memory", Unit::Bytes, metrics.resident.clone());
        r.register("open_fds", "Open file descriptors", metrics.open_files.clone());
        r.register_with_unit("start_time", "Start, since the epoch", Unit::Seconds, started);
        Self { registry, ..metrics }
    }

    /// Counts what a room reported.
    pub fn tally(&self, tally: Tally) {
        match tally {
            Tally::Message(kind) => self.messages.get_or_create(&Kind { r#type: kind }).inc(),
            Tally::Error(code) => self.error(code),
            Tally::Path(hops) => {
                self.hops.observe(hops as f64);
                self.paths.inc()
            }
            Tally::RouteDown => self.routes_down.inc(),
            Tally::Mended(found) => {
                let found = if found { "true" } else { "false" };
                self.mended.get_or_create(&Found { found }).inc()
            }
        };
    }

    /// Counts an error that was answered.
    pub fn error(&self, code: ErrorCode) -> u64 {
        self.errors.get_or_create(&Code { code: code.as_str() }).inc()
    }

    /// Counts a connection that was cut.
    pub fn cut(&self, why: Cut) {
        let reason = match why {
            Cut::Slow => "slow",
            Cut::Dead => "dead",
        };
        self.cuts.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a connection that was closed with a code of the server's choosing.
    pub fn closed(&self, code: u16) {
        let reason = if code == hopcast_protocol::limits::CLOSE_REPLACED { "replaced" } else { "expelled" };
        self.cuts.get_or_create(&Reason { reason }).inc();
    }

    /// Counts an HTTP answer.
    pub fn request(&self, status: u16) {
        self.requests.get_or_create(&Status { status }).inc();
    }

    /// Everything, as text.
    pub fn text(&self) -> String {
        self.read_process();
        let mut text = String::with_capacity(4096);
        encode(&mut text, &self.registry).expect("writing into a String cannot fail");
        text
    }

    /// What `/proc/self` says; left as it was where it cannot be read.
    fn read_process(&self) {
        if let Ok(statm) = std::fs::read_to_string("/proc/self/statm")
            && let Some(pages) = statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok())
        {
            self.resident.set(pages * rustix::param::page_size() as i64);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.open_files.set(files.count() as i64);
        }
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
        self.cpu.inc_by((used - self.cpu.get()).max(0.));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_are_those_of_the_ecosystem() {
        let metrics = Metrics::new(Some(&MeshName::new("hopcast").unwrap()));
        metrics.tally(Tally::Message("announce"));
        metrics.tally(Tally::Path(3));
        metrics.tally(Tally::Error(ErrorCode::NoPath));
        metrics.cut(Cut::Slow);
        let text = metrics.text();
        for line in [
            "hopcast_signalling_build_info{version=\"0.1.0\",mesh=\"hopcast\"} 1",
            "hopcast_signalling_messages_total{type=\"announce\"} 1",
            "hopcast_signalling_errors_total{code=\"no_path\"} 1",
            "hopcast_signalling_path_hops_bucket{le=\"4.0\"} 1",
            "hopcast_signalling_connections_cut_total{reason=\"slow\"} 1",
            "hopcast_signalling_connections 0",
            "# TYPE process_cpu_seconds counter",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        let resident = text.lines().find(|line| line.starts_with("process_resident_memory_bytes ")).unwrap();
        assert!(resident.split(' ').nth(1).unwrap().parse::<u64>().unwrap() > 100_000);
    }
}
