//! The command line itself: help, exit codes, the JSON line, errors with positions. Nothing is started.

mod common;

use common::{Hopcast, Run, json};

/// A file of 5 peers and one edge, that nothing is wrong with.
const SMALL: &str = r#"
[mesh]
name = "small"

[peers]
count = 5
links = { shape = "ring" }

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

[local]
network = "127.82.0.0/24"
"#;

#[test]
fn help_lists_every_command_that_is_built_and_the_exit_codes() {
    let run = Hopcast::new().run(&["--help"]);
    assert_eq!(run.code, 0);
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn every_command_has_help_of_its_own() {
    let help = Hopcast::new().run(&["--help"]).stdout;
    let commands = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next());
    let mut text = String::new();
    for command in commands {
        let run = Hopcast::new().run(&[command, "--help"]);
        assert_eq!(run.code, 0, "{command}");
        text.push_str(&format!("=== {command}\n{}\n", run.stdout));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_wrong_command_line_ends_with_2_and_an_object() {
    let run = Hopcast::new().run(&["plan", "--nonsense", "--json"]);
    assert_eq!(run.code, 2);
    assert_eq!(json(&run)["error"]["code"], 2);
    assert!(run.stderr.contains("--nonsense"));
}

#[test]
fn without_a_file_it_says_where_it_looked_and_what_to_do() {
    let run = Hopcast::new().run(&["plan", "--json"]);
    assert_eq!(run.code, 66);
    assert!(run.stderr.contains("hopcast init"), "{}", run.stderr);
    assert_eq!(json(&run)["error"]["code"], 66);
}

#[test]
fn a_file_that_is_there_and_no_text_is_wrong_and_not_missing() {
    let hopcast = Hopcast::new();
    std::fs::write(hopcast.path("topology.toml"), b"# caf\xe9\n").unwrap();
    let run = hopcast.run(&["check", "--json"]);
    assert!(run.code == 64 && run.stderr.contains("line 1 is not UTF-8"), "{}: {}", run.code, run.stderr);
}

#[test]
fn what_is_no_file_is_not_ingested() {
    let run = Hopcast::new().file("topology.toml", SMALL).run(&["ingest", "/dev/zero"]);
    assert!(
        run.code == 66 && run.stderr.contains("cannot read /dev/zero: it is a pipe, a socket or a device"),
        "{}",
        run.stderr
    );
}

#[test]
fn what_changes_a_mesh_does_not_guess_which() {
    let hopcast = Hopcast::new().file("song.ts", "x");
    // The only mesh that this state root knows.
    std::fs::create_dir_all(hopcast.path("state/small")).unwrap();
    std::fs::write(hopcast.path("state/small/secret"), "kept").unwrap();
    for arguments in [&["down", "--purge"][..], &["down"], &["rm", "demo"], &["ingest", "song.ts"]] {
        let run = hopcast.run(arguments);
        assert!(run.code == 66 && run.stderr.contains("which mesh?"), "{arguments:?}: {}", run.stderr);
    }
    assert!(hopcast.path("state/small/secret").exists());
    assert_eq!(hopcast.run(&["status"]).code, 69, "who only looks may guess");
    assert_eq!(hopcast.run(&["down", "--purge", "--name", "small"]).code, 0);
    assert!(!hopcast.path("state/small").exists());
}

#[test]
fn a_file_that_is_a_pipe_is_read_once() {
    use std::io::Write as _;
    // Each of these looks at the file for the mesh's name, and again for what runs it.
    for (arguments, code) in
        [(&["down"][..], 0), (&["status"], 69), (&["rm", "demo"], 69), (&["path", "peer-1", "peer-3"], 0)]
    {
        let hopcast = Hopcast::new();
        let mut child = hopcast
            .command(arguments)
            .args(["--file", "/dev/stdin"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(SMALL.as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
    }
}

#[test]
fn the_nearest_file_above_is_taken() {
    let hopcast = Hopcast::new().file("topology.toml", SMALL);
    std::fs::create_dir(hopcast.path("deep")).unwrap();
    let run = hopcast.command(&["check", "--json"]).current_dir(hopcast.path("deep")).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn the_file_that_init_writes_is_right_and_is_not_written_over() {
    let hopcast = Hopcast::new();
    assert_eq!(hopcast.run(&["init"]).code, 0);
    let run = hopcast.run(&["check", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(hopcast.run(&["init"]).code, 73);
    assert_eq!(hopcast.run(&["init", "--force"]).code, 0);
}

#[test]
fn ten_mistakes_are_ten_errors_with_positions() {
    let hopcast = Hopcast::new().file("topology.toml", include_str!("ten-mistakes.toml"));
    let run = hopcast.run(&["check", "--json"]);
    assert_eq!(run.code, 64);
    let object = json(&run);
    let errors = object["errors"].as_array().unwrap();
    let found: Vec<_> = errors.iter().filter(|error| error["severity"] == "error").collect();
    assert_eq!(found.len(), 10, "{}", run.stderr);
    for error in found {
        assert!(error["line"].as_u64().unwrap() > 1, "{error}");
        assert!(error["column"].as_u64().unwrap() >= 1, "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty(), "{error}");
    }
    insta::assert_snapshot!(run.stderr);
}

#[test]
fn plan_is_for_people_or_for_programs() {
    let hopcast = Hopcast::new().file("topology.toml", SMALL);
    let run = hopcast.run(&["plan"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(run.stdout);
    let plan = json(&hopcast.run(&["plan", "--json"]));
    assert_eq!((plan["version"].as_u64(), plan["mesh"].as_str()), (Some(1), Some("small")));
    assert_eq!(plan["peers"].as_array().unwrap().len(), 5);
}

#[test]
fn analysis_names_what_a_single_failure_would_cut_off() {
    let line = SMALL.replace("shape = \"ring\"", "shape = \"none\"")
        + r#"
[[links]]
between = ["peer-1", "peer-2"]
[[links]]
between = ["peer-2", "peer-3"]
[[links]]
between = ["peer-3", "peer-4"]
[[links]]
between = ["peer-4", "peer-5"]
"#;
    let hopcast = Hopcast::new().file("topology.toml", &line);
    let run = hopcast.run(&["check", "--analyse"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn the_originals_variables_count() {
    let hopcast = Hopcast::new().file("topology.toml", SMALL);
    let run = hopcast.command(&["plan", "--json"]).env("COUNT", "4").env("PREFIX", "node").output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(plan["peers"].as_array().unwrap().len(), 4);
    assert_eq!(plan["peers"][3]["name"], "node-4");
}

#[test]
fn a_path_of_the_plan_is_explained_room_by_room() {
    let hopcast = Hopcast::new().file("topology.toml", &SMALL.replace("[\"*\"]", "[\"peer-1..peer-5\"]"));
    let run = hopcast.run(&["path", "peer-1", "peer-3", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let object = json(&run);
    assert_eq!(object["live"], false);
    assert_eq!(object["rooms"][0]["path"], serde_json::json!(["peer-1", "peer-2", "peer-3"]));
    let run = hopcast.run(&["path", "peer-1", "peer-9"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("peer-1..peer-5"), "{}", run.stderr);
}

#[test]
fn what_does_not_run_is_told_with_69() {
    let hopcast = Hopcast::new().file("topology.toml", SMALL);
    for arguments in [
        &["status", "--json"][..],
        &["verify", "--json"],
        &["songs", "--json"],
        &["logs", "peer-1", "--json"],
        &["fetch", "demo", "--via", "peer-5", "-o", "x", "--json"],
    ] {
        let run = hopcast.run(arguments);
        assert_eq!(run.code, 69, "{arguments:?}: {}", run.stderr);
        json(&run);
    }
    assert_eq!(hopcast.run(&["down", "--json"]).code, 0);
    // A mesh that is named needs no file.
    for arguments in [&["status", "--name", "other"][..], &["path", "peer-1", "peer-2", "--name", "other"]] {
        let run = Hopcast::new().run(arguments);
        assert_eq!(run.code, 69, "{arguments:?}: {}", run.stderr);
        assert!(format!("{}{}", run.stdout, run.stderr).contains("mesh other"), "{arguments:?}");
    }
}

#[test]
fn a_song_or_password_that_is_not_there_is_told_with_66_before_anything_is_made() {
    for (more, named) in [
        ("[[songs]]\npath = \"songs/dmeo\"\nname = \"demo\"\nrooms = [\"*\"]\n", "songs/dmeo, song demo"),
        ("[postgres]\npassword_file = \"secret.txt\"\n", "secret.txt, postgres.password_file"),
    ] {
        let hopcast = Hopcast::new().file("topology.toml", &format!("{SMALL}{more}"));
        for backend in ["local", "docker"] {
            let run = hopcast.run(&["up", "--detach", "--backend", backend]);
            assert_eq!(run.code, 66, "{}", run.stderr);
            assert!(run.stderr.contains(named), "{}", run.stderr);
            assert!(!hopcast.path("state").exists(), "nothing is made");
        }
        let run = hopcast.run(&["check", "--json"]);
        assert!(run.code == 0 && run.stderr.contains(named), "a warning: {}", run.stderr);
        assert!(json(&run)["unreadable"][0].as_str().unwrap().contains(named), "{}", run.stdout);
    }
}

#[test]
fn a_down_that_is_asked_to_end_says_so_and_lets_go_of_the_engine_in_order() {
    let hopcast = Hopcast::new();
    // An engine that takes a connection and never answers.
    let socket = hopcast.path("docker.sock");
    let engine = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let down = hopcast
        .command(&["down", "--name", "small", "--backend", "docker"])
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let _asked = engine.accept().unwrap();
    let pid = rustix::process::Pid::from_child(&down);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let run = Run::from(down.wait_with_output().unwrap());
    assert_eq!(run.code, 143, "{}", run.stderr);
    assert!(run.stderr.contains("interrupted"), "{}", run.stderr);
}

#[test]
fn completions_know_the_commands_and_the_schema_is_json() {
    for shell in ["bash", "zsh", "fish"] {
        let run = Hopcast::new().run(&["completions", shell]);
        assert!(run.code == 0 && run.stdout.contains("ingest"), "{shell}");
        // What `up` starts by itself is nobody's to complete.
        assert!(!run.stdout.contains("Keeps the processes"), "{shell}");
    }
    let schema: serde_json::Value = serde_json::from_str(&Hopcast::new().run(&["schema"]).stdout).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let hopcast = Hopcast::new().file("topology.toml", SMALL);
    let mut child = hopcast.command(&["schema"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn output_that_a_full_disk_swallows_is_an_error_and_one_that_nobody_reads_is_none() {
    let place = Hopcast::new().file("topology.toml", SMALL);
    for arguments in [&["check"][..], &["plan", "--json"], &["schema"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let run = Run::from(place.command(arguments).stdout(full).output().unwrap());
        assert_eq!(run.code, 73, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains("cannot write to stdout"), "{}", run.stderr);

        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let run = Run::from(place.command(arguments).stdout(writer).output().unwrap());
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{arguments:?}");
    }
}

#[test]
fn a_variable_that_is_no_text_is_told() {
    use std::os::unix::ffi::OsStrExt as _;
    let place = Hopcast::new().file("topology.toml", SMALL);
    let value = std::ffi::OsStr::from_bytes(b"\xff");
    let run = Run::from(place.command(&["check"]).env("POSTGRES_PASSWORD", value).output().unwrap());
    assert_eq!(run.code, 64);
    assert!(run.stderr.contains("POSTGRES_PASSWORD"), "{}", run.stderr);
}

#[test]
fn keys_for_nixos_hosts_are_their_owners_alone_and_what_is_missing_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let hopcast = Hopcast::new()
        .file("topology.toml", SMALL)
        .file("addresses.json", r#"{"signalling": {"micro-net": "192.0.2.1"}}"#);
    let run = hopcast.run(&["generate", "nixos-keys", "-o", "keys", "--json"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    // One for each peer and for the server, the owner's password for both databases, the secret.
    assert_eq!(json(&run)["files"], 5 + 1 + 2 + 1);
    let mode = |path: &str| std::fs::metadata(hopcast.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("keys"), mode("keys/peers-1"), mode("keys/peers-1/peer-1.json")), (0o700, 0o700, 0o400));
    // As `up` makes them: the databases' user passes through the first.
    assert_eq!((mode("state"), mode("state/small")), (0o755, 0o700));
    // A second time nothing is in the way, and the keys are the same.
    let key = std::fs::read_to_string(hopcast.path("keys/peers-1/peer-1.json")).unwrap();
    assert_eq!(hopcast.run(&["generate", "nixos-keys", "-o", "keys", "--host", "peers-1"]).code, 0);
    assert_eq!(std::fs::read_to_string(hopcast.path("keys/peers-1/peer-1.json")).unwrap(), key);
    let run = hopcast.run(&["generate", "nixos-keys", "-o", "keys", "--host", "peers-99"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("no host peers-99: there are signalling, origin-db"), "{}", run.stderr);
    let run = hopcast.run(&["generate", "nixos-configs", "--addresses", "addresses.json", "-o", "out"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("peers-1 has no address in micro-net"), "{}", run.stderr);
    assert!(!hopcast.path("out").exists());
}

#[test]
fn a_secret_is_not_made_while_another_command_may_make_it() {
    let hopcast = Hopcast::new().file("topology.toml", SMALL);
    std::fs::create_dir_all(hopcast.path("state/small")).unwrap();
    let lock = std::fs::File::create(hopcast.path("state/small/apply.lock")).unwrap();
    lock.lock().unwrap();
    let run = hopcast.run(&["generate", "nixos-keys", "-o", "keys"]);
    assert!(run.code == 1 && run.stderr.contains("under way"), "{}", run.stderr);
    assert!(!hopcast.path("state/small/secret").exists() && !hopcast.path("keys").exists());
    drop(lock);
    assert_eq!(hopcast.run(&["generate", "nixos-keys", "-o", "keys"]).code, 0);
}

/// What `doctor` finds of one thing, where a process may have 512 open files.
fn found(hopcast: &Hopcast, what: &str) -> (String, String) {
    let run = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 512 && exec \"$0\" doctor --json", env!("CARGO_BIN_EXE_hopcast")])
        .current_dir(hopcast.path(""))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOPCAST_STATE", hopcast.path("state"))
        .output()
        .unwrap();
    let answer = json(&Run::from(run));
    let findings = answer["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["what"] == what).unwrap();
    let text = |key: &str| finding[key].as_str().unwrap().to_owned();
    (text("verdict"), text("detail"))
}

#[test]
fn doctor_asks_for_as_many_open_files_as_up_does() {
    // A connection for each room that a peer is in.
    let room = |name: usize| format!("[[rooms]]\nname = \"r{name}\"\npeers = [\"*\"]\n");
    let rooms: String = (0..30).map(room).collect();
    let many_rooms = SMALL.replace("count = 5", "count = 20") + &rooms;
    let (verdict, detail) = found(&Hopcast::new().file("topology.toml", &many_rooms), "descriptors");
    assert!(verdict == "missing" && detail.contains("needs 684 open files"), "{verdict}: {detail}");
    let many_peers = SMALL.replace("count = 5", "count = 100");
    let (verdict, detail) = found(&Hopcast::new().file("topology.toml", &many_peers), "descriptors");
    assert!(verdict == "ok" && detail.contains("168 needed"), "{verdict}: {detail}");
}

#[test]
fn doctor_finds_the_postgresql_that_made_the_databases() {
    use std::os::unix::fs::PermissionsExt as _;
    let hopcast = Hopcast::new().file("topology.toml", SMALL);
    // One that was downloaded for this mesh.
    let bin = hopcast.path("state/small/cache/pg-embed/linux/amd64/99.1.0/bin");
    std::fs::create_dir_all(&bin).unwrap();
    for program in ["initdb", "pg_ctl", "postgres"] {
        std::fs::write(bin.join(program), "#!/bin/sh\necho 'postgres (PostgreSQL) 99.1'\n").unwrap();
        std::fs::set_permissions(bin.join(program), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let data = hopcast.path("state/small/pg/origin-db");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("PG_VERSION"), "99\n").unwrap();
    let (verdict, detail) = found(&hopcast, "postgresql");
    assert!(verdict == "ok" && detail.contains(bin.to_str().unwrap()), "{verdict}: {detail}");
}
