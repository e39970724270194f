//! The shortcuts that every hop must refuse: on live routes, as a cheat that has every link's key would try them.
//!
//! Each attempt differs in one thing from a request that the same hop serves (which is made first, so that a hop that
//! refuses everything is not taken for a careful one):
//!
//! | kind | expected |
//! | --- | --- |
//! | no key | 403 |
//! | the key of another link | 403 |
//! | the right key, a route never broadcast | 421 |
//! | a live route, the right key, the wrong previous hop | 421 |
//! | a retired route | 421 |
//!
//! Beside these five: a player's request from another peer's address, 403. All of it comes from the place of the peer that
//! would cheat, so that a hop which looks at addresses alone is not taken for one that looks at keys.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hopcast_protocol::{LinkKey, Manifest, PeerName, RelayAuth};
use tokio::time::Instant;

use crate::{
    checks::segments::touch,
    context::{ANSWER, Context},
    events::{Broadcast, Events},
    graph::show,
    http::Client,
    playlist,
    report::Tally,
};

/// The check's name.
pub(crate) const NAME: &str = "shortcuts";
pub(crate) const CLAIM: &str = "hops refuse: no key, another link's key, a route never broadcast, the wrong previous hop, a retired route";

/// A hop waits this long at most for a broadcast that may be on its way (docs/protocol.md), and then answers.
const REFUSAL: Duration = Duration::from_secs(10);

/// What both this check and the report count.
#[derive(Debug, Default)]
pub(crate) struct Shortcuts {
    pub(crate) tally: Tally,
    /// Refused attempts over the five kinds.
    pub(crate) refused: u64,
}

/// What is tried. The first five are the shortcuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    NoKey,
    OtherKey,
    NeverBroadcast,
    WrongHop,
    Retired,
    FromAPeer,
}

const SHORTCUTS: [(Kind, &str); 5] = [
    (Kind::NoKey, "a request without a key"),
    (Kind::OtherKey, "another link's key"),
    (Kind::NeverBroadcast, "a route never broadcast"),
    (Kind::WrongHop, "the wrong previous hop"),
    (Kind::Retired, "a retired route"),
];

/// One hop of a live route, and what a right request to it looks like.
#[derive(Debug, Clone)]
struct Hop {
    broadcast: Broadcast,
    /// The content that the route was broadcast for, as in a relay path.
    content: String,
    /// Who is asked.
    victim: PeerName,
    /// Who may ask it.
    previous: PeerName,
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

struct Attempts<'a> {
    context: &'a Context<'a>,
    events: &'a Events,
    hop: &'a Hop,
    /// From the previous hop's place.
    client: Client,
}

