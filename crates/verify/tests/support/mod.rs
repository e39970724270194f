//! A real mesh for each test, on addresses of its own, broken on purpose.
//!
//! The programs are those of the workspace, built first (under nextest by whoever runs it). The mesh is started by
//! `hopcast up --detach` and taken down when the test ends, however it ends. A test program has one mesh at a time: each
//! has three databases.

pub(crate) mod rogue;

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
    time::Duration,
};

use hopcast_deploy::{Access, Backend as _, Fault, Local, NodeRole, State};
use hopcast_protocol::{DatabaseAccess, MeshName};
use hopcast_topology::{Env, Plan, Source, load};
use hopcast_verify::{
    DatabaseRole, DatabaseTarget, Options, PeerTarget, ProcessRole, ProcessTarget, Report, Separation, Target,
};
use rogue::{Cheat, Orders, Rogue};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::NoTls;

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Where the programs are: `$HOPCAST_BIN_DIR`, else the target directory, once they are built.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        if let Some(built) = std::env::var_os("HOPCAST_BIN_DIR") {
            return built.into();
        }
        // target/<profile>/deps/<this test>
        let profile = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_path_buf();
        // nextest runs tests of several crates at once, after their programs are built: a build now could take a program
        // away from another test.
        if std::env::var_os("NEXTEST").is_some() {
            return profile;
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "hopcast-cli", "--package", "hopcast-peer"]);
        cargo.args(["--package", "hopcast-signalling", "--bins"]);
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success(), "the programs do not build");
        profile
    })
}

/// A mesh of 16 peers in a ring, in two rooms, with the gateways of its two edges opposite each other: peer-5 and peer-13
/// are four hops from both, and whoever has a liar on one side finds another way on the other.
pub(crate) struct Mesh {
    pub(crate) plan: Plan,
    pub(crate) state: PathBuf,
    pub(crate) access: Access,
    file: PathBuf,
    _folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Mesh {
    /// Starts a mesh in a block of its own: 127.81.<block>.0/24, ports 17900 + 2 * block and the next.
    pub(crate) async fn start(block: u8) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let folder = tempfile::Builder::new().prefix("hopcast-verify-").tempdir().unwrap();
        // The databases run under another user where we are root.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let port = 17_900 + 2 * u16::from(block - 100);
        let song = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../songs/demo").canonicalize().unwrap();
        let text = format!(
            r#"
            [mesh]
            name = "verify-{block}"
            [peers]
            count = 16
            patience = "4s"
            links = {{ shape = "ring" }}
            [[rooms]]
            name = "rock"
            peers = ["*"]
            [[rooms]]
            name = "jazz"
            peers = ["peer-1..peer-5"]
            [[edges]]
            name = "edge-db-a"
            network = "edge-a-net"
            peers = ["peer-1"]
            [[edges]]
            name = "edge-db-b"
            network = "edge-b-net"
            peers = ["peer-9"]
            [origin]
            name = "origin-db"
            network = "origin-net"
            [[songs]]
            path = "{song}"
            rooms = ["*"]
            [signalling]
            listen = "127.0.0.1:{port}"
            [local]
            network = "127.81.{block}.0/24"
            door = "127.0.0.1:{door}"
            "#,
            song = song.display(),
            door = port + 1,
        );
        let file = folder.path().join("topology.toml");
        std::fs::write(&file, &text).unwrap();
        let plan = load(Source::new("topology.toml", &text), &Env::empty()).unwrap().plan;
        let state = folder.path().join("state");
        let up = hopcast(&state, &file, &["up", "--detach"]);
        let said = String::from_utf8_lossy(&up.stderr);
        assert!(up.status.success(), "up: {said}");
        let access = local(&state, &plan.mesh).access().await.unwrap();
        Self { plan, state, access, file, _folder: folder, _turn: turn }
    }

    /// What verify is told, from the mesh's status.
    pub(crate) async fn target(&self) -> Target {
        let status = local(&self.state, &self.plan.mesh).status().await.unwrap();
        let plan = &self.plan;
        let peer = |peer: &hopcast_topology::plan::Peer| PeerTarget {
            name: peer.name.clone(),
            endpoint: peer.local,
            pid: status.node(peer.name.as_str()).and_then(|node| node.pid),
        };
        let others = status.nodes.iter().filter_map(|node| {
            let role = match node.role {
                NodeRole::Peer => return None,
                NodeRole::Signalling => ProcessRole::Signalling,
                NodeRole::Database => ProcessRole::Database,
                NodeRole::Keeper => ProcessRole::Keeper,
            };
            Some(ProcessTarget { pid: node.pid?, name: node.name.clone(), role })
        });
        let database = plan.postgres.database.clone();
        let mut databases = vec![DatabaseTarget {
            name: plan.origin.name.clone(),
            role: DatabaseRole::Origin,
            address: plan.origin.local,
            database: database.clone(),
        }];
        databases.extend(plan.edges.iter().map(|edge| DatabaseTarget {
            name: edge.name.clone(),
            role: DatabaseRole::Edge,
            address: edge.local,
            database: database.clone(),
        }));
        Target {
            plan: plan.clone(),
            secret: self.access.secret.clone(),
            backend: status.backend.clone(),
            separation: Separation::Addresses,
            signalling: self.access.signalling,
            door: self.access.door,
            peers: plan.peers.iter().map(peer).collect(),
            processes: others.collect(),
            databases,
            memory_cap: plan.limits.memory,
        }
    }

