//! What a gateway can read, from where, and that it can do nothing else.

mod common;

use std::net::IpAddr;

use common::{
    Cluster, EDGE, LONG, ORIGIN, SECRET, count, demo, raw, rooms, setup_edge, setup_origin, song,
    wait_replicating,
};
use hopcast_protocol::{DatabaseAccess, Manifest, Sha256, SignedManifest};
use hopcast_store::{Error, Gateway, ingest, roles};
use tokio_postgres::error::SqlState;

async fn mesh() -> (Cluster, Cluster) {
    let (origin, edge) = (Cluster::start("origin-db", ORIGIN), Cluster::start("edge-db-a", EDGE));
    setup_origin(&origin, &[&edge]).await;
    setup_edge(&origin, &edge).await;
    wait_replicating(&origin, &edge).await;
    (origin, edge)
}

async fn store(origin: &Cluster, name: &str) {
    let mut admin = origin.admin().await;
    let key = SECRET.manifest_key();
    ingest(&mut admin, &demo(name).await, &rooms(&["rock"]), &key, |_| {}).await.unwrap();
}

async fn manifest(gateway: &Gateway, name: &str) -> Manifest {
    let bytes = gateway.manifest(&song(name)).await.unwrap().expect("there is a manifest");
    SignedManifest::verify(bytes, &SECRET.manifest_key().public()).unwrap().manifest
}

#[tokio::test]
async fn a_lagging_edge_is_answered_by_the_origin() {
    let (mut origin, edge) = mesh().await;
    let client = edge.raw(&edge.owner(), None).await;
    client.batch_execute("ALTER SUBSCRIPTION hopcast DISABLE").await.unwrap();
    store(&origin, "demo").await;
    assert_eq!(count(&edge, "hopcast.songs").await, 0);

    let gateway = edge.gateway().await;
    let manifest = manifest(&gateway, "demo").await;
    let segment = manifest.renditions[0].segments[0];
    let bytes = gateway.blob(&segment.sha256).await.unwrap().expect("the origin has it");
    assert_eq!(Sha256::of(&bytes), segment.sha256);
    assert_eq!(gateway.blob(&Sha256::of(b"nothing")).await.unwrap(), None);
    assert_eq!(gateway.manifest(&song("nothing")).await.unwrap(), None);
    // Nothing was kept: the rows would stall replication when they arrive.
    for table in hopcast_store::REPLICATED_TABLES {
        assert_eq!(count(&edge, table).await, 0, "{table}");
    }

    // And they do arrive.
    client.batch_execute("ALTER SUBSCRIPTION hopcast ENABLE").await.unwrap();
    let admin = origin.admin().await;
    assert_eq!(admin.wait_carried(LONG).await.unwrap(), Vec::<String>::new());
    wait_replicating(&origin, &edge).await;
    assert_eq!(gateway.songs().await.unwrap(), [song("demo")]);

    // Without an origin the edge serves what it has, says so about the rest, and the connection lives on.
    origin.stop("immediate");
    for _ in 0..2 {
        assert!(gateway.blob(&segment.sha256).await.unwrap().is_some());
        let missing = gateway.blob(&Sha256::of(b"nothing")).await.unwrap_err();
        assert!(missing.to_string().contains("could not connect to server"), "{missing}");
        assert!(!gateway.is_closed());
    }
    // With the origin back, so is the rest.
    origin.boot();
    origin.admin().await;
    assert_eq!(gateway.blob(&Sha256::of(b"nothing")).await.unwrap(), None);
}

#[tokio::test]
async fn many_reads_at_once_get_each_its_own_answer() {
    let (origin, edge) = mesh().await;
    store(&origin, "demo").await;
    let gateway = std::sync::Arc::new(edge.gateway().await);
    let manifest = manifest(&gateway, "demo").await;
    let mut reads = tokio::task::JoinSet::new();
    for segment in manifest.renditions.iter().flat_map(|r| r.segments.clone()).cycle().take(100) {
        let gateway = gateway.clone();
        reads.spawn(async move {
            let bytes = gateway.blob(&segment.sha256).await.unwrap().expect("it is there");
            assert_eq!(Sha256::of(&bytes), segment.sha256);
        });
    }
    while let Some(read) = reads.join_next().await {
        read.unwrap();
    }
}

