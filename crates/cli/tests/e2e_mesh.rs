//! A mesh of five peers in a line and one edge, from `up --detach` to nothing left: every command that looks at a
//! running mesh, with real processes and a real PostgreSQL.
//!
//! Each test has a mesh name, a network and ports of its own (`Mesh::new`), so that they may run at the same time. Needs
//! `hopcast-peer` and `hopcast-signalling` beside `hopcast`: build the workspace's programs before (`cargo build
//! --workspace`).

mod common;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use common::{Hopcast, Run, json};

/// The song of the repository.
fn song() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../songs/demo").canonicalize().unwrap()
}

/// `peers` in a line; peer-1 is the gateway.
fn topology(number: u16, peers: usize, song: &Path) -> String {
    let mut text = format!(
        r#"
[mesh]
name = "e2e-{number}"
[peers]
count = {peers}
links = {{ shape = "none" }}
patience = "3s" # what cannot be fetched is given up sooner
[[rooms]]
name = "rock"
peers = ["*"]
[[edges]]
name = "edge-db-a"
network = "edge-a-net"
peers = ["peer-1"]
[origin]
name = "origin-db"
network = "origin-net"
[[songs]]
path = "{}"
rooms = ["*"]
[signalling]
listen = "127.0.0.1:{}"
[local]
network = "127.82.{number}.0/24"
door = "127.0.0.1:{}"
"#,
        song.display(),
        18000 + 2 * number,
        18001 + 2 * number,
    );
    for peer in 1..peers {
        text.push_str(&format!("[[links]]\nbetween = [\"peer-{peer}\", \"peer-{}\"]\n", peer + 1));
    }
    text
}

/// A mesh that is taken down whatever happens to the test.
struct Mesh(Hopcast, u16);

impl Mesh {
    /// `number` is this test's own.
    fn new(number: u16) -> Self {
        let beside = Path::new(env!("CARGO_BIN_EXE_hopcast")).parent().unwrap();
        for program in ["hopcast-peer", "hopcast-signalling"] {
            assert!(beside.join(program).exists(), "{program} is not built: cargo build --workspace --bins");
        }
        Self(Hopcast::new().file("topology.toml", &topology(number, 5, &song())), number)
    }

    fn ok(&self, arguments: &[&str]) -> serde_json::Value {
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        let run = self.0.run(&arguments);
        assert_eq!(run.code, 0, "{arguments:?}: {}\n{}", run.stderr, run.stdout);
        json(&run)
    }

