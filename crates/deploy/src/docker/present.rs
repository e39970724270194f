//! What is on the engine: three lists, whatever the size of the mesh. The engine's labels are the truth.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use bollard::{
    models::{ContainerSummary, ContainerSummaryStateEnum},
    query_parameters::{ListContainersOptionsBuilder, ListNetworksOptions, ListVolumesOptions},
};
use hopcast_protocol::MeshName;

use super::{
    Engine, engine,
    labels::{CONFIG, MAJOR, MESH, NODE, ROLE, Role},
    place::Subnet,
};
use crate::Error;

/// Everything on an engine, ours or not: names and addresses of others can be in the way.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Present {
    /// All containers.
    pub containers: Vec<Container>,
    /// All networks.
    pub networks: Vec<Network>,
    /// All volumes.
    pub volumes: Vec<Volume>,
}

/// What the labels of an object say. Empty where it carries none of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// Its mesh; `None`: it is not ours.
    pub mesh: Option<String>,
    /// What it is there for.
    pub role: Option<Role>,
    /// Its node.
    pub node: String,
    /// The digest that it was made with.
    pub config: String,
}

impl Label {
    fn read(labels: Option<&HashMap<String, String>>) -> Self {
        let get = |name| labels.and_then(|labels| labels.get(name)).cloned();
        Self {
            mesh: get(MESH),
            role: get(ROLE).and_then(|role| Role::parse(&role)),
            node: get(NODE).unwrap_or_default(),
            config: get(CONFIG).unwrap_or_default(),
        }
    }

    /// It is of this mesh.
    pub fn is_of(&self, mesh: &MeshName) -> bool {
        self.mesh.as_deref() == Some(mesh.as_str())
    }
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Made and never started.
    Created,
    /// Running.
    Running,
    /// Being started again by the engine.
    Restarting,
    /// Running, but not scheduled.
    Paused,
    /// Ended.
    Exited,
    /// Being removed, or broken.
    Gone,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub label: Label,
    /// How it is.
    pub life: Life,
    /// Unix seconds.
    pub created: u64,
    /// `Up 5 minutes (healthy)`.
    pub status: String,
    /// The networks that it is in.
    pub networks: BTreeSet<String>,
    /// What this machine's addresses forward to it.
    pub published: Vec<SocketAddr>,
    /// The id of its image.
    pub image: String,
}

/// A container that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it has endpoints.
    pub networks: BTreeSet<String>,
}

impl Leaving {
    /// As it was found.
    pub fn of(container: &Container) -> Self {
        // One that does not run has left its networks.
        let runs = matches!(container.life, Life::Running | Life::Paused | Life::Restarting);
        Self {
            id: container.id.clone(),
            name: container.name.clone(),
            networks: if runs { container.networks.clone() } else { BTreeSet::new() },
        }
    }
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub label: Label,
    /// Its IPv4 addresses.
    pub subnets: Vec<Subnet>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub label: Label,
    /// The major version of PostgreSQL whose data it holds, as its label says.
    pub major: Option<u32>,
}

impl Present {
    /// Asks the engine.
    pub async fn read(engine: &Engine) -> Result<Self, Error> {
        let (containers, networks, volumes) = tokio::try_join!(
            containers(engine, HashMap::new()),
            async {
                let list = |docker: bollard::Docker| async move {
                    docker.list_networks(None::<ListNetworksOptions>).await
                };
                engine.call("list the networks", engine::LOOK, list).await
            },
            async {
                let list = |docker: bollard::Docker| async move {
                    docker.list_volumes(None::<ListVolumesOptions>).await
                };
                engine.call("list the volumes", engine::LOOK, list).await
            },
        )?;
        let networks = networks
            .into_iter()
            .map(|network| Network {
                label: Label::read(network.labels.as_ref()),
                id: network.id.unwrap_or_default(),
                name: network.name.unwrap_or_default(),
                subnets: network
                    .ipam
                    .and_then(|ipam| ipam.config)
                    .unwrap_or_default()
                    .iter()
                    .filter_map(|config| Subnet::parse(config.subnet.as_deref()?))
                    .collect(),
            })
            .collect();
        let volumes = volumes
            .volumes
            .unwrap_or_default()
            .into_iter()
            .map(|volume| Volume {
                label: Label::read(Some(&volume.labels)),
                major: volume.labels.get(MAJOR).and_then(|major| major.parse().ok()),
                name: volume.name,
            })
            .collect();
        Ok(Self { containers, networks, volumes })
    }

