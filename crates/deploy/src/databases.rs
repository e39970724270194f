//! The databases of a mesh whose servers run: schema, roles, replication, songs. The same on every backend.

use std::{io::Read as _, net::SocketAddr, path::Path, time::Duration};

use futures_util::future::{join_all, try_join_all};
use hopcast_protocol::{DatabaseName, MeshSecret};
use hopcast_store::{
    Admin, EdgeSetup, Fingerprint, Ingested, OriginSetup, Prepared,
    roles::{GATEWAY, READER, REPL},
};
use hopcast_topology::Plan;

use crate::{Access, Error, Progress, Replication, Step};

/// How long an edge may take to replicate: the first copy of every song is in it.
const REPLICATE: Duration = Duration::from_secs(120);
/// How long new songs may take to the edges.
const CARRY: Duration = Duration::from_secs(60);

/// How long a database may take to say how it is.
const ANSWER: Duration = Duration::from_secs(3);
/// Most bytes of a password file that are read.
const PASSWORD: u64 = 4096;

/// What [`Backend::apply`](crate::Backend::apply) could not read of the files that the plan names, songs first.
pub fn unreadable(plan: &Plan) -> impl Iterator<Item = Error> {
    let songs = plan.songs.iter().filter_map(|song| {
        let source = hopcast_store::probe(&song.path).err()?;
        Some(Error::NoInput { whose: format!("song {}", song.name), path: song.path.clone(), source })
    });
    songs.chain(given_password(plan).err())
}

/// Looked at before anything is changed, because the songs' turn comes last.
pub(crate) fn inputs(plan: &Plan) -> Result<(), Error> {
    unreadable(plan).next().map_or(Ok(()), Err)
}

/// The superuser's password: POSTGRES_PASSWORD, else the file's `password_file`, else derived from the secret.
pub(crate) fn superuser_password(plan: &Plan, secret: &MeshSecret) -> Result<String, Error> {
    Ok(given_password(plan)?
        .unwrap_or_else(|| secret.password(plan.origin.name.as_str(), &plan.postgres.user)))
}

/// The superuser's password where somebody has chosen one.
fn given_password(plan: &Plan) -> Result<Option<String>, Error> {
    if let Ok(password) = std::env::var("POSTGRES_PASSWORD")
        && !password.is_empty()
    {
        return Ok(Some(password));
    }
    plan.postgres.password_file.as_deref().map(read_password).transpose()
}

fn read_password(path: &Path) -> Result<String, Error> {
    let mut text = String::new();
    std::fs::File::open(path).and_then(|file| file.take(PASSWORD).read_to_string(&mut text)).map_err(
        |source| Error::NoInput { whose: "postgres.password_file".to_owned(), path: path.to_owned(), source },
    )?;
    match text.lines().next().unwrap_or_default() {
        "" => Err(Error::State(format!("{} is empty: write the database password into it", path.display()))),
        password => Ok(password.to_owned()),
    }
}

/// The operator's connections.
pub(crate) struct Databases {
    pub(crate) origin: Admin,
    pub(crate) edges: Vec<(DatabaseName, Admin)>,
}

