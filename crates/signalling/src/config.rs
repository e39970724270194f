//! What the server is told before it starts, checked whole before any port is bound.
//!
//! Three sources: a [`SignallingConfig`] that `deploy` wrote (rooms, tokens, the door), a topology file (rooms, no
//! tokens), or nothing (an open server, as the original was). All end as [`Settings`].

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    net::SocketAddr,
    path::Path,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use hopcast_protocol::{
    MeshName, PeerName, RoomName, SignallingConfig, SignallingCredentials,
    config::{CONFIG_VERSION, DoorConfig, RoomConfig},
    keys::TokenKey,
};
use hopcast_routing::Liveness;

use crate::{connection::ConnectionLimits, error::ConfigError, outbox::OutboxLimits};

/// The port of a server that was told none.
pub const DEFAULT_PORT: u16 = 7080;

/// Where to listen: `host:port`, or the original's `:port` for every address of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen(String);

impl Default for Listen {
    fn default() -> Self {
        Self(format!(":{DEFAULT_PORT}"))
    }
}

impl Listen {
    /// The addresses to try, in this order; the first that can be bound is taken.
    pub async fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        if let Some(port) = self.0.strip_prefix(':') {
            let port = port.parse().map_err(std::io::Error::other)?;
            // Dual-stack where the machine has IPv6, as Go's `:port` is.
            return Ok(vec![SocketAddr::from(([0_u16; 8], port)), SocketAddr::from(([0_u8; 4], port))]);
        }
        Ok(tokio::net::lookup_host(&self.0).await?.collect())
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self(address.to_string())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Listen {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let port = text.rsplit_once(':').map(|(_, port)| port);
        match port.map(str::parse::<u16>) {
            Some(Ok(_)) => Ok(Self(text.to_owned())),
            _ => Err(format!("`{text}` is not an address: write HOST:PORT, or :PORT for every address")),
        }
    }
}

/// The rooms that may be, with their links. Nothing else may be announced.
#[derive(Debug, Default)]
pub struct Seeds {
    /// By name.
    pub rooms: HashMap<RoomName, Arc<RoomSeed>>,
    /// Who may say that it holds everything.
    pub gateways: Arc<HashSet<PeerName>>,
}

/// One room of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomSeed {
    /// Who may enter.
    pub peers: BTreeSet<PeerName>,
    /// The links between them.
    pub links: Vec<(PeerName, PeerName)>,
}

/// Every bound that is not part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sockets of clients, WebSocket and HTTP together.
    pub connections: usize,
    /// Rooms of an open server.
    pub rooms: usize,
    /// Names that an open room knows, connected or only announced.
    pub peers: usize,
    /// Readers of `/api/events`.
    pub event_readers: usize,
    /// Players at the door.
    pub door_connections: usize,
    /// What waits for one client.
    pub outbox: OutboxLimits,
    /// One connection.
    pub connection: ConnectionLimits,
    /// How long a terminated server waits for its clients.
    pub drain: Duration,
    /// A connection that sends no complete request head for this long is closed.
    pub head: Duration,
    /// A reader of an answer (the events among them) that takes nothing for this long is cut.
    pub stall: Duration,
    /// The same at the door. Longer: a player that pauses stops reading, and expects to go on.
    pub door_stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            rooms: hopcast_protocol::limits::ROOMS,
            peers: 1 << 20,
            event_readers: 64,
            door_connections: 512,
            outbox: OutboxLimits::default(),
            connection: ConnectionLimits::default(),
            drain: Duration::from_secs(5),
            head: Duration::from_secs(15),
            stall: Duration::from_secs(10),
            door_stall: Duration::from_secs(300),
        }
    }
}

/// Everything the server needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The mesh, for labels; absent on a server without a file.
    pub mesh: Option<MeshName>,
    /// Where it listens.
    pub listen: Listen,
    /// Checks tokens; absent: every client is admitted.
    pub token_key: Option<TokenKey>,
    /// Absent: every room and link is taken as announced.
    pub seeds: Option<Arc<Seeds>>,
    /// Whether a path may run through peers that are announced, but not connected.
    pub liveness: Liveness,
    /// The door.
    pub door: Option<DoorConfig>,
    /// Bounds.
    pub limits: Limits,
}

