//! An HLS folder: finds its playlists, checks and hashes every file they name.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use hopcast_protocol::{
    Rendition, RenditionName, Sha256,
    manifest::{Blob, Segment},
};

use super::{
    PreparedRendition,
    error::SourceError,
    media, mp4,
    playlist::{self, Media, Playlist},
};

/// Longest playlist, in bytes. The manifest made of it must fit into a segment's limit anyway.
const PLAYLIST_BYTES: u64 = 4 << 20;
/// What nearly every AAC stream is (MPEG-4 AAC-LC); declared, with a warning, where the bytes do not tell.
const DEFAULT_CODECS: &str = "mp4a.40.2";
/// File names that say nothing about a rendition.
const GENERIC: [&str; 8] =
    ["index", "playlist", "master", "main", "media", "prog_index", "chunklist", "stream"];

type Read = (Vec<PreparedRendition>, Vec<String>);

/// Reads a folder, or the folder of the playlist that `path` is.
pub(super) fn read(path: &Path, max_segment: u64) -> Result<Read, SourceError> {
    let io = |error| SourceError::Io { path: path.into(), error };
    let (folder, entry) = if fs::metadata(path).map_err(io)?.is_dir() {
        (path.to_owned(), None)
    } else {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        (folder.to_owned(), Some(path.to_owned()))
    };
    let entry = match entry {
        Some(entry) => entry,
        None => find_entry(&folder)?,
    };
    let mut reader = Reader::new(&folder, max_segment)?;
    match reader.playlist(&entry)? {
        Playlist::Media(media) => {
            let mut rendition = reader.rendition(&entry, &media, None, None)?;
            rendition.rendition.name = name(&entry, &folder, rendition.rendition.bandwidth, &HashSet::new());
            Ok((vec![rendition], reader.warnings))
        }
        Playlist::Master(variants) => {
            let (mut renditions, mut names, mut seen) = (Vec::new(), HashSet::new(), HashSet::new());
            for variant in variants {
                let file = reader.file(&entry, variant.line, &variant.uri)?;
                if !seen.insert(file.clone()) {
                    continue; // the same rendition under another audio group
                }
                let Playlist::Media(media) = reader.playlist(&file)? else {
                    let problem = format!("`{}` is a master playlist itself", variant.uri);
                    return Err(SourceError::Playlist { file: entry, line: variant.line, problem });
                };
                let mut rendition =
                    reader.rendition(&file, &media, Some(variant.bandwidth), variant.codecs)?;
                rendition.rendition.name = name(&file, &reader.root, variant.bandwidth, &names);
                names.insert(rendition.rendition.name.clone());
                renditions.push(rendition);
            }
            Ok((renditions, reader.warnings))
        }
    }
}

/// Reads what [`super::audio::encode`] wrote: a folder for each rendition, named as it.
pub(super) fn read_encoded(folder: &Path, max_segment: u64) -> Result<Read, SourceError> {
    let mut reader = Reader::new(folder, max_segment)?;
    let mut renditions = Vec::new();
    for (rendition_name, _) in super::audio::RENDITIONS {
        let file = reader.root.join(rendition_name).join("index.m3u8");
        let Playlist::Media(media) = reader.playlist(&file)? else {
            let problem = "ffmpeg wrote a master playlist".into();
            return Err(SourceError::Playlist { file, line: 1, problem });
        };
        let mut rendition = reader.rendition(&file, &media, None, None)?;
        rendition.rendition.name = RenditionName::new(rendition_name).expect("the table's names are names");
        renditions.push(rendition);
    }
    Ok((renditions, reader.warnings))
}