/// Creates and migrates what is missing, sets roles and replication. `origin_at` is where the edges' own servers reach the
/// origin, which need not be where we do; `patience` is how long a server that has just started may refuse.
pub(crate) async fn set_up(
    plan: &Plan,
    access: &Access,
    origin_at: SocketAddr,
    patience: Duration,
) -> Result<Databases, Error> {
    let all = std::iter::once(&access.origin).chain(&access.edges);
    try_join_all(all.map(|access| Admin::ensure_database(access, patience))).await?;
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
    let (shared, origin_host) = (&origin, origin_at.ip().to_string());
    let origin_host = origin_host.as_str();
    let set_up = access.edges.iter().zip(edges).map(|(at, mut edge)| {
        let gateway_password = access.secret.password(at.name.as_str(), GATEWAY);
        let (repl_password, reader_password) = (&repl_password, &reader_password);
        async move {
            let setup = EdgeSetup {
                mesh: &plan.mesh,
                edge: &at.name,
                origin_host,
                origin_port: origin_at.port(),
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
    pub(crate) async fn ingest(
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
            if let Some(file) = Fingerprint::of(&song.path).await.map_err(hopcast_store::Error::from)? {
                let (limit, origin) = (plan.limits.max_segment, &mut self.origin);
                let known =
                    hopcast_store::ingest_known(origin, &song.name, file, &song.rooms, &key, limit).await?;
                if let Some(ingested) = known {
                    if !matches!(ingested, Ingested::Unchanged { .. }) {
                        stored.push(song.name.to_string());
                    }
                    continue;
                }
            }
            let mut encoded = 0;
            let encoding = |at| {
                if let hopcast_store::Progress::Encoding { seconds } = at {
                    encoded = seconds as u64;
                    progress.step(Step::Encoded, encoded, 0);
                }
            };
            let prepared =
                Prepared::from_path(&song.path, song.name.clone(), plan.limits.max_segment, encoding)
                    .await
                    .map_err(hopcast_store::Error::from)?;
            if encoded > 0 {
                progress.step(Step::Encoded, encoded, encoded);
            }
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
    pub(crate) async fn replicate(&self, plan: &Plan, progress: &dyn Progress) -> Result<(), Error> {
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

/// How every edge replicates.
pub(crate) async fn replication(plan: &Plan, access: &Access) -> Vec<Replication> {
    let late = || format!("no answer within {} s", ANSWER.as_secs());
    let origin = match tokio::time::timeout(ANSWER, Admin::connect(&access.origin)).await {
        Ok(Ok(origin)) => origin,
        Ok(Err(error)) => return no_replication(plan, &error.to_string()),
        Err(_) => return no_replication(plan, &format!("{}: {}", access.origin.name, late())),
    };
    let (origin, mesh) = (&origin, &plan.mesh);
    join_all(access.edges.iter().map(|at| async move {
        let look = async {
            let edge = Admin::connect(at).await?;
            edge.replication_state(origin, mesh, &at.name).await
        };
        let (replicating, detail) = match tokio::time::timeout(ANSWER, look).await {
            Ok(Ok(state)) => (state.is_replicating(), state.to_string()),
            Ok(Err(error)) => (false, error.to_string()),
            Err(_) => (false, late()),
        };
        Replication { edge: at.name.clone(), replicating, detail }
    }))
    .await
}

/// No edge can be asked, for one reason.
pub(crate) fn no_replication(plan: &Plan, why: &str) -> Vec<Replication> {
    let edge = |edge: &hopcast_topology::plan::Edge| Replication {
        edge: edge.name.clone(),
        replicating: false,
        detail: why.to_owned(),
    };
    plan.edges.iter().map(edge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::plan;

    #[test]
    fn a_file_of_the_plan_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = plan();
        inputs(&plan).unwrap();
        plan.songs.push(hopcast_topology::plan::Song {
            name: hopcast_protocol::SongName::new("demo").unwrap(),
            path: dir.path().into(),
            rooms: Vec::new(),
        });
        inputs(&plan).unwrap();
        plan.songs[0].path = dir.path().join("dmeo");
        let error = inputs(&plan).unwrap_err();
        assert!(matches!(&error, Error::NoInput { path, .. } if *path == plan.songs[0].path), "{error}");
        assert!(error.to_string().contains("dmeo, song demo: "), "{error}");
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        plan.songs[0].path = pipe;
        let error = inputs(&plan).unwrap_err().to_string();
        assert!(error.contains("it is a pipe"), "{error}");
        plan.songs.clear();
        plan.postgres.password_file = Some(dir.path().join("password"));
        let error = inputs(&plan).unwrap_err();
        assert!(matches!(&error, Error::NoInput { .. }), "{error}");
        assert!(error.to_string().contains("password_file"), "{error}");
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
