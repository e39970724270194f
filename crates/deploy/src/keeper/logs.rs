//! The nodes' logs: `<dir>/log/<node>.log`, and what was cut off it in `<node>.log.1`.
//!
//! Every writer appends, so a file can be copied and emptied under it. A node that writes more than [`MOST`] between two
//! looks exceeds the bound for that long.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

/// Between two looks at the sizes.
pub(super) const LOOK: Duration = Duration::from_secs(5);
/// Bytes of one log.
const MOST: u64 = 2 << 20;
/// Bytes of its end in which the last line is looked for.
const TAIL: u64 = 2048;

/// Where a node's log is.
pub(super) fn path(dir: &Path, node: &str) -> PathBuf {
    dir.join("log").join(format!("{node}.log"))
}

/// Empties every log that is too long, and keeps what was in it until the next time. A failure is told once more by the
/// next look.
pub(super) fn bound(dir: &Path) {
    for entry in fs::read_dir(dir.join("log")).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        let long = entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > MOST);
        if !long || path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let emptied = fs::copy(&path, path.with_extension("log.1"))
            .and_then(|_| fs::OpenOptions::new().write(true).open(&path)?.set_len(0));
        if let Err(error) = emptied {
            tracing::warn!(path = %path.display(), %error, "cannot shorten a log");
        }
    }
}

/// The last line that says something.
pub(super) fn last_line(dir: &Path, node: &str) -> Option<String> {
    let mut file = File::open(path(dir, node)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_long_log_is_emptied_under_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("log")).unwrap();
        let path = path(dir.path(), "peer-1");
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        writer.write_all(&vec![b'x'; MOST as usize]).unwrap();
        bound(dir.path());
        assert_eq!(fs::metadata(&path).unwrap().len(), MOST, "not longer than it may be");
        writer.write_all(b"\nlast words\n\n").unwrap();
        assert_eq!(last_line(dir.path(), "peer-1").unwrap(), "last words");
        bound(dir.path());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert!(fs::metadata(path.with_extension("log.1")).unwrap().len() > MOST);
        writer.write_all(b"more\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"more\n");
        assert_eq!(last_line(dir.path(), "nobody"), None);
    }
}
