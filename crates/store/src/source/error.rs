//! What can be wrong with a song's files: what, where, and what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why a song cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or folder that cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A folder without a playlist.
    #[error("{} holds no .m3u8 playlist: give an HLS folder or an audio file", folder.display())]
    NoPlaylist {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder with several playlists, none of them a master that says how they belong together.
    #[error("{} holds several playlists ({found}) and no single master: name one of them master.m3u8", folder.display())]
    ManyPlaylists {
        /// The folder.
        folder: PathBuf,
        /// Their names.
        found: String,
    },
    /// Something in a playlist.
    #[error("{}:{line}: {problem}", file.display())]
    Playlist {
        /// The playlist.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A file that a playlist's line names.
    #[error("{}:{line}: {}: {problem}", playlist.display(), file.display())]
    Segment {
        /// The playlist.
        playlist: PathBuf,
        /// The line that names the file, from 1.
        line: usize,
        /// The file.
        file: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A file changed between being checked and being stored.
    #[error("{} changed while it was being ingested: try again when nothing writes to it", file.display())]
    Changed {
        /// The file.
        file: PathBuf,
    },
    /// ffmpeg is not there.
    #[error("{} is not an HLS folder, and encoding it needs ffmpeg, which is not in PATH", file.display())]
    NoFfmpeg {
        /// The audio file.
        file: PathBuf,
    },
    /// ffmpeg found nothing in the file that can be played.
    #[error("{} is not audio: {detail}", file.display())]
    NotAudio {
        /// The file.
        file: PathBuf,
        /// ffmpeg's words.
        detail: String,
    },
    /// The file ends before it should, or is damaged.
    #[error("{} is damaged or cut short: {detail}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// ffmpeg's words.
        detail: String,
    },
    /// ffmpeg failed in another way.
    #[error("ffmpeg failed on {}: {detail}", file.display())]
    Ffmpeg {
        /// The file.
        file: PathBuf,
        /// Its exit status and words.
        detail: String,
    },
    /// What ffmpeg made of the file cannot be stored.
    #[error("{} cannot be stored as ffmpeg encodes it: {problem}", file.display())]
    Encoded {
        /// The audio file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl SourceError {
    /// The same, of the audio file in place of the temporary ones that it was encoded to.
    pub(super) fn of_encoded(self, audio: &Path) -> Self {
        match self {
            Self::Playlist { problem, .. } | Self::Segment { problem, .. } => {
                Self::Encoded { file: audio.into(), problem }
            }
            other => other,
        }
    }
}