    /// The containers of a mesh.
    pub fn of<'a>(&'a self, mesh: &'a MeshName) -> impl Iterator<Item = &'a Container> {
        self.containers.iter().filter(|container| container.label.is_of(mesh))
    }

    /// Something of this mesh is there.
    pub fn has(&self, mesh: &MeshName) -> bool {
        self.count(mesh) > 0
    }

    /// How many objects of this mesh are there.
    pub fn count(&self, mesh: &MeshName) -> usize {
        let labels = self.containers.iter().map(|container| &container.label);
        let labels = labels.chain(self.networks.iter().map(|network| &network.label));
        labels
            .chain(self.volumes.iter().map(|volume| &volume.label))
            .filter(|label| label.is_of(mesh))
            .count()
    }
}

/// Containers, dead ones too, that pass a filter.
#[expect(clippy::implicit_hasher, reason = "filters are what the engine's client takes")]
pub async fn containers(
    engine: &Engine,
    filters: HashMap<String, Vec<String>>,
) -> Result<Vec<Container>, Error> {
    let list = move |docker: bollard::Docker| async move {
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        docker.list_containers(Some(options)).await
    };
    let listed = engine.call("list the containers", engine::LOOK, list).await?;
    Ok(listed.into_iter().map(container).collect())
}

/// Seconds since 1970.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Seconds since 1970 of a time as the engine writes it, `2026-01-31T23:59:59.123Z`.
pub fn unix_seconds(text: &str) -> Option<u64> {
    let (date, time) = text.split_once('T')?;
    let numbers = |text: &str, by: char| -> Option<Vec<u64>> {
        text.split(by).map(|part| part.get(..2.max(part.len().min(4)))?.parse().ok()).collect()
    };
    let date = numbers(date, '-')?;
    let time = numbers(time.get(..8)?, ':')?;
    let (&[year, month, day], &[hour, minute, second]) = (&date[..], &time[..]) else { return None };
    // Days from the civil date (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, of_era) = (shifted / 400, shifted % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day.checked_sub(1)?;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    Some(days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second)
}

fn container(summary: ContainerSummary) -> Container {
    use ContainerSummaryStateEnum as State;
    let name = summary.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    Container {
        label: Label::read(summary.labels.as_ref()),
        id: summary.id.unwrap_or_default(),
        name: name.trim_start_matches('/').to_owned(),
        image: summary.image_id.unwrap_or_default(),
        life: match summary.state {
            Some(State::RUNNING) => Life::Running,
            Some(State::CREATED) => Life::Created,
            Some(State::PAUSED) => Life::Paused,
            Some(State::RESTARTING) => Life::Restarting,
            Some(State::EXITED) => Life::Exited,
            _ => Life::Gone,
        },
        created: summary.created.unwrap_or_default().max(0) as u64,
        status: summary.status.unwrap_or_default(),
        networks: summary
            .network_settings
            .and_then(|settings| settings.networks)
            .unwrap_or_default()
            .into_keys()
            .collect(),
        published: summary
            .ports
            .unwrap_or_default()
            .iter()
            .filter_map(|port| Some((port.ip.as_ref()?.parse::<IpAddr>().ok()?, port.public_port?).into()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_engine_in_seconds() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_seconds("2026-11-26T13:35:36.123456789Z"), Some(1_795_700_136));
        assert_eq!(unix_seconds("0001-01-01T00:00:00Z"), None, "the engine's word for never");
        assert_eq!(unix_seconds("soon"), None);
    }
}
