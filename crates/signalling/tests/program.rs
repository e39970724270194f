//! The `hopcast-signalling` program itself: files, variables, signals, exit codes.

mod support;

use std::{net::SocketAddr, path::Path, process::Stdio};

use hopcast_protocol::{MeshSecret, SignallingConfig};
use hyper::StatusCode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Client, config, request, room, soon, until};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

const LISTENING: &str = "listening on ";

/// A hard limit of open files that the program cannot raise.
fn command_with_files(files: u32, arguments: &[&str]) -> Command {
    let program = env!("CARGO_BIN_EXE_hopcast-signalling");
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -n {files} && exec \"$@\"")).arg("sh").arg(program).args(arguments);
    limited
        .env("SIGNAL_ADDR", "127.0.0.1:0")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .stdin(Stdio::null());
    limited.kill_on_drop(true);
    limited
}

#[tokio::test]
async fn few_open_files_are_said_and_too_few_end_it() {
    let output = soon("the program ends", command_with_files(64, &[]).output()).await.unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{log}");
    assert!(log.contains("the hard limit of open files is 64") && log.contains("ulimit -Hn"), "{log}");

    let mut child = command_with_files(66, &[]).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut program = Program { child, log, address: ([127, 0, 0, 1], 0).into() };
    program.logged("at most 2 clients at a time").await;
    let listening = program.logged(LISTENING).await;
    program.address = listening.split_once(LISTENING).unwrap().1.parse().unwrap();
    let clients = [program.hopcast("a", "rock").await, program.hopcast("b", "rock").await];
    let third = Client::join(program.address, "c", "rock", &[]).await;
    assert!(third.is_err(), "there is no place for it");
    drop(clients);
}

struct Program {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    address: SocketAddr,
}

fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hopcast-signalling"));
    for (name, _) in hopcast_topology::VARIABLES {
        command.env_remove(name);
    }
    command.env_remove("SIGNAL_LIVENESS").args(arguments).envs(variables.iter().copied());
    command.stderr(Stdio::piped()).stdout(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs it to its end: exit code and log.
async fn ended(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String) {
    let output = soon("the program ends", command(arguments, variables).output()).await.unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

impl Program {
    async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = command(arguments, variables).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut before = String::new();
        loop {
            let line = soon("a line", log.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended: {before}"));
            if let Some((_, address)) = line.split_once(LISTENING) {
                return Self { child, log, address: address.parse().unwrap() };
            }
            before.push_str(&line);
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    async fn logged(&mut self, text: &str) -> String {
        loop {
            let line = soon("a line", self.log.next_line()).await.unwrap().expect("it still runs");
            if line.contains(text) {
                return line;
            }
        }
    }

    async fn get(&self, path: &str) -> Value {
        let (status, text) = request(self.address, "GET", path, &[]).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn hopcast(&self, peer: &str, room: &str) -> Client {
        Client::join(self.address, peer, room, &[("sec-websocket-protocol", "hopcast.1")]).await.unwrap()
    }

    async fn exit(mut self) -> i32 {
        soon("the program ends", self.child.wait()).await.unwrap().code().unwrap()
    }
}

fn write(path: &Path, config: &SignallingConfig) {
    std::fs::write(path, serde_json::to_vec(config).unwrap()).unwrap();
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn alone_it_takes_the_originals_form_of_an_address() {
    let address = format!(":{}", free_port());
    let program = Program::start(&[], &[("SIGNAL_ADDR", &address)]).await;
    assert!(program.address.ip().is_unspecified() && format!(":{}", program.address.port()) == address);
    let local = SocketAddr::from(([127, 0, 0, 1], program.address.port()));
    let mut a = Client::join(local, "peer-1", "rock", &[]).await.unwrap();
    assert_eq!(a.ask("peer-1").await, json!({"type": "path", "path": ["peer-1"]}));
    program.signal(Signal::INT);
    assert_eq!(a.closed().await, 1001);
    drop(a);
    assert_eq!(program.exit().await, 0);
}

#[tokio::test]
async fn signal_liveness_is_read_from_the_environment() {
    let variables = [("SIGNAL_ADDR", "127.0.0.1:0"), ("SIGNAL_LIVENESS", "announced")];
    let program = Program::start(&[], &variables).await;
    let mut a = Client::join(program.address, "a", "rock", &[]).await.unwrap();
    a.announce("a", "rock", &["ghost"]).await;
    assert_eq!(a.ask("ghost").await["path"], json!(["a", "ghost"]));
}

#[tokio::test]
async fn all_that_is_wrong_is_said_before_anything_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("signalling.json");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(vec![
        room("rock", &["a", "b", "b"], &[("a", "a"), ("a", "z"), ("a", "b"), ("b", "a")]),
        room("rock", &["a"], &[]),
    ]);
    config.listen = taken.local_addr().unwrap();
    config.version = 9;
    config.gateways = vec!["stranger".parse().unwrap()];
    write(&file, &config);
    let (code, log) = ended(&["--config", file.to_str().unwrap()], &[]).await;
    assert_eq!(code, 64, "{log}");
    for problem in [
        "version 9 is not known",
        "lists peer `b` twice",
        "links peer `a` to itself",
        "links `z`, which is not one of its peers",
        "has the link b - a twice",
        "room `rock` is there twice",
        "gateway `stranger` is in no room",
    ] {
        let line = log.lines().find(|line| line.contains(problem));
        let line = line.unwrap_or_else(|| panic!("{problem} is missing in:\n{log}"));
        assert!(line.contains("signalling.json: "), "{line}");
    }
    std::fs::write(&file, "{\"version\":1,\"mash\":\"x\"}").unwrap();
    let (code, log) = ended(&["--config", file.to_str().unwrap()], &[]).await;
    assert!(code == 64 && log.contains("unknown field `mash`"), "{code} {log}");
    let (code, log) = ended(&["--config", "/does/not/exist"], &[]).await;
    assert!(code == 64 && log.contains("/does/not/exist: cannot be read"), "{code} {log}");
    for (arguments, variables, sentence) in [
        (vec!["--listen", "7080"], vec![], "write HOST:PORT, or :PORT"),
        (vec![], vec![("SIGNAL_ADDR", "bla")], "SIGNAL_ADDR: `bla` is not an address"),
        (vec![], vec![("SIGNAL_LIVENESS", "dead")], "SIGNAL_LIVENESS: `dead` is not a liveness"),
        (vec!["--dance"], vec![], "--dance"),
        (vec!["--config", "x", "--topology", "y"], vec![], "cannot be used with"),
    ] {
        let (code, log) = ended(&arguments, &variables).await;
        assert!(code == 64 && log.contains(sentence), "{arguments:?} {variables:?}: {code} {log}");
    }
}

#[tokio::test]
async fn a_taken_address_names_who_holds_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, log) = ended(&["--listen", &address], &[]).await;
    assert_eq!(code, 69, "{log}");
    assert!(log.contains(&format!("{address} is taken by program-")), "{log}");
    assert!(log.contains(&format!("(process {})", std::process::id())), "{log}");
}

#[tokio::test]
async fn a_topology_file_gives_rooms_and_links_and_needs_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("topology.toml");
    let text = "[peers]\ncount = 6\nlinks = { shape = \"ring\" }\n[[rooms]]\nname = \"rock\"\npeers = [\"*\"]\n\
        [[edges]]\nname = \"edge-db-a\"\nnetwork = \"edge-a-net\"\npeers = [\"peer-1\"]\n";
    std::fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let variables = [("SIGNAL_ADDR", "127.0.0.1:0"), ("PREFIX", "node"), ("COUNT", "5")];
    let program = Program::start(&["--topology", path], &variables).await;
    let rooms = program.get("/api/rooms").await;
    assert_eq!((&rooms["rooms"][0]["peers"], &rooms["rooms"][0]["links"]), (&json!(5), &json!(5)), "{rooms}");
    let (mut one, _two) = (program.hopcast("node-1", "rock").await, program.hopcast("node-2", "rock").await);
    assert_eq!(one.ask("node-2").await["path"], json!(["node-1", "node-2"]));
    one.announce("node-1", "rock", &["node-3"]).await;
    assert_eq!(one.message().await["code"], "not_a_link");
    assert!(Client::join(program.address, "peer-1", "rock", &[]).await.is_err());

    std::fs::write(&file, text.replace("count", "cuont")).unwrap();
    let (code, log) = ended(&["--topology", path], &[]).await;
    assert!(code == 64 && log.contains("did you mean `count`?"), "{code} {log}");
}

#[tokio::test]
async fn hangup_rereads_the_file_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("signalling.json");
    let key = MeshSecret([7; 32]).token_key();
    let mut config = config(vec![
        room("rock", &["a", "b", "c", "d"], &[("a", "b"), ("b", "c"), ("c", "d")]),
        room("soul", &["a"], &[]),
    ]);
    write(&file, &config);
    let mut program = Program::start(&["--config", file.to_str().unwrap()], &[]).await;
    let mut a = program.hopcast("a", "rock").await;
    let mut b = program.hopcast("b", "rock").await;
    let mut c = program.hopcast("c", "rock").await;
    let mut d = program.hopcast("d", "rock").await;
    let mut soul = program.hopcast("a", "soul").await;
    let over = a.ask("c").await["route"].clone();
    let beside = c.ask("d").await["route"].clone();

    std::fs::write(&file, "{").unwrap();
    program.signal(Signal::HUP);
    program.logged("the configuration stays as it was").await;
    assert_eq!(a.ask("c").await["route"], over);

    // The link b - c goes, d leaves the room, soul is no more, and there are tokens now.
    config.rooms = vec![room("rock", &["a", "b", "c"], &[("a", "b"), ("a", "c")])];
    config.token_key = Some(key.clone());
    write(&file, &config);
    program.signal(Signal::HUP);
    for client in [&mut a, &mut b] {
        assert_eq!(client.next("route_down").await["route"], over);
    }
    let mut ended =
        vec![c.next("route_down").await["route"].clone(), c.next("route_down").await["route"].clone()];
    ended.sort_by_key(|route| route == &beside);
    assert_eq!(ended, [over, beside]);
    assert_eq!(d.closed().await, 1008);
    assert_eq!(soul.closed().await, 1008);
    assert_eq!(a.ask("c").await["path"], json!(["a", "c"]));
    assert!(Client::join(program.address, "a", "rock", &[]).await.is_err(), "no token");
    let bearer = format!("Bearer {}", key.token(&"a".parse().unwrap(), &"rock".parse().unwrap()));
    Client::join(program.address, "a", "rock", &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(program.get("/api/rooms").await["rooms"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn terminated_it_drains_and_a_new_start_has_a_new_epoch() {
    let variables = [("SIGNAL_ADDR", "127.0.0.1:0")];
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let program = Program::start(&[], &variables).await;
        let mut a = program.hopcast("a", "rock").await;
        let route = a.ask("a").await["route"].as_str().unwrap().to_owned();
        epochs.push(route.split_once('-').unwrap().0.to_owned());
        let mut events = support::send(program.address, "GET", "/api/events", &[]).await.into_body();
        let address = program.address;
        a.send(&json!({"type": "request_path", "target": "nobody"})).await;
        program.signal(Signal::TERM);
        // What was asked before is answered, then the connection is closed; readers of events end, too.
        assert_eq!(a.closed().await, 1001);
        soon("the events end", async {
            while let Some(Ok(_)) = http_body_util::BodyExt::frame(&mut events).await {}
        })
        .await;
        drop(a);
        assert_eq!(program.exit().await, 0);
        until("nobody listens", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    }
    assert_ne!(epochs[0], epochs[1]);
}

#[tokio::test]
async fn a_client_that_does_not_close_does_not_hold_up_the_end() {
    let program = Program::start(&[], &[("SIGNAL_ADDR", "127.0.0.1:0")]).await;
    let a = program.hopcast("a", "rock").await; // never reads the close frame
    program.signal(Signal::TERM);
    assert_eq!(program.exit().await, 0);
    drop(a);
}
