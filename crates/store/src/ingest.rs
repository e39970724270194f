//! Storing a prepared song on the origin; replication carries it to the edges.
//!
//! The content goes into a new copy of the song, one segment in memory at a time, in transactions of at most
//! [`BATCH_BYTES`]; no manifest refers to it yet, so nobody can see it. The last transaction writes the manifest. A failure
//! before that removes the copy; an ingest that was killed is swept by the next ingest or `up`.

use std::time::Duration;

use hopcast_protocol::{
    Manifest, ManifestKey, Rendition, RoomName, Sha256, SignedManifest, SongName, manifest::Blob,
};

use crate::{
    admin::{Admin, STEP_DEADLINE},
    error::{Doing as _, Error, within},
    source::{Fingerprint, Prepared, PreparedRendition, Progress, read_checked},
};

/// Most bytes of segments in one transaction, unless a single segment is longer. Small, so that a slot whose edge is down
/// loses WAL piece by piece and a subscriber never has to spill a transaction to its disk.
const BATCH_BYTES: usize = 256 << 10;
/// Most segments in one transaction.
const BATCH_SEGMENTS: usize = 32;
/// A replaced copy is kept this long: peers hold the old manifest for a moment, and their listeners its segments.
const KEEP_REPLACED: Duration = Duration::from_secs(60);
/// One ingest, removal or sweep at a time: an advisory lock, "hop song" in ASCII.
const LOCK: i64 = 0x686f_7020_736f_6e67;

const REMEMBER: &str = "INSERT INTO hopcast.sources (song, fingerprint) VALUES ($1, $2) \
                        ON CONFLICT (song) DO UPDATE SET fingerprint = excluded.fingerprint";

/// What [`ingest`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingested {
    /// The song is there already, with this content and these rooms.
    Unchanged {
        /// The manifest's revision.
        revision: u64,
    },
    /// The content was there already; its rooms, or the mesh's key, are new.
    ManifestOnly {
        /// The manifest's revision.
        revision: u64,
    },
    /// The content was stored.
    Stored {
        /// The manifest's revision.
        revision: u64,
        /// Segments stored.
        segments: usize,
        /// Bytes stored.
        bytes: u64,
    },
}

/// Stores a song, or does nothing where it is there already. `origin` must have been set up.
///
/// Rooms keep the order that they are given in. The revision is larger than every earlier one of the song, also where the
/// song was removed or the origin recreated in between: it is the time, in milliseconds, unless the last one was later.
pub async fn ingest(
    origin: &mut Admin,
    song: &Prepared,
    rooms: &[RoomName],
    key: &ManifestKey,
    progress: impl FnMut(Progress),
) -> Result<Ingested, Error> {
    if rooms.is_empty() {
        return Err(Error::NoRooms { song: song.name().to_string() });
    }
    // Long before anything is stored.
    Description::of(song).sign(rooms, u64::MAX >> 11, key)?;
    origin.lock().await?;
    let result = locked(origin, song, rooms, key, progress).await;
    origin.unlock().await;
    result
}

/// Brings a song up to date whose audio file is the one that its stored copy was encoded from; `None` where that is not
/// known, or would not do: then it has to be encoded ([`Prepared::from_audio`]) and given to [`ingest`].
pub async fn ingest_known(
    origin: &mut Admin,
    name: &SongName,
    fingerprint: Fingerprint,
    rooms: &[RoomName],
    key: &ManifestKey,
    max_segment: u64,
) -> Result<Option<Ingested>, Error> {
    if rooms.is_empty() {
        return Err(Error::NoRooms { song: name.to_string() });
    }
    origin.lock().await?;
    let result = known(origin, name, fingerprint, rooms, key, max_segment).await;
    origin.unlock().await;
    result
}