#[tokio::test]
async fn the_gateways_role_can_do_nothing_else() {
    let (origin, edge) = mesh().await;
    store(&origin, "demo").await;
    let admin = origin.admin().await;
    assert_eq!(admin.wait_carried(LONG).await.unwrap(), Vec::<String>::new());
    let access = edge.gateway_access();
    let client = edge.raw(&access, Some(edge.gateway)).await;
    // A default, which it may switch off: what is refused below must be refused by rights.
    client.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    for forbidden in [
        "SELECT count(*) FROM hopcast.segments",
        "SELECT count(*) FROM hopcast.songs",
        "SELECT count(*) FROM hopcast.renditions",
        "SELECT count(*) FROM hopcast.init_segments",
        "SELECT count(*) FROM hopcast.blobs",
        "SELECT count(*) FROM hopcast.replica",
        "SELECT count(*) FROM hopcast_origin.blobs",
        "SELECT count(*) FROM hopcast_origin.manifests",
        "SELECT subconninfo FROM pg_subscription",
        "SELECT rolpassword FROM pg_authid",
        "SELECT * FROM pg_user_mapping",
        "INSERT INTO hopcast.manifests (name, song, revision, bytes) VALUES ('x', 1, 1, '')",
        "UPDATE hopcast.manifests SET revision = 9",
        "DELETE FROM hopcast.manifests",
        "TRUNCATE hopcast.manifests",
        "DROP FUNCTION hopcast.blob(bytea)",
        "CREATE OR REPLACE FUNCTION hopcast.blob(wanted bytea) RETURNS bytea LANGUAGE sql AS 'SELECT wanted'",
        "CREATE TABLE hopcast.x ()",
        "CREATE TABLE public.x ()",
        "CREATE TEMP TABLE x ()",
        "CREATE SCHEMA x",
        "CREATE DATABASE x",
        "CREATE ROLE x",
        "CREATE EXTENSION dblink SCHEMA public",
        "CREATE SERVER x FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER hopcast_origin",
        "CREATE SUBSCRIPTION x CONNECTION '' PUBLICATION x",
        "CREATE PUBLICATION x",
        "SET ROLE media",
        "SET ROLE hopcast_definer",
        "SET SESSION AUTHORIZATION media",
        "ALTER ROLE hopcast_gateway SUPERUSER",
        "ALTER SYSTEM SET port = 1",
        "SELECT lo_create(0)",
        "SELECT lo_creat(-1)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT pg_read_file('pg_hba.conf')",
        "COPY (SELECT 1) TO '/tmp/x'",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_create_logical_replication_slot('x', 'pgoutput')",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'media'",
        "SELECT pg_reload_conf()",
    ] {
        let error =
            client.batch_execute(forbidden).await.err().unwrap_or_else(|| panic!("allowed: {forbidden}"));
        let code = error.code().map_or("", |code| code.code());
        // 42501: insufficient privilege.
        assert_eq!(code, "42501", "{forbidden}: {}", hopcast_error(&error));
    }
    // Passwords of the mapping are hidden where anyone may look.
    let options: Option<Vec<String>> =
        client.query_one("SELECT umoptions FROM pg_user_mappings", &[]).await.unwrap().get(0);
    assert_eq!(options, None);
    // And what it may do it can.
    let names = client.query("SELECT name FROM hopcast.manifests", &[]).await.unwrap();
    assert_eq!(names.len(), 1);
}

fn hopcast_error(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned())
}

#[tokio::test]
async fn the_origins_roles_can_do_nothing_else() {
    let (origin, edge) = mesh().await;
    store(&origin, "demo").await;
    for (role, forbidden) in [
        (roles::READER, "SELECT count(*) FROM hopcast.segments"),
        (roles::READER, "SELECT count(*) FROM hopcast.edges"),
        (roles::READER, "DELETE FROM hopcast.manifests"),
        (roles::READER, "SELECT pg_create_logical_replication_slot('x', 'pgoutput')"),
        (roles::REPL, "INSERT INTO hopcast.songs (name, content) VALUES ('x', 'y')"),
        (roles::REPL, "SELECT count(*) FROM hopcast.edges"),
        (roles::REPL, "CREATE TABLE hopcast.x ()"),
        (roles::REPL, "CREATE TEMP TABLE x ()"),
    ] {
        let password = SECRET.password(origin.name.as_str(), role);
        let access = DatabaseAccess { user: role.into(), password, ..origin.owner() };
        let client = origin.raw(&access, None).await;
        let error =
            client.batch_execute(forbidden).await.err().unwrap_or_else(|| panic!("allowed: {forbidden}"));
        assert_eq!(error.code().map(SqlState::code), Some("42501"), "{role}: {forbidden}");
    }
    drop(edge);
}

/// Says whether the server's address rules refused.
async fn is_rejected(access: &DatabaseAccess, from: IpAddr) -> bool {
    match raw(access, Some(from)).await {
        Ok(_) => false,
        Err(error) => {
            // 28000: pg_hba.conf rejects. A wrong password would be 28P01.
            assert_eq!(error.code().map(SqlState::code), Some("28000"), "{}", hopcast_error(&error));
            true
        }
    }
}