    /// Polls until it holds; the time is a bound, not a measure.
    fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(begin.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn status(&self) -> (i32, serde_json::Value) {
        let run = self.0.run(&["status", "--json"]);
        (run.code, json(&run))
    }

    /// The processes whose command line names this mesh's state directory.
    fn processes(&self) -> Vec<String> {
        processes(&self.0.path("state"), &["cmdline"])
    }
}

/// The command lines of the processes that have a directory's name in one of these files of /proc, this one left out.
fn processes(dir: &Path, files: &[&str]) -> Vec<String> {
    let mark = dir.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let read = |name: &str| {
            String::from_utf8_lossy(&std::fs::read(entry.path().join(name)).unwrap_or_default())
                .replace('\0', " ")
        };
        let own = entry.file_name().to_str() == Some(&std::process::id().to_string());
        if !own && files.iter().any(|file| read(file).contains(&mark)) {
            found.push(read("cmdline"));
        }
    }
    found
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let run = self.0.run(&["down", "--purge", "--name", &format!("e2e-{}", self.1)]);
        if !std::thread::panicking() {
            assert_eq!(run.code, 0, "{}", run.stderr);
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    hopcast_protocol::Sha256::of(bytes).to_string()
}

fn names(value: &serde_json::Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn a_song_comes_hop_by_hop_and_nothing_is_left() {
    let mesh = Mesh::new(1);

    let up = mesh.ok(&["up", "--detach"]);
    assert_eq!((up["peers"].as_u64(), up["farthest"]["hops"].as_u64()), (Some(5), Some(4)));
    assert_eq!(up["farthest"]["url"], "http://127.82.1.5:8080/hls/demo/master.m3u8");
    assert_eq!(up["farthest"]["door_url"], "http://127.0.0.1:18003/p/peer-5/hls/demo/master.m3u8");

    let (code, status) = mesh.status();
    assert_eq!((code, &status["ready"], &status["detached"]), (0, &true.into(), &true.into()), "{status}");
    let songs = mesh.ok(&["songs"]);
    assert_eq!(songs["songs"][0]["name"], "demo");

    // One segment, one rendition, and the whole song.
    let out = mesh.0.path("segment.ts");
    let fetched = mesh.ok(&["fetch", "demo/64k/3", "--via", "peer-5", "-o", out.to_str().unwrap()]);
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(bytes, std::fs::read(song().join("64k/3.ts")).unwrap());
    assert_eq!(fetched["sha256"], sha256(&bytes));
    let hops: Vec<_> = fetched["parts"][0]["hops"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hop| hop["peer"].as_str().unwrap())
        .collect();
    assert_eq!(hops, ["peer-5", "peer-4", "peer-3", "peer-2", "peer-1"]);
    assert!(
        fetched["parts"][0]["hops"].as_array().unwrap().iter().all(|hop| hop["ms"].is_number()),
        "{fetched}"
    );
    let whole = mesh.0.path("song.ts");
    let fetched = mesh.ok(&["fetch", "demo", "--via", "peer-3", "-o", whole.to_str().unwrap()]);
    let files: Vec<u8> =
        (0..9).flat_map(|at| std::fs::read(song().join(format!("128k/{at}.ts"))).unwrap()).collect();
    assert_eq!(
        (fetched["rendition"].as_str(), fetched["sha256"].as_str()),
        (Some("128k"), Some(&*sha256(&files)))
    );
    let run = mesh.0.run(&["fetch", "demo/64k/99", "--via", "peer-5", "-o", "x"]);
    assert!(run.code == 1 && run.stderr.contains("no segment 99"), "{}", run.stderr);
    let run = mesh.0.run(&["fetch", "nothing", "--via", "peer-5", "-o", "x"]);
    assert!(run.code == 1 && run.stderr.contains("404"), "{}", run.stderr);

    let path = mesh.ok(&["path", "peer-5", "peer-2"]);
    assert_eq!(path["live"], true);
    assert_eq!(names(&path["rooms"][0]["path"]), ["peer-5", "peer-4", "peer-3", "peer-2"]);
    let dot = mesh.0.path("mesh.dot");
    let graph = mesh.ok(&["graph", "-o", dot.to_str().unwrap(), "--path", "peer-5", "peer-1"]);
    assert_eq!((&graph["live"], &graph["dead"]), (&true.into(), &serde_json::json!([])));
    assert!(std::fs::read_to_string(&dot).unwrap().contains("peer-5"));

    let junit = mesh.0.path("report.xml");
    let report = mesh.ok(&["verify", "--junit", junit.to_str().unwrap()]);
    assert_eq!((report["passed"].as_bool(), report["max_hops"].as_u64()), (Some(true), Some(4)), "{report}");
    assert!(std::fs::read_to_string(&junit).unwrap().contains("<testsuite"));
    assert!(!mesh.ok(&["logs", "signalling"])["lines"].as_array().unwrap().is_empty());
    let one = song().join("64k/3.ts");
    for (unknown, arguments) in [
        ("peer-999", &["logs", "peer-999"][..]),
        ("nosuch", &["ingest", one.to_str().unwrap(), "--room", "nosuch"]),
        ("peer-999", &["fetch", "demo", "--via", "peer-999", "-o", "x"]),
    ] {
        let run = mesh.0.run(arguments);
        assert!(run.code == 2 && run.stderr.contains(unknown), "{arguments:?}: {} {}", run.code, run.stderr);
    }

    // Again: nothing differs. With a changed file: only what differs.
    let again = mesh.ok(&["up", "--detach"]);
    for list in ["started", "restarted", "reloaded", "stopped", "songs"] {
        assert_eq!(again["changes"][list], serde_json::json!([]), "{list}");
    }
    std::fs::write(mesh.0.path("topology.toml"), topology(1, 6, &song())).unwrap();
    let changed = mesh.ok(&["up", "--detach"]);
    assert_eq!(names(&changed["changes"]["started"]), ["peer-6"]);
    assert_eq!(names(&changed["changes"]["restarted"]), [""; 0]);
    assert_eq!(mesh.ok(&["path", "peer-6", "peer-1"])["rooms"][0]["hops"], 5);

    // Removed and stored again, as a folder of another name.
    mesh.ok(&["rm", "demo"]);
    assert_eq!(mesh.ok(&["songs"])["songs"], serde_json::json!([]));
    assert_eq!(mesh.0.run(&["rm", "demo"]).code, 1);
    let stored = mesh.ok(&["ingest", song().to_str().unwrap(), "--as", "other", "--room", "rock"]);
    assert_eq!((stored["result"].as_str(), stored["segments"].as_u64()), (Some("stored"), Some(18)));
    let again = mesh.ok(&["ingest", song().to_str().unwrap(), "--as", "other"]);
    assert_eq!(again["result"], "unchanged");

    let down = mesh.ok(&["down"]);
    assert!(names(&down["stopped"]).contains(&"peer-1"), "{down}");
    assert_eq!(mesh.status().0, 69);
    assert_eq!(mesh.processes(), [""; 0]);
    mesh.ok(&["down", "--purge"]);
    assert!(!mesh.0.path("state/e2e-1").exists());
}

#[test]
fn a_killed_peer_is_reported_and_healed() {
    let mesh = Mesh::new(2);
    mesh.ok(&["up", "--detach"]);
    let (_, status) = mesh.status();
    let node = status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "peer-3").unwrap();
    kill(node["pid"].as_u64().unwrap(), "KILL");
    Mesh::eventually("status reports the dead peer", || {
        let (code, status) = mesh.status();
        let node = status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "peer-3").unwrap();
        code == 1 && node["state"] == "dead"
    });
    let run = mesh.0.run(&["path", "peer-5", "peer-1", "--json"]);
    assert_eq!(run.code, 1, "the line is cut: {}", run.stdout);
    assert!(!json(&run)["rooms"][0]["reason"].as_str().unwrap().is_empty());
    assert_eq!(mesh.0.run(&["verify", "--json"]).code, 1);
    let healed = mesh.ok(&["up", "--detach"]);
    assert_eq!(names(&healed["changes"]["started"]), ["peer-3"]);
    assert_eq!(mesh.status().0, 0);
}

