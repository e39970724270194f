//! A chain of real peers, between a holder and a requester that the bench plays: both speak to the real signalling server,
//! so that the route is one that was broadcast.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use hopcast_protocol::{
    ContentId, Emulation, LinkKey, MeshName, MeshSecret, NeighborConfig, PeerConfig, PeerLimits, PeerName,
    RelayAuth, RoomMembership, RoomName, Sha256,
    config::CONFIG_VERSION,
    message::{ClientMessage, ServerMessage},
};
use tokio::sync::oneshot;

use super::places::Places;
use crate::{process::Running, programs, socket::Client};

/// How long a chain may take to come up.
const READY: Duration = Duration::from_secs(30);
/// How often the requester asks again, so that its route stays in use.
const RENEW: Duration = Duration::from_secs(5);
const ROOM: &str = "bench";

/// What a requester sends: the route, and the key of the link to the first relay.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    route: Arc<Mutex<String>>,
    content: ContentId,
    me: PeerName,
    key: LinkKey,
}

impl Ask {
    /// A signed request.
    pub(super) fn request(&self, host: SocketAddr) -> String {
        let route = self.route.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let path = format!("/relay/{route}/{}", self.content.path());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let date = now.map_or(0, |since| since.as_secs());
        let auth = RelayAuth::sign(&self.key, "GET", &path, "", &self.me, date);
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {auth}\r\n\r\n")
    }
}

/// The running chain.
pub(super) struct Ours {
    pub relays: Vec<Running>,
    pub ask: Ask,
    // Dropped with it: the server, and the two ends' thread.
    _server: Running,
    ends: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Ours {
    /// Brings up a chain of so many peers in front of `source`.
    pub(super) fn start(dir: &Path, places: Places, hops: usize, source: SocketAddr) -> Result<Self> {
        let secret = MeshSecret::generate().map_err(|error| anyhow!("no random numbers: {error}"))?;
        let server_at = places.signalling(hops);
        let mut command = Command::new(programs::ours("hopcast-signalling")?);
        command.args(["--listen", &server_at.to_string()]).stderr(Stdio::null()).stdout(Stdio::null());
        let server = Running::start(&mut command)?;
        let name = |at: usize| PeerName::new(format!("peer-{at}"));
        let endpoint = |at: usize| if at > hops { source } else { places.relay(0, hops, at) };
        let mut relays = Vec::new();
        for at in 1..=hops {
            let me = name(at)?;
            let neighbor = |other: usize| {
                let other_name = name(other)?;
                anyhow::Ok(NeighborConfig {
                    key: secret.link_key(&me, &other_name),
                    name: other_name,
                    endpoint: endpoint(other).to_string(),
                    rooms: vec![RoomName::new(ROOM)?],
                    emulation: Emulation::default(),
                })
            };
            let config = PeerConfig {
                version: CONFIG_VERSION,
                mesh: MeshName::new("bench")?,
                name: me.clone(),
                listen: endpoint(at),
                dial_from: Some(IpAddr::V4(places.address(0, hops, at))),
                signal_url: format!("ws://{server_at}/ws"),
                rooms: vec![RoomMembership { name: RoomName::new(ROOM)?, token: None }],
                neighbors: vec![neighbor(at - 1)?, neighbor(at + 1)?],
                limits: PeerLimits::default(),
                databases: vec![],
                public_key: None,
                peer_addresses: None,
            };
            let file = dir.join(format!("peer-{hops}-{at}.json"));
            fs::write(&file, serde_json::to_vec(&config)?)?;
            let mut command = Command::new(programs::ours("hopcast-peer")?);
            command.arg("--config").arg(&file).env("HOPCAST_LOG", "error").stdout(Stdio::null());
            relays.push(Running::start(&mut command)?);
        }
        let content = ContentId::Blob(Sha256::of(b"what a segment would be"));
        let ask = Ask {
            route: Arc::default(),
            content: content.clone(),
            me: name(0)?,
            key: secret.link_key(&name(0)?, &name(1)?),
        };
        let (stop, stopped) = oneshot::channel();
        let (ready, until_ready) = mpsc::channel();
        let route = ask.route.clone();
        let thread = thread::spawn(move || {
            let outcome = ends(server_at, hops, content, &route, &ready, stopped);
            if let Err(error) = outcome {
                // Fails where the route was there already: then the requests tell.
                let _ = ready.send(Err(error));
            }
        });
        let ours = Self { relays, ask, _server: server, ends: Some((stop, thread)) };
        until_ready
            .recv_timeout(READY)
            .map_err(|_| anyhow!("no route through {hops} peers within {} s", READY.as_secs()))??;
        Ok(ours)
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.ends.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

/// The two ends' connections to the server, until `stopped`.
fn ends(
    server: SocketAddr,
    hops: usize,
    content: ContentId,
    route: &Mutex<String>,
    ready: &mpsc::Sender<Result<()>>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let room = RoomName::new(ROOM)?;
        let (first, last) = ("peer-0".to_owned(), format!("peer-{}", hops + 1));
        let deadline = Instant::now() + READY;
        let mut clients = Vec::new();
        for (me, neighbor) in [(&first, 1), (&last, hops)] {
            let mut client = loop {
                match Client::enter(server, me, ROOM).await {
                    Ok(client) => break client,
                    Err(error) if Instant::now() > deadline => return Err(error),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            let neighbors = vec![PeerName::new(format!("peer-{neighbor}"))?];
            let announce =
                ClientMessage::Announce { peer: PeerName::new(me)?, room: room.clone(), neighbors };
            client.send(&serde_json::to_vec(&announce)?).await?;
            clients.push(client);
        }
        let (mut to, mut from) =
            (clients.pop().context("two clients")?, clients.pop().context("two clients")?);
        let hold = ClientMessage::Hold { contents: vec![content.clone()], all: false };
        to.send(&serde_json::to_vec(&hold)?).await?;
        let request = ClientMessage::RequestPath {
            target: None,
            content: Some(content),
            exclude: vec![],
            avoid: vec![],
            id: Some(1),
        };
        let request = serde_json::to_vec(&request)?;
        let mut found = false;
        loop {
            // Until all peers are connected there is no way: asked again and again.
            let again = if found { RENEW } else { Duration::from_millis(50) };
            tokio::select! {
                _ = &mut stopped => return Ok(()),
                () = tokio::time::sleep(again) => from.send(&request).await?,
                message = to.next() => drop(message?),
                message = from.next() => match serde_json::from_slice(&message?)? {
                    ServerMessage::Path { route: Some(id), path, .. } if path.len() == hops + 2 => {
                        id.as_str().clone_into(&mut route.lock().unwrap_or_else(PoisonError::into_inner));
                        if !std::mem::replace(&mut found, true) {
                            let _ = ready.send(Ok(()));
                        }
                    }
                    ServerMessage::Path { path, .. } if !path.is_empty() => {
                        bail!("the path has {} peers instead of {}", path.len(), hops + 2)
                    }
                    _ => {}
                },
            }
        }
    })
}
