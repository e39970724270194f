//! Real PostgreSQL clusters on loopback addresses of their own, for root and ordinary users alike.
//!
//! PostgreSQL refuses to run as root, so root starts it as `postgres` or `nobody`. Each server runs under `timeout`, so
//! that nothing outlives a test that was killed.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part of this module")]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use hopcast_protocol::{DatabaseAccess, DatabaseName, MeshName, MeshSecret, RoomName, SongName};
use hopcast_store::{
    Admin, EdgeReport, EdgeSetup, Gateway, OriginReport, OriginSetup, Prepared, hba, roles, settings,
};
use tempfile::TempDir;

pub const DATABASE: &str = "hls";
pub const OWNER: &str = "media";
pub const SECRET: MeshSecret = MeshSecret([9; 32]);
pub const LONG: Duration = Duration::from_secs(60);
/// Of the servers, and of who has a block of addresses.
const PORT: u16 = 5432;
const GUARD: u16 = 5431;
const PASSWORD: &str = "owner's \\password";

/// The user that servers run as: (uid, gid); `None` where we are not root.
fn server_user() -> Option<(u32, u32)> {
    let id = Command::new("id").arg("-u").output().expect("`id` runs");
    if String::from_utf8_lossy(&id.stdout).trim() != "0" {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd is readable");
    let user = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let fields: Vec<&str> = line.split(':').collect();
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    };
    Some(
        user("postgres")
            .or_else(|| user("nobody"))
            .expect("root needs a user postgres or nobody for the server"),
    )
}

fn binaries() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    found
        .pop()
        .or_else(|| {
            let path = std::env::var_os("PATH")?;
            std::env::split_paths(&path).find(|bin| bin.join("initdb").exists())
        })
        .expect("PostgreSQL's server programs are in /usr/lib/postgresql/*/bin or PATH")
}

fn command(program: &Path, at: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(at).env("LC_ALL", "C").env("HOME", at).stdin(Stdio::null());
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid);
    }
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder that the server's user owns and may reach.
fn folder() -> TempDir {
    let folder =
        tempfile::Builder::new().prefix("hopcast-store-test-").tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our own folder");
    if let Some((uid, gid)) = server_user() {
        std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).expect("root may");
    }
    folder
}

fn initdb(at: &Path) {
    let password = at.join("password");
    fs::write(&password, PASSWORD).expect("our own folder");
    run(command(&binaries().join("initdb"), at)
        .args(["-D", "data", "-U", OWNER, "-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"])
        .arg("--pwfile")
        .arg(&password));
}

/// An initialised cluster that others are copied from: initdb takes a second, a copy a tenth.
fn template() -> Arc<TempDir> {
    static TEMPLATE: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut template = TEMPLATE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    template.upgrade().unwrap_or_else(|| {
        let fresh = Arc::new(folder());
        initdb(fresh.path());
        *template = Arc::downgrade(&fresh);
        fresh
    })
}

/// The third number of this process's own part of the loopback network, 127.79.0.0/16.
///
/// Several test programs run at once. Who listens on a block's last address has the block; the kernel takes it back with
/// the process. A block with a server that a killed test left behind is passed over.
fn block() -> u8 {
    static BLOCK: OnceLock<(u8, TcpListener)> = OnceLock::new();
    let free = |block: u8| {
        let guard = TcpListener::bind((Ipv4Addr::new(127, 79, block, 254), GUARD)).ok()?;
        TcpListener::bind((Ipv4Addr::new(127, 79, block, 1), PORT)).ok()?;
        Some((block, guard))
    };
    BLOCK.get_or_init(|| (1..255).find_map(free).expect("a free part of 127.79.0.0/16")).0
}

/// An address of this process's own.
pub fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(next < 254, "enough addresses");
    Ipv4Addr::new(127, 79, block(), next)
}

pub struct Cluster {
    pub name: DatabaseName,
    pub ip: Ipv4Addr,
    pub port: u16,
    pub gateway: IpAddr,
    purpose: settings::Purpose,
    folder: TempDir,
    server: Option<Child>,
    _template: Option<Arc<TempDir>>,
}

pub const ORIGIN: settings::Purpose = settings::Purpose::Origin { edges: 2, gateways: 2 };
pub const EDGE: settings::Purpose = settings::Purpose::Edge { gateways: 1 };

impl Cluster {
    /// A running cluster, copied from the template (so it shares its system identifier).
    pub fn start(name: &str, purpose: settings::Purpose) -> Self {
        let (template, folder) = (template(), folder());
        run(command(Path::new("cp"), folder.path()).arg("-a").arg(template.path().join("data")).arg("data"));
        Self::run(name, purpose, folder, Some(template))
    }

    /// A running cluster with a system identifier of its own.
    pub fn start_initialised(name: &str, purpose: settings::Purpose) -> Self {
        let folder = folder();
        initdb(folder.path());
        Self::run(name, purpose, folder, None)
    }

    fn run(name: &str, purpose: settings::Purpose, folder: TempDir, template: Option<Arc<TempDir>>) -> Self {
        let name = DatabaseName::new(name).expect("a name");
        let (ip, gateway) = (address(), address().into());
        let mut cluster =
            Self { name, ip, port: PORT, gateway, purpose, folder, server: None, _template: template };
        cluster.boot();
        cluster
    }

