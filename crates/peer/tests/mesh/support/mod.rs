//! What the tests share: a mesh of peers on threads, a song, a client, a signalling stub.

pub(crate) mod http;
pub(crate) mod peer;
pub(crate) mod signalling;
pub(crate) mod song;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use hopcast_protocol::{
    Emulation, MeshName, MeshSecret, NeighborConfig, PeerConfig, PeerLimits, PeerName, RoomMembership,
    RoomName, config::CONFIG_VERSION,
};

use self::{http::Response, peer::PeerThread, signalling::Stub, song::Song};

/// Waits until `holds`, or fails after 15 s.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 15 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn name(number: u8) -> PeerName {
    PeerName::new(format!("peer-{number}")).unwrap()
}

pub(crate) fn room(name: &str) -> RoomName {
    RoomName::new(name).unwrap()
}

/// A mesh of a test: who is linked to whom, in which rooms, who is a gateway.
pub(crate) struct Mesh {
    net: u8,
    pub(crate) secret: MeshSecret,
    pub(crate) song: Song,
    pub(crate) stub: Stub,
    pub(crate) configs: BTreeMap<u8, PeerConfig>,
    gateways: Vec<u8>,
    pub(crate) peers: BTreeMap<u8, PeerThread>,
}

impl Mesh {
    /// A mesh of one room, `rock`, with these links and gateways; nothing runs but the stub.
    pub(crate) fn new(net: u8, links: &[(u8, u8)], gateways: &[u8]) -> Self {
        Self::with_song(net, links, gateways, 3, 100_000)
    }

    /// The same with a song of `segments` segments of `length` bytes each.
    pub(crate) fn with_song(
        net: u8,
        links: &[(u8, u8)],
        gateways: &[u8],
        segments: usize,
        length: usize,
    ) -> Self {
        let secret = MeshSecret([net; 32]);
        let song = Song::new(&secret, &[room("rock")], segments, length);
        let stub = Stub::start(SocketAddr::from((Ipv4Addr::new(127, 78, net, 250), 7080)));
        let mut mesh = Self {
            net,
            secret,
            song,
            stub,
            configs: BTreeMap::new(),
            gateways: gateways.to_vec(),
            peers: BTreeMap::new(),
        };
        for &(a, b) in links {
            mesh.link(a, b, Emulation::default());
        }
        mesh
    }

    fn ip(&self, number: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 78, self.net, number))
    }

    pub(crate) fn address(&self, number: u8) -> SocketAddr {
        SocketAddr::new(self.ip(number), 8080)
    }

    /// Adds a link of room `rock`, or changes what it feels like.
    pub(crate) fn link(&mut self, a: u8, b: u8, emulation: Emulation) {
        self.link_in(a, b, emulation, &["rock"]);
    }

    pub(crate) fn link_in(&mut self, a: u8, b: u8, emulation: Emulation, rooms: &[&str]) {
        let rooms: Vec<_> = rooms.iter().map(|name| room(name)).collect();
        for (from, to) in [(a, b), (b, a)] {
            let neighbor = NeighborConfig {
                name: name(to),
                endpoint: self.address(to).to_string(),
                key: self.secret.link_key(&name(from), &name(to)),
                rooms: rooms.clone(),
                emulation,
            };
            let config = self.config(from);
            config.neighbors.retain(|known| known.name != neighbor.name);
            config.neighbors.push(neighbor);
            for room in &rooms {
                if !config.rooms.iter().any(|known| known.name == *room) {
                    config.rooms.push(RoomMembership { name: room.clone(), token: None });
                }
            }
        }
    }

    pub(crate) fn unlink(&mut self, a: u8, b: u8) {
        self.config(a).neighbors.retain(|known| known.name != name(b));
        self.config(b).neighbors.retain(|known| known.name != name(a));
    }

    /// The configuration of a peer, made if it is new.
    pub(crate) fn config(&mut self, number: u8) -> &mut PeerConfig {
        let (ip, first, last) = (self.ip(number), self.ip(1), self.ip(200));
        let (listen, url) = (self.address(number), format!("ws://{}/ws", self.stub.address));
        let key = self.secret.manifest_key().public();
        self.configs.entry(number).or_insert_with(|| PeerConfig {
            version: CONFIG_VERSION,
            mesh: MeshName::new("test").unwrap(),
            name: name(number),
            listen,
            dial_from: Some(ip),
            signal_url: url,
            rooms: vec![],
            neighbors: vec![],
            limits: PeerLimits::default(),
            databases: vec![],
            public_key: Some(key),
            peer_addresses: Some((first, last)),
        })
    }

    /// Starts every peer and waits until the stub knows all of them.
    pub(crate) fn up(mut self) -> Self {
        for number in self.configs.keys().copied().collect::<Vec<_>>() {
            self.start(number);
        }
        self.settled();
        self
    }

    /// The peer's sockets are as small as under the engine's smallest cap: a reader that stops is felt at once.
    pub(crate) fn small_buffers(&mut self, number: u8) {
        let limits = &mut self.config(number).limits;
        (limits.send_buffer, limits.receive_buffer) = (Some(64 << 10), Some(64 << 10));
    }

    /// Starts one peer.
    pub(crate) fn start(&mut self, number: u8) {
        let config = self.configs[&number].clone();
        let song = self.gateways.contains(&number).then(|| self.song.clone());
        self.peers.insert(number, PeerThread::start(config, song));
    }

    /// Starts one more gateway, linked to one peer, which is told of it.
    pub(crate) fn gateway(&mut self, number: u8, neighbor: u8) {
        self.link(number, neighbor, Emulation::default());
        let config = self.configs[&neighbor].clone();
        self.peers[&neighbor].with(move |peer, _| peer.reload(config).unwrap());
        self.gateways.push(number);
        self.start(number);
    }

    /// Kills a peer: its sockets are closed, nothing is said.
    pub(crate) fn kill(&mut self, number: u8) {
        self.peers.remove(&number).expect("it runs").kill();
    }

    /// Waits until all that run are connected in all their rooms.
    pub(crate) fn settled(&self) {
        for number in self.peers.keys() {
            for membership in &self.configs[number].rooms {
                until(&format!("peer-{number} in {}", membership.name), || {
                    self.stub.knows(&name(*number), &membership.name)
                        && (!self.gateways.contains(number)
                            || self.stub.holds_all(&name(*number), &membership.name))
                });
            }
        }
    }

    /// A player's GET.
    pub(crate) fn play(&self, number: u8, path: &str) -> Response {
        http::get(self.address(number), path, &[])
    }

    /// A player's GET of a segment of the song.
    pub(crate) fn segment(&self, number: u8, sequence: usize) -> Response {
        self.play(number, &format!("/hls/demo/128k/{sequence}.ts"))
    }

    /// One value of a peer's metrics.
    pub(crate) fn metric(&self, number: u8, line: &str) -> f64 {
        let page = self.play(number, "/metrics").text();
        let value = page.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}
