//! PostgreSQL clusters, through pg-embed.
//!
//! pg-embed runs `initdb` and `pg_ctl`; it also sets `-F` (fsync off: a power cut may cost the data, which `up` ingests
//! again). New clusters are initialised once and copied, which is several times faster than an `initdb` for each; they are
//! made under another name, so that one that was interrupted is never taken for whole.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::{fd::AsRawFd as _, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::try_join_all;
use pg_embed::{
    pg_enums::PgAuthMethod,
    pg_fetch::PgFetchSettings,
    postgres::{PgEmbed, PgSettings},
};
use rustix::process::Signal;
use tokio::io::unix::AsyncFd;
use tokio_postgres::{NoTls, error::SqlState};

use super::{capture, process::send};
use crate::{
    error::{Doing as _, Error},
    postgres::Postgres,
    proc,
    state::write_new,
    wire,
};

/// How long `initdb`, a start or an orderly stop may take.
const COMMAND: Duration = Duration::from_secs(60);
/// How long a connection of the keeper's own may take.
const CONNECT: Duration = Duration::from_secs(10);
/// The file that postgresql.conf includes.
const INCLUDED: &str = "hopcast.conf";
/// The map of pg_ident.conf that lets the keeper's user in, over the socket in the data directory.
const MAP: &str = "hopcast";

/// The mesh's clusters that run.
pub(super) struct Clusters {
    dir: PathBuf,
    pub(super) running: BTreeMap<String, Running>,
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
        self.dir.join("pg").join(name)
    }

    /// Makes those of the clusters that do not exist yet.
    pub(super) async fn create_missing(
        &self,
        wanted: &[wire::Cluster],
        postgres: &Postgres,
        password: &str,
    ) -> Result<Vec<String>, Error> {
        let missing: Vec<&wire::Cluster> =
            wanted.iter().filter(|spec| !self.data(spec.name.as_str()).join("PG_VERSION").exists()).collect();
        let Some(first) = missing.first() else { return Ok(Vec::new()) };
        let unfinished = |spec: &wire::Cluster| self.dir.join("pg").join(format!(".new-{}", spec.name));
        for spec in &missing {
            for left in [unfinished(spec), self.data(spec.name.as_str())] {
                match fs::remove_dir_all(&left) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error).doing("remove", left);
                    }
                    _ => {}
                }
            }
        }
        match postgres.program("pg_resetwal") {
            Some(resetwal) => {
                let template = unfinished(first);
                initialise(&template, first, postgres, password).await?;
                tracing::info!(database = %first.name, "initialised");
                for (number, spec) in (1..).zip(missing.iter().skip(1)) {
                    clone(&template, &unfinished(spec), number, &resetwal).await?;
                    tracing::info!(database = %spec.name, "copied");
                }
            }
            // Copies would have one identity.
            None => {
                try_join_all(missing.iter().map(|spec| {
                    let data = unfinished(spec);
                    async move { initialise(&data, spec, postgres, password).await }
                }))
                .await?;
            }
        }
        for spec in &missing {
            let data = self.data(spec.name.as_str());
            fs::rename(unfinished(spec), &data).doing("name", data)?;
        }
        Ok(missing.iter().map(|spec| spec.name.to_string()).collect())
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
            ensure_password(&data, spec, password).await?;
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

async fn embed(
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
async fn explained(what: &str, error: pg_embed::pg_errors::Error) -> Error {
    let reasons = capture::reasons().await;
    let reasons = if reasons.is_empty() { String::new() } else { format!(" {reasons}") };
    Error::Keeper(format!("failed to {what}: {error}{reasons}"))
}

async fn initialise(
    data: &Path,
    spec: &wire::Cluster,
    postgres: &Postgres,
    password: &str,
) -> Result<(), Error> {
    let mut embed = embed(data, &spec.user, spec.listen.port(), postgres, password).await?;
    if let Some(initdb) = postgres.program("initdb") {
        embed.pg_access.init_db_exe = without_sync(data, &initdb)?;
    }
    let result = embed.setup().await;
    // The password is readable for everyone, in a directory that is not; still, both have served.
    for file in [&embed.pg_access.pw_file_path, &data.with_extension("initdb")] {
        let _ = fs::remove_file(file);
    }
    if let Err(error) = result {
        return Err(explained(&format!("initialise database {}", spec.name), error).await);
    }
    let conf = data.join("postgresql.conf");
    let mut file = OpenOptions::new().append(true).open(&conf).doing("open", &conf)?;
    writeln!(file, "\ninclude_if_exists = '{INCLUDED}'").doing("write", &conf)
}

/// initdb waits for the disk at its end, which takes longer than its work; a server that runs without fsync has no use for
/// it. pg-embed passes no options on, so the option is put in by a script.
fn without_sync(data: &Path, initdb: &Path) -> Result<PathBuf, Error> {
    let script = data.with_extension("initdb");
    let program = initdb.display().to_string().replace('\'', r"'\''");
    write_new(&script, format!("#!/bin/sh\nexec '{program}' --no-sync \"$@\"\n").as_bytes(), 0o700)?;
    Ok(script)
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
        return Err(Error::Keeper(text));
    }
    let postmaster = proc::postmaster(&data)
        .ok_or_else(|| Error::Keeper(format!("database {} ended right after its start", spec.name)))?;
    tracing::info!(database = %spec.name, postmaster, "started");
    ensure_password(&data, &spec, &password).await?;
    Ok(Running { spec, embed, postmaster, password })
}

