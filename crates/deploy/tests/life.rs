//! A mesh from nothing to nothing: what `up`, `status`, the faults and `down` do to real processes.

mod common;

use common::{Mesh, Topology, get, kill, pids, processes, state_root, until_gone};
use hopcast_deploy::{ApplyOptions, Backend as _, Changes, DestroyOptions, Fault, NodeState, Quiet};
use hopcast_protocol::{DatabaseName, PeerName};

fn peer(name: &str) -> PeerName {
    PeerName::new(name).unwrap()
}

/// The server's links of a room, `peer-1 peer-2` each.
fn links(server: std::net::SocketAddr) -> Vec<String> {
    let text = get(server, "/api/graph?room=rock");
    let json = &text[text.find('{').unwrap()..=text.rfind('}').unwrap()];
    let graph: serde_json::Value = serde_json::from_str(json).unwrap();
    let links = graph["rooms"][0]["links"].as_array().unwrap();
    let mut links: Vec<_> = links
        .iter()
        .map(|link| format!("{} {}", link["a"].as_str().unwrap(), link["b"].as_str().unwrap()))
        .collect();
    links.sort();
    links
}

#[tokio::test]
async fn up_changes_only_what_differs_and_down_leaves_nothing() {
    let root = state_root();
    let mut topology = Topology::new("life", 1);
    let plan = topology.plan();
    let server = plan.signalling.local;
    let mut mesh = Mesh::new(root.path(), "life");

    // From nothing.
    let changes = mesh.up(&plan).await;
    assert_eq!(changes.started.len(), 8, "{changes:?}");
    assert_eq!((changes.songs.as_slice(), changes.new_secret), (&["demo".to_owned()][..], true));
    let first = mesh.status().await;
    assert!(first.ready && !first.detached, "{first:#?}");
    assert_eq!(first.rooms[0].connected.len(), 5);
    assert!(first.replication[0].replicating);
    assert_eq!(mesh.local.plan().await.unwrap().unwrap(), plan);
    let playlist = get(plan.peers[4].local, "/hls/demo/master.m3u8");
    assert!(playlist.contains("#EXTM3U"), "{playlist}");

    // Again: nothing happens, and no second session that would end the mesh.
    let again = mesh.local.apply(&plan, &ApplyOptions::default(), &Quiet).await.unwrap();
    assert!(again.changes.is_empty() && again.session.is_none(), "{again:?}");
    assert_eq!(pids(&mesh.status().await), pids(&first));

    // A file that somebody broke, and one that somebody took away: both are written again.
    let file = |node: &str| root.path().join(format!("life/config/{node}.json"));
    let whole = std::fs::read(file("peer-2")).unwrap();
    std::fs::remove_file(file("peer-2")).unwrap();
    std::fs::write(file("peer-2"), "{").unwrap();
    std::fs::remove_file(file("peer-4")).unwrap();
    let changes = mesh.up(&plan).await;
    let reloaded = ["peer-2", "peer-4"].map(str::to_owned);
    assert_eq!(changes, Changes { reloaded: reloaded.into(), ..Changes::default() });
    assert_eq!(std::fs::read(file("peer-2")).unwrap(), whole);
    assert!(file("peer-4").exists());
    assert_eq!(pids(&mesh.status().await), pids(&first));

    // A new link: its two ends and the server read their files again.
    topology.links.push((1, 5));
    let changes = mesh.up(&topology.plan()).await;
    let reloaded = ["signalling", "peer-1", "peer-5"].map(str::to_owned);
    assert_eq!(changes, Changes { reloaded: reloaded.into(), ..Changes::default() });
    assert_eq!(pids(&mesh.status().await), pids(&first));
    assert!(links(server).contains(&"peer-1 peer-5".to_owned()));

    // A link cut by a fault, and given back by `up`.
    mesh.local.fault(&Fault::CutLink(peer("peer-5"), peer("peer-1"))).await.unwrap();
    assert_eq!(mesh.status().await.cut, [(peer("peer-1"), peer("peer-5"))]);
    assert!(!links(server).contains(&"peer-1 peer-5".to_owned()));
    assert!(mesh.local.fault(&Fault::CutLink(peer("peer-1"), peer("peer-4"))).await.is_err(), "no such link");
    let changes = mesh.up(&topology.plan()).await;
    assert_eq!(changes.reloaded, ["signalling", "peer-1", "peer-5"]);
    assert!(mesh.status().await.cut.is_empty());
    assert!(links(server).contains(&"peer-1 peer-5".to_owned()));
    assert_eq!(pids(&mesh.status().await), pids(&first));

    // A dead peer is seen and told, and `up` heals it and nothing else.
    kill(first.node("peer-3").unwrap().pid.unwrap());
    let status =
        mesh.until("a dead peer", |status| status.node("peer-3").unwrap().state == NodeState::Dead).await;
    assert!(!status.ready);
    assert!(status.node("peer-3").unwrap().detail.as_deref().unwrap().contains("signal 9"));
    mesh.until("it is gone from its room", |status| status.rooms[0].connected.len() == 4).await;
    let changes = mesh.up(&topology.plan()).await;
    assert_eq!(changes, Changes { started: vec!["peer-3".into()], ..Changes::default() });
    let status = mesh.status().await;
    assert!(status.ready);
    assert_eq!(status.node("peer-3").unwrap().restarts, 1);

    // Pause and resume.
    mesh.local.fault(&Fault::Pause("peer-2".into())).await.unwrap();
    mesh.until("paused", |status| status.node("peer-2").unwrap().state == NodeState::Paused).await;
    mesh.local.fault(&Fault::Resume("peer-2".into())).await.unwrap();
    mesh.until("resumed", |status| status.ready).await;

    // A database stops and starts; its data stay.
    let edge = DatabaseName::new("edge-db-a").unwrap();
    mesh.local.fault(&Fault::StopDatabase(edge.clone())).await.unwrap();
    let status = mesh.status().await;
    assert_eq!(status.node("edge-db-a").unwrap().state, NodeState::Stopped);
    assert!(!status.replication[0].replicating && !status.ready);
    mesh.local.fault(&Fault::StartDatabase(edge)).await.unwrap();
    mesh.until("replicating again", |status| status.ready).await;
    kill(mesh.status().await.node("origin-db").unwrap().pid.unwrap());
    mesh.until("a dead database", |status| status.node("origin-db").unwrap().state == NodeState::Dead).await;
    let changes = mesh.up(&topology.plan()).await;
    assert_eq!((changes.started.as_slice(), changes.songs.len()), (&["origin-db".to_owned()][..], 0));

    // A peer leaves the file.
    topology.links.clear();
    topology.peers = 4;
    let changes = mesh.up(&topology.plan()).await;
    assert_eq!(changes.stopped, ["peer-5"]);
    assert!(mesh.status().await.node("peer-5").is_none());
    assert!(processes(&mesh.dir()).iter().all(|(_, command)| !command.contains("peer-5.json")));

    // Down.
    let mut lines = 0;
    mesh.local.logs(&["peer-1".into()], false, &mut |_, _| lines += 1).await.unwrap();
    assert!(lines > 0);
    let destroyed = mesh.local.destroy(DestroyOptions::default(), &Quiet).await.unwrap();
    assert_eq!((destroyed.stopped.len(), destroyed.orphans.len()), (7, 0), "{destroyed:?}");
    assert_eq!(processes(&mesh.dir()), []);
    mesh.session.take().unwrap().ended().await.unwrap();
    let mut left: Vec<_> = std::fs::read_dir(mesh.dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["apply.lock", "log", "pg", "secret"]);
    assert!(mesh.status().await.nodes.is_empty());

    // The data and the secret are what they were.
    let changes = mesh.up(&topology.plan()).await;
    assert_eq!((changes.started.len(), changes.songs.len(), changes.new_secret), (7, 0, false));
    mesh.local.destroy(DestroyOptions { purge: true, ..DestroyOptions::default() }, &Quiet).await.unwrap();
    assert!(!mesh.dir().exists());
    until_gone(&mesh.dir()).await;
    assert_eq!(
        mesh.local
            .destroy(DestroyOptions { purge: true, ..DestroyOptions::default() }, &Quiet)
            .await
            .unwrap(),
        hopcast_deploy::Destroyed::default()
    );
}

