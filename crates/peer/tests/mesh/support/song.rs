//! A song of bytes that no decoder would like, but every hash does.

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
