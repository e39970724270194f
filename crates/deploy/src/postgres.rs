//! Where PostgreSQL's own programs are. It runs `postgres --version` and nothing else.
//!
//! In this order: `$HOPCAST_POSTGRES` (a directory with `initdb` and `pg_ctl`), `/usr/lib/postgresql/*/bin` (the newest),
//! PATH, what pg-embed has downloaded before; then pg-embed's download, where `HOPCAST_POSTGRES_DOWNLOAD` allows it.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use crate::{error::Error, programs::is_executable};

/// The view of a subscription's failures, `pg_stat_subscription_stats`, came with 15.
pub(crate) const OLDEST: u32 = 15;
/// How to come by one.
const HOW: &str = "install it (Debian: `apt-get install postgresql`), or set HOPCAST_POSTGRES to a directory with initdb and pg_ctl, or allow a download with HOPCAST_POSTGRES_DOWNLOAD=1";

/// Which PostgreSQL a mesh uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Postgres {
    /// Installed programs.
    Installed {
        /// The directory of `initdb`, `pg_ctl` and `postgres`.
        bin: PathBuf,
        /// Major version.
        major: u32,
    },
    /// pg-embed fetches them into its cache.
    Download,
}

impl Postgres {
    /// One of its programs, if it has it: pg-embed's packages have only those that a server needs.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Installed { bin, .. } => Some(bin.join(name)).filter(|path| is_executable(path)),
            Self::Download => None,
        }
    }

    /// Finds it. `data` are the clusters that exist already: their version decides where several are installed.
    pub fn find(cache: &Path, data: &[PathBuf]) -> Result<Self, Error> {
        let wanted = data.iter().find_map(|dir| data_version(dir));
        check(Self::pick(cache, wanted)?, wanted)
    }

    /// The one of this major version, else the first, where none is of that.
    pub(crate) fn pick(cache: &Path, wanted: Option<u32>) -> Result<Self, Error> {
        if let Some(dir) = env::var_os("HOPCAST_POSTGRES").filter(|dir| !dir.is_empty()) {
            let bin = absolute(dir.into()).ok_or_else(|| {
                Error::Missing("HOPCAST_POSTGRES is relative, and there is no current directory".into())
            })?;
            let major = version(&bin).ok_or_else(|| {
                Error::Missing(format!(
                    "HOPCAST_POSTGRES is {}, which has no working initdb, pg_ctl and postgres",
                    bin.display()
                ))
            })?;
            return check(Self::Installed { bin, major }, None);
        }
        let mut first = None;
        for (bin, named) in candidates(cache, env::var_os("PATH").as_deref()) {
            // To ask one takes tens of milliseconds: no more of them than need be, and not the one that made the clusters,
            // where its directory is named after it.
            let made_them = named.is_some() && named == wanted && is_complete(&bin);
            let major = if made_them { named } else { version(&bin) };
            let Some(major) = major.filter(|&major| major >= OLDEST) else { continue };
            let found = Self::Installed { bin, major };
            if wanted.is_none_or(|wanted| wanted == major) {
                return Ok(found);
            }
            first.get_or_insert(found);
        }
        if let Some(found) = first {
            return Ok(found);
        }
        if env::var_os("HOPCAST_POSTGRES_DOWNLOAD").is_some_and(|value| value == "1") {
            return Ok(Self::Download);
        }
        Err(Error::Missing(format!("no PostgreSQL {OLDEST} or newer is installed: {HOW}")))
    }
}

fn check(found: Postgres, wanted: Option<u32>) -> Result<Postgres, Error> {
    match (&found, wanted) {
        (Postgres::Installed { major, bin }, _) if *major < OLDEST => Err(Error::Missing(format!(
            "PostgreSQL {OLDEST} or newer is needed, but {} has {major}: {HOW}",
            bin.display()
        ))),
        (Postgres::Installed { major, bin }, Some(wanted)) if *major != wanted => {
            let install = if wanted < OLDEST { String::new() } else { format!("install {wanted}, or ") };
            Err(Error::Missing(format!(
                "the mesh's databases were made by PostgreSQL {wanted}, but {} has {major}: {install}delete them with `hopcast down --purge` (songs are ingested anew)",
                bin.display()
            )))
        }
        _ => Ok(found),
    }
}

/// The major version that made a cluster.
fn data_version(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join("PG_VERSION")).ok()?.trim().parse().ok()
}

/// The keeper, which runs the programs, works in another directory.
fn absolute(dir: PathBuf) -> Option<PathBuf> {
    std::path::absolute(dir).ok()
}

/// Directories that may have them, each with the major version that its name says. `path` is PATH.
fn candidates(cache: &Path, path: Option<&OsStr>) -> Vec<(PathBuf, Option<u32>)> {
    let mut installed: Vec<(u32, PathBuf)> = children(Path::new("/usr/lib/postgresql"))
        .filter_map(|dir| Some((dir.file_name()?.to_str()?.parse().ok()?, dir.join("bin"))))
        .collect();
    installed.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let path: Vec<_> = path.map(|path| env::split_paths(path).collect()).unwrap_or_default();
    // <cache>/pg-embed/<os>/<architecture>/<version>/bin
    let mut cached: Vec<_> = children(&cache.join("pg-embed"))
        .flat_map(|os| children(&os))
        .flat_map(|architecture| children(&architecture))
        .map(|version| version.join("bin"))
        .collect();
    cached.sort_by(|a, b| b.cmp(a));
    let named = installed.into_iter().map(|(version, bin)| (bin, Some(version)));
    let all = named.chain(path.into_iter().chain(cached).map(|bin| (bin, None)));
    all.filter_map(|(bin, version)| Some((absolute(bin)?, version))).collect()
}

fn children(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path())
}

/// In Debian's PATH there may be wrappers of some of them: all three must be there.
fn is_complete(bin: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"].iter().all(|name| is_executable(&bin.join(name)))
}

/// The major version of the programs in a directory; `None` where one is missing or does not run.
fn version(bin: &Path) -> Option<u32> {
    if !is_complete(bin) {
        return None;
    }
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn parse_version(text: &str) -> Option<u32> {
    let number = text.split(") ").nth(1)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(parse_version("something else"), None);
    }

    #[test]
    fn one_that_is_too_old_is_refused_also_where_it_was_asked_for() {
        let found = |major| Postgres::Installed { bin: "/opt/pg/bin".into(), major };
        let error = check(found(OLDEST - 1), None).unwrap_err().to_string();
        assert!(error.contains("PostgreSQL 15 or newer") && error.contains("/opt/pg/bin has 14"), "{error}");
        assert_eq!(check(found(OLDEST), None).unwrap(), found(OLDEST));
    }

    #[test]
    fn a_relative_directory_means_the_one_here() {
        let here = env::current_dir().unwrap();
        let path = env::join_paths(["pg/bin", "/opt/pg/bin"]).unwrap();
        let found = candidates(Path::new("cache"), Some(&path));
        for bin in [here.join("pg/bin"), "/opt/pg/bin".into()] {
            assert!(found.contains(&(bin, None)), "{found:?}");
        }
        assert_eq!(absolute("pg/bin".into()), Some(here.join("pg/bin")));
    }

    #[test]
    fn data_of_another_version_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("PG_VERSION"), "9\n").unwrap();
        let found = Postgres::find(dir.path(), &[dir.path().to_owned()]);
        let error = found.unwrap_err().to_string();
        assert!(error.contains("made by PostgreSQL 9") && !error.contains("install 9"), "{error}");
    }
}
