//! The real programs: `hopcast-peer`, and `hopcast-signalling` from beside it.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use hopcast_protocol::{
    PeerConfig, RoomName, SignallingConfig,
    config::{CONFIG_VERSION, RoomConfig},
    limits::{EXIT_CONFIG, EXIT_REPLACED, EXIT_UNAVAILABLE},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{Mesh, http, name, room, until};

const PEER: &str = env!("CARGO_BIN_EXE_hopcast-peer");

/// A process of ours; it ends with the test.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let output = std::fs::File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")), log }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        until("the program ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signalling() -> PathBuf {
    let program = Path::new(PEER).with_file_name("hopcast-signalling");
    assert!(
        program.exists(),
        "{} is missing: run `cargo build -p hopcast-signalling` first",
        program.display()
    );
    program
}

fn write(folder: &TempDir, file: &str, value: &impl serde::Serialize) -> PathBuf {
    let path = folder.path().join(file);
    std::fs::write(&path, serde_json::to_vec(value).unwrap()).unwrap();
    path
}

/// A mesh whose signalling is the real program, closed, with tokens.
struct Real {
    mesh: Mesh,
    folder: TempDir,
    server: Program,
}

impl Real {
    fn new(mut mesh: Mesh, net: u8, gateways: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rock: RoomName = room("rock");
        let address = format!("127.78.{net}.251:7080");
        let tokens = mesh.secret.token_key();
        let mut links = vec![];
        for config in mesh.configs.values_mut() {
            config.signal_url = format!("ws://{address}/ws");
            config.rooms[0].token = Some(tokens.token(&config.name, &rock));
            let ends = config.neighbors.iter().map(|neighbor| (config.name.clone(), neighbor.name.clone()));
            links.extend(ends.filter(|(a, b)| a < b));
        }
        let config = SignallingConfig {
            version: CONFIG_VERSION,
            mesh: hopcast_protocol::MeshName::new("test").unwrap(),
            listen: address.parse().unwrap(),
            token_key: Some(tokens),
            rooms: vec![RoomConfig {
                name: rock,
                peers: mesh.configs.values().map(|config| config.name.clone()).collect(),
                links,
            }],
            gateways: gateways.iter().map(|&number| name(number)).collect(),
            door: None,
        };
        let file = write(&folder, "signalling.json", &config);
        let log = folder.path().join("signalling.log");
        let server = Program::start(Command::new(signalling()).arg("--config").arg(file), log);
        Self { mesh, folder, server }
    }

    fn peer(&self, number: u8) -> Program {
        let config = &self.mesh.configs[&number];
        let file = write(&self.folder, &format!("{}.json", config.name), config);
        let log = self.folder.path().join(format!("{}.log", config.name));
        Program::start(Command::new(PEER).arg("--config").arg(file), log)
    }

    fn connected(&self, numbers: &[u8]) {
        for &number in numbers {
            until(&format!("peer-{number} is connected"), || {
                std::net::TcpStream::connect(self.mesh.address(number)).is_ok()
                    && self.mesh.metric(number, "hopcast_signal_connected{room=\"rock\"}") > 0.5
            });
        }
    }
}

/// Bytes of heap and stacks of a process that are its own and in memory.
fn heap(pid: u32) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut own = 0;
    let mut counts = false;
    for line in smaps.lines() {
        if line.contains('-') && line.split(' ').count() > 4 {
            // The heap and whatever else malloc and the thread stacks map.
            counts = line.ends_with("[heap]") || line.split_whitespace().count() == 5;
        } else if let (true, Some(kib)) = (counts, line.strip_prefix("Private_Dirty:")) {
            own += kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
        }
    }
    own
}

#[test]
fn a_song_over_three_processes_in_little_memory() {
    let mesh = Mesh::with_song(70, &[(1, 2), (2, 3), (3, 4)], &[1], 60, 100_000);
    let mut real = Real::new(mesh, 70, &[1]);
    real.mesh.start(1);
    let programs: Vec<_> = (2..=4).map(|number| real.peer(number)).collect();
    real.connected(&[1, 2, 3, 4]);
    for sequence in 0..60 {
        let segment = real.mesh.segment(4, sequence);
        assert_eq!((segment.status, &segment.body), (200, &real.mesh.song.segments[sequence]), "{sequence}");
        if sequence == 0 {
            assert_eq!(segment.via(), ["peer-1", "peer-2", "peer-3", "peer-4"]);
        }
    }
    for (number, program) in (2..=4).zip(&programs) {
        // What a burst took goes back a second later (`memory` has the test of how much that is).
        until(&format!("peer-{number} gives memory back"), || {
            real.mesh.metric(number, "hopcast_memory_trims_total") > 0.5
        });
        until(&format!("peer-{number} is small"), || {
            let cache = real.mesh.metric(number, "hopcast_cache_bytes") as u64;
            heap(program.child.id()) <= (1 << 20) + cache
        });
    }
    let cache = real.mesh.metric(4, "hopcast_cache_bytes");
    assert!(cache > 3_000_000.0 && cache <= f64::from(4 << 20), "{cache}");

    real.server.signal(Signal::TERM);
    assert!(real.server.ended().success(), "{}", real.server.log());
}