#[test]
fn nothing_survives_the_end_of_up() {
    let mesh = Mesh::new(3);
    // Interrupted when ready, asked to end when ready, killed when ready, and interrupted in the middle of the start.
    for (signal, ready, code) in
        [("INT", true, Some(130)), ("TERM", true, Some(143)), ("KILL", true, None), ("INT", false, Some(130))]
    {
        let mut up =
            mesh.0.command(&["up", "--json"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        if ready {
            Mesh::eventually("ready", || mesh.status().0 == 0);
        } else {
            Mesh::eventually("started", || mesh.processes().len() > 1);
        }
        kill(up.id().into(), signal);
        let ended = up.wait().unwrap();
        assert_eq!(ended.code(), code, "{signal}");
        if code.is_some() {
            assert_eq!(mesh.processes(), [""; 0], "{signal}, ready: {ready}");
        }
        Mesh::eventually("all processes are gone", || mesh.processes().is_empty());
    }
}

/// Servers, meshes and files of a bench that is asked to end in the middle go with it.
#[test]
fn nothing_survives_the_end_of_a_bench() {
    for (bench, begun, signal, code) in [
        (["signalling", "--peers", "160"], "hopcast-signalling", "TERM", 143),
        (["play", "--hops", "2"], "hopcast-peer", "INT", 130),
        (["signalling", "--peers", "160"], "hopcast-signalling", "HUP", 129),
    ] {
        let place = Hopcast::new();
        let temporary = place.path("tmp");
        std::fs::create_dir(&temporary).unwrap();
        // A server is known by what it was given, a mesh's processes by their files.
        let processes = || processes(&temporary, &["cmdline", "environ"]);
        let mut command = place.command(&["bench"]);
        command.args(bench).env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(Stdio::piped());
        let bench = command.spawn().unwrap();
        Mesh::eventually("begun", || processes().iter().any(|command| command.contains(begun)));
        kill(bench.id().into(), signal);
        let run = bench.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(code), "{said}");
        assert!(said.contains("interrupted"), "{said}");
        assert_eq!(processes(), [""; 0]);
        let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Where a bench does not come to heed the first signal: a server that has stopped keeps it waiting.
#[test]
fn no_server_survives_the_second_signal_to_a_bench() {
    let place = Hopcast::new();
    let temporary = place.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let processes = || processes(&temporary, &["environ"]);
    let mut command = place.command(&["bench", "signalling", "--peers", "160"]);
    command.env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(Stdio::null());
    let mut bench = command.spawn().unwrap();
    // A child of whichever thread started it.
    let server = || {
        let threads = std::fs::read_dir(format!("/proc/{}/task", bench.id())).unwrap().filter_map(Result::ok);
        let children =
            threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        let id = children.collect::<String>().split_whitespace().next().map(|id| id.parse().unwrap());
        id.expect("the bench has no child")
    };
    Mesh::eventually("begun", || processes().iter().any(|command| command.contains("hopcast-signalling")));
    kill(server(), "STOP");
    // A signal that comes while another one waits is lost: one is sent after the other until it ends.
    Mesh::eventually("ended", || {
        kill(bench.id().into(), "TERM");
        bench.try_wait().unwrap().is_some_and(|status| status.code() == Some(143))
    });
    Mesh::eventually("no server is there", || processes().is_empty());
}

#[test]
fn a_taken_address_is_named_before_anything_starts() {
    let mesh = Mesh::new(4);
    let _held = std::net::TcpListener::bind("127.82.4.4:8080").unwrap();
    let run: Run = mesh.0.run(&["up", "--detach", "--json"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("127.82.4.4:8080") && run.stderr.contains("peer-4"), "{}", run.stderr);
    assert_eq!(mesh.processes(), [""; 0]);
    let run = mesh.0.run(&["doctor", "--json"]);
    assert!(run.code == 1 && run.stdout.contains("127.82.4.4:8080"), "{}", run.stdout);
}

fn kill(pid: u64, signal: &str) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let signal = match signal {
        "INT" => rustix::process::Signal::INT,
        "TERM" => rustix::process::Signal::TERM,
        "HUP" => rustix::process::Signal::HUP,
        "STOP" => rustix::process::Signal::STOP,
        _ => rustix::process::Signal::KILL,
    };
    rustix::process::kill_process(pid, signal).unwrap();
}
