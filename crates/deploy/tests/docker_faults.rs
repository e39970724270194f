//! The faults of the backend trait on a real engine, each seen by `status` or by the signalling server, each healed.

mod containers;

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use containers::{docker, run, static_programs};
use hopcast_deploy::{
    ApplyOptions, Backend as _, DestroyOptions, Docker, Fault, NodeState, Quiet, State, Status,
};
use hopcast_protocol::{DatabaseName, MeshName, PeerName};
use hopcast_topology::{Env, Plan, Source};
use tokio::time::{Duration, Instant, sleep};

/// Four peers in a ring, one edge; names, addresses and ports that no other test has.
fn plan() -> Plan {
    let song = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../songs/demo").canonicalize().unwrap();
    let text = format!(
        "[mesh]\nname = \"df\"\n[peers]\ncount = 4\nprefix = \"df-peer\"\nlinks = {{ shape = \"ring\" }}\n\
         [[rooms]]\nname = \"rock\"\npeers = [\"*\"]\n\
         [[edges]]\nname = \"df-edge\"\nnetwork = \"df-edge-net\"\npeers = [\"df-peer-1\"]\n\
         [origin]\nname = \"df-origin\"\nnetwork = \"df-origin-net\"\n\
         [[songs]]\npath = \"{}\"\nrooms = [\"*\"]\n\
         [signalling]\nlisten = \"127.0.0.1:18590\"\n[local]\nnetwork = \"127.84.90.0/24\"\ndoor = \"127.0.0.1:18591\"\n\
         [docker]\nnetwork = \"df-net\"\nsubnet = \"10.84.128.0/21\"\nsignalling_name = \"df-signalling\"\n\
         peer_image = \"hopcast-test-peer\"\nsignalling_image = \"hopcast-test-signalling\"\npostgres_image = \"hopcast-test-no-such-postgres\"\n",
        song.display()
    );
    match hopcast_topology::load(Source::new("topology.toml", &text), &Env::default()) {
        Ok(loaded) => loaded.plan,
        Err(report) => panic!("{}", report.render(false, 100)),
    }
}

/// Takes the mesh down also where the test fails.
struct Mesh(Docker);

impl Drop for Mesh {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        // `run`, not `docker`: a second panic would end the process.
        let all = [
            (["ps", "-aq"].as_slice(), ["rm", "-fv"].as_slice()),
            (&["network", "ls", "-q"], &["network", "rm"]),
            (&["volume", "ls", "-q"], &["volume", "rm", "-f"]),
        ];
        for (list, remove) in all {
            let listed = run(&[list, &["--filter", "label=io.hopcast.mesh=df"]].concat());
            let listed = String::from_utf8_lossy(&listed.stdout);
            let there: Vec<_> = listed.split_whitespace().collect();
            if !there.is_empty() {
                run(&[remove, &there].concat());
            }
        }
    }
}

impl Mesh {
    async fn fault(&self, fault: Fault) {
        self.0.fault(&fault).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let end = Instant::now() + containers::PATIENCE;
        loop {
            let status = self.0.status().await.unwrap();
            if is_so(&status) {
                return status;
            }
            assert!(Instant::now() < end, "not in time: {what}: {status:#?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn up(&self, plan: &Plan) -> hopcast_deploy::Changes {
        self.0.apply(plan, &ApplyOptions::default(), &Quiet).await.unwrap().changes
    }
}

fn state(status: &Status, name: &str) -> NodeState {
    status.nodes.iter().find(|node| node.name == name).expect("the plan has it").state
}

fn connected(status: &Status) -> usize {
    status.rooms.iter().map(|room| room.connected.len()).sum()
}

#[tokio::test]
async fn every_fault_is_seen_and_healed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let plan = plan();
    let backend = Docker::new(State::new(folder.path(), MeshName::new("df").unwrap()));
    let mesh = Mesh(backend.with_programs(static_programs()));
    mesh.up(&plan).await;
    let peer = |number: usize| PeerName::new(format!("df-peer-{number}")).unwrap();
    let edge = DatabaseName::new("df-edge").unwrap();

    mesh.fault(Fault::Pause("df-peer-2".into())).await;
    let seen = |status: &Status| state(status, "df-peer-2") == NodeState::Paused && connected(status) == 3;
    assert!(!mesh.until("paused, and given up by the server", seen).await.ready);
    mesh.fault(Fault::Resume("df-peer-2".into())).await;
    mesh.until("it goes on", |status| status.ready).await;

    mesh.fault(Fault::CutLink(peer(1), peer(2))).await;
    assert_eq!(mesh.0.status().await.unwrap().cut, [(peer(1), peer(2))]);
    assert!(mesh.0.fault(&Fault::CutLink(peer(1), peer(3))).await.is_err(), "there is no such link");
    mesh.fault(Fault::RestoreLink(peer(1), peer(2))).await;
    assert_eq!(mesh.0.status().await.unwrap().cut, []);

    mesh.fault(Fault::StopDatabase(edge.clone())).await;
    let seen = |status: &Status| {
        state(status, "df-edge") != NodeState::Running && !status.replication[0].replicating
    };
    mesh.until("the edge is down", seen).await;
    mesh.fault(Fault::StartDatabase(edge)).await;
    mesh.until("it replicates again", |status| status.ready).await;

    mesh.fault(Fault::Kill("df-peer-3".into())).await;
    mesh.until("the kill is seen", |status| {
        state(status, "df-peer-3") != NodeState::Running && !status.ready
    })
    .await;
    assert_eq!(mesh.up(&plan).await.started, ["df-peer-3"]);
    mesh.until("all is well", |status| status.ready).await;
    assert!(mesh.0.fault(&Fault::Kill("nobody".into())).await.is_err());

    mesh.0.destroy(DestroyOptions { purge: true, ..DestroyOptions::default() }, &Quiet).await.unwrap();
    assert_eq!(docker(&["ps", "-aq", "--filter", "label=io.hopcast.mesh=df"]), "");
}
