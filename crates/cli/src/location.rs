//! Which topology file is meant: `--file`, else `topology.toml` in the working directory or the nearest one above it, as
//! cargo finds its manifest.

use std::path::{Path, PathBuf};

use crate::exit::{self, Failure};

/// The name that is searched for.
pub(crate) const FILE_NAME: &str = "topology.toml";

/// The file to read. A `--file` is taken as it is, there or not: reading it tells.
pub(crate) fn topology_file(given: Option<&Path>, working: &Path) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let found = working.ancestors().map(|folder| folder.join(FILE_NAME)).find(|path| path.is_file());
    let Some(found) = found else {
        return Err(Failure::new(
            exit::NO_INPUT,
            format!(
                "there is no {FILE_NAME} in {} or above it; write one with `hopcast init`, or name one with --file",
                working.display()
            ),
        ));
    };
    // The short form is the one that the user would type, and what errors show.
    Ok(found.strip_prefix(working).map(Path::to_owned).unwrap_or(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_above_is_found_and_named_as_short_as_it_goes() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(topology_file(None, &deep).unwrap_err().code, exit::NO_INPUT);
        let top = root.path().join(FILE_NAME);
        std::fs::write(&top, "").unwrap();
        assert_eq!(topology_file(None, &deep).unwrap(), top);
        std::fs::write(root.path().join("a").join(FILE_NAME), "").unwrap();
        assert_eq!(topology_file(None, &deep).unwrap(), root.path().join("a").join(FILE_NAME));
        assert_eq!(topology_file(None, root.path()).unwrap(), Path::new(FILE_NAME));
        assert_eq!(topology_file(Some(Path::new("x.toml")), &deep).unwrap(), Path::new("x.toml"));
    }
}