async fn known(
    origin: &mut Admin,
    name: &SongName,
    Fingerprint(fingerprint): Fingerprint,
    rooms: &[RoomName],
    key: &ManifestKey,
    limit: u64,
) -> Result<Option<Ingested>, Error> {
    let what = format!("look for song {name} by its file");
    let sql = "SELECT m.song, m.revision, m.bytes FROM hopcast.manifests m \
               JOIN hopcast.sources s ON s.song = m.song WHERE m.name = $1 AND s.fingerprint = $2";
    let Some(row) = origin.row(&what, sql, &[&name.as_str(), &&fingerprint.0[..]]).await? else {
        return Ok(None);
    };
    let (copy, revision): (i64, i64) = (row.get(0), row.get(1));
    // Signed with another key it proves nothing, and what is too long now must be told as such.
    let Ok(SignedManifest { manifest, .. }) = SignedManifest::verify(row.get(2), &key.public()) else {
        return Ok(None);
    };
    let fits = |rendition: &Rendition| rendition.segments.iter().all(|part| u64::from(part.length) <= limit);
    if !manifest.renditions.iter().all(fits) {
        return Ok(None);
    }
    if manifest.rooms == rooms {
        return Ok(Some(Ingested::Unchanged { revision: revision as u64 }));
    }
    let song = Description { name, renditions: manifest.renditions, limit };
    let revision = origin.publish_manifest(&song, None, rooms, key, copy).await?;
    Ok(Some(Ingested::ManifestOnly { revision }))
}

/// What a manifest says of a song.
struct Description<'a> {
    name: &'a SongName,
    renditions: Vec<Rendition>,
    /// Longest manifest, in bytes.
    limit: u64,
}

impl<'a> Description<'a> {
    fn of(song: &'a Prepared) -> Self {
        Self {
            name: song.name(),
            renditions: song.renditions().cloned().collect(),
            limit: song.max_segment(),
        }
    }

    /// The manifest, where it is not too long.
    fn sign(&self, rooms: &[RoomName], revision: u64, key: &ManifestKey) -> Result<SignedManifest, Error> {
        let manifest = Manifest {
            version: 1,
            song: self.name.clone(),
            revision,
            rooms: rooms.to_vec(),
            renditions: self.renditions.clone(),
        };
        let signed = SignedManifest::sign(manifest, key);
        let (length, limit) = (signed.bytes.len(), self.limit);
        if length as u64 > limit {
            return Err(Error::ManifestTooLong { song: self.name.to_string(), length, limit });
        }
        Ok(signed)
    }
}

async fn locked(
    origin: &mut Admin,
    song: &Prepared,
    rooms: &[RoomName],
    key: &ManifestKey,
    progress: impl FnMut(Progress),
) -> Result<Ingested, Error> {
    origin.sweep_locked().await?;
    let content = song.content();
    let what = format!("look for song {}", song.name());
    let sql = "SELECT m.song, m.revision, m.bytes, s.content FROM hopcast.manifests m \
               JOIN hopcast.songs s ON s.id = m.song WHERE m.name = $1";
    if let Some(row) = origin.row(&what, sql, &[&song.name().as_str()]).await? {
        let (copy, revision): (i64, i64) = (row.get(0), row.get(1));
        if row.get::<_, &[u8]>(3) == content.0 {
            let same = SignedManifest::verify(row.get(2), &key.public())
                .is_ok_and(|signed| signed.manifest.rooms == rooms);
            if same {
                origin.remember(song, copy).await?;
                return Ok(Ingested::Unchanged { revision: revision as u64 });
            }
            let revision =
                origin.publish_manifest(&Description::of(song), song.fingerprint(), rooms, key, copy).await?;
            return Ok(Ingested::ManifestOnly { revision });
        }
    }
    let copy = origin.new_copy(song, content).await?;
    let stored = match store(origin, song, copy, progress).await {
        Ok(stored) => {
            let (described, file) = (Description::of(song), song.fingerprint());
            origin
                .publish_manifest(&described, file, rooms, key, copy)
                .await
                .map(|revision| (revision, stored))
        }
        Err(error) => Err(error),
    };
    match stored {
        Ok((revision, bytes)) => Ok(Ingested::Stored { revision, segments: song.segments(), bytes }),
        Err(error) => {
            // Where this fails too (the connection is gone), nobody sees the copy, and the next sweep takes it.
            if let Err(left) = origin.drop_copy(copy).await {
                tracing::warn!(song = %song.name(), error = %left, "a failed ingest's rows stay until the next ingest or up");
            }
            Err(error)
        }
    }
}

