//! The databases' image from this machine's own PostgreSQL, for where no registry can be reached.
//!
//! It holds the server and the programs that make, ask and stop one, the modules that hopcast uses, every library that
//! they need (as `ldd` says), the time zones, the locale C.UTF-8, a shell, and an entry point that understands the official
//! image's variables. Files stay at the paths that they have here, because the programs were built to look there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use super::{
    ImageRole,
    archive::Recipe,
    elf,
    tree::{Owner, ROOT, Tree},
};
use crate::{
    error::{Doing as _, Error},
    postgres::Postgres,
};

/// The user `postgres` in the image, as in the official image (Debian's).
const DATABASE: Owner = Owner(999);
/// Where the cluster is, unless PGDATA says otherwise.
const DATA: &str = "var/lib/postgresql/data";
const ENTRYPOINT: &str = include_str!("entrypoint.sh");
const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\npostgres:x:999:999:PostgreSQL:/var/lib/postgresql:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\npostgres:x:999:\nnogroup:x:65534:\n";

const PROGRAMS: [&str; 6] = ["postgres", "initdb", "pg_ctl", "pg_isready", "psql", "pg_controldata"];
/// What the entry point runs, and `locale`, which initdb asks for the collations.
const TOOLS: [&str; 8] = ["sh", "cat", "chmod", "id", "locale", "mkdir", "mv", "rm"];
/// Modules that a server loads without being asked, and those that hopcast asks for.
const MODULES: [&str; 5] = ["plpgsql", "dict_snowball", "libpqwalreceiver", "pgoutput", "postgres_fdw"];
/// The extensions among them.
const EXTENSIONS: [&str; 2] = ["plpgsql", "postgres_fdw"];
/// Where Debian's and Fedora's PostgreSQL look for time zones; others have their own below `share`.
const ZONES: &str = "/usr/share/zoneinfo";
const LOCALE: &str = "/usr/lib/locale/C.utf8";

/// The recipe, and the major version in it.
pub(crate) fn recipe(postgres: &Postgres) -> Result<(Recipe, u32), Error> {
    let Postgres::Installed { bin, major } = postgres else {
        return Err(Error::Missing(
            "no database image: PostgreSQL is not installed here, so none can be made, and pg-embed's download holds no modules: install it (Debian: `apt-get install postgresql`), or `docker pull` the image that docker.postgres_image names".into(),
        ));
    };
    let mut tree = Tree::default();
    let (modules, share) = (directory(bin, "--pkglibdir")?, directory(bin, "--sharedir")?);

    let mut binaries: Vec<PathBuf> = PROGRAMS.iter().map(|name| bin.join(name)).collect();
    binaries.extend(chosen_modules(&modules)?);
    let tools = TOOLS.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
    binaries.extend(elf::libraries(&[&binaries[..], &tools].concat())?);
    for path in &binaries {
        place(&mut tree, path)?;
    }
    for (name, path) in TOOLS.iter().zip(&tools) {
        tree.copy(&format!("usr/bin/{name}"), path)?;
    }
    // Merged directories (/bin is /usr/bin) are links here too: programs name each other by either path.
    for name in ["sbin", "lib", "lib64"] {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            tree.link(name, &target.to_string_lossy());
        }
    }
    tree.link("bin", "usr/bin");
    copy_all(&mut tree, &share, &|path| {
        let below = path.strip_prefix(&share).unwrap_or(path);
        let name = below.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = below.starts_with("extension") && below.components().count() > 1;
        !below.starts_with("man")
            && !below.starts_with("contrib")
            && (!extension || EXTENSIONS.iter().any(|wanted| is_of(&name, wanted)))
    })?;
    if Path::new(ZONES).is_dir() {
        let twice = [Path::new(ZONES).join("posix"), Path::new(ZONES).join("right")];
        copy_all(&mut tree, Path::new(ZONES), &|path| {
            !twice.iter().any(|skipped| path.starts_with(skipped))
        })?;
    }
    let locale = Path::new(LOCALE).is_dir();
    if locale {
        copy_all(&mut tree, Path::new(LOCALE), &|_| true)?;
    }
    around(&mut tree);

    let config = json!({
        "User": "999:999",
        "WorkingDir": "/",
        "Env": [
            format!("PATH={}:/usr/local/bin:/usr/bin:/bin", bin.display()),
            format!("LANG={}", if locale { "C.UTF-8" } else { "C" }),
            format!("PG_MAJOR={major}"),
            format!("PGDATA=/{DATA}"),
        ],
        "Entrypoint": ["docker-entrypoint.sh"],
        "Cmd": ["postgres"],
        "ExposedPorts": { "5432/tcp": {} },
        // Fast shutdown: PostgreSQL's manual, "Shutting Down the Server".
        "StopSignal": "SIGINT",
    });
    Ok((Recipe { role: ImageRole::Postgres, tree, config }, *major))
}

