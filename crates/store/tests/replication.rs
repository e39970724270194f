//! Songs reach the edges, and keep reaching them whatever happens to origin and edges in between.

mod common;

use common::{
    Cluster, EDGE, LONG, ORIGIN, SECRET, count, demo, rooms, setup_edge, setup_origin, song, wait_replicating,
};
use hopcast_protocol::{ManifestKey, SignedManifest};
use hopcast_store::{Ingested, Subscribed, ingest};

fn key() -> ManifestKey {
    SECRET.manifest_key()
}

/// Stores the demo song under a name and waits until all edges have it.
async fn store(origin: &Cluster, name: &str) {
    let mut admin = origin.admin().await;
    let stored = ingest(&mut admin, &demo(name).await, &rooms(&["rock"]), &key(), |_| {}).await.unwrap();
    assert!(matches!(stored, Ingested::Stored { .. }), "{stored:?}");
    assert_eq!(admin.wait_carried(LONG).await.unwrap(), Vec::<String>::new());
}

/// Every byte of the song is on the edge itself.
async fn assert_whole(edge: &Cluster, name: &str) {
    let gateway = edge.gateway().await;
    assert!(gateway.songs().await.unwrap().contains(&song(name)));
    let bytes = gateway.manifest(&song(name)).await.unwrap().expect("the manifest is there");
    let manifest = SignedManifest::verify(bytes, &key().public()).unwrap().manifest;
    let mut segments = 0;
    for rendition in &manifest.renditions {
        for segment in &rendition.segments {
            let bytes = gateway.blob(&segment.sha256).await.unwrap().expect("the segment is there");
            assert_eq!(hopcast_protocol::Sha256::of(&bytes), segment.sha256);
            segments += 1;
        }
    }
    assert!(segments > 0);
    let local = format!("hopcast.segments g JOIN hopcast.manifests m USING (song) WHERE m.name = '{name}'");
    assert_eq!(count(edge, &local).await, segments);
}

async fn mesh_of(edges: &[&Cluster], origin: &Cluster) {
    setup_origin(origin, edges).await;
    for edge in edges {
        let report = setup_edge(origin, edge).await;
        assert!(matches!(report.subscription, Subscribed::Anew { .. }), "{report:?}");
        wait_replicating(origin, edge).await;
    }
}

