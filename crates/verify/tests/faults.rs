//! A mesh broken on purpose: exactly the check that is about it fails. And a sound mesh, twice.

mod support;

use hopcast_deploy::Fault;
use hopcast_verify::Outcome;
use support::{
    Mesh, assert_only, metric,
    rogue::{self, Cheat},
    texts, verify,
};

/// Not a test: what the other tests start as a peer that cheats. Without orders it does nothing.
#[test]
fn rogue() {
    rogue::obey();
}

const ROGUE: &str = "rogue";

#[tokio::test]
async fn a_sound_mesh_passes_and_passes_again() {
    let mesh = Mesh::start(100).await;
    let target = mesh.target().await;
    let first = verify(&target).await;
    assert_only(&first, &[]);
    let n = first.numbers;
    assert_eq!((n.peers, n.rooms, n.segments_checked, n.via_matches), (16, 2, 16, 16), "{first}");
    // All but the two gateways, and nobody is farther from one than peer-5, which goes among the first.
    assert_eq!((n.segments_over_routes, n.max_hops), (14, 4), "{first}");
    assert!(n.shortcuts_refused >= 5 && n.sockets_audited >= 20 && n.isolation_refused >= 20, "{first}");
    assert!(n.peer_rss_max_kb > 0 && n.peer_private_max_kb > 0 && n.peer_cache_bytes > 0, "{first}");
    let cached = metric(mesh.endpoint("peer-5"), "hopcast_cache_bytes");
    assert!((1..=128 * 1024).contains(&cached), "one segment of at most 128 KiB: {cached}");
    // Nothing in it may depend on empty caches.
    assert_only(&verify(&target).await, &[]);
    let (code, json, junit) = mesh.command();
    assert_eq!(code, 0, "{json:#}");
    assert_eq!((json["peers"].as_u64(), json["via_matches"].as_u64()), (Some(16), Some(16)), "{json:#}");
    assert!(junit.contains("tests=\"10\" failures=\"0\" errors=\"0\""), "{junit}");
}

#[tokio::test]
async fn a_dead_peer_fails_peers() {
    let mesh = Mesh::start(101).await;
    mesh.fault(Fault::Kill("peer-4".into())).await;
    let report = verify(&mesh.target().await).await;
    assert_only(&report, &["peers"]);
    assert!(texts(&report, "peers").contains("peer-4 is dead"), "{report}");
    let (code, json, junit) = mesh.command();
    assert_eq!(
        (code, json["passed"].as_bool(), json["peers"].as_u64()),
        (1, Some(false), Some(15)),
        "{json:#}"
    );
    assert!(junit.contains("tests=\"10\" failures=\"1\" errors=\"0\""), "{junit}");
}

#[tokio::test]
async fn a_wrong_byte_in_an_edge_fails_checksums() {
    let mesh = Mesh::start(102).await;
    let change = "UPDATE hopcast.segments SET bytes = set_byte(bytes, 100, get_byte(bytes, 100) # 1) \
        WHERE sequence = (SELECT min(sequence) FROM hopcast.segments)";
    mesh.as_owner(&mesh.access.edges[0], change).await;
    let report = verify(&mesh.target().await).await;
    assert_only(&report, &["checksums"]);
    assert!(texts(&report, "checksums").contains("edge-db-a: demo/"), "{report}");
}

#[tokio::test]
async fn a_stopped_edge_fails_checksums_and_its_isolation_can_not_be_tried() {
    let mesh = Mesh::start(110).await;
    mesh.fault(Fault::StopDatabase("edge-db-a".parse().unwrap())).await;
    let report = verify(&mesh.target().await).await;
    assert_only(&report, &["checksums", "isolation"]);
    assert_eq!(report.check("isolation").unwrap().outcome, Outcome::NotRun, "{report}");
    assert_eq!(report.check("isolation").unwrap().failures.len(), 1, "{report}");
}

#[tokio::test]
async fn an_exposed_database_fails_isolation() {
    let mesh = Mesh::start(103).await;
    let rules = mesh.dir().join("pg/edge-db-b/pg_hba.conf");
    let strict = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host all all 127.0.0.0/8 scram-sha-256\n{strict}")).unwrap();
    mesh.as_owner(&mesh.access.edges[1], "SELECT pg_reload_conf()").await;
    let report = verify(&mesh.target().await).await;
    assert_only(&report, &["isolation"]);
    assert!(texts(&report, "isolation").contains("edge-db-b as hopcast_gateway from peer-"), "{report}");
}

#[tokio::test]
async fn a_segment_that_an_edge_has_not_copied_fails_checksums_though_the_origin_serves_it() {
    let mesh = Mesh::start(111).await;
    mesh.as_owner(&mesh.access.edges[0], "DELETE FROM hopcast.segments WHERE sequence = 1").await;
    let report = verify(&mesh.target().await).await;
    assert_only(&report, &["checksums"]);
    assert!(texts(&report, "checksums").contains("this edge has not copied them"), "{report}");
}

#[tokio::test]
async fn a_gateway_role_with_too_many_rights_fails_isolation() {
    let mesh = Mesh::start(104).await;
    mesh.as_owner(&mesh.access.edges[0], "GRANT SELECT ON hopcast.segments TO hopcast_gateway").await;
    let report = verify(&mesh.target().await).await;
    assert_only(&report, &["isolation"]);
    assert!(texts(&report, "isolation").contains("may read hopcast.segments"), "{report}");
}

#[tokio::test]
async fn a_relay_that_hides_fails_via() {
    let mesh = Mesh::start(105).await;
    let (_rogue, target) = mesh.replace("peer-3", Cheat::HidesInVia, ROGUE).await;
    let report = verify(&target).await;
    assert_only(&report, &["via"]);
    assert!(texts(&report, "via").contains("was broadcast as"), "{report}");
}

#[tokio::test]
async fn a_relay_that_changes_bytes_fails_segments() {
    let mesh = Mesh::start(106).await;
    let (_rogue, target) = mesh.replace("peer-3", Cheat::ChangesBytes, ROGUE).await;
    let report = verify(&target).await;
    assert_only(&report, &["segments"]);
    assert!(texts(&report, "segments").contains("lies"), "{report}");
}

/// Peer-3 dials peer-8, which is no neighbour.
async fn shortcut(block: u8, cheat: impl Fn(&Mesh) -> Cheat) {
    let mesh = Mesh::start(block).await;
    let (_rogue, target) = mesh.replace("peer-3", cheat(&mesh), ROGUE).await;
    let report = verify(&target).await;
    assert_only(&report, &["sockets"]);
    let texts = texts(&report, "sockets");
    assert!(texts.contains("peer-3") && texts.contains("peer-8"), "{report}");
}

#[tokio::test]
async fn a_shortcut_from_the_peers_own_address_fails_sockets() {
    shortcut(107, |mesh| Cheat::Dials {
        to: mesh.endpoint("peer-8"),
        from: Some(mesh.endpoint("peer-3").ip()),
    })
    .await;
}

#[tokio::test]
async fn a_shortcut_from_an_unbound_address_fails_sockets() {
    shortcut(108, |mesh| Cheat::Dials { to: mesh.endpoint("peer-8"), from: None }).await;
}

#[tokio::test]
async fn a_shortcut_that_is_closed_at_once_fails_sockets() {
    shortcut(109, |mesh| Cheat::DialsBriefly {
        to: mesh.endpoint("peer-8"),
        from: Some(mesh.endpoint("peer-3").ip()),
    })
    .await;
}
