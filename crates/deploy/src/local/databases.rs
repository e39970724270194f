//! The databases of a mesh whose servers run: schema, roles, replication, songs.

use std::{io::Read as _, path::Path, time::Duration};

use futures_util::future::try_join_all;
use hopcast_protocol::{DatabaseName, MeshSecret};
use hopcast_store::{
    Admin, EdgeSetup, Ingested, OriginSetup, Prepared, hba,
    roles::{GATEWAY, READER, REPL},
    settings,
};
use hopcast_topology::Plan;

use crate::{Access, Error, Progress, Step, error::Doing as _, wire};

/// How long a server that has just started may refuse.
const CONNECT: Duration = Duration::from_secs(30);
/// How long an edge may take to replicate: the first copy of every song is in it.
const REPLICATE: Duration = Duration::from_secs(120);
/// How long new songs may take to the edges.
const CARRY: Duration = Duration::from_secs(60);

/// Most bytes of a password file that are read.
const PASSWORD: u64 = 4096;

/// The clusters of a plan, the origin first.
pub(super) fn clusters(plan: &Plan) -> Vec<wire::Cluster> {
    // Who deploys, and the edges' own servers, dial from the system's choice: on loopback that is 127.0.0.1.
    let here = [hba::Block::from(std::net::IpAddr::from([127, 0, 0, 1]))];
    let owner = hba::Owner {
        database: &plan.postgres.database,
        user: &plan.postgres.user,
        from: &here,
        socket: false,
    };
    let cluster = |name: &DatabaseName, listen: std::net::SocketAddr, hba: String, purpose| wire::Cluster {
        name: name.clone(),
        listen,
        user: plan.postgres.user.clone(),
        hba,
        settings: settings::text(purpose, settings::Listen::Addresses(&[listen.ip()]), Some(listen.port())),
    };
    let gateways = plan.edges.iter().map(|edge| edge.peers.len() as u32).sum();
    let purpose = settings::Purpose::Origin { edges: plan.edges.len() as u32, gateways };
    let origin = cluster(&plan.origin.name, plan.origin.local, hba::origin(&owner, &here), purpose);
    let edges = plan.edges.iter().map(|edge| {
        let addresses: Vec<_> =
            edge.peers.iter().filter_map(|peer| Some(plan.peer(peer.as_str())?.local.ip())).collect();
        let purpose = settings::Purpose::Edge { gateways: edge.peers.len() as u32 };
        cluster(&edge.name, edge.local, hba::edge(&owner, &addresses), purpose)
    });
    std::iter::once(origin).chain(edges).collect()
}

/// The superuser's password: POSTGRES_PASSWORD, else the file's `password_file`, else derived from the secret.
pub(super) fn superuser_password(plan: &Plan, secret: &MeshSecret) -> Result<String, Error> {
    if let Ok(password) = std::env::var("POSTGRES_PASSWORD")
        && !password.is_empty()
    {
        return Ok(password);
    }
    if let Some(path) = &plan.postgres.password_file {
        return read_password(path);
    }
    Ok(secret.password(plan.origin.name.as_str(), &plan.postgres.user))
}

fn read_password(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(PASSWORD).read_to_string(&mut text))
        .doing("read", path)?;
    match text.lines().next().unwrap_or_default() {
        "" => Err(Error::State(format!("{} is empty: write the database password into it", path.display()))),
        password => Ok(password.to_owned()),
    }
}

/// The operator's connections.
pub(super) struct Databases {
    pub(super) origin: Admin,
    pub(super) edges: Vec<(DatabaseName, Admin)>,
}