#[test]
fn eight_stalled_readers_fit_into_six_mebibytes() {
    let mut mesh = Mesh::with_song(76, &[(1, 2), (2, 3)], &[1], 2, 1_000_000);
    mesh.small_buffers(2);
    let mut real = Real::new(mesh, 76, &[1]);
    real.mesh.start(1);
    let relay = real.peer(2);
    real.mesh.start(3);
    real.connected(&[1, 2, 3]);
    let first = real.mesh.segment(3, 0);
    assert_eq!(first.via(), ["peer-1", "peer-2", "peer-3"]);
    let sha256 = hopcast_protocol::ContentId::Blob(real.mesh.song.sha256(1));
    let path = format!("/relay/{}/{}", first.header("hopcast-route"), sha256.path());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let key = real.mesh.secret.link_key(&name(2), &name(3));
    let auth = hopcast_protocol::RelayAuth::sign(&key, "GET", &path, "", &name(3), now);
    let stalled: Vec<_> = (0..8)
        .map(|_| {
            let to = real.mesh.address(2);
            let mut reader = http::open(to, "GET", &path, &[("Authorization", &auth)]);
            assert_eq!(http::head(&mut reader).0, 200);
            reader
        })
        .collect();
    // Until nothing moves any more: all buffers are full then.
    let mut before = -1.0;
    until("everything stands still", || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let sent = real.mesh.metric(2, "hopcast_relay_bytes_total{role=\"relay\"}");
        sent > 1_000_000.0 && (sent - std::mem::replace(&mut before, sent)).abs() < 0.5
    });
    assert!((real.mesh.metric(2, "hopcast_relay_transfers") - 8.0).abs() < 0.1);
    // Two full buffers of 128 KiB for each transfer (what came from the holder, what goes to the reader), and the process.
    let sockets = 8 * 2 * (128 << 10);
    let own = heap(relay.child.id());
    assert!(own + sockets <= 6 << 20, "{own} bytes of its own");
    drop(stalled);
}

#[test]
fn a_second_process_under_the_same_name_replaces_the_first() {
    let mesh = Mesh::new(71, &[(1, 2), (2, 3)], &[1]);
    let mut real = Real::new(mesh, 71, &[1]);
    let mut first = real.peer(2);
    real.connected(&[2]);
    let moved = "127.78.71.102:8080".parse().unwrap();
    real.mesh.config(2).listen = moved;
    let mut second = real.peer(2);
    assert_eq!(first.ended().code(), Some(EXIT_REPLACED), "{}", first.log());
    until("the second is connected", || second.log().contains("signalling connected"));
    second.signal(Signal::TERM);
    assert_eq!(second.ended().code(), Some(0), "{}", second.log());
}

