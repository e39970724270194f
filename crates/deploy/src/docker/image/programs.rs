//! The images that hold hopcast's own programs: from nothing, one file or two, and no super user.

use std::path::Path;

use serde_json::json;

use super::{ImageRole, archive::Recipe, elf, tree::Tree};
use crate::{error::Error, programs::Programs};

/// `nonroot`, as in Google's distroless images: no user of any machine.
pub(crate) const NOBODY: u32 = 65532;

/// `hopcast-peer` alone.
pub(crate) fn peer(programs: &Programs) -> Result<Recipe, Error> {
    recipe(ImageRole::Peer, &[("hopcast-peer", &programs.peer)])
}

/// `hopcast-signalling`, and `hopcast` for what has to be done inside the mesh's networks.
pub(crate) fn signalling(programs: &Programs) -> Result<Recipe, Error> {
    recipe(
        ImageRole::Signalling,
        &[("hopcast-signalling", &programs.signalling), ("hopcast", &programs.hopcast)],
    )
}

/// The first program is the entry point.
fn recipe(role: ImageRole, programs: &[(&str, &Path)]) -> Result<Recipe, Error> {
    let mut tree = Tree::default();
    for (name, path) in programs {
        elf::require_static(path)?;
        tree.copy(name, path)?;
    }
    let config = json!({
        "User": format!("{NOBODY}:{NOBODY}"),
        "WorkingDir": "/",
        "Entrypoint": [format!("/{}", programs[0].0)],
    });
    Ok(Recipe { role, tree, config })
}
