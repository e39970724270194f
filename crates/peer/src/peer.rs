//! A whole peer: started from a configuration, changed by another one, run until something ends it.

use std::{io, net::SocketAddr, rc::Rc, time::Duration};

use hopcast_protocol::PeerConfig;
use tokio::{net::TcpListener, time::timeout};

use crate::{
    cache::Space,
    database::Database,
    gateway::{Gateway, Source},
    link::Link,
    metrics::count,
    net,
    node::{Exit, Node},
    server,
    signal::{self, Room},
};

/// How long transfers may go on after the peer was asked to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// Why a peer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken, not here, or not allowed.
    #[error(
        "failed to listen on {address}: {error}; end what holds it, or choose another (`listen` of the file, PEER_PORT)"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        error: io::Error,
    },
}

/// Why a new configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// What cannot change in a running process.
    #[error("{0} cannot change while the peer runs: restart it")]
    NeedsRestart(&'static str),
}

/// Makes the sources of a gateway from its configuration.
pub type Connect = Box<dyn Fn(&PeerConfig) -> Vec<Rc<dyn Source>>>;

/// The edge databases that the configuration names.
pub fn databases(config: &PeerConfig) -> Vec<Rc<dyn Source>> {
    let open = |access: &hopcast_protocol::DatabaseAccess| -> Rc<dyn Source> {
        Database::open(access.clone(), config.dial_from)
    };
    config.databases.iter().map(open).collect()
}

/// A peer.
pub struct Peer {
    node: Rc<Node>,
    connect: Connect,
    address: SocketAddr,
    listener: TcpListener,
}

impl Peer {
    /// Listens, and begins to connect to signalling. Call inside a local runtime.
    pub fn start(config: PeerConfig, connect: Connect) -> Result<Self, StartError> {
        let refused = |error| StartError::Listen { address: config.listen, error };
        let listener =
            net::listen(config.listen, net::Buffers::answering(&config.limits)).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let gateway = Gateway::new(connect(&config), &config.limits);
        let node = Node::new(config, gateway);
        apply(&node);
        node.spawn(node.clone().tidy());
        Ok(Self { node, connect, address, listener })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its state.
    pub fn node(&self) -> &Rc<Node> {
        &self.node
    }

    /// Takes another configuration; what did not change is not touched.
    pub fn reload(&self, config: PeerConfig) -> Result<(), ReloadError> {
        let old = self.node.config();
        for (differs, what) in [
            (old.name != config.name, "name"),
            (old.mesh != config.mesh, "mesh"),
            (old.listen != config.listen, "listen"),
        ] {
            if differs {
                return Err(ReloadError::NeedsRestart(what));
            }
        }
        let source = old.databases != config.databases || old.dial_from != config.dial_from;
        if source || old.limits != config.limits {
            self.node.set_gateway(Gateway::new((self.connect)(&config), &config.limits));
        }
        self.node.cache.borrow_mut().set_limit(config.limits.cache);
        let redial = old.signal_url != config.signal_url || old.dial_from != config.dial_from;
        self.node.set_config(Rc::new(config));
        if redial {
            self.node.rooms().iter().for_each(|room| room.stop());
            self.node.set_rooms(Rc::new([]));
        }
        if let Space::Goodbye(until) = self.node.make_room(0) {
            let node = self.node.clone();
            self.node.spawn(async move {
                tokio::time::sleep_until(until).await;
                node.make_room(0);
            });
        }
        apply(&self.node);
        count(&self.node.metrics.reloads);
        Ok(())
    }

    /// Serves until it is replaced or asked to stop.
    pub async fn run(&self, stop: impl Future<Output = ()>) -> Exit {
        let serving = async {
            // `accept` borrows the listener, so a dropped task leaves it open.
            server::run(self.node.clone(), &self.listener).await;
        };
        let exit = tokio::select! {
            () = serving => Exit::Stopped,
            exit = self.node.exited() => exit,
            () = stop => Exit::Stopped,
        };
        for room in self.node.rooms().iter() {
            room.stop();
        }
        if exit == Exit::Stopped {
            let _ = timeout(DRAIN, self.node.drained()).await;
        }
        exit
    }
}

/// Makes links and rooms what the configuration says. Links and connections that stay are not touched.
fn apply(node: &Rc<Node>) {
    let config = node.config();
    let old = node.links();
    let links: Vec<_> = config
        .neighbors
        .iter()
        .map(|neighbor| match old.iter().find(|link| link.is_same(neighbor)) {
            Some(link) => {
                link.update(neighbor);
                link.clone()
            }
            None => Link::new(neighbor),
        })
        .collect();
    for link in old.iter().filter(|link| !links.iter().any(|kept| Rc::ptr_eq(kept, link))) {
        link.cut();
    }
    node.set_links(links.into());

    let (old, gateway) = (node.rooms(), node.gateway().is_some());
    let rooms: Vec<_> = config
        .rooms
        .iter()
        .map(|membership| {
            let names: Vec<_> = config
                .neighbors
                .iter()
                .filter(|neighbor| neighbor.rooms.contains(&membership.name))
                .map(|neighbor| neighbor.name.clone())
                .collect();
            if let Some(room) = old.iter().find(|room| room.membership() == membership) {
                room.forget_refusals();
                room.tell(|outbox| {
                    outbox.set_neighbors(names);
                    outbox.set_gateway(gateway);
                    // A gateway says once that it can get anything; from then on it is one of many.
                    if !gateway {
                        node.held_in(&room.name).into_iter().for_each(|sha256| outbox.hold(sha256));
                    }
                    // A link that was replaced, or has come into this room, is what it is now.
                    for link in node.links().iter() {
                        outbox.link(&link.name, link.is_up());
                    }
                });
                return room.clone();
            }
            let room = Room::new(&config.name, membership.clone(), names, gateway);
            room.tell(|outbox| {
                if !gateway {
                    node.held_in(&room.name).into_iter().for_each(|sha256| outbox.hold(sha256));
                }
                for link in node.links().iter().filter(|link| !link.is_up()) {
                    outbox.link(&link.name, false);
                }
            });
            node.spawn(signal::socket::run(node.clone(), room.clone()));
            room
        })
        .collect();
    for room in old.iter().filter(|room| !rooms.iter().any(|kept| Rc::ptr_eq(kept, room))) {
        room.stop();
    }
    node.set_rooms(rooms.into());
}