/// Stores all renditions of a copy; returns the bytes.
async fn store(
    origin: &mut Admin,
    song: &Prepared,
    copy: i64,
    mut progress: impl FnMut(Progress),
) -> Result<u64, Error> {
    let (of, mut segments, mut bytes) = (song.segments(), 0, 0);
    for (position, part) in song.parts().iter().enumerate() {
        bytes += origin.store_rendition(copy, position as i32, part).await?;
        let mut next = 0;
        while next < part.files.len() {
            let (count, length) = origin.store_batch(copy, part, next).await?;
            next += count;
            segments += count;
            bytes += length;
            progress(Progress::Storing { segments, of, bytes });
        }
    }
    Ok(bytes)
}

impl Admin {
    pub(crate) async fn lock(&self) -> Result<(), Error> {
        let what = "take the origin's ingest lock";
        let locked = within(STEP_DEADLINE, what, async {
            // An ingest of this session whose future was dropped may have left the lock held.
            self.client().batch_execute("SELECT pg_advisory_unlock_all()").await.doing(what)?;
            self.client().execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.doing(what)
        })
        .await;
        match locked {
            // lock_not_available: the session's lock_timeout.
            Err(error) if error.sqlstate() == Some("55P03") => Err(Error::Busy),
            result => result.map(drop),
        }
    }

    pub(crate) async fn unlock(&self) {
        // Where this fails the session is gone, and its locks with it.
        let what = "release the origin's ingest lock";
        let _ = within(STEP_DEADLINE, what, async {
            self.client().execute("SELECT pg_advisory_unlock($1)", &[&LOCK]).await.doing(what)
        })
        .await;
    }

    /// Removes what a killed ingest left, and copies that were replaced a while ago; returns how many.
    pub(crate) async fn sweep(&mut self) -> Result<u64, Error> {
        self.lock().await?;
        let swept = self.sweep_locked().await;
        self.unlock().await;
        swept
    }

    async fn sweep_locked(&mut self) -> Result<u64, Error> {
        let what = "sweep copies that no manifest refers to";
        let sql = "DELETE FROM hopcast.songs s WHERE NOT EXISTS (SELECT FROM hopcast.manifests m WHERE m.song = s.id) \
                   AND coalesce(s.replaced_at + make_interval(secs => $1) < now(), true)";
        self.change(what, sql, &[&KEEP_REPLACED.as_secs_f64()]).await
    }

    async fn new_copy(&self, song: &Prepared, content: Sha256) -> Result<i64, Error> {
        let what = format!("begin storing song {}", song.name());
        let sql = "INSERT INTO hopcast.songs (name, content) VALUES ($1, $2) RETURNING id";
        within(STEP_DEADLINE, &what, async {
            let row = self.client().query_one(sql, &[&song.name().as_str(), &&content.0[..]]).await;
            Ok(row.doing(&what)?.get(0))
        })
        .await
    }

    async fn drop_copy(&self, copy: i64) -> Result<(), Error> {
        let what = "remove a failed ingest's rows";
        self.change(what, "DELETE FROM hopcast.songs WHERE id = $1", &[&copy]).await.map(drop)
    }

