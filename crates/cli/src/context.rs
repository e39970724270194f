//! What every command starts from: where output goes, the file's plan, and the mesh that runs.

use std::{
    env::VarError,
    fs::File,
    io::{self, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use hopcast_deploy::{Access, Backend, Docker, Local, State};
use hopcast_protocol::MeshName;
use hopcast_topology::{Env, Plan, Report};

use crate::{
    exit::{self, Failure},
    location,
    output::{Output, count},
};

/// Which mesh a command is about.
#[derive(Debug, Default, Args)]
pub(crate) struct Which {
    /// The mesh of this name, whatever the topology file says or whether there is one
    #[arg(long, value_name = "MESH")]
    pub name: Option<MeshName>,
    #[command(flatten)]
    pub on: On,
}

/// Which backend a command is about.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct On {
    /// What runs the mesh [default: `up` takes local, the others what the mesh runs on]
    #[arg(long, value_enum, value_name = "BACKEND")]
    pub backend: Option<Kind>,
}

/// The backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Processes of this machine and embedded PostgreSQL
    Local,
    /// Containers of this machine's Docker engine
    Docker,
}

/// See the module.
pub(crate) struct Context {
    /// Where output goes.
    pub out: Output,
    file: Option<PathBuf>,
    /// What was read of it: a command reads it once, since it may be a pipe.
    text: OnceLock<String>,
}

/// A mesh that runs.
pub(crate) struct Running {
    /// What keeps it.
    pub backend: Box<dyn Backend>,
    /// What it was last made equal to.
    pub plan: Plan,
    /// Its keys and addresses.
    pub access: Access,
}

impl Context {
    /// No file is named yet.
    pub(crate) fn new(out: Output) -> Self {
        Self { out, file: None, text: OnceLock::new() }
    }

    /// The `--file` of the command line, if there is one.
    pub(crate) fn set_file(&mut self, file: Option<PathBuf>) {
        self.file = file.or(self.file.take());
    }

    /// The topology file.
    pub(crate) fn file(&self) -> anyhow::Result<PathBuf> {
        let working = std::env::current_dir().context("the working directory cannot be found")?;
        Ok(location::topology_file(self.file.as_deref(), &working)?)
    }

