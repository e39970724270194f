//! Where a peer's configuration comes from: a file (`--config`), or the original's variables.
//!
//! Everything is checked before a port is bound; all that is wrong is told at once.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

use serde::de::DeserializeOwned;

use hopcast_protocol::{
    Credentials, LinkKey, MeshName, NeighborConfig, PeerConfig, PeerLimits, PeerName, RoomMembership,
    RoomName, config::CONFIG_VERSION, limits::NEIGHBORS,
};

use crate::args::Files;

/// The original's default port.
const DEFAULT_PORT: u16 = 8080;
/// The original's server.
const DEFAULT_SIGNAL_URL: &str = "ws://signalling:7080/ws";

/// Longest emulated latency, and most jitter, in microseconds: an hour. More is a slip of the pen, and not every sum of
/// it fits a clock.
const MOST_DELAY: u64 = 3_600_000_000;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read {path}: {error}")]
    Read {
        /// The file.
        path: String,
        /// The system's answer.
        error: std::io::Error,
    },
    /// The file is not a peer's configuration.
    #[error("{path}:{line}:{column}: {what}")]
    Json {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// The parser's sentence.
        what: String,
    },
    /// Values that cannot be used; each on a line of its own.
    #[error("{source_name}: {problems}")]
    Invalid {
        /// The file, or `environment`.
        source_name: String,
        /// One sentence each, separated by newlines.
        problems: String,
    },
}

/// Reads and checks a configuration, with its keys where these are in a file of their own.
pub fn from_files(files: &Files) -> Result<PeerConfig, ConfigError> {
    let name = files.config.display().to_string();
    let mut config: PeerConfig = read(&files.config)?;
    match &files.keys {
        Some(keys) => {
            let credentials: Credentials = read(keys)?;
            credentials.give(&mut config).map_err(|problems| ConfigError::Invalid {
                source_name: keys.display().to_string(),
                problems: problems.join("\n"),
            })?;
        }
        None => {
            if let Some(neighbor) = config.neighbors.iter().find(|neighbor| neighbor.key.is_none()) {
                let problems =
                    format!("neighbour {} has no key: name the file that has it with --keys", neighbor.name);
                return Err(ConfigError::Invalid { source_name: name, problems });
            }
        }
    }
    check(config, name)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let name = || path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| ConfigError::Read { path: name(), error })?;
    serde_json::from_slice(&bytes).map_err(|error| ConfigError::Json {
        path: name(),
        line: error.line(),
        column: error.column(),
        what: error.to_string(),
    })
}

/// Makes a configuration of PEER_NAME, PEER_PORT, PEER_NEIGHBORS, SIGNAL_URL and PEER_ROOM; `get` reads a variable.
///
/// Such a peer has no keys: it announces itself and its links, answers `/health`, `/name` and `/peers`, and relays for
/// nobody. A neighbour may be written `name`, `name:port` or `name=host:port`.
pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<PeerConfig, ConfigError> {
    let mut problems = vec![];
    let get = |name: &str| get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());

    let port = get("PEER_PORT").map_or(DEFAULT_PORT, |text| {
        text.trim_start_matches(':').parse().unwrap_or_else(|_| {
            problems.push(format!("PEER_PORT `{text}` is not a port: write a number from 1 to 65535"));
            DEFAULT_PORT
        })
    });
    let name = match get("PEER_NAME").map(PeerName::new) {
        Some(Ok(name)) => Some(name),
        Some(Err(error)) => {
            problems.push(format!("PEER_NAME: {error}"));
            None
        }
        None => {
            problems.push("neither --config nor PEER_NAME says who this peer is".to_owned());
            None
        }
    };
    let mut rooms = vec![];
    for room in get("PEER_ROOM").as_deref().unwrap_or("default").split(',').map(str::trim) {
        match RoomName::new(room) {
            Ok(name) => rooms.push(RoomMembership { name, token: None }),
            Err(error) => problems.push(format!("PEER_ROOM: {error}")),
        }
    }
    let mut neighbors = vec![];
    for text in get("PEER_NEIGHBORS").unwrap_or_default().split(',').map(str::trim) {
        if text.is_empty() {
            continue;
        }
        let (peer, endpoint) = match text.split_once('=') {
            Some((peer, endpoint)) => (peer, endpoint.to_owned()),
            None => match text.split_once(':') {
                Some((peer, _)) => (peer, text.to_owned()),
                None => (text, format!("{text}:{port}")),
            },
        };
        match PeerName::new(peer) {
            Ok(name) => neighbors.push(NeighborConfig {
                name,
                endpoint,
                key: LinkKey::NONE,
                rooms: rooms.iter().map(|room| room.name.clone()).collect(),
                emulation: hopcast_protocol::Emulation::default(),
            }),
            Err(error) => problems.push(format!("PEER_NEIGHBORS: {error}")),
        }
    }
    match name {
        Some(name) if problems.is_empty() => check(
            PeerConfig {
                version: CONFIG_VERSION,
                mesh: MeshName::new("standalone").expect("letters only"),
                name,
                listen: SocketAddr::from(([0, 0, 0, 0], port)),
                dial_from: None,
                signal_url: get("SIGNAL_URL").unwrap_or_else(|| DEFAULT_SIGNAL_URL.to_owned()),
                rooms,
                neighbors,
                limits: PeerLimits::default(),
                databases: vec![],
                public_key: None,
                peer_addresses: None,
            },
            "environment".to_owned(),
        ),
        _ => {
            Err(ConfigError::Invalid { source_name: "environment".to_owned(), problems: problems.join("\n") })
        }
    }
}

