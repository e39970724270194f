//! Containers, volumes and images of a test, through the `docker` command and gone at its end; no mesh, no labels.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::{
    env,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use hopcast_deploy::programs::Programs;
use hopcast_topology::{Env, Plan, Source};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// A name that nothing else has.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("hopcast-test-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The static programs: those of `$HOPCAST_BIN_DIR`, else of the release build.
pub fn static_programs() -> Programs {
    let dir = env::var_os("HOPCAST_BIN_DIR").map_or_else(
        || {
            let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
            target.join(format!("{}-unknown-linux-gnu/release", env::consts::ARCH))
        },
        PathBuf::from,
    );
    Programs::in_dir(&dir).unwrap_or_else(|error| {
        panic!("{error}: build static programs (`bash -c '. scripts/lib.sh && build_release'`), or set HOPCAST_BIN_DIR")
    })
}

/// The smallest plan with images of these names.
pub fn plan(peer: &str, signalling: &str, postgres: &str) -> Plan {
    let text = format!(
        "[peers]\ncount = 1\nlinks = {{ shape = \"none\" }}\n[[rooms]]\nname = \"rock\"\npeers = [\"*\"]\n\
         [[edges]]\nname = \"edge-db-a\"\nnetwork = \"edge-a-net\"\npeers = [\"peer-1\"]\n\
         [docker]\npeer_image = \"{peer}\"\nsignalling_image = \"{signalling}\"\npostgres_image = \"{postgres}\"\n"
    );
    match hopcast_topology::load(Source::new("topology.toml", &text), &Env::default()) {
        Ok(loaded) => loaded.plan,
        Err(report) => panic!("{}", report.render(false, 100)),
    }
}

/// Runs `docker` with these arguments.
pub fn run(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).stdin(Stdio::null()).output().expect("the command `docker` runs")
}

/// Runs `docker`, which must succeed; what it wrote to stdout.
pub fn docker(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A field of an object, as `docker inspect` prints it as JSON.
pub fn inspect(name: &str, field: &str) -> serde_json::Value {
    serde_json::from_str(&docker(&["inspect", "--format", &format!("{{{{json {field}}}}}"), name])).unwrap()
}

/// Looks again until there is something.
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "{what} did not come within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A container.
pub struct Container(pub String);

impl Container {
    /// `docker run -d`, as tight as hopcast runs all of its containers.
    pub fn start(options: &[&str], image: &str, arguments: &[&str]) -> Self {
        let container = Self(unique("container"));
        let tight = ["run", "-d", "--name", &container.0, "--read-only", "--cap-drop", "ALL"];
        let more = ["--security-opt", "no-new-privileges", "--pids-limit", "50"];
        docker(&[&tight[..], &more, options, &[image], arguments].concat());
        container
    }

    /// Where a port of it is published.
    pub fn published(&self, port: u16) -> SocketAddr {
        docker(&["port", &self.0, &port.to_string()]).lines().next().unwrap().parse().unwrap()
    }

    /// Its log, both streams.
    pub fn logs(&self) -> String {
        let output = run(&["logs", &self.0]);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// Waits for its end; its exit code.
    pub fn end(&self) -> i32 {
        docker(&["wait", &self.0]).parse().unwrap()
    }

    /// The answer to `GET path`, once there is one.
    pub fn get(&self, port: u16, path: &str) -> String {
        let address = self.published(port);
        wait(&format!("{path} of {}", self.0), || http(address, path))
    }

    /// A statement's answer, once the server takes it, over TCP from outside of the loopback device.
    pub fn sql(&self, user: &str, password: &str, database: &str, statement: &str) -> Output {
        let address = inspect(&self.0, ".NetworkSettings.IPAddress");
        let url = format!("host={} user={user} dbname={database}", address.as_str().unwrap());
        let password = format!("PGPASSWORD={password}");
        run(&[
            "exec",
            "-e",
            &password,
            &self.0,
            "psql",
            "-XAtw",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &url,
            "-c",
            statement,
        ])
    }

    /// Waits until the server takes connections.
    pub fn ready(&self) {
        let begin = Instant::now();
        wait(&format!("the database {}", self.0), || {
            let late = begin.elapsed() > PATIENCE * 3 / 4;
            assert!(self.running() && !late, "it ended, or is not ready yet:\n{}", self.logs());
            let address = inspect(&self.0, ".NetworkSettings.IPAddress");
            run(&["exec", &self.0, "pg_isready", "-q", "-h", address.as_str()?])
                .status
                .success()
                .then_some(())
        });
    }

    pub fn running(&self) -> bool {
        inspect(&self.0, ".State.Running") == true
    }

    pub fn oom_killed(&self) -> bool {
        inspect(&self.0, ".State.OOMKilled") == true
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        run(&["rm", "-fv", &self.0]);
    }
}

/// A named volume.
pub struct Volume(pub String);

impl Volume {
    pub fn new() -> Self {
        Self(docker(&["volume", "create", &unique("volume")]))
    }

    /// The option that mounts it.
    pub fn at(&self, path: &str) -> String {
        format!("{}:{path}", self.0)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        run(&["volume", "rm", "-f", &self.0]);
    }
}

/// An image's name, whatever is under it.
pub struct Name(pub String);

impl Name {
    pub fn new(what: &str) -> Self {
        Self(format!("{}:1", unique(what)))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        run(&["rmi", "-f", &self.0]);
    }
}

/// The body of a 200.
pub fn http(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

/// What a program wrote, both streams.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        .trim()
        .to_owned()
}