impl Settings {
    /// A server without any file: open, as the original was.
    pub fn open(listen: Listen) -> Self {
        Self {
            mesh: None,
            listen,
            token_key: None,
            seeds: None,
            liveness: Liveness::Connected,
            door: None,
            limits: Limits::default(),
        }
    }

    /// Reads and checks the file that `deploy` writes, with its keys where these are in a file of their own.
    pub fn from_config_file(path: &Path, keys: Option<&Path>) -> Result<Self, ConfigError> {
        let mut config: SignallingConfig = json(path, "a signalling configuration")?;
        if let Some(keys) = keys {
            let credentials: SignallingCredentials = json(keys, "a file of signalling keys")?;
            credentials.give(&mut config).map_err(|problems| ConfigError::new(keys, problems))?;
        }
        Self::from_config(config).map_err(|problems| ConfigError::new(path, problems))
    }

    /// Checks a configuration; the error lists all that is wrong with it.
    pub fn from_config(config: SignallingConfig) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        if config.version != CONFIG_VERSION {
            problems.push(format!(
                "version {} is not known here, only {CONFIG_VERSION}: let the same hopcast write and read it",
                config.version
            ));
        }
        let seeds = seeds(config.rooms, config.gateways, &mut problems);
        if let Some(door) = &config.door {
            check_door(door, config.listen, &mut problems);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self {
            mesh: Some(config.mesh),
            token_key: config.token_key,
            seeds: Some(Arc::new(seeds)),
            door: config.door,
            ..Self::open(config.listen.into())
        })
    }
}

/// A file's content; `what` fits after "is not".
fn json<T: serde::de::DeserializeOwned>(path: &Path, what: &str) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::one(path, format!("cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| ConfigError::one(path, format!("is not {what}: {error}")))
}

/// Room tables out of lists; what is wrong goes into `problems`.
pub(crate) fn seeds(rooms: Vec<RoomConfig>, gateways: Vec<PeerName>, problems: &mut Vec<String>) -> Seeds {
    let mut seeds = Seeds { gateways: Arc::new(gateways.into_iter().collect()), ..Seeds::default() };
    let mut everyone = HashSet::new();
    for RoomConfig { name, peers, links } in rooms {
        let mut members = BTreeSet::new();
        for peer in peers {
            if !members.insert(peer.clone()) {
                problems.push(format!("room `{name}` lists peer `{peer}` twice"));
            }
        }
        let mut known = HashSet::new();
        for (a, b) in &links {
            if a == b {
                problems.push(format!("room `{name}` links peer `{a}` to itself"));
            } else if !known.insert(if a < b { (a, b) } else { (b, a) }) {
                problems.push(format!("room `{name}` has the link {a} - {b} twice"));
            }
            for end in [a, b] {
                if !members.contains(end) {
                    problems.push(format!("room `{name}` links `{end}`, which is not one of its peers"));
                }
            }
        }
        everyone.extend(members.iter().cloned());
        if seeds.rooms.insert(name.clone(), Arc::new(RoomSeed { peers: members, links })).is_some() {
            problems.push(format!("room `{name}` is there twice"));
        }
    }
    let mut strangers: Vec<_> = seeds.gateways.difference(&everyone).collect();
    strangers.sort();
    for gateway in strangers {
        problems.push(format!("gateway `{gateway}` is in no room"));
    }
    seeds
}

fn check_door(door: &DoorConfig, listen: SocketAddr, problems: &mut Vec<String>) {
    if door.listen == listen && listen.port() != 0 {
        problems.push(format!("the door and the server cannot both listen on {listen}"));
    }
    let mut known = HashSet::new();
    for (peer, endpoint) in &door.peers {
        if !known.insert(peer) {
            problems.push(format!("the door lists peer `{peer}` twice"));
        }
        let host_and_port = endpoint.rsplit_once(':');
        if !host_and_port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()) {
            problems.push(format!("the door's endpoint `{endpoint}` of peer `{peer}` is not HOST:PORT"));
        }
    }
}

/// `SIGNAL_LIVENESS`.
pub fn liveness(text: &str) -> Result<Liveness, String> {
    match text {
        "" | "connected" => Ok(Liveness::Connected),
        "announced" => Ok(Liveness::Announced),
        other => Err(format!("`{other}` is not a liveness: write `connected` or `announced`")),
    }
}