/// `master.m3u8`, else the only master, else the only playlist.
fn find_entry(folder: &Path) -> Result<PathBuf, SourceError> {
    let io = |error| SourceError::Io { path: folder.into(), error };
    let mut playlists = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("m3u8")) && path.is_file()
        {
            playlists.push(path);
        }
    }
    playlists.sort();
    if let Some(master) = playlists.iter().find(|path| path.ends_with("master.m3u8")) {
        return Ok(master.clone());
    }
    let is_master = |path: &&PathBuf| {
        media::read(path, PLAYLIST_BYTES)
            .ok()
            .flatten()
            .is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains("#EXT-X-STREAM-INF"))
    };
    let masters: Vec<&PathBuf> = playlists.iter().filter(is_master).collect();
    match (&masters[..], &playlists[..]) {
        ([master], _) => Ok((*master).clone()),
        ([], [only]) => Ok(only.clone()),
        (_, []) => Err(SourceError::NoPlaylist { folder: folder.into() }),
        _ => {
            let names: Vec<_> =
                playlists.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy())).collect();
            Err(SourceError::ManyPlaylists { folder: folder.into(), found: names.join(", ") })
        }
    }
}

/// A rendition's name: its folder's, else its playlist's where that says something, else its bandwidth.
fn name(playlist: &Path, root: &Path, bandwidth: u64, taken: &HashSet<RenditionName>) -> RenditionName {
    let stem = playlist.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let folder = playlist
        .parent()
        .filter(|parent| *parent != root && parent.canonicalize().ok().as_deref() != Some(root))
        .and_then(Path::file_name)
        .map(|folder| folder.to_string_lossy().into_owned());
    let stem = stem.filter(|stem| !GENERIC.contains(&stem.as_str()));
    let by_bandwidth = format!("{}k", (bandwidth / 1000).max(1));
    let fits = |text: String| {
        let text: String = text
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .collect();
        RenditionName::new(text.trim_start_matches(['.', '_', '-'])).ok()
    };
    let both = folder.as_ref().zip(stem.as_ref()).map(|(folder, stem)| format!("{folder}-{stem}"));
    [folder, stem, both, Some(by_bandwidth.clone())]
        .into_iter()
        .flatten()
        .filter_map(fits)
        .chain((2..=taken.len() + 2).filter_map(|n| RenditionName::new(format!("{by_bandwidth}-{n}")).ok()))
        .find(|name| !taken.contains(name))
        .expect("one number more than there are names")
}

struct Reader {
    /// Without symbolic links.
    root: PathBuf,
    max_segment: u64,
    warnings: Vec<String>,
}

impl Reader {
    fn new(folder: &Path, max_segment: u64) -> Result<Self, SourceError> {
        let root = folder.canonicalize().map_err(|error| SourceError::Io { path: folder.into(), error })?;
        Ok(Self { root, max_segment, warnings: Vec::new() })
    }

    fn playlist(&mut self, file: &Path) -> Result<Playlist, SourceError> {
        match media::read(file, PLAYLIST_BYTES)? {
            Some(bytes) => playlist::read(file, &bytes, &mut self.warnings),
            None => Err(SourceError::Playlist {
                file: file.into(),
                line: 1,
                problem: format!("a playlist of more than {PLAYLIST_BYTES} bytes"),
            }),
        }
    }