    /// The file's plan. Its warnings are told; its errors are printed, all of them, and end the command.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        self.load().map(|loaded| {
            self.tell(&loaded.warnings);
            loaded.plan
        })
    }

    /// The file's plan and warnings, or all that is wrong with it.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        let path = self.file()?;
        if !path.exists() {
            let message = format!(
                "there is no file {}; write one with `hopcast init {0}`, or name another with --file",
                path.display()
            );
            return Err(Failure::new(exit::NO_INPUT, message).into());
        }
        // Ignoring it would bring up another mesh than the one that was asked for.
        let unreadable =
            |(name, _): &&(&str, &str)| matches!(std::env::var(name), Err(VarError::NotUnicode(_)));
        if let Some((name, _)) = hopcast_topology::VARIABLES.iter().find(unreadable) {
            let message =
                format!("the environment variable {name} is not UTF-8 text: set it anew, or unset it");
            return Err(Failure::new(exit::TOPOLOGY, message).into());
        }
        match self.text(&path).map(|text| resolve(&path, text)) {
            Ok(Ok(loaded)) => Ok(loaded),
            Ok(Err(report)) => {
                self.tell(&report);
                let message = format!("{} in {}", count(report.errors(), "error"), path.display());
                self.out.note(format_args!("\nerror: {message}"));
                let entries: Vec<_> = report.entries().collect();
                Err(Failure::printed(exit::TOPOLOGY, message).with("errors", entries).into())
            }
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                // It is there, and not what it should be.
                let wrong = error.kind() == io::ErrorKind::InvalidData;
                Err(Failure::new(if wrong { exit::TOPOLOGY } else { exit::NO_INPUT }, message).into())
            }
        }
    }

    fn text(&self, path: &Path) -> io::Result<&str> {
        if let Some(text) = self.text.get() {
            return Ok(text);
        }
        let text = read_text(path, hopcast_topology::MAX_FILE)?;
        Ok(self.text.get_or_init(|| text))
    }

    /// Prints what is wrong, for people: on stderr.
    pub(crate) fn tell(&self, report: &Report) {
        use std::io::IsTerminal as _;
        if !report.is_empty() {
            let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            self.out.note(report.render(color, 120));
        }
    }

    /// The mesh that is meant: by its name, else by the file; without a file the only one that this machine knows.
    pub(crate) fn mesh(&self, which: &Which) -> anyhow::Result<MeshName> {
        self.meant(which, true)
    }

    /// For a command that changes or ends a mesh: it is named, or its file is there. None is guessed.
    pub(crate) fn named(&self, which: &Which) -> anyhow::Result<()> {
        self.meant(which, false).map(|_| ())
    }

    fn meant(&self, which: &Which, guess: bool) -> anyhow::Result<MeshName> {
        if let Some(name) = &which.name {
            return Ok(name.clone());
        }
        let error = match self.load() {
            Ok(loaded) => return Ok(loaded.plan.mesh),
            Err(error) => error,
        };
        if !guess || self.file.is_some() || exit::code(&error) != exit::NO_INPUT {
            return Err(error.context("which mesh? --name names one without a file"));
        }
        let known = State::all(&State::default_root()?)?;
        match &known[..] {
            [only] => Ok(only.mesh().clone()),
            [] => Err(error),
            several => {
                let names: Vec<_> = several.iter().map(|state| state.mesh().to_string()).collect();
                Err(error.context(format!("which mesh? --name takes one of {}", names.join(", "))))
            }
        }
    }

    /// The mesh that is meant, and what runs it: what was named, else where something of it is. Where that is nowhere, or
    /// no engine answers that it was ever on, it is the local one.
    pub(crate) async fn backend(&self, which: &Which) -> anyhow::Result<Box<dyn Backend>> {
        let mesh = self.mesh(which)?;
        if let Some(kind) = which.on.backend {
            return backend(mesh, kind);
        }
        let local = backend(mesh.clone(), Kind::Local)?;
        let docker = Docker::new(State::new(State::default_root()?, mesh.clone()));
        let here = local.exists().await?;
        // Without a sign of it the engine is not even asked for a mesh that runs here.
        if here && !docker.left_files() {
            return Ok(local);
        }
        match docker.exists().await {
            Ok(true) if here => {
                let message =
                    format!("mesh {mesh} runs here and on Docker: say which with --backend local or docker");
                Err(Failure::new(exit::USAGE, message).with("mesh", &mesh).into())
            }
            Ok(true) => Ok(Box::new(docker)),
            Err(error) if docker.left_files() && !here => Err(error.into()),
            Ok(false) | Err(_) => Ok(local),
        }
    }

    /// What to say of a mesh that was named and that this state root has never seen.
    #[expect(clippy::unused_self, reason = "what a command starts from is here")]
    pub(crate) fn unseen(&self, which: &Which) -> anyhow::Result<Option<String>> {
        let Some(name) = &which.name else { return Ok(None) };
        let state = State::new(State::default_root()?, name.clone());
        // What cannot be looked at is not called absent.
        let absent = matches!(state.dir().try_exists(), Ok(false));
        Ok(absent.then(|| format!("there is no mesh {name} in {}", state.root().display())))
    }

    /// The mesh that is meant, if it runs.
    pub(crate) async fn running(&self, which: &Which) -> anyhow::Result<Option<Running>> {
        let backend = self.backend(which).await?;
        let Some(plan) = backend.plan().await? else { return Ok(None) };
        let access = backend.access().await?;
        Ok(Some(Running { backend, plan, access }))
    }

    /// The mesh that is meant; an error where it does not run.
    pub(crate) async fn must_run(&self, which: &Which) -> anyhow::Result<Running> {
        match self.running(which).await? {
            Some(running) => Ok(running),
            None => Err(not_running(&self.mesh(which)?).into()),
        }
    }

    /// The plan of the running mesh and its signalling server; where it does not run, the file's plan. A mesh that was
    /// named must run.
    pub(crate) async fn running_or_plan(&self, which: &Which) -> anyhow::Result<(Plan, Option<SocketAddr>)> {
        if which.name.is_some() {
            let running = self.must_run(which).await?;
            return Ok((running.plan, Some(running.access.signalling)));
        }
        match self.running(which).await? {
            Some(running) => {
                self.note_changes(which, &running.plan);
                Ok((running.plan, Some(running.access.signalling)))
            }
            None => Ok((self.plan()?, None)),
        }
    }

    /// Says so where the file has changed since `up`: what is looked at is the mesh that runs.
    pub(crate) fn note_changes(&self, which: &Which, running: &Plan) {
        if which.name.is_none()
            && let Ok(loaded) = self.load()
            && absolute(loaded.plan).is_ok_and(|plan| plan != *running)
        {
            self.out.note(format_args!(
                "note: {} (with the environment's variables) differs from mesh {} as it runs; `hopcast up` applies it",
                self.file().unwrap_or_default().display(),
                running.mesh
            ));
        }
    }
}