#[tokio::test]
async fn addresses_decide_who_may_knock() {
    let (origin, edge) = mesh().await;
    let stranger: IpAddr = common::address().into();
    let localhost: IpAddr = std::net::Ipv4Addr::LOCALHOST.into();
    let gateway = edge.gateway_access();
    assert!(!is_rejected(&gateway, edge.gateway).await);
    assert!(is_rejected(&gateway, stranger).await);
    assert!(is_rejected(&gateway, localhost).await);
    let elsewhere = DatabaseAccess { database: "postgres".into(), ..gateway.clone() };
    assert!(is_rejected(&elsewhere, edge.gateway).await);
    // The owner, from a gateway's address or a stranger's; a gateway at the origin.
    assert!(!is_rejected(&edge.owner(), localhost).await);
    assert!(is_rejected(&edge.owner(), edge.gateway).await);
    assert!(is_rejected(&edge.owner(), stranger).await);
    let password = SECRET.password(origin.name.as_str(), roles::READER);
    let reader = DatabaseAccess { user: roles::READER.into(), password, ..origin.owner() };
    assert!(!is_rejected(&reader, localhost).await);
    assert!(is_rejected(&reader, edge.gateway).await);
    assert!(
        is_rejected(&DatabaseAccess { user: roles::GATEWAY.into(), ..origin.owner() }, edge.gateway).await
    );

    let said = Gateway::connect(&gateway, Some(stranger)).await.unwrap_err().to_string();
    assert!(said.starts_with("database edge-db-a at ") && said.contains("pg_hba.conf"), "{said}");
    let wrong = DatabaseAccess { password: "wrong".into(), ..gateway };
    let refused = Gateway::connect(&wrong, Some(edge.gateway)).await.unwrap_err();
    assert_eq!(refused.sqlstate(), Some("28P01"));
}

#[tokio::test]
async fn a_gateways_connection_that_breaks_is_closed() {
    let (_origin, edge) = mesh().await;
    let gateway = edge.gateway().await;
    assert!(!gateway.is_closed());
    let client = edge.raw(&edge.owner(), None).await;
    client
        .batch_execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'hopcast_gateway'",
        )
        .await
        .unwrap();
    let end = tokio::time::Instant::now() + LONG;
    while !gateway.is_closed() {
        assert!(tokio::time::Instant::now() < end, "never noticed");
        tokio::task::yield_now().await;
    }
    assert!(gateway.songs().await.is_err());
    assert!(!edge.gateway().await.is_closed());
}

#[tokio::test]
async fn a_read_that_nobody_waits_for_any_more_ends_the_connection_and_one_that_the_server_ends_does_not() {
    let (_origin, edge) = mesh().await;
    let gateway = edge.gateway().await;
    let [locker, watcher] = [edge.raw(&edge.owner(), None).await, edge.raw(&edge.owner(), None).await];
    locker.batch_execute("BEGIN; LOCK TABLE hopcast.segments").await.unwrap();
    let sha256 = hopcast_protocol::Sha256([7; 32]);
    let error = gateway.blob(&sha256).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("57014"), "{error}"); // query_canceled: its statement_timeout
    assert!(!gateway.is_closed());
    let waits = async {
        let waiting =
            "SELECT 1 FROM pg_stat_activity WHERE usename = 'hopcast_gateway' AND wait_event_type = 'Lock'";
        while watcher.query(waiting, &[]).await.unwrap().is_empty() {}
    };
    tokio::select! {
        () = waits => {}
        read = gateway.blob(&sha256) => panic!("{read:?}"),
    }
    let end = tokio::time::Instant::now() + LONG;
    while !gateway.is_closed() {
        assert!(tokio::time::Instant::now() < end, "what is sent now waits behind it");
        tokio::task::yield_now().await;
    }
    locker.batch_execute("COMMIT").await.unwrap();
    assert_eq!(edge.gateway().await.blob(&sha256).await.unwrap(), None);
}

/// A server that takes connections and never says a word.
#[tokio::test(start_paused = true)]
async fn a_silent_server_costs_a_deadline() {
    let silent = tokio::net::TcpListener::bind((common::address(), 0)).await.unwrap();
    let at = silent.local_addr().unwrap();
    let access = DatabaseAccess {
        name: hopcast_protocol::DatabaseName::new("edge-db-a").unwrap(),
        host: at.ip().to_string(),
        port: at.port(),
        database: "hls".into(),
        user: "u".into(),
        password: "p".into(),
    };
    let error = Gateway::connect(&access, None).await.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error}");
    drop(silent);
    let error = Gateway::connect(&access, None).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.is_starting());
}
