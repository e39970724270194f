//! What every image must do, whoever made it, because the Docker backend relies on it.
//!
//! `HOPCAST_TEST_PEER_IMAGE`, `HOPCAST_TEST_SIGNALLING_IMAGE` and `HOPCAST_TEST_POSTGRES_IMAGE` name images of the engine
//! that are to be tested (Nix's, a registry's); without them, ours are made. `cargo nextest run --profile docker -p
//! hopcast-deploy --test docker_contract`. Needs the command `docker`.

mod containers;

use std::{env, fs, os::unix::fs::PermissionsExt as _, sync::OnceLock};

use containers::{Container, Volume, docker, inspect, run, text};
use hopcast_deploy::{
    Quiet,
    docker::{engine::Engine, image},
};

/// The image that a variable names, else ours.
fn image(variable: &str) -> String {
    static OURS: OnceLock<[String; 3]> = OnceLock::new();
    if let Ok(name) = env::var(variable) {
        return name;
    }
    let [peer, signalling, postgres] = OURS.get_or_init(ours);
    match variable {
        PEER => peer,
        SIGNALLING => signalling,
        _ => postgres,
    }
    .clone()
}

const PEER: &str = "HOPCAST_TEST_PEER_IMAGE";
const SIGNALLING: &str = "HOPCAST_TEST_SIGNALLING_IMAGE";
const POSTGRES: &str = "HOPCAST_TEST_POSTGRES_IMAGE";

/// The images that `hopcast image build` makes, by their ids, because another run may move the names on. The names stay:
/// the next run finds them.
fn ours() -> [String; 3] {
    let plan =
        containers::plan("hopcast-test-peer", "hopcast-test-signalling", "hopcast-test-no-such-postgres");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let images = runtime.block_on(async {
        let engine = Engine::connect().await.unwrap();
        image::ensure_from(&engine, &plan, Ok(containers::static_programs()), &Quiet).await.unwrap()
    });
    images.all().map(|image| image.id.clone())
}

#[test]
fn a_peer_is_small_and_says_what_it_is() {
    let image = image(PEER);
    assert_eq!(inspect(&image, ".Config.User"), "65532:65532");
    assert_eq!(inspect(&image, ".Config.Entrypoint"), serde_json::json!(["/hopcast-peer"]));
    assert_eq!(inspect(&image, ".Config.WorkingDir"), "/");
    assert_eq!(inspect(&image, r#"(index .Config.Labels "io.hopcast.image")"#), "peer");
    let bytes = inspect(&image, ".Size").as_u64().unwrap();
    assert!(bytes <= 3_000_000, "{bytes} bytes");
}

#[test]
fn a_peer_answers_within_the_smallest_memory_that_the_engine_takes() {
    let limits = ["--memory", "6m", "--memory-swap", "6m", "--cpus", "0.05", "-p", "127.0.0.1::8080"];
    let peer = Container::start(&[&limits[..], &["-e", "PEER_NAME=peer-1"]].concat(), &image(PEER), &[]);
    assert_eq!(peer.get(8080, "/health").trim(), "peer-1: ok");
    assert_eq!(peer.get(8080, "/name").trim(), "peer-1");
    assert!(!peer.oom_killed());
    // SIGTERM is heard by process 1.
    docker(&["stop", "-t", "20", &peer.0]);
    assert_eq!(inspect(&peer.0, ".State.ExitCode"), 0, "{}", peer.logs());
}

#[test]
fn a_peer_reads_its_file_from_a_directory_that_is_its_own() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("config.json"), "{\"no\": \"configuration\"}").unwrap();
    let bind = format!("{}:/etc/hopcast:ro", folder.path().display());
    let peer = Container::start(&["-v", &bind], &image(PEER), &["--config", "/etc/hopcast/config.json"]);
    assert_eq!(peer.end(), 64, "a bad file is a usage error: {}", peer.logs());
    assert!(peer.logs().contains("/etc/hopcast/config.json"), "{}", peer.logs());
}

