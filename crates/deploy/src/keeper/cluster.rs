//! PostgreSQL clusters that run, through pg-embed.
//!
//! pg-embed runs `initdb` and `pg_ctl`; it also sets `-F` (fsync off: a power cut may cost the data, which `up` ingests
//! again).

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use pg_embed::{
    pg_enums::PgAuthMethod,
    pg_fetch::PgFetchSettings,
    postgres::{PgEmbed, PgSettings},
};
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;

use super::{
    capture, password,
    process::send,
    settings::{write_rules, write_settings},
};
use crate::{error::Error, postgres::Postgres, proc, wire};

/// How long `initdb`, a start or an orderly stop may take.
pub(super) const COMMAND: Duration = Duration::from_secs(60);
/// How long what is left of a killed server may take to end, and between two looks.
const LEFT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
/// The file that postgresql.conf includes.
pub(super) const INCLUDED: &str = "hopcast.conf";

/// The mesh's clusters that run.
pub(super) struct Clusters {
    dir: PathBuf,
    pub(super) running: BTreeMap<String, Running>,
}

/// Where a cluster's data are.
pub(super) fn data_dir(mesh_dir: &Path, name: &str) -> PathBuf {
    mesh_dir.join("pg").join(name)
}

/// One that runs.
pub(super) struct Running {
    pub(super) spec: wire::Cluster,
    embed: PgEmbed,
    pub(super) postmaster: u32,
    /// The superuser's, as it was last set.
    password: String,
}

impl Clusters {
    pub(super) fn new(mesh_dir: &Path) -> Self {
        Self { dir: mesh_dir.to_owned(), running: BTreeMap::new() }
    }

    fn data(&self, name: &str) -> PathBuf {
        data_dir(&self.dir, name)
    }

    /// What starting a cluster takes; the future borrows nothing, so that several can run at once.
    pub(super) fn start(
        &self,
        spec: wire::Cluster,
        postgres: Postgres,
        password: String,
    ) -> impl Future<Output = Result<Running, Error>> + Send + use<> {
        start(self.dir.clone(), self.data(spec.name.as_str()), spec, postgres, password)
    }

    /// Gives a server that runs its new rules of who may connect, and the superuser a new password; true where one of
    /// them was not yet so.
    pub(super) async fn update(&mut self, spec: &wire::Cluster, password: &str) -> Result<bool, Error> {
        let data = self.data(spec.name.as_str());
        let Some(running) = self.running.get_mut(spec.name.as_str()) else { return Ok(false) };
        let mut changed = false;
        if running.spec.hba != spec.hba {
            write_rules(&data, spec)?;
            running.spec = spec.clone();
            send(running.postmaster, Signal::HUP);
            changed = true;
        }
        if running.password != password {
            password::ensure(&data, spec, password).await?;
            password.clone_into(&mut running.password);
            changed = true;
        }
        Ok(changed)
    }
}

impl Running {
    /// Stops it in order; its clients are disconnected.
    pub(super) async fn stop(mut self) -> Result<(), Error> {
        // A postmaster that was paused would never hear of it.
        for pid in proc::children(self.postmaster).into_iter().chain([self.postmaster]) {
            send(pid, Signal::CONT);
        }
        if !proc::is_alive(self.postmaster) {
            self.embed.shutting_down = true;
            return Ok(());
        }
        self.embed
            .stop_db()
            .await
            .map_err(|error| Error::Keeper(format!("failed to stop database {}: {error}", self.spec.name)))
    }
}

/// Ends when the process has ended, whosever child it is.
pub(super) async fn exit_of(pid: u32) -> io::Result<()> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(descriptor) => {
            #[expect(
                deprecated,
                reason = "its successor is unsafe for types that may change their descriptor; an OwnedFd cannot"
            )]
            let descriptor = AsyncFd::with_interest(descriptor, tokio::io::Interest::READABLE)?;
            descriptor.readable().await.map(drop)
        }
        Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// pg-embed's handle of a cluster; nothing is started.
pub(super) async fn embed(
    data: &Path,
    user: &str,
    port: u16,
    postgres: &Postgres,
    password: &str,
) -> Result<PgEmbed, Error> {
    let settings = PgSettings {
        database_dir: data.to_owned(),
        port,
        user: user.to_owned(),
        password: password.to_owned(),
        auth_method: PgAuthMethod::ScramSha256,
        persistent: true,
        timeout: Some(COMMAND),
        migration_dir: None,
    };
    let mut fetch = PgFetchSettings::default();
    if let Postgres::Installed { .. } = postgres {
        // An accidental download fails at once.
        "http://127.0.0.1:1".clone_into(&mut fetch.host);
    }
    let failed =
        |error| Error::Keeper(format!("failed to prepare database cluster {}: {error}", data.display()));
    let mut embed = PgEmbed::new(settings, fetch).await.map_err(failed)?;
    // Its Drop would stop whatever server has this data directory.
    embed.shutting_down = true;
    if let Postgres::Installed { bin, .. } = postgres {
        embed.pg_access.init_db_exe = bin.join("initdb");
        embed.pg_access.pg_ctl_exe = bin.join("pg_ctl");
    }
    Ok(embed)
}

/// pg-embed's error with the text that it keeps to itself.
pub(super) async fn explained(what: &str, error: pg_embed::pg_errors::Error) -> Error {
    let reasons = capture::reasons().await;
    let reasons = if reasons.is_empty() { String::new() } else { format!(" {reasons}") };
    Error::Keeper(format!("failed to {what}: {error}{reasons}"))
}

/// Waits for the processes of a server whose postmaster was killed: they end by themselves, and until then a new one
/// refuses to start. Where they do not, its own words say so.
async fn until_left(data: &Path) {
    // A server that ended in order has removed it.
    if !data.join("postmaster.pid").exists() {
        return;
    }
    let deadline = tokio::time::Instant::now() + LEFT;
    while proc::works_in(data) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}

async fn start(
    mesh_dir: PathBuf,
    data: PathBuf,
    spec: wire::Cluster,
    postgres: Postgres,
    password: String,
) -> Result<Running, Error> {
    write_settings(&mesh_dir, &data, &spec)?;
    write_rules(&data, &spec)?;
    until_left(&data).await;
    let mut embed = embed(&data, &spec.user, spec.listen.port(), &postgres, &password).await?;
    if let Err(error) = embed.start_db().await {
        embed.shutting_down = true;
        let last = super::logs::last_line(&mesh_dir, spec.name.as_str());
        let Error::Keeper(mut text) = explained(&format!("start database {}", spec.name), error).await else {
            unreachable!("`explained` makes this kind only")
        };
        if let Some(last) = last {
            text = format!("{text} (last line of its log: {last})");
        }
        text.push_str("; if its data are damaged, `hopcast down --purge` removes the mesh with them");
        return Err(Error::Keeper(text));
    }
    let postmaster = proc::postmaster(&data)
        .ok_or_else(|| Error::Keeper(format!("database {} ended right after its start", spec.name)))?;
    tracing::info!(database = %spec.name, postmaster, "started");
    password::ensure(&data, &spec, &password).await?;
    Ok(Running { spec, embed, postmaster, password })
}