impl Attempts<'_> {
    fn key(&self, a: &PeerName, b: &PeerName) -> LinkKey {
        self.context.target.secret.link_key(a, b)
    }

    /// A client that dials the victim from a peer's place.
    fn client(context: &Context<'_>, victim: &PeerName, from: &PeerName) -> Result<Client, String> {
        let to = context.endpoint(victim.as_str()).ok_or_else(|| format!("{victim} is dead"))?;
        let place = context.running(from.as_str()).and_then(|peer| context.place(peer));
        Ok(Client::from(to, place.ok_or_else(|| format!("{from} has no process"))?))
    }

    /// A relay request, signed or not; the first byte of the content is enough.
    async fn ask(&mut self, route: &str, sender: Option<(&PeerName, LinkKey)>) -> Result<u16, String> {
        Self::ask_with(&mut self.client, &self.hop.content, route, sender).await
    }

    async fn ask_with(
        client: &mut Client,
        content: &str,
        route: &str,
        sender: Option<(&PeerName, LinkKey)>,
    ) -> Result<u16, String> {
        const RANGE: &str = "bytes=0-0";
        let path = format!("/relay/{route}/{content}");
        let signature = sender.map(|(peer, key)| RelayAuth::sign(&key, "GET", &path, RANGE, peer, now()));
        let mut headers = vec![("range", RANGE)];
        if let Some(signature) = &signature {
            headers.push(("authorization", signature));
        }
        let answer = client.send("GET", &path, &headers, 1 << 20, REFUSAL).await;
        Ok(answer.map_err(|error| error.to_string())?.status.as_u16())
    }

    fn expect(&self, what: &str, wanted: u16, got: Result<u16, String>) -> Result<(), String> {
        let Hop { victim, broadcast, .. } = self.hop;
        match got {
            Ok(status) if status == wanted => Ok(()),
            Ok(status) => Err(format!(
                "{victim} answered {status} instead of {wanted} to {what} on {}",
                broadcast.route
            )),
            Err(why) => Err(format!("{victim}: {what} on {}: {why}", broadcast.route)),
        }
    }

    /// The request that must be served.
    async fn served(&mut self) -> Result<u16, String> {
        let previous = self.hop.previous.clone();
        let key = self.key(&previous, &self.hop.victim);
        let route = self.hop.broadcast.route.clone();
        self.ask(route.as_str(), Some((&previous, key))).await
    }

    /// A neighbour of the victim that is not on its side of the route, if it has one.
    fn other_neighbor(&self) -> Option<PeerName> {
        let Hop { victim, previous, .. } = self.hop;
        let planned = self.context.planned(victim.as_str())?;
        planned.neighbors.iter().find(|neighbor| *neighbor != previous).cloned()
    }

    /// A link of the plan other than the one that is asked over, the victim's own if it has another.
    fn other_link(&self) -> Option<LinkKey> {
        let Hop { victim, previous, .. } = self.hop;
        let mut others = self.context.target.plan.links.iter().filter(|link| {
            !((link.a == *victim && link.b == *previous) || (link.b == *victim && link.a == *previous))
        });
        let own = others.clone().find(|link| link.a == *victim || link.b == *victim);
        own.or_else(|| others.next()).map(|link| self.key(&link.a, &link.b))
    }

    /// Every kind but the last.
    async fn four(&mut self, results: &mut Vec<(Kind, Result<(), String>)>) {
        let Hop { victim, previous, broadcast, .. } = self.hop.clone();
        let route = broadcast.route.as_str();
        let got = self.ask(route, None).await;
        results.push((Kind::NoKey, self.expect("a request without a key", 403, got)));
        if let Some(wrong) = self.other_link() {
            let got = self.ask(route, Some((&previous, wrong))).await;
            results.push((Kind::OtherKey, self.expect("the key of another link", 403, got)));
        }
        let key = self.key(&previous, &victim);
        let got = self.ask("never-broadcast-0", Some((&previous, key))).await;
        results.push((Kind::NeverBroadcast, self.expect("a route that was never broadcast", 421, got)));
        if let Some(other) = self.other_neighbor() {
            let key = self.key(&other, &victim);
            // Where the other is dead, its key and the previous hop's place must do.
            let own = if self.context.dead.contains(&other) { &previous } else { &other };
            let got = match Self::client(self.context, &victim, own) {
                Ok(mut client) => {
                    Self::ask_with(&mut client, &self.hop.content, route, Some((&other, key))).await
                }
                Err(why) => Err(why),
            };
            let what = format!("the wrong previous hop {other}");
            results.push((Kind::WrongHop, self.expect(&what, 421, got)));
        }
    }

    /// Retires the route as the operator and asks until the hop knows it. `None` where the route went by itself meanwhile
    /// (a player's peer fell, a link broke): then there was nothing to retire.
    async fn retired(&mut self) -> Option<Result<(), String>> {
        match self.retire().await {
            Ok(()) => Some(Ok(())),
            Err(why) => why.map(Err),
        }
    }

    async fn retire(&mut self) -> Result<(), Option<String>> {
        let route = self.hop.broadcast.route.clone();
        let token = format!("Bearer {}", self.context.target.secret.operator_token());
        let path = format!("/api/routes/{route}");
        let mut server = Client::new(self.context.target.signalling);
        let answer = server.send("DELETE", &path, &[("authorization", &token)], 1 << 20, ANSWER).await;
        let answer = answer.map_err(|error| Some(error.to_string()))?;
        let went_down = self.events.went_down(route.as_str(), ANSWER).await;
        match (answer.status.as_u16(), went_down) {
            (204, true) => {}
            (204, false) => {
                let why =
                    format!("the server retired {route} and told nobody (no route_down in /api/events)");
                return Err(Some(why));
            }
            (404, true) => return Err(None),
            _ => return Err(Some(format!("DELETE {path} {} instead of 204", answer.unexpected()))),
        }
        let until = Instant::now() + ANSWER;
        loop {
            let got = self.served().await;
            let result = self.expect("a retired route", 421, got);
            if result.is_ok() || Instant::now() >= until {
                return result.map_err(Some);
            }
            self.context.pause().await;
        }
    }

    /// A player's request that comes from a neighbour's address.
    async fn as_a_player(&self, song: &Manifest) -> Result<(), String> {
        let Hop { victim, previous, .. } = self.hop;
        let Ok(mut client) = Self::client(self.context, victim, previous) else { return Ok(()) };
        let answer = client.get(&playlist::master(&song.song), REFUSAL).await;
        let got = answer.map(|answer| answer.status.as_u16()).map_err(|error| error.to_string());
        self.expect(&format!("a player's request from {previous}'s address"), 403, got)
    }
}

