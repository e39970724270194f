//! `logs`: what the engine keeps of the containers' output, line by line.

use std::collections::BTreeMap;

use bollard::{container::LogOutput, query_parameters::LogsOptionsBuilder};
use futures_util::{
    StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use tokio::time::timeout;

use super::{
    Docker, Engine,
    engine::{IN_FLIGHT, LOOK},
    labels::{self, Role},
    present::{self, Container},
};
use crate::{Error, LogSink};

/// A longer line is cut, in bytes.
const LINE: usize = 64 << 10;

pub(super) async fn run(
    docker: &Docker,
    nodes: &[String],
    follow: bool,
    sink: LogSink<'_>,
) -> Result<(), Error> {
    let engine = docker.engine().await?;
    let mesh = docker.state().mesh();
    let mut there = present::containers(engine, labels::filter(mesh)).await?;
    there.retain(|container| container.label.role != Some(Role::Helper));
    there.sort_by(|a, b| a.name.cmp(&b.name));
    if there.is_empty() {
        return Err(Error::NotRunning(mesh.clone()));
    }
    if let Some(unknown) = nodes.iter().find(|node| !there.iter().any(|container| container.name == **node)) {
        return Err(Error::Unknown(format!(
            "there is no log of {unknown}: `hopcast status` lists the nodes"
        )));
    }
    there.retain(|container| nodes.is_empty() || nodes.contains(&container.name));
    if follow {
        let mut all: SelectAll<_> = there.iter().map(|container| open(engine, container, true)).collect();
        let mut lines = Lines::default();
        while let Some((name, output)) = all.next().await {
            lines.take(&name, output.map_err(|error| failed(&name, &error))?, sink);
        }
        lines.end(sink);
        return Ok(());
    }
    // In the order of their names, a few at a time.
    let mut whole = futures_util::stream::iter(there)
        .map(|container| read(engine, container))
        .buffered(IN_FLIGHT as usize);
    while let Some(log) = whole.next().await {
        let (name, outputs) = log?;
        let mut lines = Lines::default();
        for output in outputs {
            lines.take(&name, output, sink);
        }
        lines.end(sink);
    }
    Ok(())
}

/// The outputs of one container, by its name.
type Outputs = BoxStream<'static, (String, Result<LogOutput, bollard::errors::Error>)>;

fn open(engine: &Engine, container: &Container, follow: bool) -> Outputs {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(follow).build();
    let name = container.name.clone();
    engine.stream().logs(&container.id, Some(options)).map(move |output| (name.clone(), output)).boxed()
}

/// The whole log of a container. The engine bounds it.
async fn read(engine: &Engine, container: Container) -> Result<(String, Vec<LogOutput>), Error> {
    let mut stream = open(engine, &container, false);
    let mut outputs = Vec::new();
    loop {
        match timeout(LOOK, stream.next()).await {
            Ok(Some((_, Ok(output)))) => outputs.push(output),
            Ok(Some((name, Err(error)))) => return Err(failed(&name, &error)),
            Ok(None) => return Ok((container.name, outputs)),
            Err(_) => {
                return Err(Error::Engine {
                    what: format!("read the log of {}", container.name),
                    status: None,
                    why: format!("the engine was silent for {} s", LOOK.as_secs()),
                });
            }
        }
    }
}

fn failed(name: &str, error: &bollard::errors::Error) -> Error {
    Error::Engine { what: format!("read the log of {name}"), status: None, why: error.to_string() }
}

/// Beginnings of lines whose ends have not come, by node and stream.
#[derive(Default)]
struct Lines(BTreeMap<(String, bool), Vec<u8>>);

impl Lines {
    fn take(&mut self, node: &str, output: LogOutput, sink: LogSink<'_>) {
        let is_error = matches!(output, LogOutput::StdErr { .. });
        let rest = self.0.entry((node.to_owned(), is_error)).or_default();
        rest.extend_from_slice(&output.into_bytes());
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            sink(node, String::from_utf8_lossy(&rest[..end]).trim_end_matches('\r'));
            rest.drain(..=end);
        }
        if rest.len() > LINE {
            sink(node, &String::from_utf8_lossy(rest));
            rest.clear();
        }
    }

    fn end(&mut self, sink: LogSink<'_>) {
        for ((node, _), rest) in std::mem::take(&mut self.0) {
            if !rest.is_empty() {
                sink(&node, &String::from_utf8_lossy(&rest));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_whatever_the_pieces() {
        let mut seen = Vec::new();
        let mut sink = |node: &str, line: &str| seen.push(format!("{node} {line}"));
        let out = |text: &'static str| LogOutput::StdOut { message: text.into() };
        let err = |text: &'static str| LogOutput::StdErr { message: text.into() };
        let mut lines = Lines::default();
        lines.take("a", out("one\ntw"), &mut sink);
        lines.take("a", err("oops\n"), &mut sink);
        lines.take("a", out("o\nthr"), &mut sink);
        lines.end(&mut sink);
        assert_eq!(seen, ["a one", "a oops", "a two", "a thr"]);
    }
}