/// True for the key of a link that has none (a peer started from variables): nothing is relayed over it.
pub fn is_keyless(key: &LinkKey) -> bool {
    key.is_none()
}

fn check(config: PeerConfig, source_name: String) -> Result<PeerConfig, ConfigError> {
    let mut problems = String::new();
    let mut problem = |text: std::fmt::Arguments<'_>| {
        if !problems.is_empty() {
            problems.push('\n');
        }
        let _ = problems.write_fmt(text);
    };
    if config.version != CONFIG_VERSION {
        problem(format_args!(
            "version {} is not {CONFIG_VERSION}, the one this program reads",
            config.version
        ));
    }
    if let Err(error) = crate::signal::Endpoint::parse(&config.signal_url) {
        problem(format_args!("signal_url `{}`: {error}", config.signal_url));
    }
    if config.rooms.is_empty() {
        problem(format_args!("no rooms: a peer is in at least one"));
    }
    if config.neighbors.len() > NEIGHBORS {
        problem(format_args!("{} neighbours, at most {NEIGHBORS} are allowed", config.neighbors.len()));
    }
    for (at, room) in config.rooms.iter().enumerate() {
        if config.rooms[..at].iter().any(|other| other.name == room.name) {
            problem(format_args!("room {} is listed twice", room.name));
        }
    }
    for (at, neighbor) in config.neighbors.iter().enumerate() {
        if neighbor.name == config.name {
            problem(format_args!("{} is its own neighbour", config.name));
        }
        if config.neighbors[..at].iter().any(|other| other.name == neighbor.name) {
            problem(format_args!("neighbour {} is listed twice", neighbor.name));
        }
        let port = neighbor.endpoint.rsplit_once(':').and_then(|(host, port)| {
            (!host.is_empty()).then_some(port)?.parse::<u16>().ok().filter(|&port| port != 0)
        });
        if port.is_none() {
            problem(format_args!("neighbour {}: `{}` is not host:port", neighbor.name, neighbor.endpoint));
        }
        if !(0.0..=1.0).contains(&neighbor.emulation.loss) {
            problem(format_args!(
                "neighbour {}: loss {} is not from 0 to 1",
                neighbor.name, neighbor.emulation.loss
            ));
        }
        let delay = neighbor.emulation.latency_us.max(neighbor.emulation.jitter_us);
        if delay > MOST_DELAY {
            problem(format_args!(
                "neighbour {}: latency or jitter is {delay} µs, at most {MOST_DELAY} are taken",
                neighbor.name
            ));
        }
        if neighbor.emulation.rate == Some(0) {
            problem(format_args!(
                "neighbour {}: a rate of 0 lets nothing through: remove the link",
                neighbor.name
            ));
        }
    }
    if config.limits.max_segment == 0 || config.limits.patience_ms == 0 {
        problem(format_args!("limits: max_segment and patience_ms must be above 0"));
    }
    if let Some((first, last)) = config.peer_addresses
        && (first > last || first.is_ipv4() != last.is_ipv4())
    {
        problem(format_args!("peer_addresses: {first} to {last} is no range"));
    }
    if problems.is_empty() { Ok(config) } else { Err(ConfigError::Invalid { source_name, problems }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Result<PeerConfig, ConfigError> {
        from_env(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_originals_variables() {
        let config = env(&[
            ("PEER_NAME", "peer-1"),
            ("PEER_PORT", "9000"),
            ("PEER_NEIGHBORS", "peer-2,peer-5:8081, peer-6=127.0.0.1:8082"),
            ("SIGNAL_URL", "ws://127.0.0.1:7080/ws"),
            ("PEER_ROOM", "rock,soul"),
        ])
        .unwrap();
        assert_eq!(config.listen, "0.0.0.0:9000".parse().unwrap());
        let endpoints: Vec<_> =
            config.neighbors.iter().map(|n| (n.name.as_str(), n.endpoint.as_str())).collect();
        assert_eq!(
            endpoints,
            [("peer-2", "peer-2:9000"), ("peer-5", "peer-5:8081"), ("peer-6", "127.0.0.1:8082")]
        );
        assert_eq!(config.rooms.len(), 2);
        assert!(is_keyless(&config.neighbors[0].key));
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let error =
            env(&[("PEER_PORT", "many"), ("PEER_ROOM", "a b"), ("PEER_NEIGHBORS", "x y")]).unwrap_err();
        let text = error.to_string();
        for part in ["PEER_PORT `many`", "PEER_NAME", "PEER_ROOM", "PEER_NEIGHBORS"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let error =
            env(&[("PEER_NAME", "a"), ("PEER_NEIGHBORS", "a,b,b"), ("SIGNAL_URL", "http://x")]).unwrap_err();
        let text = error.to_string();
        for part in ["own neighbour", "listed twice", "signal_url"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_file_is_read_whole_or_not_at_all() {
        let config = env(&[("PEER_NAME", "peer-1"), ("SIGNAL_URL", "ws://h:1/ws")]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let from_file = |path: &Path| from_files(&Files { config: path.to_owned(), keys: None });
        std::fs::write(file.path(), serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(from_file(file.path()).unwrap(), config);
        let mut other = serde_json::to_value(&config).unwrap();
        other["version"] = 7.into();
        std::fs::write(file.path(), other.to_string()).unwrap();
        assert!(from_file(file.path()).unwrap_err().to_string().contains("version 7"));
        let neighbor = NeighborConfig {
            name: PeerName::new("peer-2").unwrap(),
            endpoint: "127.0.0.1:1".to_owned(),
            key: LinkKey([1; 32]),
            rooms: vec![],
            emulation: hopcast_protocol::Emulation { latency_us: u64::MAX, loss: 1.5, ..Default::default() },
        };
        let slow = PeerConfig { neighbors: vec![neighbor], ..config };
        std::fs::write(file.path(), serde_json::to_vec(&slow).unwrap()).unwrap();
        let text = from_file(file.path()).unwrap_err().to_string();
        assert!(text.contains("latency or jitter is") && text.contains("loss 1.5"), "{text}");
        let mut keyless = PeerConfig { rooms: vec![], ..slow };
        let keys = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(keys.path(), serde_json::to_vec(&Credentials::take(&mut keyless)).unwrap()).unwrap();
        std::fs::write(file.path(), serde_json::to_vec(&keyless).unwrap()).unwrap();
        assert!(from_file(file.path()).unwrap_err().to_string().contains("peer-2 has no key"));
        let both = Files { config: file.path().to_owned(), keys: Some(keys.path().to_owned()) };
        assert!(
            from_files(&both).unwrap_err().to_string().contains("loss 1.5"),
            "keys are there, the rest is bad"
        );
        std::fs::write(file.path(), "{\n  \"nonsense\": 1}").unwrap();
        assert!(matches!(from_file(file.path()), Err(ConfigError::Json { line: 2, .. })));
        assert!(matches!(from_file(Path::new("/nonexistent")), Err(ConfigError::Read { .. })));
    }
}