/// The hops to try: of each route one, so that many peers are tried; first those that nobody tried yet.
///
/// Short routes first: they have the fewest peers to choose from.
fn hops(context: &Context<'_>, mut routes: Vec<Broadcast>, tried: &HashSet<PeerName>) -> Vec<Hop> {
    routes.sort_by_key(|broadcast| broadcast.path.len());
    let mut victims = tried.clone();
    let mut hops = Vec::new();
    for (i, broadcast) in routes.into_iter().enumerate() {
        let Some(content) = broadcast.content.as_ref().map(|content| content.replacen(':', "/", 1)) else {
            continue;
        };
        let length = broadcast.path.len();
        if broadcast.path.iter().any(|peer| context.dead.contains(peer)) {
            continue;
        }
        // Beginning in another place each time, so that relays and holders both get their turn.
        let fresh = (0..length.saturating_sub(1))
            .map(|at| 1 + (at + i) % (length - 1))
            .find(|&at| !victims.contains(&broadcast.path[at]));
        if let Some(at) = fresh {
            let (victim, previous) = (broadcast.path[at].clone(), broadcast.path[at - 1].clone());
            victims.insert(victim.clone());
            hops.push(Hop { broadcast, content, victim, previous });
        }
    }
    hops
}

/// Makes peers ask for a manifest, so that there are live routes also where every cache is full. A peer asks a gateway again
/// after 10 s (docs/protocol.md), so this may take as long as the mesh may take to settle.
async fn make_routes(context: &Context<'_>, songs: &[Manifest], seen: usize, events: &Events) {
    let mut asking = Vec::new();
    let living = context.living();
    let step = (living.len() / (4 * context.options.shortcut_routes).max(1)).max(1);
    for peer in living.into_iter().step_by(step) {
        let Some(planned) = context.planned(peer.name.as_str()).filter(|planned| planned.edges.is_empty())
        else {
            continue;
        };
        let song = songs.iter().find(|song| song.rooms.iter().any(|room| planned.rooms.contains(room)));
        asking.extend(song.map(|song| (peer, &song.song)));
    }
    let until = Instant::now() + context.options.settle;
    // Without a song nobody can be made to ask for one.
    while !asking.is_empty() && events.standing().len() <= seen && Instant::now() < until {
        for (peer, song) in &asking {
            // Whether it can be played is the business of the check `segments`.
            drop(touch(context, peer, song).await);
        }
        context.pause().await;
    }
}

/// Everything on one hop; an error where the hop did not serve what it should.
async fn attempt(
    context: &Context<'_>,
    events: &Events,
    hop: &Hop,
    song: Option<&Manifest>,
) -> Result<Vec<(Kind, Result<(), String>)>, String> {
    let client = Attempts::client(context, &hop.victim, &hop.previous)?;
    let mut attempts = Attempts { context, events, hop, client };
    let served = attempts.served().await;
    if !matches!(served, Ok(200 | 206)) {
        // The route may have idled out, or its holder dropped the content: no basis for an attempt.
        let why = served.map_or_else(|why| why, |status| format!("status {status}"));
        return Err(format!("{} on {}: {why}", hop.victim, show(&hop.broadcast.path)));
    }
    let mut results = Vec::with_capacity(6);
    attempts.four(&mut results).await;
    results.extend(attempts.retired().await.map(|result| (Kind::Retired, result)));
    // Where peers share an address with players, a player's request from there is none of a peer's.
    if let Some(song) = song.filter(|_| context.sees_processes()) {
        results.push((Kind::FromAPeer, attempts.as_a_player(song).await));
    }
    Ok(results)
}

/// Tries the shortcuts on live routes.
pub(crate) async fn check(context: &Context<'_>, events: &Events, songs: &[Manifest]) -> Shortcuts {
    let mut found = Shortcuts::default();
    let wanted = context.options.shortcut_routes;
    let (mut tried, mut routes, mut unserved) = (HashSet::new(), 0, Vec::new());
    let mut kinds: HashSet<Kind> = HashSet::new();
    for round in 0..3 {
        if round > 0 {
            make_routes(context, songs, events.standing().len(), events).await;
        }
        let mut chosen = hops(context, events.standing(), &tried);
        chosen.truncate(wanted - routes);
        tried.extend(chosen.iter().map(|hop| hop.victim.clone()));
        let work = async |hop: Hop| attempt(context, events, &hop, songs.first()).await;
        let mut tally = std::mem::take(&mut found.tally);
        context
            .each(NAME, &mut tally, chosen, work, |tally, results| match results {
                Ok(results) => {
                    routes += 1;
                    for (kind, result) in results {
                        kinds.insert(kind);
                        found.refused += u64::from(result.is_ok() && kind != Kind::FromAPeer);
                        tally.outcome(result);
                    }
                }
                Err(why) => unserved.push(why),
            })
            .await;
        found.tally = tally;
        // Half of them are enough where the mesh has no more at hand: what counts is that every kind was tried.
        let enough = round > 0 || routes >= wanted.div_ceil(2);
        if routes == wanted || (enough && SHORTCUTS.iter().all(|(kind, _)| kinds.contains(kind))) {
            break;
        }
    }
    for (_, what) in SHORTCUTS.iter().filter(|(kind, _)| !kinds.contains(kind)) {
        let why = unserved.first().map_or("no route has a hop to try it on", String::as_str);
        found.tally.not_run(format!("{what}: {why}"));
    }
    found
}
