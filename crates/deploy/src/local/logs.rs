//! `logs`: the files in the mesh's `log/`, read as they are.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    time::Duration,
};

use crate::{Error, LogSink, State, error::Doing as _};

/// Between two looks at files that are followed.
const LOOK: Duration = Duration::from_millis(200);
/// Read at a time from one file.
const CHUNK: u64 = 1 << 20;
/// A longer line is cut, in bytes.
const LINE: usize = 64 << 10;

#[derive(Default)]
struct Reader {
    offset: u64,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
}

impl Reader {
    /// Gives every whole line that is new; true where there may be more at once.
    fn read(&mut self, state: &State, node: &str, sink: LogSink<'_>) -> Result<bool, Error> {
        let path = state.log(node);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).doing("open", path),
        };
        if file.metadata().doing("look at", &path)?.len() < self.offset {
            // The keeper has emptied it; the end of that line is in the older file.
            self.offset = 0;
            if !self.rest.is_empty() {
                sink(node, &String::from_utf8_lossy(&std::mem::take(&mut self.rest)));
            }
        }
        file.seek(SeekFrom::Start(self.offset)).doing("read", &path)?;
        let read = file.take(CHUNK).read_to_end(&mut self.rest).doing("read", &path)? as u64;
        self.offset += read;
        let mut lines = self.rest.split(|&byte| byte == b'\n').collect::<Vec<_>>();
        let rest = lines.pop().unwrap_or_default();
        for line in lines {
            sink(node, &String::from_utf8_lossy(line));
        }
        let mut rest = rest.to_vec();
        if rest.len() > LINE {
            sink(node, &String::from_utf8_lossy(&rest));
            rest.clear();
        }
        self.rest = rest;
        Ok(read == CHUNK)
    }
}

pub(super) async fn run(
    state: &State,
    nodes: &[String],
    follow: bool,
    sink: LogSink<'_>,
) -> Result<(), Error> {
    let there = all(state)?;
    if there.is_empty() {
        return Err(Error::NotRunning(state.mesh().clone()));
    }
    if let Some(unknown) = nodes.iter().find(|node| !there.contains(node)) {
        return Err(Error::Unknown(format!(
            "there is no log of {unknown}: `hopcast status` lists the nodes"
        )));
    }
    let mut readers: BTreeMap<String, Reader> = BTreeMap::new();
    loop {
        let wanted = if nodes.is_empty() { all(state)? } else { nodes.to_vec() };
        for node in wanted {
            let reader = readers.entry(node.clone()).or_default();
            while reader.read(state, &node, sink)? {
                tokio::task::yield_now().await;
            }
        }
        if !follow {
            for (node, reader) in readers.iter().filter(|(_, reader)| !reader.rest.is_empty()) {
                sink(node, &String::from_utf8_lossy(&reader.rest));
            }
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Nodes that have a log, in the order of their names.
fn all(state: &State) -> Result<Vec<String>, Error> {
    let dir = state.dir().join("log");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).doing("read", dir),
    };
    let mut nodes: Vec<_> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".log")?.to_owned()))
        .collect();
    nodes.sort();
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hopcast_protocol::MeshName;

    #[tokio::test]
    async fn gives_whole_lines_once_and_names_what_is_missing() {
        let root = tempfile::tempdir().unwrap();
        let state = State::new(root.path(), MeshName::new("m").unwrap());
        fs::create_dir_all(state.dir().join("log")).unwrap();
        fs::write(state.log("peer-1"), "one\ntwo\nthr").unwrap();
        let mut lines = Vec::new();
        run(&state, &[], false, &mut |node, line| lines.push(format!("{node} {line}"))).await.unwrap();
        assert_eq!(lines, ["peer-1 one", "peer-1 two", "peer-1 thr"]);
        let error = run(&state, &["peer-2".into()], false, &mut |_, _| {}).await.unwrap_err();
        assert!(error.to_string().contains("peer-2"), "{error}");

        let none = State::new(root.path(), MeshName::new("none").unwrap());
        for follow in [false, true] {
            let error = run(&none, &[], follow, &mut |_, _| {}).await.unwrap_err();
            assert!(matches!(error, Error::NotRunning(_)), "{error}");
        }

        let mut reader = Reader::default();
        let mut lines = Vec::new();
        reader.read(&state, "peer-1", &mut |_, line| lines.push(line.to_owned())).unwrap();
        fs::write(state.log("peer-1"), "new\n").unwrap();
        reader.read(&state, "peer-1", &mut |_, line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two", "thr", "new"]);
    }
}
