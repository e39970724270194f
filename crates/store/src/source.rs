//! A song's files, checked whole before anything of them is stored.
//!
//! Every file is read once here, one at a time, to check and hash it, and once more when it is stored: no more than one
//! segment is ever in memory. This module opens no database.

mod adts;
mod audio;
mod error;
mod folder;
mod media;
mod mp4;
mod playlist;
mod scratch;
mod ts;

use std::{
    io,
    path::{Path, PathBuf},
};

use hopcast_protocol::{Rendition, Sha256, SongName};

pub use self::{audio::RENDITIONS, error::SourceError};

/// A song that is ready to be stored: every file is there, whole, and hashed.
#[derive(Debug)]
pub struct Prepared {
    name: SongName,
    renditions: Vec<PreparedRendition>,
    warnings: Vec<String>,
    max_segment: u64,
    /// Of the audio file.
    fingerprint: Option<Fingerprint>,
    /// Where an audio file was encoded to; removed with this value.
    _scratch: Option<scratch::Scratch>,
}

/// What an audio file is, and what it would be encoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub(crate) Sha256);

impl Fingerprint {
    /// Reads the file; `None` for a folder or a playlist, which are not encoded.
    pub async fn of(path: &Path) -> Result<Option<Self>, SourceError> {
        probed(path)?;
        if is_hls(path) {
            return Ok(None);
        }
        let path = path.to_owned();
        blocking(move || audio::fingerprint(&path).map(|sha256| Some(Self(sha256)))).await
    }
}

/// Whether a song could be read from there: a folder, or a file that may be opened. Nothing else is opened: a pipe would wait for
/// its other end, and a device may never end.
pub fn probe(path: &Path) -> io::Result<()> {
    let seen = std::fs::metadata(path)?;
    if seen.is_dir() {
        return std::fs::read_dir(path).map(drop);
    }
    if !seen.is_file() {
        return Err(io::Error::other("it is a pipe, a socket or a device"));
    }
    std::fs::File::open(path).map(|_| ())
}

fn probed(path: &Path) -> Result<(), SourceError> {
    probe(path).map_err(|error| SourceError::Io { path: path.into(), error })
}

fn is_hls(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|extension| extension == "m3u8")
}

/// A rendition and where its files are.
#[derive(Debug)]
pub(crate) struct PreparedRendition {
    pub(crate) rendition: Rendition,
    pub(crate) init: Option<PathBuf>,
    pub(crate) files: Vec<PathBuf>,
}

/// How far preparing or storing a song has come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// ffmpeg has encoded this many seconds of the song.
    Encoding {
        /// Seconds of the song.
        seconds: f64,
    },
    /// Segments are being stored.
    Storing {
        /// Stored so far.
        segments: usize,
        /// Of so many.
        of: usize,
        /// Bytes stored so far.
        bytes: u64,
    },
}

impl Prepared {
    /// An HLS folder with a master playlist or a single media playlist. `max_segment` is in bytes.
    pub async fn from_folder(path: &Path, name: SongName, max_segment: u64) -> Result<Self, SourceError> {
        probed(path)?;
        let path = path.to_owned();
        blocking(move || {
            let (renditions, warnings) = folder::read(&path, max_segment)?;
            Ok(Self { name, renditions, warnings, max_segment, fingerprint: None, _scratch: None })
        })
        .await
    }

    /// An audio file of any kind that ffmpeg (found in PATH) reads, encoded to [`RENDITIONS`]. What ffmpeg writes is
    /// removed when the value is dropped. `max_segment` is in bytes.
    pub async fn from_audio(
        path: &Path,
        name: SongName,
        max_segment: u64,
        mut progress: impl FnMut(Progress),
    ) -> Result<Self, SourceError> {
        // First: a file that changes meanwhile is encoded again next time.
        let fingerprint = Fingerprint::of(path).await?;
        let (scratch, mut warnings) = audio::encode(path, &mut progress).await?;
        let file = path.to_owned();
        blocking(move || {
            let encoded = folder::read_encoded(scratch.path(), max_segment);
            let (renditions, more) = encoded.map_err(|error| error.of_encoded(&file))?;
            warnings.extend(more);
            Ok(Self { name, renditions, warnings, max_segment, fingerprint, _scratch: Some(scratch) })
        })
        .await
    }

    /// A folder or a playlist as [`Prepared::from_folder`], any other file as [`Prepared::from_audio`].
    pub async fn from_path(
        path: &Path,
        name: SongName,
        max_segment: u64,
        progress: impl FnMut(Progress),
    ) -> Result<Self, SourceError> {
        if is_hls(path) {
            Self::from_folder(path, name, max_segment).await
        } else {
            Self::from_audio(path, name, max_segment, progress).await
        }
    }

    /// Whether [`Prepared::from_path`] needs ffmpeg for it.
    pub fn is_encoded(path: &Path) -> bool {
        !is_hls(path)
    }

    /// The song.
    pub fn name(&self) -> &SongName {
        &self.name
    }

    /// What players may find odd about it; sentences.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What the song consists of.
    pub fn renditions(&self) -> impl ExactSizeIterator<Item = &Rendition> {
        self.renditions.iter().map(|prepared| &prepared.rendition)
    }

    /// Segments over all renditions, init segments apart.
    pub fn segments(&self) -> usize {
        self.renditions.iter().map(|prepared| prepared.files.len()).sum()
    }

    /// Bytes over all renditions, init segments included.
    pub fn bytes(&self) -> u64 {
        let rendition = |r: &Rendition| -> u64 {
            let init = r.init.map_or(0, |init| u64::from(init.length));
            init + r.segments.iter().map(|segment| u64::from(segment.length)).sum::<u64>()
        };
        self.renditions().map(rendition).sum()
    }

    /// The longest segment or manifest that may be stored, in bytes.
    pub(crate) fn max_segment(&self) -> u64 {
        self.max_segment
    }

    pub(crate) fn fingerprint(&self) -> Option<Fingerprint> {
        self.fingerprint
    }

    pub(crate) fn parts(&self) -> &[PreparedRendition] {
        &self.renditions
    }

    /// A hash over the description of all renditions, and so over every byte.
    pub(crate) fn content(&self) -> Sha256 {
        let renditions: Vec<&Rendition> = self.renditions().collect();
        Sha256::of(&serde_json::to_vec(&renditions).expect("names, numbers and lists always serialise"))
    }
}

/// Reads a file again to store it; refuses one that has changed since it was checked.
pub(crate) async fn read_checked(path: &Path, sha256: Sha256, length: u32) -> Result<Vec<u8>, SourceError> {
    let path = path.to_owned();
    blocking(move || match media::read(&path, u64::from(length))? {
        Some(bytes) if Sha256::of(&bytes) == sha256 => Ok(bytes),
        _ => Err(SourceError::Changed { file: path }),
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