fn write_settings(mesh_dir: &Path, data: &Path, spec: &wire::Cluster) -> Result<(), Error> {
    let ours = [
        ("unix_socket_directories", ".".to_owned()),
        ("unix_socket_permissions", "0700".into()),
        ("logging_collector", "on".into()),
        ("log_directory", mesh_dir.join("log").display().to_string()),
        ("log_filename", format!("{}.log", spec.name)),
        ("log_file_mode", "0644".into()),
        ("log_rotation_age", "0".into()),
        ("log_rotation_size", "0".into()),
        ("log_line_prefix", "%m [%p] %q%u@%d ".into()),
        ("cluster_name", format!("hopcast {}", spec.name)),
    ];
    let mut text = spec.settings.clone();
    text.push('\n');
    for (name, value) in ours {
        text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
    }
    write_new(&data.join(INCLUDED), text.as_bytes(), 0o600)
}

fn write_rules(data: &Path, spec: &wire::Cluster) -> Result<(), Error> {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    // The socket lies in the data directory, where only the cluster's own user can reach it; the kernel vouches for the
    // user. The keeper needs it to set a password anew after the mesh's secret was lost.
    let local = format!("local all {} peer map={MAP}\n", quoted(&spec.user));
    write_new(&data.join("pg_hba.conf"), (local + &spec.hba).as_bytes(), 0o600)?;
    let me = crate::account::user_name(rustix::process::geteuid().as_raw());
    let ident = format!("{MAP} {} {}\n", quoted(&me), quoted(&spec.user));
    write_new(&data.join("pg_ident.conf"), ident.as_bytes(), 0o600)
}

/// The superuser's password is the wanted one, also where the cluster was made with another.
async fn ensure_password(data: &Path, spec: &wire::Cluster, password: &str) -> Result<(), Error> {
    let mut config = tokio_postgres::Config::new();
    config.user(&spec.user).dbname("postgres").application_name("hopcast-keeper").connect_timeout(CONNECT);
    let failed = |error: &dyn std::fmt::Display| {
        Error::Keeper(format!("failed to log in to database {} as {}: {error}", spec.name, spec.user))
    };
    let within = |future| tokio::time::timeout(CONNECT, future);
    let mut tcp = config.clone();
    tcp.hostaddr(spec.listen.ip()).port(spec.listen.port()).password(password);
    let refused = match within(tcp.connect(NoTls)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error,
        Err(late) => return Err(failed(&late)),
    };
    if refused.code() != Some(&SqlState::INVALID_PASSWORD) {
        return Err(failed(&reason(&refused)));
    }
    // Through a descriptor of the directory: the path of a Unix socket may have 107 bytes only.
    let handle = fs::File::open(data).doing("open", data)?;
    config.host_path(format!("/proc/self/fd/{}", handle.as_raw_fd())).port(spec.listen.port());
    let (client, connection) = match tokio::time::timeout(CONNECT, config.connect(NoTls)).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => {
            return Err(Error::Keeper(format!(
                "database {} does not know {} ({}): it was made for another `postgres.user`; put that back, or delete the data with `hopcast down --purge`",
                spec.name,
                spec.user,
                reason(&error)
            )));
        }
        Err(late) => return Err(failed(&late)),
    };
    let driver = tokio::spawn(connection);
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let user = spec.user.replace('"', "\"\"");
    let change = format!("ALTER ROLE \"{user}\" PASSWORD '{verifier}'");
    let changed = tokio::time::timeout(CONNECT, client.batch_execute(&change)).await;
    driver.abort();
    match changed {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(failed(&reason(&error))),
        Err(late) => Err(failed(&late)),
    }
}

fn reason(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// Copies a fresh cluster and gives the copy an identity of its own.
///
/// The identity (`system_identifier`) is part of the names of the slots that an edge's table synchronisation makes on the
/// origin, so two edges with one identity would take each other's. It is the first field of pg_control, and stands in the
/// WAL as well, which pg_resetwal writes anew, as it does for PostgreSQL's own pg_createsubscriber. A fresh cluster that was
/// shut down has nothing in its WAL to lose.
async fn clone(template: &Path, copy: &Path, number: u64, resetwal: &Path) -> Result<(), Error> {
    let (from, to) = (template.to_owned(), copy.to_owned());
    tokio::task::spawn_blocking(move || {
        // pg_resetwal makes the WAL anew.
        copy_tree(&from, &to, &|path| !(path.is_file() && path.starts_with(from.join("pg_wal"))))?;
        let path = to.join("global/pg_control");
        let mut control = fs::read(&path).doing("read", &path)?;
        let identity = control.first_chunk_mut::<8>().ok_or_else(|| {
            Error::Keeper(format!("{} is too short: the new cluster is broken", path.display()))
        })?;
        *identity = u64::from_ne_bytes(*identity).wrapping_add(number).to_ne_bytes();
        fs::write(&path, control).doing("write", path)
    })
    .await
    .map_err(|error| Error::Keeper(format!("failed to copy a database cluster: {error}")))??;
    // `-f`: the checksum of pg_control is of the old identity.
    let run = tokio::process::Command::new(resetwal)
        .arg("-f")
        .arg(copy)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let failed =
        |why: String| Error::Keeper(format!("failed to copy a database cluster: pg_resetwal: {why}"));
    match tokio::time::timeout(COMMAND, run).await {
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(late) => Err(failed(late.to_string())),
    }
}

/// Copies a directory of plain files and directories, as far as it is wanted.
fn copy_tree(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<(), Error> {
    fs::DirBuilder::new().mode(0o700).create(to).doing("create", to)?;
    for entry in fs::read_dir(from).doing("read", from)? {
        let entry = entry.doing("read", from)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if !wanted(&source) {
            continue;
        }
        if entry.file_type().doing("look at", &source)?.is_dir() {
            copy_tree(&source, &target, wanted)?;
        } else {
            fs::copy(&source, &target).doing("copy", &source)?;
        }
    }
    Ok(())
}
