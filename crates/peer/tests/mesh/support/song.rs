//! A song of bytes that no decoder would like, but every hash does.

use std::path::Path;

use hopcast_protocol::{
    Manifest, MeshSecret, Rendition, RenditionName, RoomName, Segment, Sha256, SignedManifest, SongName,
};

#[derive(Clone)]
pub(crate) struct Song {
    pub(crate) manifest: Vec<u8>,
    pub(crate) segments: Vec<Vec<u8>>,
}

impl Song {
    pub(crate) fn new(secret: &MeshSecret, rooms: &[RoomName], count: usize, length: usize) -> Self {
        let segments: Vec<Vec<u8>> = (0..count)
            .map(|number| (0..length).map(|at| (at * 31 + at / 251 + number * 7) as u8).collect())
            .collect();
        let manifest = Self::sign(secret, "demo", 1, rooms, &segments);
        Self { manifest, segments }
    }

    pub(crate) fn sign(
        secret: &MeshSecret,
        song: &str,
        revision: u64,
        rooms: &[RoomName],
        segments: &[Vec<u8>],
    ) -> Vec<u8> {
        let manifest = Manifest {
            version: 1,
            song: SongName::new(song).unwrap(),
            revision,
            rooms: rooms.to_vec(),
            renditions: vec![Rendition {
                name: RenditionName::new("128k").unwrap(),
                bandwidth: 140_000,
                codecs: "mp4a.40.2".into(),
                extension: "ts".into(),
                target_duration: 4,
                first_sequence: 0,
                init: None,
                segments: segments
                    .iter()
                    .map(|bytes| Segment {
                        sha256: Sha256::of(bytes),
                        length: bytes.len() as u32,
                        duration_us: 4_000_000,
                        discontinuity: false,
                    })
                    .collect(),
            }],
        };
        SignedManifest::sign(manifest, &secret.manifest_key()).bytes
    }

    pub(crate) fn sha256(&self, sequence: usize) -> Sha256 {
        Sha256::of(&self.segments[sequence])
    }
}

impl Song {
    /// A folder as `hopcast ingest` takes it: a master playlist, and a media playlist in a folder for each rendition.
    pub(crate) fn from_folder(secret: &MeshSecret, rooms: &[RoomName], folder: &Path) -> Self {
        let master = std::fs::read_to_string(folder.join("master.m3u8")).unwrap();
        let mut all = vec![];
        let mut renditions = vec![];
        for (attributes, uri) in master.lines().zip(master.lines().skip(1)) {
            let Some(attributes) = attributes.strip_prefix("#EXT-X-STREAM-INF:BANDWIDTH=") else { continue };
            let index = std::fs::read_to_string(folder.join(uri)).unwrap();
            let tag =
                |name: &str| index.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0").to_owned();
            let durations = index.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
            let files = index.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            let mut segments = vec![];
            for (duration, file) in durations.zip(files) {
                let bytes = std::fs::read(folder.join(uri).with_file_name(file)).unwrap();
                let seconds: f64 = duration.trim_end_matches(',').parse().unwrap();
                segments.push(Segment {
                    sha256: Sha256::of(&bytes),
                    length: bytes.len() as u32,
                    duration_us: (seconds * 1e6).round() as u64,
                    discontinuity: false,
                });
                all.push(bytes);
            }
            renditions.push(Rendition {
                name: RenditionName::new(uri.split('/').next().unwrap()).unwrap(),
                bandwidth: attributes.split(',').next().unwrap().parse().unwrap(),
                codecs: "mp4a.40.2".into(),
                extension: "ts".into(),
                target_duration: tag("#EXT-X-TARGETDURATION:").parse().unwrap(),
                first_sequence: tag("#EXT-X-MEDIA-SEQUENCE:").parse().unwrap(),
                init: None,
                segments,
            });
        }
        assert!(!all.is_empty(), "{} has no segments", folder.display());
        let song = SongName::new("demo").unwrap();
        let manifest = Manifest { version: 1, song, revision: 1, rooms: rooms.to_vec(), renditions };
        Self { manifest: SignedManifest::sign(manifest, &secret.manifest_key()).bytes, segments: all }
    }
}