/// A mesh on a backend. Nothing is touched.
pub(crate) fn backend(mesh: MeshName, kind: Kind) -> anyhow::Result<Box<dyn Backend>> {
    let state = State::new(State::default_root()?, mesh);
    Ok(match kind {
        Kind::Local => Box::new(Local::new(state)),
        Kind::Docker => Box::new(Docker::new(state)),
    })
}

/// The failure of a command that needs the mesh to run.
pub(crate) fn not_running(mesh: &MeshName) -> Failure {
    Failure::new(exit::UNAVAILABLE, format!("mesh {mesh} is not running; start it with `hopcast up`"))
        .with("mesh", mesh)
}

/// A file that could be read.
pub(crate) struct Loaded {
    /// Where it is.
    pub path: PathBuf,
    /// What it means. Files that it names are relative to the working directory, or absolute.
    pub plan: Plan,
    /// What was probably not meant so.
    pub warnings: Report,
}

/// What the file's text means. The topology crate opens no files: everything that the file names is found here.
fn resolve(path: &Path, text: &str) -> Result<Loaded, Report> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.display().to_string();
    let graphs =
        |name: &str, limit: usize| read_text(&folder.join(name), limit).map_err(|error| error.to_string());
    let source = hopcast_topology::Source::new(&name, text).with_graphs(&graphs);
    // What is not UTF-8 is none of the variables that mean something here.
    let env: Env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    hopcast_topology::load(source, &env).map(|hopcast_topology::Loaded { mut plan, warnings }| {
        for song in &mut plan.songs {
            song.path = folder.join(&song.path);
        }
        if let Some(file) = &mut plan.postgres.password_file {
            *file = folder.join(&file);
        }
        Loaded { path: path.to_owned(), plan, warnings }
    })
}

/// A text file of at most `limit` bytes; one more is read of a longer one, so that the caller sees that it is too long.
fn read_text(path: &Path, limit: usize) -> io::Result<String> {
    use std::os::unix::fs::FileTypeExt as _;
    let kind = std::fs::metadata(path)?.file_type();
    // Opening a pipe waits for its other end, which may never come. A shell's `<(...)` has one, and is no path of its own.
    if kind.is_dir()
        || kind.is_socket()
        || (kind.is_fifo() && !path.starts_with("/dev") && !path.starts_with("/proc"))
    {
        return Err(io::Error::other(if kind.is_dir() {
            "it is a directory"
        } else {
            "it is a pipe or a socket"
        }));
    }
    let mut bytes = Vec::new();
    // A character that the limit cuts in two is no mistake of the file's.
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    let whole = bytes.len() <= limit;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if !whole && error.utf8_error().error_len().is_none() => {
            // The replacement has three bytes: still too many, which is what the caller looks at.
            Ok(String::from_utf8_lossy(error.as_bytes()).into_owned())
        }
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes()[..at].split(|&byte| byte == b'\n').count();
            let why = format!("line {line} is not UTF-8 text: save the file as UTF-8");
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
    }
}

/// The plan as another process reads it: every file by its absolute path.
pub(crate) fn absolute(mut plan: Plan) -> anyhow::Result<Plan> {
    let absolute = |path: &mut PathBuf| -> anyhow::Result<()> {
        *path = std::path::absolute(&*path).with_context(|| format!("cannot find {}", path.display()))?;
        Ok(())
    };
    for song in &mut plan.songs {
        absolute(&mut song.path)?;
    }
    if let Some(file) = &mut plan.postgres.password_file {
        absolute(file)?;
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_file_is_told_and_never_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let refused = |name: &str, limit: usize| read_text(&at(name), limit).unwrap_err().to_string();
        make_pipe(&at("pipe"));
        assert!(refused("pipe", 10).contains("pipe"));
        std::fs::create_dir(at("folder")).unwrap();
        assert!(refused("folder", 10).contains("directory"));
        std::fs::write(at("latin1"), b"a\nb\xf6b").unwrap();
        assert!(refused("latin1", 10).contains("line 2"));
        std::fs::write(at("long"), "\u{e4}\u{e4}\u{e4}").unwrap();
        assert_eq!(read_text(&at("long"), 6).unwrap().len(), 6);
        assert!(read_text(&at("long"), 4).unwrap().len() > 4, "cut inside a character");
    }

    fn make_pipe(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }
}