    /// Runs `hopcast verify --json` and returns its exit code, the last line of its output, and the JUnit file.
    pub(crate) fn command(&self) -> (i32, serde_json::Value, String) {
        let junit = self.state.join("junit.xml");
        let output =
            hopcast(&self.state, &self.file, &["verify", "--json", "--junit", junit.to_str().unwrap()]);
        let text = String::from_utf8(output.stdout).unwrap();
        let json = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        (output.status.code().unwrap(), json, std::fs::read_to_string(junit).unwrap())
    }

    /// Breaks something.
    pub(crate) async fn fault(&self, fault: Fault) {
        local(&self.state, &self.plan.mesh).fault(&fault).await.unwrap();
    }

    /// Where a peer listens.
    pub(crate) fn endpoint(&self, peer: &str) -> SocketAddr {
        self.plan.peer(peer).unwrap().local
    }

    /// The folder of this mesh.
    pub(crate) fn dir(&self) -> PathBuf {
        self.state.join(self.plan.mesh.as_str())
    }

    /// Runs statements as a database's owner.
    pub(crate) async fn as_owner(&self, access: &DatabaseAccess, statements: &str) {
        let (client, connection) = tokio_postgres::Config::new()
            .host(&access.host)
            .port(access.port)
            .dbname(&access.database)
            .user(&access.user)
            .password(&access.password)
            .connect(NoTls)
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute(statements).await.unwrap();
        connection.abort();
    }

    /// Kills a peer and puts a rogue in its place; the target then names the rogue's process.
    pub(crate) async fn replace(&self, peer: &str, cheat: Cheat, test: &str) -> (Rogue, Target) {
        let text = std::fs::read_to_string(self.dir().join(format!("config/{peer}.json"))).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        let listen = self.endpoint(peer);
        let behind = SocketAddr::new(listen.ip(), listen.port() + 1);
        config["listen"] = serde_json::json!(behind);
        config.as_object_mut().unwrap().remove("peer_addresses");
        let file = self.state.join(format!("rogue-{peer}.json"));
        std::fs::write(&file, config.to_string()).unwrap();
        self.fault(Fault::Kill(peer.to_owned())).await;
        let orders = Orders {
            name: peer.to_owned(),
            cheat,
            listen,
            behind,
            program: programs().join("hopcast-peer"),
            config: file,
            peers: self.plan.local_range().unwrap(),
        };
        let rogue = Rogue::start(&orders, test);
        let mut target = self.target().await;
        let pid = rogue.process.id();
        target.peers.iter_mut().find(|target| target.name.as_str() == peer).unwrap().pid = Some(pid);
        // The test program is no small peer.
        target.memory_cap = 256 << 20;
        wait_for(listen).await;
        (rogue, target)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let down = hopcast(&self.state, &self.file, &["down", "--purge"]);
        let well = down.status.success() || std::thread::panicking();
        assert!(well, "down: {}", String::from_utf8_lossy(&down.stderr));
    }
}

fn local(state: &Path, mesh: &MeshName) -> Local {
    Local::new(State::new(state, mesh.clone()))
}

fn hopcast(state: &Path, file: &Path, arguments: &[&str]) -> Output {
    let programs = programs();
    Command::new(programs.join("hopcast"))
        .arg("--file")
        .arg(file)
        .args(arguments)
        .env("HOPCAST_STATE", state)
        .env("HOPCAST_BIN_DIR", programs)
        .env_remove("COUNT")
        .output()
        .unwrap()
}

/// Waits until somebody answers `/health` there.
async fn wait_for(peer: SocketAddr) {
    let answers = async {
        loop {
            if tokio::net::TcpStream::connect(peer).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), answers).await.expect("the rogue listens");
}

/// Runs verify.
pub(crate) async fn verify(target: &Target) -> Report {
    hopcast_verify::run(target, &Options::default(), &|_| ()).await.unwrap()
}

/// Asserts which checks did not pass.
#[track_caller]
pub(crate) fn assert_only(report: &Report, checks: &[&str]) {
    assert_eq!(report.not_passed(), checks, "{report}");
    assert_eq!(report.passed, checks.is_empty());
    assert_eq!(report.exit_code(), u8::from(!checks.is_empty()));
}

/// The texts of one check.
pub(crate) fn texts(report: &Report, check: &str) -> String {
    report.check(check).unwrap().failures.join("\n")
}

/// One of a peer's own numbers.
pub(crate) fn metric(peer: SocketAddr, name: &str) -> u64 {
    let mut stream = std::net::TcpStream::connect(peer).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {peer}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}