#[test]
fn the_signalling_server_answers_and_has_hopcast_beside_it() {
    let image = image(SIGNALLING);
    assert_eq!(inspect(&image, ".Config.User"), "65532:65532");
    assert_eq!(inspect(&image, ".Config.Entrypoint"), serde_json::json!(["/hopcast-signalling"]));
    assert_eq!(inspect(&image, r#"(index .Config.Labels "io.hopcast.image")"#), "signalling");
    let options = ["--memory", "64m", "-p", "127.0.0.1::7080", "-e", "SIGNAL_ADDR=:7080"];
    let server = Container::start(&options, &image, &[]);
    server.get(7080, "/healthz");
    let version = docker(&["run", "--rm", "--read-only", "--entrypoint", "/hopcast", &image, "--version"]);
    assert!(version.starts_with("hopcast "), "{version}");
}

/// What the backend gives a database: `PGDATA` below the volume, sockets and temporary files in memory.
fn database(volume: &Volume, options: &[&str], arguments: &[&str]) -> Container {
    let at = volume.at("/var/lib/postgresql/data");
    let always = [
        "-v",
        &at,
        "-e",
        "PGDATA=/var/lib/postgresql/data/cluster",
        "--user",
        "postgres",
        "--tmpfs",
        "/run/postgresql",
        "--tmpfs",
        "/tmp",
    ];
    Container::start(&[&always, options].concat(), &image(POSTGRES), arguments)
}

const SMALL: [&str; 8] = [
    "-c",
    "shared_buffers=16MB",
    "-c",
    "max_connections=20",
    "-c",
    "max_parallel_workers=0",
    "-c",
    "wal_level=logical",
];

#[test]
fn a_database_has_the_user_the_database_and_the_password_that_are_asked_for() {
    let volume = Volume::new();
    let secret = tempfile::tempdir().unwrap();
    fs::set_permissions(secret.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(secret.path().join("password"), "se'c \"ret\n").unwrap();
    let bind = format!("{}:/etc/hopcast:ro", secret.path().display());
    let file = ["-v", &bind, "-e", "POSTGRES_PASSWORD_FILE=/etc/hopcast/password"];
    let names = ["-e", "POSTGRES_DB=hl's", "-e", "POSTGRES_USER=media"];
    let more = ["-e", "POSTGRES_INITDB_ARGS=--data-checksums --lc-collate='C'", "--memory", "128m"];
    let ask = |server: &Container, statement: &str| {
        let answer = server.sql("media", "se'c \"ret", "'hl\\'s'", statement);
        assert!(answer.status.success(), "{statement}: {}", text(&answer));
        text(&answer)
    };
    {
        let server = database(&volume, &[&file[..], &names, &more].concat(), &SMALL);
        server.ready();
        assert_eq!(ask(&server, "SELECT current_user || ' ' || current_database()"), "media hl's");
        assert_eq!(ask(&server, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"), "t");
        assert_eq!(ask(&server, "SHOW data_checksums"), "on");
        assert_eq!(
            ask(&server, "SELECT datcollate FROM pg_database WHERE datname = current_database()"),
            "C"
        );
        assert_eq!(ask(&server, "SHOW server_encoding"), "UTF8");
        assert_eq!(ask(&server, "SHOW wal_level"), "logical", "arguments reach the server");
        assert_eq!(
            ask(&server, "SELECT timestamptz '2026-07-01 12:00Z' AT TIME ZONE 'Europe/Berlin'"),
            "2026-07-01 14:00:00"
        );
        assert_eq!(ask(&server, "SELECT lower('\u{c4}') COLLATE \"C.utf8\""), "\u{e4}");
        ask(&server, "CREATE EXTENSION postgres_fdw");
        ask(&server, "SELECT pg_create_logical_replication_slot('slot', 'pgoutput')");
        ask(&server, "SELECT to_tsvector('english', 'songs')");
        ask(&server, "CREATE TABLE kept AS SELECT 7 AS number");
        let refused = server.sql("media", "wrong", "'hl\\'s'", "SELECT 1");
        assert!(
            !refused.status.success() && text(&refused).contains("password authentication failed"),
            "{}",
            text(&refused)
        );
        docker(&["stop", "-t", "60", &server.0]);
        assert_eq!(inspect(&server.0, ".State.ExitCode"), 0, "{}", server.logs());
    }
    // The same volume again: the variables mean nothing any more, the data are there.
    let server = database(&volume, &["-e", "POSTGRES_PASSWORD=another", "--memory", "64m"], &SMALL);
    server.ready();
    assert_eq!(ask(&server, "SELECT number FROM kept"), "7");
    assert!(!server.oom_killed());
}

#[test]
fn a_database_begins_within_64_megabytes() {
    let volume = Volume::new();
    let limits = ["--memory", "64m", "--memory-swap", "64m", "-e", "POSTGRES_PASSWORD=x"];
    let server = database(&volume, &limits, &SMALL);
    server.ready();
    // POSTGRES_DB is the user's name where it is not given.
    let answer = server.sql("postgres", "x", "postgres", "SELECT count(*) FROM generate_series(1, 100000)");
    assert_eq!(text(&answer), "100000");
    assert!(!server.oom_killed());
}

#[test]
fn a_database_without_a_password_does_not_begin() {
    let volume = Volume::new();
    let server = database(&volume, &[], &[]);
    assert_ne!(server.end(), 0);
    assert!(server.logs().contains("POSTGRES_PASSWORD"), "{}", server.logs());
    // What was refused left nothing that a later start would take for a cluster.
    let server = database(&volume, &["-e", "POSTGRES_PASSWORD=x"], &SMALL);
    server.ready();
}

#[test]
fn a_database_whose_first_start_was_cut_short_begins_again() {
    let volume = Volume::new();
    let options = ["-e", "POSTGRES_PASSWORD=x", "-e", "POSTGRES_DB=hls"];
    let first = database(&volume, &options, &SMALL);
    // In the middle: initdb has written something.
    containers::wait("the first file", || {
        let found = run(&[
            "exec",
            &first.0,
            "sh",
            "-c",
            "set -- /var/lib/postgresql/data/*/*; test -e \"$1\" || test -e /var/lib/postgresql/data/cluster/.entrypoint/data",
        ]);
        found.status.success().then_some(())
    });
    docker(&["kill", &first.0]);
    drop(first);
    let second = database(&volume, &options, &SMALL);
    second.ready();
    let answer = second.sql("postgres", "x", "hls", "SELECT current_database()");
    assert_eq!(text(&answer), "hls", "{}", second.logs());
}

#[test]
fn a_database_runs_the_sql_files_that_it_is_given() {
    let volume = Volume::new();
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.path().join("1.sql"), "CREATE TABLE begun (number int);").unwrap();
    fs::write(folder.path().join("2.sql"), "INSERT INTO begun VALUES (3);").unwrap();
    let bind = format!("{}:/docker-entrypoint-initdb.d:ro", folder.path().display());
    let options = ["-v", &bind, "-e", "POSTGRES_HOST_AUTH_METHOD=trust", "-e", "POSTGRES_DB=songs"];
    let server = database(&volume, &options, &SMALL);
    server.ready();
    let answer = server.sql("postgres", "", "songs", "SELECT number FROM begun");
    assert_eq!(text(&answer), "3", "{}", server.logs());
}