    async fn store_rendition(
        &mut self,
        copy: i64,
        position: i32,
        part: &PreparedRendition,
    ) -> Result<u64, Error> {
        let rendition = &part.rendition;
        let name = rendition.name.as_str();
        let what = format!("store rendition {name}");
        let init = match (&part.init, rendition.init) {
            (Some(path), Some(Blob { sha256, length })) => {
                Some((read_checked(path, sha256, length).await?, sha256))
            }
            _ => None,
        };
        within(STEP_DEADLINE, &what, async {
            let tx = self.connection.client.transaction().await.doing(&what)?;
            tx.execute(
                "INSERT INTO hopcast.renditions \
                    (song, name, position, bandwidth, codecs, extension, target_duration, first_sequence) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                &[
                    &copy,
                    &name,
                    &position,
                    &(rendition.bandwidth as i64),
                    &rendition.codecs,
                    &rendition.extension,
                    &(rendition.target_duration as i64),
                    &(rendition.first_sequence as i64),
                ],
            )
            .await
            .doing(&what)?;
            if let Some((bytes, sha256)) = &init {
                tx.execute(
                    "INSERT INTO hopcast.init_segments (song, rendition, sha256, bytes) VALUES ($1, $2, $3, $4)",
                    &[&copy, &name, &&sha256.0[..], bytes],
                )
                .await
                .doing(&what)?;
            }
            tx.commit().await.doing(&what)
        })
        .await?;
        Ok(init.map_or(0, |(bytes, _)| bytes.len() as u64))
    }

    /// Stores segments from the `first` on in one transaction; returns how many, and their bytes.
    async fn store_batch(
        &mut self,
        copy: i64,
        part: &PreparedRendition,
        first: usize,
    ) -> Result<(usize, u64), Error> {
        let name = part.rendition.name.as_str();
        let what = format!("store segments of rendition {name}");
        within(STEP_DEADLINE, &what, async {
            let tx = self.connection.client.transaction().await.doing(&what)?;
            let insert = tx
                .prepare(
                    "INSERT INTO hopcast.segments \
                        (song, rendition, sequence, duration_us, discontinuity, sha256, bytes) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                )
                .await
                .doing(&what)?;
            let (mut count, mut stored) = (0, 0);
            for (file, segment) in
                part.files.iter().zip(&part.rendition.segments).skip(first).take(BATCH_SEGMENTS)
            {
                if count > 0 && stored + segment.length as usize > BATCH_BYTES {
                    break;
                }
                let bytes = read_checked(file, segment.sha256, segment.length).await?;
                let sequence = part.rendition.first_sequence as i64 + (first + count) as i64;
                tx.execute(
                    &insert,
                    &[
                        &copy,
                        &name,
                        &sequence,
                        &(segment.duration_us as i64),
                        &segment.discontinuity,
                        &&segment.sha256.0[..],
                        &bytes,
                    ],
                )
                .await
                .doing(&what)?;
                count += 1;
                stored += bytes.len();
            }
            tx.commit().await.doing(&what)?;
            Ok((count, stored as u64))
        })
        .await
    }

    /// Notes which file a copy was encoded from, where that is not known: it was stored by an older hopcast.
    async fn remember(&self, song: &Prepared, copy: i64) -> Result<(), Error> {
        let Some(Fingerprint(file)) = song.fingerprint() else { return Ok(()) };
        self.change("remember a song's file", REMEMBER, &[&copy, &&file.0[..]]).await.map(drop)
    }

    /// Makes a copy the song: one transaction writes the manifest and marks the copy that it replaces.
    async fn publish_manifest(
        &mut self,
        song: &Description<'_>,
        file: Option<Fingerprint>,
        rooms: &[RoomName],
        key: &ManifestKey,
        copy: i64,
    ) -> Result<u64, Error> {
        let name = song.name.as_str();
        let what = format!("publish song {name}");
        within(STEP_DEADLINE, &what, async {
            let tx = self.connection.client.transaction().await.doing(&what)?;
            let sql = "SELECT greatest(max(revision) + 1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) \
                       FROM hopcast.manifests WHERE name = $1";
            let revision: i64 = tx.query_one(sql, &[&name]).await.doing(&what)?.get(0);
            let signed = song.sign(rooms, revision as u64, key)?;
            tx.execute(
                "UPDATE hopcast.songs SET replaced_at = now() WHERE id <> $1 AND id = \
                    (SELECT song FROM hopcast.manifests WHERE name = $2)",
                &[&copy, &name],
            )
            .await
            .doing(&what)?;
            tx.execute(
                "INSERT INTO hopcast.manifests (name, song, revision, bytes) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (name) DO UPDATE SET song = excluded.song, revision = excluded.revision, \
                    bytes = excluded.bytes, stored_at = now()",
                &[&name, &copy, &revision, &signed.bytes],
            )
            .await
            .doing(&what)?;
            if let Some(Fingerprint(file)) = file {
                tx.execute(REMEMBER, &[&copy, &&file.0[..]]).await.doing(&what)?;
            }
            tx.commit().await.doing(&what)?;
            Ok(revision as u64)
        })
        .await
    }
}