/// Creates and migrates what is missing, sets roles and replication.
pub(super) async fn set_up(plan: &Plan, access: &Access) -> Result<Databases, Error> {
    let all = std::iter::once(&access.origin).chain(&access.edges);
    try_join_all(all.map(|access| Admin::ensure_database(access, CONNECT))).await?;
    let (mut origin, edges) = tokio::try_join!(
        Admin::connect(&access.origin),
        try_join_all(access.edges.iter().map(Admin::connect))
    )?;
    let password = |role: &str| access.secret.password(plan.origin.name.as_str(), role);
    let (repl_password, reader_password) = (password(REPL), password(READER));
    let names: Vec<_> = plan.edges.iter().map(|edge| edge.name.clone()).collect();
    origin
        .setup_origin(&OriginSetup {
            mesh: &plan.mesh,
            edges: &names,
            repl_password: &repl_password,
            reader_password: &reader_password,
        })
        .await?;
    let shared = &origin;
    let set_up = access.edges.iter().zip(edges).map(|(at, mut edge)| {
        let gateway_password = access.secret.password(at.name.as_str(), GATEWAY);
        let (repl_password, reader_password) = (&repl_password, &reader_password);
        async move {
            let setup = EdgeSetup {
                mesh: &plan.mesh,
                edge: &at.name,
                origin_host: &access.origin.host,
                origin_port: access.origin.port,
                origin_database: &access.origin.database,
                repl_password,
                reader_password,
                gateway_password: &gateway_password,
            };
            edge.setup_edge(shared, &setup).await?;
            Ok::<_, Error>((at.name.clone(), edge))
        }
    });
    let edges = try_join_all(set_up).await?;
    Ok(Databases { origin, edges })
}

impl Databases {
    /// Stores the plan's songs; the names of those that were not there, or not like this.
    pub(super) async fn ingest(
        &mut self,
        plan: &Plan,
        secret: &MeshSecret,
        progress: &dyn Progress,
    ) -> Result<Vec<String>, Error> {
        let key = secret.manifest_key();
        let total = plan.songs.len() as u64;
        let mut stored = Vec::new();
        for (done, song) in plan.songs.iter().enumerate() {
            progress.step(Step::Songs, done as u64, total);
            let encoding = |at| {
                if let hopcast_store::Progress::Encoding { seconds } = at {
                    progress.note(&format!("song {}: {seconds:.0} s encoded", song.name));
                }
            };
            let prepared =
                Prepared::from_path(&song.path, song.name.clone(), plan.limits.max_segment, encoding)
                    .await
                    .map_err(hopcast_store::Error::from)?;
            let bytes_in_all = prepared.bytes();
            let storing = |at| {
                if let hopcast_store::Progress::Storing { bytes, .. } = at {
                    progress.step(Step::Bytes, bytes, bytes_in_all);
                }
            };
            for warning in prepared.warnings() {
                progress.note(&format!("song {}: {warning}", song.name));
            }
            let ingested =
                hopcast_store::ingest(&mut self.origin, &prepared, &song.rooms, &key, storing).await?;
            if !matches!(ingested, Ingested::Unchanged { .. }) {
                stored.push(song.name.to_string());
            }
        }
        progress.step(Step::Songs, total, total);
        Ok(stored)
    }

    /// Waits until every edge replicates and has all songs.
    pub(super) async fn replicate(&self, plan: &Plan, progress: &dyn Progress) -> Result<(), Error> {
        let total = self.edges.len() as u64;
        let done = std::sync::atomic::AtomicU64::new(0);
        progress.step(Step::Replicating, 0, total);
        try_join_all(self.edges.iter().map(|(name, edge)| async {
            edge.wait_replicating(&self.origin, &plan.mesh, name, REPLICATE).await?;
            let done = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
            progress.step(Step::Replicating, done, total);
            Ok::<_, Error>(())
        }))
        .await?;
        let behind = self.origin.wait_carried(CARRY).await?;
        if !behind.is_empty() {
            progress.note(&format!("still copying songs: {}", behind.join(", ")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;

    #[test]
    fn an_edge_admits_its_own_gateways_and_the_origin_no_peer() {
        let clusters = clusters(&plan());
        let names: Vec<_> = clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        assert_eq!(names, ["origin-db", "edge-db-a", "edge-db-b"]);
        assert!(!clusters[0].hba.contains("127.80.240."), "{}", clusters[0].hba);
        assert!(clusters[1].hba.contains("127.80.240.1/32") && !clusters[1].hba.contains("127.80.240.3/32"));
        assert!(clusters[2].hba.contains("127.80.240.3/32") && !clusters[2].hba.contains("127.80.240.1/32"));
        for cluster in &clusters {
            assert!(cluster.settings.contains(&format!("listen_addresses = '{}'", cluster.listen.ip())));
        }
    }

    #[test]
    fn a_password_files_first_line_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "s3cret\n").unwrap();
        assert_eq!(read_password(&path).unwrap(), "s3cret");
        std::fs::write(&path, "s3cret\r\nnotes\n").unwrap();
        assert_eq!(read_password(&path).unwrap(), "s3cret");
        std::fs::write(&path, "\n").unwrap();
        assert!(read_password(&path).unwrap_err().to_string().contains("is empty"));
    }
}
