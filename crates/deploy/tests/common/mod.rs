//! Small meshes of real processes, each in a state directory and an address range of its own, gone at the end of the test.
//!
//! Needs the programs `hopcast`, `hopcast-peer` and `hopcast-signalling` in `$HOPCAST_BIN_DIR`, else in the target directory
//! (`cargo build -p hopcast-cli -p hopcast-peer -p hopcast-signalling`), and an installed PostgreSQL.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use hopcast_deploy::{
    Applied, ApplyOptions, Backend as _, Local, Quiet, Session, State, Status, programs::Programs,
};
use hopcast_protocol::MeshName;
use hopcast_topology::{Env, Plan, Source};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where the programs are.
pub fn programs_dir() -> PathBuf {
    match env::var_os("HOPCAST_BIN_DIR") {
        Some(dir) => dir.into(),
        // target/debug/deps/<this test>
        None => env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned(),
    }
}

/// The built programs.
pub fn programs() -> Programs {
    Programs::in_dir(&programs_dir()).unwrap_or_else(|error| {
        panic!("{error}: build them with `cargo build -p hopcast-cli -p hopcast-peer -p hopcast-signalling`")
    })
}

/// A topology of `peers` in a line, peer-1 the gateway of every edge.
pub struct Topology {
    pub mesh: &'static str,
    pub peers: usize,
    pub edges: usize,
    /// Third number of the addresses, and where the ports begin.
    pub block: u8,
    pub links: Vec<(usize, usize)>,
    pub cache: &'static str,
}

impl Topology {
    pub fn new(mesh: &'static str, block: u8) -> Self {
        Self { mesh, peers: 5, edges: 1, block, links: Vec::new(), cache: "4MiB" }
    }

    pub fn text(&self) -> String {
        let song = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../songs/demo");
        let (block, port) = (self.block, 17_820 + 2 * u16::from(self.block));
        let mut text = format!(
            "[mesh]\nname = \"{}\"\n[peers]\ncount = {}\ncache = \"{}\"\nlinks = {{ shape = \"none\" }}\n\
             [[rooms]]\nname = \"rock\"\npeers = [\"*\"]\n\
             [origin]\nname = \"origin-db\"\nnetwork = \"origin-net\"\n\
             [[songs]]\npath = \"{}\"\nname = \"demo\"\nrooms = [\"*\"]\n\
             [signalling]\nlisten = \"127.0.0.1:{port}\"\n\
             [local]\nnetwork = \"127.80.{block}.0/24\"\ndoor = \"127.0.0.1:{}\"\n",
            self.mesh,
            self.peers,
            self.cache,
            song.canonicalize().unwrap().display(),
            port + 1,
        );
        for edge in 0..self.edges {
            let name = char::from(b'a' + edge as u8);
            text += &format!(
                "[[edges]]\nname = \"edge-db-{name}\"\nnetwork = \"edge-{name}-net\"\npeers = [\"peer-1\"]\n"
            );
        }
        for (a, b) in (1..self.peers).map(|at| (at, at + 1)).chain(self.links.iter().copied()) {
            text += &format!("[[links]]\nbetween = [\"peer-{a}\", \"peer-{b}\"]\n");
        }
        text
    }

    pub fn plan(&self) -> Plan {
        let text = self.text();
        match hopcast_topology::load(Source::new("topology.toml", &text), &Env::default()) {
            Ok(loaded) => loaded.plan,
            Err(report) => panic!("{}", report.render(false, 100)),
        }
    }
}

/// A state root that any user may enter.
pub fn state_root() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("hopcast-deploy-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()
        .unwrap()
}

/// A mesh that is taken down whatever happens to the test.
pub struct Mesh {
    pub local: Local,
    pub session: Option<Session>,
}

impl Mesh {
    pub fn new(root: &Path, name: &str) -> Self {
        let state = State::new(root, MeshName::new(name).unwrap());
        Self { local: Local::new(state).with_programs(programs()), session: None }
    }

    pub async fn up(&mut self, plan: &Plan) -> hopcast_deploy::Changes {
        let Applied { changes, session, .. } = self
            .local
            .apply(plan, &ApplyOptions::default(), &Quiet)
            .await
            .unwrap_or_else(|error| panic!("up: {error}\n{}", self.logs()));
        self.session = session.or(self.session.take());
        changes
    }

    pub async fn status(&self) -> Status {
        self.local.status().await.unwrap()
    }

    /// Looks until it is as it should be.
    pub async fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if is_so(&status) {
                return status;
            }
            assert!(Instant::now() < end, "not in time: {what}\n{status:#?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn dir(&self) -> PathBuf {
        self.local.state().dir()
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.dir().join("log")).into_iter().flatten().flatten() {
            let log = fs::read_to_string(entry.path()).unwrap_or_default();
            let from = log.len().saturating_sub(600);
            text += &format!("== {}\n{}\n", entry.path().display(), log.get(from..).unwrap_or_default());
        }
        text
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // Not async: the runtime may be gone. The session's end would do it, too, were it not for detached meshes.
        self.session = None;
        let mesh = self.local.state().mesh().as_str();
        let _ = Command::new(programs_dir().join("hopcast"))
            .args(["down", "--purge", "--name", mesh])
            .env("HOPCAST_STATE", self.local.state().root())
            .current_dir("/")
            .output();
    }
}

/// Process ids by node.
pub fn pids(status: &Status) -> BTreeMap<String, Option<u32>> {
    status.nodes.iter().map(|node| (node.name.clone(), node.pid)).collect()
}

/// Every live process of a mesh: those that carry its mark, and those that work in its directory (PostgreSQL's children
/// write over their environment).
pub fn processes(dir: &Path) -> Vec<(u32, String)> {
    let mark = format!("HOPCAST_MESH={}", dir.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let path = entry.path();
        let marked = fs::read(path.join("environ"))
            .is_ok_and(|bytes| bytes.split(|&byte| byte == 0).any(|pair| pair == mark.as_bytes()));
        let inside = fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir));
        let zombie = fs::read_to_string(path.join("stat")).is_ok_and(|stat| stat.contains(") Z "));
        if (marked || inside) && !zombie {
            let command = fs::read(path.join("cmdline")).unwrap_or_default();
            found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
        }
    }
    found
}

/// Waits until no process of a mesh is left.
pub async fn until_gone(dir: &Path) {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = processes(dir);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "still there: {left:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// SIGKILL.
pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// GET over HTTP/1.1; the body.
pub fn get(address: std::net::SocketAddr, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}
