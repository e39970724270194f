//! Data that databases have already: PostgreSQL reads only what its own major version has written.

use std::collections::{BTreeMap, BTreeSet};

use hopcast_protocol::MeshName;

use super::shelf;
use crate::{
    docker::{Engine, labels::Role, present::Present},
    error::Error,
};

/// The data of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Data {
    /// Whose they are.
    pub(crate) node: String,
    /// The major version of PostgreSQL that made them.
    pub(crate) major: u32,
}

/// The data of a mesh, as far as the labels of its volumes tell their version, or else the images of its databases' containers.
pub(crate) async fn of(engine: &Engine, present: &Present, mesh: &MeshName) -> Result<Vec<Data>, Error> {
    let mut majors = BTreeMap::new();
    for image in unlabelled(present, mesh) {
        if let Some(major) = shelf::find(engine, image).await?.and_then(|found| found.major) {
            majors.insert(image, major);
        }
    }
    Ok(known(present, mesh, &majors))
}

/// The images of the containers of databases whose volumes carry no version.
fn unlabelled<'a>(present: &'a Present, mesh: &MeshName) -> BTreeSet<&'a str> {
    let volumes = present.volumes.iter().filter(|volume| volume.label.is_of(mesh) && volume.major.is_none());
    volumes.filter_map(|volume| image(present, mesh, &volume.label.node)).collect()
}

/// The image of a database's container.
fn image<'a>(present: &'a Present, mesh: &MeshName, node: &str) -> Option<&'a str> {
    let container = present.containers.iter().find(|container| {
        container.label.is_of(mesh)
            && container.label.role == Some(Role::Database)
            && container.label.node == node
    });
    container.map(|container| container.image.as_str()).filter(|image| !image.is_empty())
}

/// `majors` are the versions of images, by their ids.
fn known(present: &Present, mesh: &MeshName, majors: &BTreeMap<&str, u32>) -> Vec<Data> {
    let volumes = present.volumes.iter().filter(|volume| volume.label.is_of(mesh));
    let data = volumes.filter_map(|volume| {
        let node = &volume.label.node;
        let major = volume.major.or_else(|| majors.get(image(present, mesh, node)?).copied())?;
        Some(Data { node: node.clone(), major })
    });
    data.collect()
}

/// A PostgreSQL of this major version, where that is known, reads the data. `what` has it: `image postgres:17-alpine`.
pub(crate) fn check(data: &[Data], major: Option<u32>, what: &str) -> Result<(), Error> {
    let other = |data: &&Data| major.is_some_and(|major| major != data.major);
    let (Some(Data { node, major: made_by }), Some(major)) = (data.iter().find(other), major) else {
        return Ok(());
    };
    Err(Error::Missing(format!(
        "the data of {node} were made by PostgreSQL {made_by}, but {what} has {major}: name an image with {made_by} in docker.postgres_image (and `docker pull` it), or install PostgreSQL {made_by} here, or remove the data with `hopcast down --backend docker` (songs are ingested anew)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::present::{Container, Label, Life, Volume};

    fn label(mesh: &str, role: Role, node: &str) -> Label {
        Label { mesh: Some(mesh.into()), role: Some(role), node: node.into(), config: String::new() }
    }

    fn volume(mesh: &str, node: &str, major: Option<u32>) -> Volume {
        Volume { name: format!("{mesh}-{node}"), label: label(mesh, Role::Volume, node), major }
    }

    fn container(mesh: &str, node: &str, image: &str) -> Container {
        Container {
            id: String::new(),
            name: node.into(),
            label: label(mesh, Role::Database, node),
            life: Life::Exited,
            created: 0,
            status: String::new(),
            networks: BTreeSet::new(),
            published: Vec::new(),
            image: image.into(),
        }
    }

    #[test]
    fn a_volumes_label_counts_and_else_the_image_of_its_container() {
        let mesh = MeshName::new("m").unwrap();
        let present = Present {
            volumes: vec![
                volume("m", "origin-db", Some(15)),
                volume("m", "edge-db-a", None),
                volume("m", "edge-db-b", None),
                volume("other", "origin-db", Some(16)),
            ],
            containers: vec![
                container("m", "origin-db", "sha256:17"),
                container("m", "edge-db-a", "sha256:15"),
                container("other", "edge-db-b", "sha256:16"),
            ],
            networks: Vec::new(),
        };
        assert_eq!(unlabelled(&present, &mesh), BTreeSet::from(["sha256:15"]), "nothing else is looked at");
        let majors = BTreeMap::from([("sha256:15", 15)]);
        let data = |node: &str| Data { node: node.into(), major: 15 };
        assert_eq!(known(&present, &mesh, &majors), [data("origin-db"), data("edge-db-a")]);
    }

    #[test]
    fn an_image_of_another_version_is_refused_with_what_to_do() {
        let data =
            [(15, "origin-db"), (17, "edge-db-a")].map(|(major, node)| Data { node: node.into(), major });
        let error = check(&data[..1], Some(17), "image postgres:17-alpine").unwrap_err().to_string();
        for part in
            ["origin-db were made by PostgreSQL 15", "postgres:17-alpine has 17", "down --backend docker"]
        {
            assert!(error.contains(part), "{error}");
        }
        let error = check(&data, Some(15), "image i").unwrap_err().to_string();
        assert!(error.contains("edge-db-a"), "all of them have to fit: {error}");
        check(&data[..1], Some(15), "image i").unwrap();
        check(&data, None, "an image that does not say what it has").unwrap();
        check(&[], Some(17), "image i").unwrap();
    }
}