    /// The file that a playlist's URI names; it exists, and lies in the folder, symbolic links followed.
    fn file(&self, playlist: &Path, line: usize, uri: &str) -> Result<PathBuf, SourceError> {
        let folder = playlist.parent().unwrap_or(Path::new("."));
        let plain = folder.join(uri);
        // A `%` may be a file name's own.
        let path = if plain.is_file() { plain } else { folder.join(playlist::decode(uri)) };
        let fail = |problem: String| SourceError::Segment {
            playlist: playlist.into(),
            line,
            file: PathBuf::from(uri),
            problem,
        };
        let real = path.canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => fail("there is no such file".into()),
            _ => fail(format!("cannot be read: {error}")),
        })?;
        if !real.starts_with(&self.root) {
            return Err(fail(format!("leads out of {}", self.root.display())));
        }
        if !real.is_file() {
            return Err(fail("is no file".into()));
        }
        Ok(real)
    }

    /// Reads a file that a playlist's line names, within the limit.
    fn bytes(&self, playlist: &Path, line: usize, uri: &str) -> Result<(PathBuf, Vec<u8>), SourceError> {
        let file = self.file(playlist, line, uri)?;
        match media::read(&file, self.max_segment)? {
            Some(bytes) => Ok((file, bytes)),
            None => Err(SourceError::Segment {
                playlist: playlist.into(),
                line,
                file: uri.into(),
                problem: format!(
                    "longer than {} bytes (peers.max_segment): cut the song into shorter segments",
                    self.max_segment
                ),
            }),
        }
    }

    fn rendition(
        &mut self,
        file: &Path,
        media: &Media,
        bandwidth: Option<u64>,
        codecs: Option<String>,
    ) -> Result<PreparedRendition, SourceError> {
        let fail = |line: usize, uri: &str, problem: String| SourceError::Segment {
            playlist: file.into(),
            line,
            file: uri.into(),
            problem,
        };
        let mut init = None;
        if let Some((uri, line)) = &media.init {
            let (path, bytes) = self.bytes(file, *line, uri)?;
            mp4::check_init(&bytes).map_err(|problem| fail(*line, uri, problem))?;
            init = Some((path, bytes));
        }
        let (mut files, mut segments) = (Vec::new(), Vec::new());
        let (mut first, mut derived, mut untimed) = (None, None, 0);
        for part in &media.segments {
            let (path, bytes) = self.bytes(file, part.line, &part.uri)?;
            let checked = media::check(&bytes).map_err(|problem| fail(part.line, &part.uri, problem))?;
            if *first.get_or_insert(checked.format) != checked.format {
                let problem = "of another format than the segments before it".into();
                return Err(fail(part.line, &part.uri, problem));
            }
            match (checked.format, &init) {
                (media::Format::Fmp4, None) => {
                    let problem = "an fMP4 segment needs an init segment: #EXT-X-MAP (RFC 8216 3.3)".into();
                    return Err(fail(part.line, &part.uri, problem));
                }
                (media::Format::Ts | media::Format::Adts, Some(_)) => {
                    let problem = "#EXT-X-MAP is taken for fMP4 segments only".into();
                    return Err(fail(part.line, &part.uri, problem));
                }
                _ => {}
            }
            if codecs.is_none() && derived.is_none() {
                derived =
                    media::codecs(checked.format, &bytes, init.as_ref().map(|(_, bytes)| bytes.as_slice()));
            }
            untimed += usize::from(checked.no_timestamp);
            segments.push(Segment {
                sha256: Sha256::of(&bytes),
                length: length(&bytes),
                duration_us: part.duration_us,
                discontinuity: part.discontinuity,
            });
            files.push(path);
        }
        if untimed > 0 {
            self.warnings.push(format!(
                "{}: {untimed} AAC segments have no ID3 timestamp (RFC 8216 3.4): some players will not seek",
                file.display()
            ));
        }
        let codecs = codecs.or(derived).unwrap_or_else(|| {
            self.warnings.push(format!(
                "{}: the segments do not tell their codec; {DEFAULT_CODECS} is declared",
                file.display()
            ));
            DEFAULT_CODECS.into()
        });
        let bandwidth =
            bandwidth.unwrap_or_else(|| playlist::peak_bandwidth(&segments, media.target_duration));
        let rendition = Rendition {
            // The caller knows the other renditions' names.
            name: RenditionName::new("unnamed").expect("a name"),
            bandwidth,
            codecs,
            extension: first.expect("a playlist without segments is refused").extension().into(),
            target_duration: media.target_duration,
            first_sequence: media.first_sequence,
            init: init.as_ref().map(|(_, bytes)| Blob { sha256: Sha256::of(bytes), length: length(bytes) }),
            segments,
        };
        Ok(PreparedRendition { rendition, init: init.map(|(path, _)| path), files })
    }
}

/// A file's length; [`media::read`] keeps it below the limit.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