/// What the server finds around it.
fn around(tree: &mut Tree) {
    tree.text("etc/passwd", PASSWD, 0o644);
    tree.text("etc/group", GROUP, 0o644);
    tree.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644);
    tree.text("usr/local/bin/docker-entrypoint.sh", ENTRYPOINT, 0o755);
    tree.directory("docker-entrypoint-initdb.d", 0o755, ROOT);
    tree.directory("tmp", 0o1777, ROOT);
    // What is mounted here in memory takes this mode, but is root's: open, as in the official image.
    tree.directory("run/postgresql", 0o3777, DATABASE);
    tree.link("var/run", "/run");
    tree.directory("var/lib/postgresql", 0o1777, DATABASE);
    // An empty volume takes owner and mode from here; open, so that another user may have it, as in the official image.
    tree.directory(DATA, 0o1777, DATABASE);
}

/// What `pg_config` says about a directory.
fn directory(bin: &Path, option: &str) -> Result<PathBuf, Error> {
    let program = bin.join("pg_config");
    let output = Command::new(&program).arg(option).output().map_err(|error| {
        Error::Missing(format!(
            "{} does not run ({error}): it says which files the database image needs; set HOPCAST_POSTGRES to a whole installation",
            program.display()
        ))
    })?;
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if path.is_dir() {
        Ok(path)
    } else {
        Err(Error::Missing(format!(
            "{} {option} says `{}`, which is no directory: mend that installation, or set HOPCAST_POSTGRES to another",
            program.display(),
            path.display()
        )))
    }
}

/// [`MODULES`], and the conversions between encodings.
fn chosen_modules(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    for name in MODULES {
        let path = dir.join(format!("{name}.so"));
        if !path.is_file() {
            return Err(Error::Missing(format!(
                "PostgreSQL's module {} is missing: install what has it (Debian: `apt-get install postgresql`)",
                path.display()
            )));
        }
    }
    let mut chosen = Vec::new();
    for entry in fs::read_dir(dir).doing("list", dir)? {
        let path = entry.doing("list", dir)?.path();
        let Some(name) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".so"))
        else {
            continue;
        };
        let conversion = name.contains("_and_") || name.starts_with("euc2004_");
        if conversion || MODULES.contains(&name) {
            chosen.push(path);
        }
    }
    chosen.sort();
    Ok(chosen)
}

/// `postgres_fdw.control`, `postgres_fdw--1.0.sql`.
fn is_of(file: &str, extension: &str) -> bool {
    file.strip_prefix(extension).is_some_and(|rest| rest.starts_with('.') || rest.starts_with("--"))
}

/// A program of this machine, from the usual directories or PATH.
fn find(name: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    [PathBuf::from("/bin"), "/usr/bin".into()]
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|path| crate::programs::is_executable(path))
        .ok_or_else(|| {
            Error::Missing(format!(
                "the program {name} is not in PATH: the database image's entry point or initdb needs it"
            ))
        })
}

/// Copies a file to where it is on this machine, links in its directory's path resolved.
fn place(tree: &mut Tree, path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = fs::canonicalize(parent).doing("find", parent)?;
    tree.copy(&parent.join(name).to_string_lossy(), path)
}

/// Copies a directory. A link inside it stays one where it leads to somewhere below; others become what they lead to, and
/// those that lead nowhere are left out.
fn copy_all(tree: &mut Tree, dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<(), Error> {
    for entry in fs::read_dir(dir).doing("list", dir)? {
        let path = entry.doing("list", dir)?.path();
        if !wanted(&path) {
            continue;
        }
        let name = path.to_string_lossy();
        let target = fs::read_link(&path).ok();
        if let Some(target) = target.filter(|target| target.components().count() == 1) {
            tree.link(&name, &target.to_string_lossy());
        } else if path.is_dir() {
            copy_all(tree, &path, wanted)?;
        } else if path.is_file() {
            tree.copy(&name, &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_an_extension() {
        assert!(is_of("plpgsql.control", "plpgsql"));
        assert!(is_of("postgres_fdw--1.0--1.1.sql", "postgres_fdw"));
        assert!(!is_of("plpgsql_check.control", "plpgsql"));
    }

    #[test]
    fn holds_what_a_server_needs_and_no_more() {
        let found = Postgres::find(Path::new("/nonexistent"), &[]).unwrap();
        let Postgres::Installed { bin, .. } = &found else { panic!("not installed") };
        let (recipe, _) = recipe(&found).unwrap();
        let share = directory(bin, "--sharedir").unwrap();
        let has = |path: &Path| recipe.tree.has(&path.to_string_lossy());
        assert!(has(&bin.join("postgres")) && has(&share.join("postgres.bki")));
        assert!(has(&share.join("extension/postgres_fdw.control")));
        assert!(!has(&share.join("extension/pgcrypto.control")) && !has(&share.join("man")));
        for path in
            ["etc/passwd", "run/postgresql", "var/lib/postgresql/data", "usr/local/bin/docker-entrypoint.sh"]
        {
            assert!(recipe.tree.has(path), "{path}");
        }
    }
}
