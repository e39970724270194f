//! The manifests that this peer knows: checked once, kept for 10 s before a gateway is asked again (or until somebody misses
//! something in one), served from the old one where none answers.

use std::{cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use hopcast_protocol::{ContentId, Manifest, SignedManifest, SongName};
use tokio::time::Instant;

use crate::{fetch::Wish, flight::Failure, node::Node};

/// How long a manifest is taken as new.
const FRESH: Duration = Duration::from_secs(10);
/// How long a player waits for a newer one when there is an old one.
const REFRESH: Duration = Duration::from_secs(3);
/// How long a song that nobody knows is not asked for again.
const UNKNOWN: Duration = Duration::from_secs(1);
/// Songs whose manifest is kept; the least recently used goes.
const SONGS: usize = 16;

#[derive(Debug)]
struct Kept {
    manifest: Rc<Manifest>,
    /// `None`: whatever it says, a newer one is wanted.
    asked: Option<Instant>,
    used: Instant,
    /// When somebody missed something in it.
    missed: Option<Instant>,
}

/// All that are known.
#[derive(Debug, Default)]
pub struct Manifests {
    kept: RefCell<HashMap<SongName, Kept>>,
    unknown: RefCell<HashMap<SongName, Instant>>,
}

impl Manifests {
    fn known(&self, song: &SongName, now: Instant) -> Option<(Rc<Manifest>, bool)> {
        let mut kept = self.kept.borrow_mut();
        let known = kept.get_mut(song)?;
        known.used = now;
        let fresh = known.asked.is_some_and(|asked| now.saturating_duration_since(asked) < FRESH);
        Some((known.manifest.clone(), fresh))
    }

    /// The song's manifest. With `wait` an old one is only served when no newer one comes; without, it is served at
    /// once and a newer one is asked for meanwhile.
    pub async fn get(
        &self,
        node: &Rc<Node>,
        song: &SongName,
        wait: bool,
        deadline: Instant,
    ) -> Result<Rc<Manifest>, Failure> {
        let now = Instant::now();
        if self
            .unknown
            .borrow()
            .get(song)
            .is_some_and(|since| now.saturating_duration_since(*since) < UNKNOWN)
        {
            return Err(Failure::NotFound);
        }
        let known = match self.known(song, now) {
            Some((manifest, true)) => return Ok(manifest),
            Some((manifest, false)) => Some(manifest),
            None => None,
        };
        let wish = Wish {
            content: ContentId::Manifest(song.clone()),
            song: song.clone(),
            length: None,
            rooms: node.rooms().iter().map(|room| room.name.clone()).collect(),
        };
        let Some(old) = known else {
            let asked = node.flights.join(node, wish, deadline).await;
            return match asked {
                Ok(_) => self.known(song, now).map(|(manifest, _)| manifest).ok_or(Failure::NotFound),
                Err(failure) => Err(self.not_found(song, failure)),
            };
        };
        if !wait {
            // Where a newer one is wanted, whoever wants it waits for it.
            if let Some(kept) = self.kept.borrow_mut().get_mut(song) {
                kept.asked = kept.asked.and(Some(now));
            }
            let (node, song) = (node.clone(), song.clone());
            node.clone().spawn(async move {
                let deadline = Instant::now() + REFRESH;
                if let Err(failure) = node.flights.join(&node, wish, deadline).await {
                    node.manifests.not_found(&song, failure);
                }
            });
            return Ok(old);
        }
        match node.flights.join(node, wish, deadline.min(now + REFRESH)).await {
            Ok(_) => Ok(self.known(song, now).map_or(old, |(manifest, _)| manifest)),
            Err(failure @ Failure::NotFound) => Err(self.not_found(song, failure)),
            Err(Failure::Unavailable { .. }) => {
                self.asked(song, now);
                Ok(old)
            }
        }
    }

    /// For who misses something in the manifest that is known: the one that a gateway has now, however new the known one is. It
    /// is asked for once a second at most.
    pub async fn renewed(
        &self,
        node: &Rc<Node>,
        song: &SongName,
        deadline: Instant,
    ) -> Result<Rc<Manifest>, Failure> {
        let now = Instant::now();
        if let Some(kept) = self.kept.borrow_mut().get_mut(song)
            && kept.missed.is_none_or(|at| now.saturating_duration_since(at) >= UNKNOWN)
        {
            (kept.missed, kept.asked) = (Some(now), None);
        }
        self.get(node, song, true, deadline).await
    }

    fn asked(&self, song: &SongName, now: Instant) {
        if let Some(kept) = self.kept.borrow_mut().get_mut(song) {
            kept.asked = Some(now);
        }
    }

    fn not_found(&self, song: &SongName, failure: Failure) -> Failure {
        if failure == Failure::NotFound {
            self.kept.borrow_mut().remove(song);
            let (mut unknown, now) = (self.unknown.borrow_mut(), Instant::now());
            unknown.retain(|_, since| now.saturating_duration_since(*since) < UNKNOWN);
            if unknown.len() < SONGS {
                unknown.insert(song.clone(), now);
            }
        }
        failure
    }

    /// Takes bytes that are said to be a manifest; `None` if they are not that song's, or not signed by the mesh. Of
    /// two the one with the larger revision is kept.
    pub fn accept(&self, node: &Node, content: &ContentId, bytes: &[u8]) -> Option<Rc<Manifest>> {
        let ContentId::Manifest(song) = content else { return None };
        let key = node.config().public_key?;
        let new = match SignedManifest::verify(bytes.to_vec(), &key) {
            Ok(signed) if signed.manifest.song == *song => signed.manifest,
            Ok(signed) => {
                tracing::warn!(%song, "got the manifest of {}", signed.manifest.song);
                return None;
            }
            Err(error) => {
                tracing::warn!(%song, "manifest refused: {error}");
                return None;
            }
        };
        Some(self.put(song, new, Instant::now()))
    }

    fn put(&self, song: &SongName, new: Manifest, now: Instant) -> Rc<Manifest> {
        let mut kept = self.kept.borrow_mut();
        if let Some(known) = kept.get_mut(song) {
            known.asked = Some(now);
            if known.manifest.revision < new.revision {
                known.manifest = Rc::new(new);
            }
            return known.manifest.clone();
        }
        if kept.len() >= SONGS {
            let oldest = kept.iter().min_by_key(|(_, kept)| kept.used).map(|(song, _)| song.clone());
            if let Some(oldest) = oldest {
                kept.remove(&oldest);
            }
        }
        let manifest = Rc::new(new);
        kept.insert(
            song.clone(),
            Kept { manifest: manifest.clone(), asked: Some(now), used: now, missed: None },
        );
        manifest
    }

    /// The songs that are known, for the page.
    pub fn songs(&self) -> Vec<SongName> {
        let mut songs: Vec<_> = self.kept.borrow().keys().cloned().collect();
        songs.sort();
        songs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(song: &str, revision: u64) -> Manifest {
        Manifest {
            version: 1,
            song: SongName::new(song).unwrap(),
            revision,
            rooms: vec![],
            renditions: vec![],
        }
    }

    #[test]
    fn the_larger_revision_wins_whatever_the_order() {
        let (manifests, now, song) = (Manifests::default(), Instant::now(), SongName::new("demo").unwrap());
        assert_eq!(manifests.put(&song, manifest("demo", 2), now).revision, 2);
        assert_eq!(manifests.put(&song, manifest("demo", 1), now).revision, 2);
        assert_eq!(manifests.put(&song, manifest("demo", 3), now).revision, 3);
        assert!(manifests.known(&song, now).unwrap().1);
        assert!(!manifests.known(&song, now + FRESH).unwrap().1);
    }

    #[test]
    fn an_old_one_is_served_where_no_gateway_answers() {
        crate::testing::paused(async {
            let node = crate::testing::node(vec![]);
            let song = SongName::new("demo").unwrap();
            let far = || Instant::now() + Duration::from_secs(60);
            assert!(node.manifests.get(&node, &song, true, Instant::now() + REFRESH).await.is_err());
            node.manifests.put(&song, manifest("demo", 7), Instant::now());
            tokio::time::sleep(FRESH + Duration::from_secs(1)).await;
            for wait in [false, true] {
                assert_eq!(node.manifests.get(&node, &song, wait, far()).await.unwrap().revision, 7);
            }
        });
    }

    #[test]
    fn a_bounded_number_is_kept() {
        let (manifests, start) = (Manifests::default(), Instant::now());
        for number in 0..50 {
            let name = format!("song-{number}");
            manifests.put(
                &SongName::new(&name).unwrap(),
                manifest(&name, 1),
                start + Duration::from_secs(number),
            );
        }
        assert_eq!(manifests.songs().len(), SONGS);
        assert!(manifests.known(&SongName::new("song-49").unwrap(), start).is_some());
    }
}
