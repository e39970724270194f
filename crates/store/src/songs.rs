//! Listing and removing songs, at the origin; what happens there happens on every edge.

use hopcast_protocol::{Manifest, RenditionName, RoomName, SongName};
use serde::Serialize;

use crate::{admin::Admin, error::Error};

/// A song that can be heard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SongSummary {
    /// The song.
    pub name: SongName,
    /// Its manifest's revision.
    pub revision: u64,
    /// The rooms that may hear it, in the order they were given.
    pub rooms: Vec<RoomName>,
    /// Its renditions, in the order of the source.
    pub renditions: Vec<RenditionSummary>,
    /// Seconds of the longest rendition.
    pub seconds: f64,
    /// Bytes over all renditions, init segments included.
    pub bytes: u64,
}

/// One rendition of a listed song.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RenditionSummary {
    /// Its name.
    pub name: RenditionName,
    /// Peak bits a second.
    pub bandwidth: u64,
    /// `mp4a.40.2`.
    pub codecs: String,
    /// How many segments it has.
    pub segments: usize,
}

impl From<&Manifest> for SongSummary {
    fn from(manifest: &Manifest) -> Self {
        let us =
            manifest.renditions.iter().map(|r| r.segments.iter().map(|s| s.duration_us).sum::<u64>()).max();
        let lengths = manifest.renditions.iter().flat_map(|rendition| {
            rendition.segments.iter().map(|s| s.length).chain(rendition.init.map(|init| init.length))
        });
        Self {
            name: manifest.song.clone(),
            revision: manifest.revision,
            rooms: manifest.rooms.clone(),
            seconds: us.unwrap_or(0) as f64 / 1e6,
            bytes: lengths.map(u64::from).sum(),
            renditions: manifest
                .renditions
                .iter()
                .map(|rendition| RenditionSummary {
                    name: rendition.name.clone(),
                    bandwidth: rendition.bandwidth,
                    codecs: rendition.codecs.clone(),
                    segments: rendition.segments.len(),
                })
                .collect(),
        }
    }
}

impl Admin {
    /// The songs of this database, in alphabetical order. Signatures are not checked here: whoever lists songs owns the
    /// database; peers check.
    pub async fn songs(&self) -> Result<Vec<SongSummary>, Error> {
        let what = "list the songs";
        let rows = self.rows(what, "SELECT name, bytes FROM hopcast.manifests ORDER BY name", &[]).await?;
        let summary = |row: &tokio_postgres::Row| {
            // After the signature's line.
            let json = row.get::<_, &[u8]>(1).get(129..).unwrap_or_default();
            let manifest: Manifest = serde_json::from_slice(json).map_err(|error| Error::Corrupt {
                name: self.name.to_string(),
                what: format!("a manifest of {} that cannot be read: {error}", row.get::<_, &str>(0)),
            })?;
            Ok(SongSummary::from(&manifest))
        };
        rows.iter().map(summary).collect()
    }

    /// Removes a song here (the origin) and, as its edges follow, there; false where there is no such song. Peers may
    /// keep segments in their caches until something pushes them out, and a manifest for ten seconds.
    pub async fn remove(&mut self, song: &SongName) -> Result<bool, Error> {
        let what = format!("remove song {song}");
        self.lock().await?;
        // The manifest goes with the copy that it refers to, as do segments and renditions.
        let sql = "DELETE FROM hopcast.songs WHERE name = $1";
        let removed = self.change(&what, sql, &[&song.as_str()]).await;
        self.unlock().await;
        Ok(removed? > 0)
    }
}
