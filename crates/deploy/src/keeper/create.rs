//! New clusters: `initdb` through pg-embed, and copies.
//!
//! One cluster is initialised and copied for the others, which is several times faster than an `initdb` for each. They are
//! made under another name, so that one that was interrupted is never taken for whole.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use futures_util::future::try_join_all;

use super::cluster::{COMMAND, INCLUDED, data_dir, embed, explained};
use crate::{
    error::{Doing as _, Error},
    postgres::Postgres,
    state::write_new,
    wire,
};

/// Makes those of the clusters that do not exist yet.
pub(super) async fn missing(
    mesh_dir: &Path,
    wanted: &[wire::Cluster],
    postgres: &Postgres,
    password: &str,
) -> Result<(), Error> {
    let missing: Vec<&wire::Cluster> = wanted
        .iter()
        .filter(|spec| !data_dir(mesh_dir, spec.name.as_str()).join("PG_VERSION").exists())
        .collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let unfinished = |spec: &wire::Cluster| mesh_dir.join("pg").join(format!(".new-{}", spec.name));
    for spec in &missing {
        for left in [unfinished(spec), data_dir(mesh_dir, spec.name.as_str())] {
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
            try_join_all((1..).zip(missing.iter().skip(1)).map(|(number, spec)| {
                let (template, copy, resetwal) = (&template, unfinished(spec), &resetwal);
                async move { clone(template, &copy, number, resetwal).await }
            }))
            .await?;
            tracing::info!(copies = missing.len() - 1, "copied");
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
        let data = data_dir(mesh_dir, spec.name.as_str());
        fs::rename(unfinished(spec), &data).doing("name", data)?;
    }
    Ok(())
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
