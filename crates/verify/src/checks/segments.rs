//! A segment through every peer, as a player gets it: playlists from that peer, one segment of at most 128 KiB, its
//! SHA-256 against the signed manifest (check `segments`), its `Via` against what the server broadcast (check `via`).
//!
//! So a peer that is asked caches one segment at most; a gateway also what others ask it for. Peers cache what they fetch and then hold it for others. So the farthest peers go first, neighbours in that order get
//! different segments, and a peer that has the segment already is asked for another: a mesh that was verified before
//! still makes real hops, until every peer has everything. Then nothing is put into a cache either.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use hopcast_protocol::{Manifest, PeerName, Sha256, SongName};

use crate::{
    context::{ANSWER, Context},
    events::{Broadcast, Events},
    graph::{RoomGraph, show},
    http::{ANSWER_LIMIT, Answer, Client},
    metrics, playlist,
    report::Tally,
    songs::{Piece, pieces},
    target::PeerTarget,
    via,
};

/// The checks' names.
pub(crate) const NAME: &str = "segments";
pub(crate) const CLAIM: &str = "through every peer comes a segment with the SHA-256 of the signed manifest";
pub(crate) const VIA: &str = "via";
pub(crate) const VIA_CLAIM: &str =
    "each segment's Via is the broadcast path reversed, and every hop a link of the plan";

/// Segments that one peer is asked for, until one is not in its cache.
const TRIES: usize = 16;
/// Added to the mesh's patience for the answer to a segment.
const BEYOND_PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for a broadcast whose bytes are already here.
const BROADCAST: Duration = Duration::from_secs(3);

/// What came through one peer.
#[derive(Debug)]
struct Fetched {
    hops: usize,
    over_route: bool,
    via: Result<(), String>,
    /// Contents that the peer threw away on the way, because they were not what was signed.
    corrupt: u64,
}

/// What became of one peer.
enum Outcome {
    Fetched(Fetched),
    /// No song is for its rooms, and it refused as it should.
    Refused,
}

/// What both checks found.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    pub(crate) bytes: Tally,
    pub(crate) via: Tally,
    pub(crate) fetched: u64,
    pub(crate) over_routes: u64,
    pub(crate) via_matches: u64,
    pub(crate) max_hops: u64,
}

struct Work<'a> {
    context: &'a Context<'a>,
    events: &'a Events,
    rooms: &'a [RoomGraph],
    songs: &'a [Manifest],
}