#[test]
fn a_wrong_configuration_ends_with_64_and_says_everything() {
    let mut mesh = Mesh::new(72, &[(1, 2)], &[]);
    let folder = tempfile::tempdir().unwrap();
    let run = |config: &PeerConfig| {
        let file = write(&folder, "peer.json", config);
        let mut program =
            Program::start(Command::new(PEER).arg("--config").arg(file), folder.path().join("peer.log"));
        (program.ended().code(), program.log())
    };
    let mut config = mesh.config(1).clone();
    config.version = 9;
    config.signal_url = "http://nowhere".to_owned();
    config.neighbors[0].name = config.name.clone();
    config.neighbors[0].endpoint = "nowhere".to_owned();
    let (code, log) = run(&config);
    assert_eq!(code, Some(EXIT_CONFIG));
    for part in ["version 9", "ws://", "its own neighbour", "not host:port"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let mut nothing = Program::start(Command::new(PEER).env_clear(), folder.path().join("none.log"));
    assert_eq!(nothing.ended().code(), Some(EXIT_CONFIG));
    assert!(nothing.log().contains("neither --config nor PEER_NAME"), "{}", nothing.log());

    let address = mesh.address(1);
    let _taken = TcpListener::bind(address).unwrap();
    let (code, log) = run(&mesh.config(1).clone());
    assert_eq!(code, Some(EXIT_UNAVAILABLE), "{log}");
    assert!(log.contains(&format!("failed to listen on {address}")), "{log}");
}

#[test]
fn sighup_rereads_the_file_and_a_bad_file_keeps_the_old() {
    let mut mesh = Mesh::new(73, &[(1, 2), (2, 3)], &[]);
    mesh.config(1);
    let mut real = Real::new(mesh, 73, &[]);
    let program = real.peer(2);
    real.connected(&[2]);
    assert_eq!(real.mesh.play(2, "/peers").text(), "peer-1\npeer-3\n");
    let file = real.folder.path().join("peer-2.json");
    std::fs::write(&file, "{").unwrap();
    program.signal(Signal::HUP);
    until("the bad file is refused", || program.log().contains("the old configuration stays"));
    assert_eq!(real.mesh.play(2, "/peers").text(), "peer-1\npeer-3\n");
    real.mesh.unlink(2, 3);
    write(&real.folder, "peer-2.json", &real.mesh.configs[&2]);
    program.signal(Signal::HUP);
    until("the new file is taken", || real.mesh.play(2, "/peers").text() == "peer-1\n");
    assert!(real.mesh.metric(2, "hopcast_config_reloads_total") > 0.5);
}

#[test]
fn a_peer_started_by_hand_announces_itself_to_an_open_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Program::start(
        Command::new(signalling()).env("SIGNAL_ADDR", "127.78.74.250:7080"),
        folder.path().join("signalling.log"),
    );
    let mut peer = Program::start(
        Command::new(PEER)
            .env("PEER_NAME", "solo-1")
            .env("PEER_PORT", "18474")
            .env("PEER_NEIGHBORS", "solo-2,solo-5=127.78.74.5:18474")
            .env("SIGNAL_URL", "ws://127.78.74.250:7080/ws")
            .env("PEER_ROOM", "rock,soul"),
        folder.path().join("peer.log"),
    );
    let get = |to: &str, path: &str| crate::support::http::get(to.parse().unwrap(), path, &[]);
    until("both rooms know it", || {
        let listening = std::net::TcpStream::connect("127.78.74.250:7080").is_ok();
        listening
            && ["rock", "soul"].iter().all(|room| {
                let graph = get("127.78.74.250:7080", &format!("/api/graph?room={room}"));
                graph.status == 200 && graph.text().contains("solo-5")
            })
    });
    assert_eq!(get("127.0.0.1:18474", "/health").text(), "solo-1: ok");
    assert_eq!(get("127.0.0.1:18474", "/peers").text(), "solo-2\nsolo-5\n");
    assert_eq!(get("127.0.0.1:18474", "/hls/demo/master.m3u8").status, 404, "it has no manifest key");
    assert_eq!(get("127.0.0.1:18474", "/relay/e-1/manifest/demo").status, 403, "it has no link keys");
    peer.signal(Signal::INT);
    assert_eq!(peer.ended().code(), Some(0), "{}", peer.log());
    drop(server);
}

#[test]
fn a_restarted_server_finds_everything_again() {
    let mesh = Mesh::new(75, &[(1, 2), (2, 3)], &[1]);
    let mut real = Real::new(mesh, 75, &[1]);
    real.mesh.start(1);
    let _programs: Vec<_> = (2..=3).map(|number| real.peer(number)).collect();
    real.connected(&[1, 2, 3]);
    assert_eq!(real.mesh.segment(3, 0).via(), ["peer-1", "peer-2", "peer-3"]);
    real.server.child.kill().unwrap();
    real.server.ended();
    until("the loss is noticed", || real.mesh.metric(3, "hopcast_signal_connected{room=\"rock\"}") < 0.5);
    assert_eq!(real.mesh.segment(3, 1).via(), ["peer-1", "peer-2", "peer-3"], "over the standing route");
    let file = real.folder.path().join("signalling.json");
    let log = real.folder.path().join("again.log");
    real.server = Program::start(Command::new(signalling()).arg("--config").arg(file), log);
    real.connected(&[1, 2, 3]);
    // peer-3 holds it and says so again: without the gateway that is the only way.
    assert_eq!(real.mesh.play(2, "/hls/demo/master.m3u8").status, 200);
    real.mesh.kill(1);
    let segment = real.mesh.segment(2, 1);
    assert_eq!((segment.status, segment.via()), (200, vec!["peer-3".to_owned(), "peer-2".to_owned()]));
}