    /// Writes the configuration and starts the server.
    pub fn boot(&mut self) {
        let from = [IpAddr::V4(Ipv4Addr::LOCALHOST).into()];
        let owner = hba::Owner { database: DATABASE, user: OWNER, from: &from, socket: false };
        let rules = match self.purpose {
            settings::Purpose::Origin { .. } => hba::origin(&owner, &from),
            settings::Purpose::Edge { .. } => hba::edge(&owner, &[self.gateway]),
        };
        let addresses = [self.ip.into()];
        let listen = settings::Listen::Addresses(&addresses);
        let data = self.folder.path().join("data");
        fs::write(data.join("postgresql.conf"), settings::text(self.purpose, listen, Some(self.port)))
            .expect("data is ours");
        fs::write(data.join("pg_hba.conf"), rules).expect("data is ours");
        let log = fs::File::options().append(true).create(true).open(self.folder.path().join("log"));
        let log = log.expect("the folder is ours");
        let server = command(Path::new("timeout"), self.folder.path())
            .args(["-s", "INT", "300"])
            .arg(binaries().join("postgres"))
            .args(["-F", "-D", "data"])
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.server = Some(server);
    }

    pub fn stop(&mut self, mode: &str) {
        if let Some(mut server) = self.server.take() {
            let stop = command(&binaries().join("pg_ctl"), self.folder.path())
                .args(["stop", "-w", "-m", mode, "-D", "data"])
                .output();
            if !stop.is_ok_and(|output| output.status.success()) {
                // Never started, then: `timeout` ends with it.
                let _ = server.kill();
            }
            let _ = server.wait();
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn owner(&self) -> DatabaseAccess {
        DatabaseAccess {
            name: self.name.clone(),
            host: self.ip.to_string(),
            port: self.port,
            database: DATABASE.into(),
            user: OWNER.into(),
            password: PASSWORD.into(),
        }
    }

    /// The owner's connection, to a database that is there.
    pub async fn admin(&self) -> Admin {
        let ready = Admin::ensure_database(&self.owner(), LONG).await;
        ready.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        Admin::connect(&self.owner()).await.expect("the owner may connect")
    }

    pub fn gateway_access(&self) -> DatabaseAccess {
        let password = SECRET.password(self.name.as_str(), roles::GATEWAY);
        DatabaseAccess { user: roles::GATEWAY.into(), password, ..self.owner() }
    }

    pub async fn gateway(&self) -> Gateway {
        Gateway::connect(&self.gateway_access(), Some(self.gateway)).await.expect("a gateway may connect")
    }

    /// The owner's connection without any of this crate's code in between.
    pub async fn raw(&self, access: &DatabaseAccess, from: Option<IpAddr>) -> tokio_postgres::Client {
        raw(access, from).await.expect("connected")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}:\n{}", self.name, self.log());
        }
        self.stop("immediate");
    }
}

pub async fn raw(
    access: &DatabaseAccess,
    from: Option<IpAddr>,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    if let Some(from) = from {
        socket.bind((from, 0).into()).expect("a loopback address");
    }
    let to = (access.host.parse::<IpAddr>().expect("an address"), access.port).into();
    let stream = socket.connect(to).await.expect("the server listens");
    let (client, connection) = tokio_postgres::Config::new()
        .user(&access.user)
        .password(&access.password)
        .dbname(&access.database)
        .connect_raw(stream, tokio_postgres::NoTls)
        .await?;
    tokio::spawn(connection);
    Ok(client)
}

pub fn mesh() -> MeshName {
    MeshName::new("test").expect("a name")
}

pub fn rooms(names: &[&str]) -> Vec<RoomName> {
    names.iter().map(|name| RoomName::new(name).expect("a name")).collect()
}

pub async fn setup_origin(origin: &Cluster, edges: &[&Cluster]) -> OriginReport {
    let names: Vec<DatabaseName> = edges.iter().map(|edge| edge.name.clone()).collect();
    let setup = OriginSetup {
        mesh: &mesh(),
        edges: &names,
        repl_password: &SECRET.password(origin.name.as_str(), roles::REPL),
        reader_password: &SECRET.password(origin.name.as_str(), roles::READER),
    };
    origin.admin().await.setup_origin(&setup).await.expect("the origin is set up")
}

pub async fn setup_edge(origin: &Cluster, edge: &Cluster) -> EdgeReport {
    let setup = EdgeSetup {
        mesh: &mesh(),
        edge: &edge.name,
        origin_host: &origin.ip.to_string(),
        origin_port: origin.port,
        origin_database: DATABASE,
        repl_password: &SECRET.password(origin.name.as_str(), roles::REPL),
        reader_password: &SECRET.password(origin.name.as_str(), roles::READER),
        gateway_password: &SECRET.password(edge.name.as_str(), roles::GATEWAY),
    };
    let (origin, mut admin) = (origin.admin().await, edge.admin().await);
    admin.setup_edge(&origin, &setup).await.expect("the edge is set up")
}

pub async fn wait_replicating(origin: &Cluster, edge: &Cluster) {
    let (origin, admin) = (origin.admin().await, edge.admin().await);
    let state = admin.wait_replicating(&origin, &mesh(), &edge.name, LONG).await;
    let state = state.unwrap_or_else(|error| panic!("{error}\n{}", edge.log()));
    assert!(state.is_replicating());
}

/// The project's own demo song.
pub async fn demo(name: &str) -> Prepared {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../songs/demo");
    Prepared::from_folder(&folder, song(name), 1 << 20).await.expect("the demo song is whole")
}

pub fn song(name: &str) -> SongName {
    SongName::new(name).expect("a name")
}

/// Counts rows with the owner's rights.
pub async fn count(cluster: &Cluster, table: &str) -> i64 {
    let client = cluster.raw(&cluster.owner(), None).await;
    client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.expect("a table").get(0)
}