impl Work<'_> {
    fn patience(&self) -> Duration {
        Duration::from_millis(self.context.target.plan.limits.patience_ms) + BEYOND_PATIENCE
    }

    async fn playlist(&self, client: &mut Client, path: &str) -> Result<Vec<String>, String> {
        let answer = client.send("GET", path, &[], ANSWER_LIMIT, self.patience()).await;
        let answer =
            answer.map_err(|error| error.to_string())?.ok().map_err(|why| format!("{path} {why}"))?;
        playlist::uris(&String::from_utf8_lossy(&answer.body), path)
    }

    /// The segments' URIs of one rendition, found as a player finds them.
    async fn segments(
        &self,
        client: &mut Client,
        manifest: &Manifest,
        rendition: usize,
    ) -> Result<Vec<String>, String> {
        let master = playlist::master(&manifest.song);
        let variants = self.playlist(client, &master).await?;
        if variants.len() != manifest.renditions.len() {
            let (found, wanted) = (variants.len(), manifest.renditions.len());
            return Err(format!("{master} has {found} variants, the manifest {wanted}"));
        }
        let described = &manifest.renditions[rendition];
        let folder = format!("/hls/{}/{}/", manifest.song, described.name);
        let media = variants.iter().find(|uri| uri.starts_with(&folder));
        let media = media.ok_or_else(|| format!("{master} has no variant {}", described.name))?;
        let segments = self.playlist(client, media).await?;
        if segments.len() != described.segments.len() {
            let (found, wanted) = (segments.len(), described.segments.len());
            return Err(format!("{media} has {found} segments, the manifest {wanted}"));
        }
        Ok(segments)
    }

    /// Asks for segments in turn until one was not in the peer's cache.
    async fn peer(&self, peer: &PeerTarget, candidates: Vec<&Piece>) -> Result<Outcome, String> {
        let mut client = self.context.player(peer);
        if candidates.is_empty() {
            return self.refusal(&mut client).await;
        }
        let before = metrics::read(&mut client, metrics::CORRUPT).await?;
        let mut playlists: HashMap<(usize, usize), Vec<String>> = HashMap::new();
        let mut last = None;
        for piece in candidates.into_iter().take(TRIES) {
            let key = (piece.song, piece.rendition);
            let uris = match playlists.entry(key) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(new) => {
                    new.insert(self.segments(&mut client, &self.songs[piece.song], piece.rendition).await?)
                }
            };
            let uri = &uris[piece.segment]; // `segments` checked the length
            let answer = self.fetch(&mut client, uri).await?;
            check_bytes(&answer, uri, piece)?;
            let fetched = self.judge(peer, uri, &answer).await;
            let hit = was_cached(&answer, &peer.name);
            last = Some(fetched);
            if !hit {
                break;
            }
        }
        let mut fetched = last.ok_or_else(|| "there was nothing to ask for".to_owned())?;
        fetched.corrupt = metrics::read(&mut client, metrics::CORRUPT).await?.saturating_sub(before);
        Ok(Outcome::Fetched(fetched))
    }

    async fn refusal(&self, client: &mut Client) -> Result<Outcome, String> {
        let Some(song) = self.songs.first() else { return Err("the mesh has no song".to_owned()) };
        let master = playlist::master(&song.song);
        let answer = client.get(&master, self.patience()).await.map_err(|error| error.to_string())?;
        if answer.status.as_u16() == 404 {
            return Ok(Outcome::Refused);
        }
        Err(format!("{master} is not for its rooms, but it {}", answer.unexpected()))
    }

    async fn fetch(&self, client: &mut Client, uri: &str) -> Result<Answer, String> {
        let mut again = true;
        loop {
            let answer = client.send("GET", uri, &[], ANSWER_LIMIT, self.patience()).await;
            let answer = answer.map_err(|error| error.to_string())?;
            // Every way may have been busy with other requests: once more, as a player would.
            if answer.status.as_u16() == 503 && again {
                again = false;
                self.context.pause().await;
                continue;
            }
            return answer.ok().map_err(|why| format!("{uri} {why}"));
        }
    }

    /// Compares `Via` with the broadcast.
    async fn judge(&self, peer: &PeerTarget, uri: &str, answer: &Answer) -> Fetched {
        let names = via::names(&answer.headers);
        let Some(id) = answer.header("hopcast-route") else {
            let alone = match names {
                Ok(names) if names == [peer.name.as_str()] => Ok(()),
                Ok(names) => Err(format!(
                    "{}: {uri} came without a route, but Via is `{}`",
                    peer.name,
                    names.join(" ")
                )),
                Err(why) => Err(format!("{}: {uri}: {why}", peer.name)),
            };
            return Fetched { hops: 0, over_route: false, via: alone, corrupt: 0 };
        };
        let broadcast = self.events.route(id, BROADCAST).await;
        let hops = broadcast.as_ref().map_or(0, |broadcast| broadcast.path.len().saturating_sub(1));
        let via = match (names, broadcast) {
            (Err(why), _) => Err(why),
            (_, None) => Err(format!("came over the route {id}, which the server did not broadcast")),
            (Ok(names), Some(broadcast)) => self.compare(&peer.name, &names, &broadcast),
        };
        let via = via.map_err(|why| format!("{}: {uri}: {why}", peer.name));
        Fetched { hops, over_route: true, via, corrupt: 0 }
    }

    fn compare(&self, requester: &PeerName, via: &[String], broadcast: &Broadcast) -> Result<(), String> {
        let Broadcast { route, room, path, .. } = broadcast;
        if !via.iter().map(String::as_str).eq(path.iter().rev().map(PeerName::as_str)) {
            return Err(format!("Via is `{}`, but {route} was broadcast as {}", via.join(" "), show(path)));
        }
        let room = self.rooms.iter().find(|graph| graph.name == room.as_str());
        let room = room.ok_or_else(|| format!("{route} is of a room that the plan does not have"))?;
        let holder = path.last().ok_or_else(|| format!("{route} is empty"))?;
        room.check_path(path, requester, holder)?;
        match path.windows(2).find(|hop| !self.context.linked(hop[0].as_str(), hop[1].as_str())) {
            Some(hop) => Err(format!("{} - {} is no link of the plan", hop[0], hop[1])),
            None => Ok(()),
        }
    }
}

/// True where the bytes came from this peer's own cache. Each cache on the way adds its entry to `Cache-Status`, the one
/// nearest to us last (RFC 9211, 2); the holder's says `hit` as well.
fn was_cached(answer: &Answer, peer: &PeerName) -> bool {
    let entries = answer.header("cache-status").unwrap_or("");
    let last = entries.rsplit(',').next().unwrap_or("").trim();
    last.strip_prefix(peer.as_str()).is_some_and(|rest| rest.starts_with("; hit"))
}

fn check_bytes(answer: &Answer, uri: &str, piece: &Piece) -> Result<(), String> {
    let found = Sha256::of(&answer.body);
    if found != piece.sha256 {
        let (got, length) = (answer.body.len(), piece.length);
        return Err(format!("{uri}: {got} bytes hash to {found}; signed are {length} with {}", piece.sha256));
    }
    let etag = format!("\"{}\"", piece.sha256);
    if answer.header("etag") != Some(etag.as_str()) {
        return Err(format!("{uri}: ETag is {:?}, not the segment's hash", answer.header("etag")));
    }
    Ok(())
}

