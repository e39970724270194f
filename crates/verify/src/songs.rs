//! The songs as their signed manifests describe them, read from the edges and checked with the mesh's public key: the
//! measure for everything that peers serve.

use hopcast_protocol::{Manifest, PeerName, Sha256, SignedManifest, SongName};

use crate::{
    context::Context,
    database::{self, Session},
    place::Place,
    target::{DatabaseRole, DatabaseTarget},
};

/// One segment as a player asks for it.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Place of the song in the list of songs.
    pub(crate) song: usize,
    /// Place of the rendition in the manifest.
    pub(crate) rendition: usize,
    /// Place of the segment in the rendition.
    pub(crate) segment: usize,
    pub(crate) sha256: Sha256,
    pub(crate) length: u32,
}

/// The segments of all songs that are short enough to be fetched, each content once.
pub(crate) fn pieces(songs: &[Manifest], limit: u32) -> Vec<Piece> {
    let mut seen = std::collections::HashSet::new();
    let mut pieces = Vec::new();
    for (song, manifest) in songs.iter().enumerate() {
        for (rendition, described) in manifest.renditions.iter().enumerate() {
            for (segment, part) in described.segments.iter().enumerate() {
                if part.length <= limit && seen.insert(part.sha256) {
                    let (sha256, length) = (part.sha256, part.length);
                    pieces.push(Piece { song, rendition, segment, sha256, length });
                }
            }
        }
    }
    pieces
}

/// Every blob of a song, with a name for errors.
pub(crate) fn blobs(manifest: &Manifest) -> Vec<(String, Sha256, u32)> {
    let mut blobs = Vec::new();
    for rendition in &manifest.renditions {
        let name = format!("{}/{}", manifest.song, rendition.name);
        if let Some(init) = &rendition.init {
            blobs.push((format!("{name}/init.mp4"), init.sha256, init.length));
        }
        for (sequence, part) in (rendition.first_sequence..).zip(&rendition.segments) {
            blobs.push((format!("{name}/{sequence}.{}", rendition.extension), part.sha256, part.length));
        }
    }
    blobs
}

/// One of an edge's gateways, and the place from which the edge must let it in. A dead gateway will do where its place
/// outlives it.
pub(crate) fn gateway<'a>(context: &Context<'a>, edge: &DatabaseTarget) -> Option<(&'a PeerName, Place)> {
    let plan = context.target.plan.edges.iter().find(|planned| planned.name == edge.name)?;
    plan.peers.iter().find_map(|name| Some((name, context.place(context.running(name.as_str())?)?)))
}

/// The edges of the target.
pub(crate) fn edges<'a>(context: &Context<'a>) -> impl Iterator<Item = &'a DatabaseTarget> {
    context.target.databases.iter().filter(|database| database.role == DatabaseRole::Edge)
}

/// The manifests that an edge has, checked. An error is about one song.
pub(crate) async fn manifests(
    context: &Context<'_>,
    edge: &DatabaseTarget,
    session: &Session,
) -> Result<Vec<Result<Manifest, String>>, String> {
    let key = context.target.secret.manifest_key().public();
    let sql = "SELECT name, bytes FROM hopcast.manifests ORDER BY name";
    let rows = database::query(session, sql, &[]).await.map_err(|why| format!("{}: {why}", edge.name))?;
    let check = |row: &tokio_postgres::Row| {
        let (name, bytes): (String, Vec<u8>) = (row.get(0), row.get(1));
        let signed = SignedManifest::verify(bytes, &key)
            .map_err(|error| format!("{}: the manifest of {name}: {error}", edge.name))?;
        if signed.manifest.song.as_str() != name {
            let song = &signed.manifest.song;
            return Err(format!("{}: under the name {name} lies the manifest of {song}", edge.name));
        }
        Ok(signed.manifest)
    };
    Ok(rows.iter().map(check).collect())
}

/// True where the options choose this song.
pub(crate) fn wanted(context: &Context<'_>, song: &SongName) -> bool {
    context.options.song.as_ref().is_none_or(|wanted| wanted == song)
}