#[tokio::test]
async fn a_lost_secret_replaces_every_peer_and_keeps_the_data() {
    let root = state_root();
    let plan = Topology { peers: 2, ..Topology::new("secret", 2) }.plan();
    let mut mesh = Mesh::new(root.path(), "secret");
    mesh.up(&plan).await;
    let before = mesh.status().await;
    std::fs::remove_file(mesh.dir().join("secret")).unwrap();
    assert!(mesh.local.access().await.is_err());
    let changes = mesh.up(&plan).await;
    assert!(changes.new_secret);
    assert_eq!(changes.restarted, ["signalling", "peer-1", "peer-2"]);
    assert_eq!(changes.reloaded, ["origin-db", "edge-db-a"], "new passwords");
    let after = mesh.status().await;
    assert!(after.ready, "{after:#?}");
    for database in ["origin-db", "edge-db-a"] {
        assert_eq!(before.node(database).unwrap().pid, after.node(database).unwrap().pid);
    }
    let playlist = get(plan.peers[1].local, "/hls/demo/master.m3u8");
    assert!(playlist.contains("#EXTM3U"), "{playlist}");

    // A password of one's own: no peer knows the superuser's.
    let mut plan = plan;
    let path = root.path().join("password");
    std::fs::write(&path, "it's a \"secret\"\n").unwrap();
    plan.postgres.password_file = Some(path);
    let changes = mesh.up(&plan).await;
    assert_eq!(
        changes,
        Changes { reloaded: vec!["origin-db".into(), "edge-db-a".into()], ..Changes::default() }
    );
    assert_eq!(mesh.local.access().await.unwrap().origin.password, "it's a \"secret\"");
    assert!(mesh.status().await.ready);
}

