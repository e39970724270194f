//! What the edges have stored is what the manifests say: every edge has the same newest manifest of each song, signed by
//! the mesh's key, and its segments have the length and the SHA-256 that stand there.
//!
//! Bounded: at most [`BYTES`] of each edge are read; where a store has more, a sample spread over all of it, and the
//! report's count says how many.

use std::collections::BTreeMap;

use hopcast_protocol::{Manifest, Sha256, SongName};
use tokio::time::{Instant, timeout_at};

use crate::{
    context::Context,
    database::{self, Session},
    graph::Sequence,
    report::Tally,
    songs::{blobs, edges, gateway, manifests, wanted},
    target::DatabaseTarget,
};

/// The check's name.
pub(crate) const NAME: &str = "checksums";
pub(crate) const CLAIM: &str =
    "every edge has the same signed manifests, and segments with the hashes that they name";

/// Most bytes that are read from one edge.
const BYTES: u64 = 256 << 20;

type Songs = BTreeMap<SongName, Manifest>;

/// What one edge has, and what is wrong with it.
async fn read(context: &Context<'_>, edge: &DatabaseTarget) -> (Option<Session>, Songs, Vec<String>) {
    let Some((who, from)) = gateway(context, edge) else {
        return (None, Songs::new(), vec![format!("{} has no gateway", edge.name)]);
    };
    let session = match database::open_as_gateway(context.target, edge, from).await {
        Ok(session) => session,
        Err(closed) => {
            let why = format!("{} refuses its own gateway {who} {from}: {}", edge.name, closed.text());
            return (None, Songs::new(), vec![why]);
        }
    };
    let (mut songs, mut wrong) = (Songs::new(), vec![]);
    match manifests(context, edge, &session).await {
        Ok(found) => {
            for manifest in found {
                match manifest {
                    Ok(manifest) => _ = songs.insert(manifest.song.clone(), manifest),
                    Err(why) => wrong.push(why),
                }
            }
        }
        Err(why) => wrong.push(why),
    }
    (Some(session), songs, wrong)
}

/// Reads all edges until they agree or the mesh had its time to settle.
async fn settle(context: &Context<'_>, tally: &mut Tally) -> (Vec<(DatabaseTarget, Session)>, Songs) {
    let settled = Instant::now() + context.options.settle;
    loop {
        let late = Instant::now() >= settled;
        let (mut sessions, mut newest, mut wrong, mut all) = (vec![], Songs::new(), vec![], vec![]);
        for edge in edges(context) {
            let (session, songs, problems) = read(context, edge).await;
            wrong.extend(problems);
            for (name, manifest) in &songs {
                if newest.get(name).is_none_or(|known| known.revision < manifest.revision) {
                    newest.insert(name.clone(), manifest.clone());
                }
            }
            if let Some(session) = session {
                sessions.push((edge.clone(), session));
            }
            all.push((edge, songs));
        }
        for (edge, songs) in all {
            for (name, manifest) in &newest {
                match songs.get(name) {
                    None => wrong.push(format!("{} has no manifest of {name}", edge.name)),
                    Some(own) if own != manifest => wrong.push(format!(
                        "{} has revision {} of {name}, another edge has {}",
                        edge.name, own.revision, manifest.revision
                    )),
                    Some(_) => {}
                }
            }
        }
        for song in context.target.plan.songs.iter().filter(|song| !newest.contains_key(&song.name)) {
            wrong.push(format!("no edge has a manifest of {}, a song of the plan", song.name));
        }
        if late || wrong.is_empty() {
            for why in wrong {
                tally.fail(why);
            }
            return (sessions, newest);
        }
        context.pause().await;
    }
}

/// The part of some blobs that is read: all of them, or a sample within the bound.
fn sample(mut blobs: Vec<(String, Sha256, u32)>, seed: u64) -> Vec<(String, Sha256, u32)> {
    let total: u64 = blobs.iter().map(|(_, _, length)| u64::from(*length)).sum();
    if total <= BYTES {
        return blobs;
    }
    let mut random = Sequence(seed);
    for i in (1..blobs.len()).rev() {
        blobs.swap(i, random.below(i + 1));
    }
    let mut left = BYTES;
    blobs.retain(|(_, _, length)| {
        let fits = u64::from(*length) <= left;
        left -= if fits { u64::from(*length) } else { 0 };
        fits
    });
    blobs
}

async fn one(session: &Session, sha256: &Sha256, length: u32) -> Result<(), String> {
    let text = "SELECT hopcast.blob($1), hopcast.holds($1)";
    let rows = database::query(session, text, &[&&sha256.0[..]]).await?;
    let row = rows.first().ok_or("no row")?;
    let bytes: Option<Vec<u8>> = row.get(0);
    let bytes = bytes.ok_or("neither it nor the origin has the bytes")?;
    if !row.get::<_, bool>(1) {
        return Err("only the origin has the bytes: this edge has not copied them".to_owned());
    }
    if bytes.len() as u64 != u64::from(length) {
        return Err(format!("{} bytes are stored, the manifest says {length}", bytes.len()));
    }
    let found = Sha256::of(&bytes);
    if found == *sha256 { Ok(()) } else { Err(format!("the stored bytes hash to {found}, not to {sha256}")) }
}

/// Checks the stores and returns the songs for the checks that follow.
pub(crate) async fn check(context: &Context<'_>) -> (Tally, Vec<Manifest>) {
    let mut tally = Tally::default();
    let (sessions, newest) = settle(context, &mut tally).await;
    let songs: Vec<Manifest> =
        newest.into_values().filter(|manifest| wanted(context, &manifest.song)).collect();
    if songs.is_empty() {
        let which =
            context.options.song.as_ref().map_or("no song".to_owned(), |song| format!("no song {song}"));
        tally.fail(format!("the mesh has {which}; `hopcast ingest` puts one in"));
    }
    let all = sample(songs.iter().flat_map(blobs).collect(), context.options.seed);
    let (total, deadline) = ((all.len() * sessions.len()) as u64, context.deadline());
    for (edge, session) in &sessions {
        for (name, sha256, length) in &all {
            let Ok(result) = timeout_at(deadline, one(session, sha256, *length)).await else {
                tally.fail(format!("stopped at its deadline after {} of {total}", tally.checked));
                return (tally, songs);
            };
            tally.outcome(result.map_err(|why| format!("{}: {name}: {why}", edge.name)));
            context.progress(NAME, tally.checked, total);
        }
    }
    (tally, songs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_store_is_sampled_within_the_bound_and_a_small_one_read_whole() {
        let blob = |i: u8, length| (i.to_string(), Sha256([i; 32]), length);
        let small: Vec<_> = (0..200).map(|i| blob(i, 1000)).collect();
        assert_eq!(sample(small.clone(), 1), small);
        let large: Vec<_> = (0..200).map(|i| blob(i, 2 << 20)).collect();
        let taken = sample(large.clone(), 1);
        assert_eq!(taken.len(), 128);
        assert_ne!(taken, large[..128], "a sample of all of it, not its beginning");
        assert_ne!(taken, sample(large, 2), "another seed, another sample");
    }
}