fn reason(subscribed: Subscribed) -> String {
    match subscribed {
        Subscribed::Anew { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_song_reaches_both_edges_and_a_removal_too() {
    let origin = Cluster::start("origin-db", ORIGIN);
    let (a, b) = (Cluster::start("edge-db-a", EDGE), Cluster::start("edge-db-b", EDGE));
    mesh_of(&[&a, &b], &origin).await;
    // Copied from one template, they share an identifier: their subscriptions must not share a number as well.
    assert_eq!(count(&origin, "(SELECT DISTINCT system_identifier FROM hopcast.edges) e").await, 1);
    assert_eq!(count(&origin, "(SELECT DISTINCT subscription FROM hopcast.edges) e").await, 2);
    store(&origin, "demo").await;
    store(&origin, "other").await;
    for edge in [&a, &b] {
        assert_whole(edge, "demo").await;
        // Doing it all again changes nothing.
        let again = setup_edge(&origin, edge).await;
        assert_eq!(again.subscription, Subscribed::Unchanged);
        assert!(!again.origin_access_changed && again.migrated.is_empty());
    }
    let again = setup_origin(&origin, &[&a, &b]).await;
    assert!(!again.published && again.dropped_edges.is_empty() && again.migrated.is_empty());

    let mut admin = origin.admin().await;
    assert!(admin.remove(&song("demo")).await.unwrap());
    assert!(!admin.remove(&song("demo")).await.unwrap());
    assert_eq!(admin.wait_carried(LONG).await.unwrap(), Vec::<String>::new());
    for edge in [&a, &b] {
        assert_eq!(edge.gateway().await.songs().await.unwrap(), [song("other")]);
        assert_eq!(edge.gateway().await.manifest(&song("demo")).await.unwrap(), None);
        assert_eq!(count(edge, "hopcast.songs").await, 1);
        assert_whole(edge, "other").await;
    }
}

#[tokio::test]
async fn the_origin_moves_to_another_port() {
    let mut origin = Cluster::start("origin-db", ORIGIN);
    let edge = Cluster::start("edge-db-a", EDGE);
    mesh_of(&[&edge], &origin).await;
    store(&origin, "demo").await;
    origin.stop("fast");
    origin.port = 5433;
    origin.boot();
    let report = setup_edge(&origin, &edge).await;
    assert_eq!(report.subscription, Subscribed::ConnectionRewritten);
    assert!(report.origin_access_changed);
    wait_replicating(&origin, &edge).await;
    store(&origin, "after").await;
    assert_whole(&edge, "demo").await;
    assert_whole(&edge, "after").await;
}

#[tokio::test]
async fn an_edge_is_recreated() {
    let origin = Cluster::start("origin-db", ORIGIN);
    let old = Cluster::start("edge-db-a", EDGE);
    mesh_of(&[&old], &origin).await;
    store(&origin, "demo").await;
    drop(old);
    let edge = Cluster::start_initialised("edge-db-a", EDGE);
    setup_origin(&origin, &[&edge]).await;
    assert_eq!(reason(setup_edge(&origin, &edge).await.subscription), "there is no subscription");
    wait_replicating(&origin, &edge).await;
    assert_whole(&edge, "demo").await;
    assert_eq!(count(&origin, "pg_replication_slots").await, 1);
}

#[tokio::test]
async fn the_origin_is_recreated() {
    // From the same template: the two clusters share their system identifier.
    for recreate in [Cluster::start, Cluster::start_initialised] {
        let mut origin = Cluster::start("origin-db", ORIGIN);
        let edge = Cluster::start("edge-db-a", EDGE);
        mesh_of(&[&edge], &origin).await;
        store(&origin, "old").await;
        origin.stop("fast");
        let origin = recreate("origin-db", ORIGIN);
        setup_origin(&origin, &[&edge]).await;
        assert_eq!(reason(setup_edge(&origin, &edge).await.subscription), "the origin is another one");
        wait_replicating(&origin, &edge).await;
        store(&origin, "new").await;
        assert_whole(&edge, "new").await;
        assert_eq!(edge.gateway().await.songs().await.unwrap(), [song("new")]);
    }
}

#[tokio::test]
async fn an_edge_leaves_and_comes_back() {
    let origin = Cluster::start("origin-db", ORIGIN);
    let (a, b) = (Cluster::start("edge-db-a", EDGE), Cluster::start("edge-db-b", EDGE));
    mesh_of(&[&a, &b], &origin).await;
    store(&origin, "demo").await;
    let report = setup_origin(&origin, &[&a]).await;
    assert_eq!(report.dropped_edges, ["edge-db-b"]);
    assert_eq!(count(&origin, "pg_replication_slots").await, 1);
    assert_eq!(setup_edge(&origin, &a).await.subscription, Subscribed::Unchanged);
    store(&origin, "meanwhile").await;

    setup_origin(&origin, &[&a, &b]).await;
    assert_eq!(reason(setup_edge(&origin, &b).await.subscription), "the slot is missing");
    wait_replicating(&origin, &b).await;
    assert_whole(&b, "meanwhile").await;
    assert_whole(&a, "meanwhile").await;
}

#[tokio::test]
async fn a_slot_is_lost() {
    let origin = Cluster::start("origin-db", ORIGIN);
    let mut edge = Cluster::start("edge-db-a", EDGE);
    mesh_of(&[&edge], &origin).await;
    store(&origin, "before").await;
    edge.stop("fast");
    let client = origin.raw(&origin.owner(), None).await;
    client.batch_execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let mut admin = origin.admin().await;
    ingest(&mut admin, &demo("meanwhile").await, &rooms(&["rock"]), &key(), |_| {}).await.unwrap();
    let end = tokio::time::Instant::now() + LONG;
    loop {
        client.batch_execute("SELECT pg_switch_wal()").await.unwrap();
        client.batch_execute("CREATE TABLE fill (); DROP TABLE fill").await.unwrap();
        client.batch_execute("CHECKPOINT").await.unwrap();
        let status = client.query_one("SELECT wal_status FROM pg_replication_slots", &[]).await.unwrap();
        if status.get::<_, &str>(0) == "lost" {
            break;
        }
        assert!(tokio::time::Instant::now() < end, "the slot was never lost");
    }
    edge.boot();
    edge.admin().await;
    assert_eq!(reason(setup_edge(&origin, &edge).await.subscription), "the slot is lost");
    wait_replicating(&origin, &edge).await;
    assert_whole(&edge, "before").await;
    assert_whole(&edge, "meanwhile").await;
}

#[tokio::test]
async fn a_subscription_is_disabled_or_dropped() {
    let origin = Cluster::start("origin-db", ORIGIN);
    let edge = Cluster::start("edge-db-a", EDGE);
    mesh_of(&[&edge], &origin).await;
    store(&origin, "demo").await;
    let client = edge.raw(&edge.owner(), None).await;
    client.batch_execute("ALTER SUBSCRIPTION hopcast DISABLE").await.unwrap();
    assert_eq!(reason(setup_edge(&origin, &edge).await.subscription), "the subscription is disabled");
    wait_replicating(&origin, &edge).await;
    client.batch_execute("DROP SUBSCRIPTION hopcast").await.unwrap();
    assert_eq!(reason(setup_edge(&origin, &edge).await.subscription), "there is no subscription");
    wait_replicating(&origin, &edge).await;
    assert_whole(&edge, "demo").await;
}

#[tokio::test]
async fn the_copy_of_a_table_is_stuck() {
    let origin = Cluster::start("origin-db", ORIGIN);
    let edge = Cluster::start("edge-db-a", EDGE);
    mesh_of(&[&edge], &origin).await;
    store(&origin, "demo").await;
    // As a crash right after the copy leaves it: done, and the slot to catch up from is gone.
    let client = edge.raw(&edge.owner(), None).await;
    let forget =
        "UPDATE pg_subscription_rel SET srsubstate = 'f' WHERE srrelid = 'hopcast.segments'::regclass";
    client.batch_execute(forget).await.unwrap();
    assert_eq!(
        reason(setup_edge(&origin, &edge).await.subscription),
        "the copy of a table cannot be finished"
    );
    wait_replicating(&origin, &edge).await;
    assert_whole(&edge, "demo").await;
}

#[tokio::test]
async fn an_edge_that_was_down_catches_up_by_itself() {
    let origin = Cluster::start("origin-db", ORIGIN);
    let mut edge = Cluster::start("edge-db-a", EDGE);
    mesh_of(&[&edge], &origin).await;
    edge.stop("immediate");
    let mut admin = origin.admin().await;
    ingest(&mut admin, &demo("demo").await, &rooms(&["rock"]), &key(), |_| {}).await.unwrap();
    let nobody_waits = std::time::Duration::ZERO;
    assert_eq!(admin.wait_carried(nobody_waits).await.unwrap(), ["edge-db-a"]);
    edge.boot();
    assert_eq!(admin.wait_carried(LONG).await.unwrap(), Vec::<String>::new());
    assert_whole(&edge, "demo").await;
    assert_eq!(setup_edge(&origin, &edge).await.subscription, Subscribed::Unchanged);
}

#[tokio::test]
async fn waiting_for_an_edge_that_does_not_follow_says_why() {
    let origin = Cluster::start("origin-db", ORIGIN);
    let edge = Cluster::start("edge-db-a", EDGE);
    mesh_of(&[&edge], &origin).await;
    let client = edge.raw(&edge.owner(), None).await;
    client.batch_execute("ALTER SUBSCRIPTION hopcast DISABLE").await.unwrap();
    let (admin, origin) = (edge.admin().await, origin.admin().await);
    let waited =
        admin.wait_replicating(&origin, &common::mesh(), &edge.name, std::time::Duration::ZERO).await;
    let said = waited.unwrap_err().to_string();
    assert!(said.contains("edge-db-a does not replicate") && said.contains("0 of 5 relations"), "{said}");
}

#[tokio::test]
async fn failures_are_counted_whatever_postgresql_calls_them() {
    let origin = Cluster::start("origin-db", ORIGIN);
    let edge = Cluster::start("edge-db-a", EDGE);
    mesh_of(&[&edge], &origin).await;
    let client = edge.raw(&edge.owner(), None).await;
    // What later sessions of the owner find in place of the system's view.
    for (columns, errors) in [
        ("3 AS apply_error_count, 4 AS sync_error_count", 7),
        // PostgreSQL 19.
        ("5 AS apply_error_count, 6 AS sync_seq_error_count, 7 AS sync_table_error_count", 12),
    ] {
        let view = format!(
            "DROP SCHEMA IF EXISTS other CASCADE; CREATE SCHEMA other; \
             CREATE VIEW other.pg_stat_subscription_stats AS \
                SELECT 1::oid AS subid, name AS subname, {columns}, NULL::timestamptz AS stats_reset \
                FROM unnest(ARRAY['hopcast'::name, 'another']) name; \
             ALTER ROLE CURRENT_USER SET search_path = other, pg_catalog",
        );
        client.batch_execute(&view).await.unwrap();
        let (admin, origin) = (edge.admin().await, origin.admin().await);
        let state = admin.replication_state(&origin, &common::mesh(), &edge.name).await.unwrap();
        assert_eq!(state.errors, errors, "{columns}");
        assert!(state.is_replicating(), "{state}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_untouched() {
    let origin = Cluster::start("origin-db", ORIGIN);
    let mut admin = origin.admin().await;
    assert_eq!(admin.migrate().await.unwrap(), [1, 2]);
    assert_eq!(admin.migrate().await.unwrap(), Vec::<i32>::new());
    let client = origin.raw(&origin.owner(), None).await;
    client.batch_execute("INSERT INTO hopcast.migrations VALUES (999, 'of the future')").await.unwrap();
    let said = admin.migrate().await.unwrap_err().to_string();
    assert!(said.contains("schema version 999, this program knows 2"), "{said}");
}