/// The living peers, the ones farthest from any gateway first; and for each room its name and members' hops.
fn farthest_first<'a>(context: &Context<'a>, rooms: &[RoomGraph]) -> Vec<&'a PeerTarget> {
    let mut nearest: HashMap<&str, u32> = HashMap::new();
    for room in rooms {
        let gateways: Vec<usize> =
            context.target.plan.gateways().filter_map(|gateway| room.index(gateway.name.as_str())).collect();
        for (peer, hops) in room.peers.iter().zip(room.hops(gateways)) {
            if let Some(hops) = hops {
                let best = nearest.entry(peer.as_str()).or_insert(hops);
                *best = hops.min(*best);
            }
        }
    }
    let mut peers = context.living();
    peers.sort_by_key(|peer| std::cmp::Reverse(nearest.get(peer.name.as_str()).copied().unwrap_or(0)));
    peers
}

/// What each peer may be asked for, in the order in which it is: the peer's rank decides where it begins.
fn candidates<'p>(
    pieces: &'p [Piece],
    songs: &[Manifest],
    rooms: &[hopcast_protocol::RoomName],
    start: usize,
) -> Vec<&'p Piece> {
    let allowed: HashSet<&SongName> = songs
        .iter()
        .filter(|song| song.rooms.iter().any(|room| rooms.contains(room)))
        .map(|song| &song.song)
        .collect();
    let mut pieces: Vec<&Piece> =
        pieces.iter().filter(|piece| allowed.contains(&songs[piece.song].song)).collect();
    if !pieces.is_empty() {
        let start = start % pieces.len();
        pieces.rotate_left(start);
    }
    pieces.truncate(TRIES);
    pieces
}

/// Fetches through every living peer.
///
/// Peers that threw wrong bytes away and got the right ones elsewhere have healed, but somebody lies. Where the stores
/// themselves are right (`stored`), that is a failure.
pub(crate) async fn check(
    context: &Context<'_>,
    events: &Events,
    songs: &[Manifest],
    stored: bool,
) -> Segments {
    let mut found = Segments::default();
    let rooms = context.rooms();
    let pieces = pieces(songs, context.options.segment_limit);
    if pieces.is_empty() {
        let limit = context.options.segment_limit;
        let why =
            format!("the mesh has no segment of at most {limit} bytes; `hopcast ingest` puts a song in");
        found.bytes.fail(why.clone());
        found.via.not_run(why);
        return found;
    }
    let work = Work { context, events, rooms: &rooms, songs };
    let jobs = farthest_first(context, &rooms).into_iter().enumerate().map(|(rank, peer)| {
        let member = context.planned(peer.name.as_str()).map_or(&[][..], |planned| &planned.rooms);
        (peer, candidates(&pieces, songs, member, rank + context.options.seed as usize % pieces.len()))
    });
    let fetch = async |(peer, candidates): (&PeerTarget, Vec<&Piece>)| {
        (peer.name.clone(), work.peer(peer, candidates).await)
    };
    let mut tally = Tally::default();
    context
        .each(NAME, &mut tally, jobs, fetch, |tally, (name, outcome)| match outcome {
            Ok(Outcome::Refused) => tally.outcome(Ok(())),
            Ok(Outcome::Fetched(fetched)) => {
                tally.outcome(match fetched.corrupt {
                    times @ 1.. if stored => Err(format!(
                        "{name} got wrong bytes {times} times: a relay or holder on its way lies"
                    )),
                    _ => Ok(()),
                });
                found.fetched += 1;
                found.over_routes += u64::from(fetched.over_route);
                found.max_hops = found.max_hops.max(fetched.hops as u64);
                found.via_matches += u64::from(fetched.via.is_ok());
                found.via.outcome(fetched.via);
            }
            Err(why) => tally.outcome(Err(format!("{name}: {why}"))),
        })
        .await;
    found.bytes = tally;
    if let Some(gap) = events.gaps() {
        // A broadcast may be missing because of this; whatever else differs has failed already.
        found.via.not_run(gap);
    }
    for route in events.ambiguous() {
        found.via.fail(format!("the server broadcast {route} with two different paths"));
    }
    found
}

/// Fetches a song's master playlist through a peer: a gateway gives it the newest manifest over a broadcast route, unless
/// the peer has asked within the last 10 s.
pub(crate) async fn touch(context: &Context<'_>, peer: &PeerTarget, song: &SongName) -> Result<(), String> {
    let answer = context.player(peer).get(&playlist::master(song), ANSWER + BEYOND_PATIENCE).await;
    answer.map_err(|error| error.to_string())?.ok().map(drop)
}