#[tokio::test]
async fn a_mesh_moves_to_other_addresses() {
    let root = state_root();
    let mut topology = Topology { peers: 2, ..Topology::new("moves", 13) };
    let mut mesh = Mesh::new(root.path(), "moves");
    mesh.up(&topology.plan()).await;
    topology.block = 14;
    let changes = mesh.up(&topology.plan()).await;
    assert_eq!(changes.restarted, ["origin-db", "edge-db-a", "signalling", "peer-1", "peer-2"]);
    assert_eq!(changes.songs, [""; 0]);
    let status = mesh.status().await;
    assert!(status.ready, "{status:#?}");
    let playlist = get(topology.plan().peers[1].local, "/hls/demo/master.m3u8");
    assert!(playlist.contains("#EXTM3U"), "{playlist}");
}

#[tokio::test]
async fn edges_come_and_go() {
    let root = state_root();
    let mut topology = Topology { peers: 2, edges: 2, ..Topology::new("edges", 3) };
    let mut mesh = Mesh::new(root.path(), "edges");
    mesh.up(&topology.plan()).await;
    let status = mesh.status().await;
    assert_eq!(status.replication.len(), 2);
    assert!(status.ready, "{status:#?}");
    topology.edges = 1;
    let changes = mesh.up(&topology.plan()).await;
    assert_eq!(changes.stopped, ["edge-db-b"]);
    assert!(mesh.status().await.ready);
    topology.edges = 2;
    let changes = mesh.up(&topology.plan()).await;
    assert_eq!(changes.started, ["edge-db-b"]);
    assert!(mesh.status().await.ready);
}
