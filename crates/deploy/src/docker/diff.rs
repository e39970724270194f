//! What differs between what should be on the engine and what is. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    files::Stale,
    labels::Role,
    present::{self, Leaving, Life, Present},
    wanted::{self, Wanted},
};

/// Every change that is needed, in the order in which it is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Containers that go: of nodes that left the plan, or that are made anew.
    pub remove: Vec<Leaving>,
    /// Networks that go; id and name.
    pub remove_networks: Vec<(String, String)>,
    /// Volumes that go: of databases that left the plan.
    pub remove_volumes: Vec<String>,
    /// Networks that are made; places in [`Wanted::networks`].
    pub create_networks: Vec<usize>,
    /// Volumes that are made; places in [`Wanted::volumes`].
    pub create_volumes: Vec<usize>,
    /// Containers that are made and started; places in [`Wanted::nodes`].
    pub create: Vec<usize>,
    /// Containers that are only started; id and place.
    pub start: Vec<(String, usize)>,
    /// Containers that are scheduled again; id and place.
    pub resume: Vec<(String, usize)>,
    /// Containers that run on and reread their files; id and place.
    pub reload: Vec<(String, usize)>,
    /// Nodes among `create` that were there and are replaced.
    pub replaced: BTreeSet<String>,
    /// Nodes of `remove` that are not made again.
    pub departed: Vec<String>,
    /// Why a node is touched, where that is not plain.
    pub why: BTreeMap<String, String>,
}

impl Diff {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The summary that `up` prints.
    pub fn changes(&self, wanted: &Wanted) -> crate::Changes {
        let name = |at: usize| wanted.nodes[at].name.clone();
        let (restarted, mut started): (Vec<_>, Vec<_>) =
            self.create.iter().map(|&at| name(at)).partition(|name| self.replaced.contains(name));
        started.extend(self.start.iter().map(|&(_, at)| name(at)));
        let networks = self.create_networks.iter().map(|&at| wanted.networks[at].name.clone());
        let volumes = self.create_volumes.iter().map(|&at| wanted.volumes[at].name.clone());
        let gone = self.remove_networks.iter().map(|(_, name)| name.clone());
        crate::Changes {
            started,
            restarted,
            reloaded: self.resume.iter().chain(&self.reload).map(|&(_, at)| name(at)).collect(),
            stopped: self.departed.clone(),
            networks: networks.chain(volumes).chain(gone).chain(self.remove_volumes.clone()).collect(),
            why: self.why.clone(),
            ..crate::Changes::default()
        }
    }
}

/// Compares. `stale` are the nodes whose files are not what they should be; `only`, where it is not empty, are the
/// nodes that are made anew, and all that is touched.
#[expect(clippy::implicit_hasher, reason = "one caller, whose map is the standard library's")]
pub fn diff(wanted: &Wanted, present: &Present, stale: &HashMap<String, Stale>, only: &[String]) -> Diff {
    let mut diff = Diff::default();
    let mesh = &wanted.mesh;
    let ours: Vec<&present::Container> =
        present.of(mesh).filter(|container| container.label.role != Some(Role::Helper)).collect();
    let chosen = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let of_chosen = |uses: &dyn Fn(&wanted::Container) -> bool| {
        wanted.nodes.iter().any(|node| chosen(&node.name) && uses(&node.container))
    };

    // Networks first: what is in one that is made anew is made anew, too.
    let mut doomed: HashSet<&str> = HashSet::new();
    let ours_networks = || present.networks.iter().filter(|network| network.label.is_of(mesh));
    for network in ours_networks() {
        let place = wanted.networks.iter().position(|wanted| wanted.name == network.name);
        let stands =
            place.is_some_and(|at| wanted::network_digest(&wanted.networks[at]) == network.label.config);
        // A network can be there twice: a killed `up`, and the next one's.
        let first = ours_networks().find(|other| other.name == network.name) == Some(network);
        if (!stands || !first) && only.is_empty() {
            doomed.insert(&network.name);
            diff.remove_networks.push((network.id.clone(), network.name.clone()));
        }
    }
    for (at, network) in wanted.networks.iter().enumerate() {
        let missing = doomed.contains(network.name.as_str())
            || !ours_networks().any(|there| there.name == network.name);
        if missing && of_chosen(&|uses| uses.networks.iter().any(|(name, _)| *name == network.name)) {
            diff.create_networks.push(at);
        }
    }

    let mut by_node: HashMap<&str, &present::Container> = HashMap::new();
    for container in &ours {
        let node = container.label.node.as_str();
        let belongs = wanted.nodes.iter().any(|wanted| wanted.name == node && container.name == node);
        if belongs && !by_node.contains_key(node) {
            by_node.insert(node, container);
        } else if only.is_empty() {
            diff.remove.push(Leaving::of(container));
            diff.departed.push(container.name.clone());
        }
    }
    for (at, node) in wanted.nodes.iter().enumerate() {
        if !chosen(&node.name) {
            continue;
        }
        let Some(there) = by_node.get(node.name.as_str()) else {
            diff.create.push(at);
            continue;
        };
        if let Some(why) = replace(node, there, &doomed, stale.get(&node.name), !only.is_empty()) {
            diff.remove.push(Leaving::of(there));
            diff.replaced.insert(node.name.clone());
            diff.why.insert(node.name.clone(), why);
            diff.create.push(at);
            continue;
        }
        let id = there.id.clone();
        match there.life {
            Life::Created | Life::Exited => diff.start.push((id, at)),
            Life::Paused => {
                diff.resume.push((id.clone(), at));
                if stale.contains_key(&node.name) {
                    diff.reload.push((id, at));
                }
            }
            Life::Running | Life::Restarting if stale.contains_key(&node.name) => {
                diff.why.insert(node.name.clone(), "files".into());
                diff.reload.push((id, at));
            }
            Life::Running | Life::Restarting | Life::Gone => {}
        }
    }

    let ours_volumes = || present.volumes.iter().filter(|volume| volume.label.is_of(mesh));
    for (at, volume) in wanted.volumes.iter().enumerate() {
        if !ours_volumes().any(|there| there.name == volume.name) && chosen(&volume.node) {
            diff.create_volumes.push(at);
        }
    }
    if only.is_empty() {
        let left =
            ours_volumes().filter(|there| !wanted.volumes.iter().any(|wanted| wanted.name == there.name));
        diff.remove_volumes.extend(left.map(|volume| volume.name.clone()));
    }
    diff
}

/// Why a container cannot stay; `None`: it can.
fn replace(
    node: &wanted::Node,
    there: &present::Container,
    doomed: &HashSet<&str>,
    stale: Option<&Stale>,
    chosen: bool,
) -> Option<String> {
    if chosen {
        return Some("asked for".into());
    }
    if there.life == Life::Gone {
        return Some("broken".into());
    }
    if stale == Some(&Stale::Lost) {
        return Some("its files were lost".into());
    }
    let mut why = wanted::differing(&there.label.config, &node.digest);
    let networks = &node.container.networks;
    // Somebody, or a killed `up`, has left it without one; or the network is made anew under it.
    let attached = networks.iter().all(|(name, _)| there.networks.contains(name));
    let doomed = networks.iter().any(|(name, _)| doomed.contains(name.as_str()));
    if (!attached || doomed || there.networks.len() != networks.len())
        && !why.iter().any(|part| part == "network")
    {
        why.push("network".into());
    }
    if why.is_empty() { None } else { Some(why.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use hopcast_protocol::MeshSecret;

    use super::*;
    use crate::{
        docker::{
            image::{Image, ImageRole, Images, Origin},
            present::Label,
        },
        fixture::plan,
    };
    use hopcast_topology::Plan;

    fn images(content: &str) -> Images {
        let image = |role| Image {
            role,
            name: "image".into(),
            id: String::new(),
            content: content.into(),
            bytes: 0,
            origin: Origin::Present,
        };
        Images {
            peer: image(ImageRole::Peer),
            signalling: image(ImageRole::Signalling),
            postgres: image(ImageRole::Postgres),
            database_major: None,
        }
    }

    fn wanted_of(plan: &Plan) -> Wanted {
        wanted::wanted(plan, &MeshSecret([7; 32]), "password", &images("1"))
    }

    /// The engine after this was applied.
    fn applied(wanted: &Wanted) -> Present {
        let label = |role, node: &str, config: &str| Label {
            mesh: Some(wanted.mesh.to_string()),
            role: Some(role),
            node: node.into(),
            config: config.into(),
        };
        Present {
            containers: wanted
                .nodes
                .iter()
                .map(|node| present::Container {
                    id: format!("id of {}", node.name),
                    name: node.name.clone(),
                    label: label(node.role, &node.name, &node.digest),
                    life: Life::Running,
                    created: 1,
                    status: "Up".into(),
                    networks: node.container.networks.iter().map(|(name, _)| name.clone()).collect(),
                    published: Vec::new(),
                    image: String::new(),
                })
                .collect(),
            networks: wanted
                .networks
                .iter()
                .map(|network| present::Network {
                    id: format!("id of {}", network.name),
                    name: network.name.clone(),
                    label: label(Role::Network, &network.name, &wanted::network_digest(network)),
                    subnets: vec![network.subnet],
                })
                .collect(),
            volumes: wanted
                .volumes
                .iter()
                .map(|volume| present::Volume {
                    name: volume.name.clone(),
                    label: label(Role::Volume, &volume.node, ""),
                    major: None,
                })
                .collect(),
        }
    }

    fn compare(wanted: &Wanted, present: &Present) -> Diff {
        diff(wanted, present, &HashMap::new(), &[])
    }

    #[test]
    fn what_was_applied_does_not_differ_and_an_empty_engine_gets_everything() {
        let wanted = wanted_of(&plan());
        assert_eq!(compare(&wanted, &applied(&wanted)), Diff::default());
        let all = compare(&wanted, &Present::default());
        assert_eq!(
            (all.create.len(), all.create_networks.len(), all.create_volumes.len()),
            (wanted.nodes.len(), wanted.networks.len(), wanted.volumes.len())
        );
        assert!(all.remove.is_empty() && all.replaced.is_empty());
    }

    #[test]
    fn a_link_or_a_room_is_no_reason_for_another_container() {
        let present = applied(&wanted_of(&plan()));
        let mut other = plan();
        other.links.pop();
        other.rooms[0].name = hopcast_protocol::RoomName::new("soul").unwrap();
        let wanted = wanted_of(&other);
        assert!(compare(&wanted, &present).is_empty(), "files are compared apart");
        let stale = HashMap::from([("peer-2".to_owned(), Stale::Differ)]);
        let reload = diff(&wanted, &present, &stale, &[]);
        assert_eq!(reload.reload.len(), 1);
        assert!(reload.create.is_empty() && reload.remove.is_empty());
        let lost = HashMap::from([("peer-2".to_owned(), Stale::Lost)]);
        assert!(diff(&wanted, &present, &lost, &[]).replaced.contains("peer-2"));
    }

    #[test]
    fn a_limit_replaces_the_peers_alone_and_says_why() {
        let present = applied(&wanted_of(&plan()));
        let mut other = plan();
        other.limits.memory *= 2;
        let found = compare(&wanted_of(&other), &present);
        assert_eq!(found.replaced.iter().collect::<Vec<_>>(), ["peer-1", "peer-2", "peer-3"]);
        assert_eq!(found.why["peer-1"], "memory");
        assert!(found.departed.is_empty() && found.remove_networks.is_empty());
    }

    #[test]
    fn another_image_or_secret_replaces_every_node_that_has_it() {
        let plan = plan();
        let present = applied(&wanted_of(&plan));
        let image = wanted::wanted(&plan, &MeshSecret([7; 32]), "password", &images("2"));
        assert_eq!(compare(&image, &present).replaced.len(), image.nodes.len());
        let secret = wanted::wanted(&plan, &MeshSecret([8; 32]), "password", &images("1"));
        let found = compare(&secret, &present);
        assert_eq!(found.replaced.len(), plan.peers.len() + 1, "databases have the password only");
        assert!(found.why.values().all(|why| why == "secret"));
    }

    #[test]
    fn a_renamed_network_takes_what_is_in_it_along() {
        let present = applied(&wanted_of(&plan()));
        let mut other = plan();
        other.edges[0].network = hopcast_protocol::NetworkName::new("elsewhere").unwrap();
        let found = compare(&wanted_of(&other), &present);
        assert_eq!(found.replaced.iter().collect::<Vec<_>>(), ["edge-db-a", "peer-1"]);
        assert_eq!((found.remove_networks.len(), found.create_networks.len()), (1, 1));
    }

    #[test]
    fn dead_paused_half_made_and_departed_nodes() {
        let wanted = wanted_of(&plan());
        let mut present = applied(&wanted);
        let set = |present: &mut Present, name: &str, life| {
            present.containers.iter_mut().find(|there| there.name == name).unwrap().life = life;
        };
        set(&mut present, "peer-1", Life::Exited);
        set(&mut present, "peer-2", Life::Paused);
        let mut stranger = present.containers.last().unwrap().clone();
        (stranger.name, stranger.label.node) = ("peer-9".into(), "peer-9".into());
        present.containers.push(stranger);
        // Killed between making it and putting it into its edge's network.
        let half = present.containers.iter_mut().find(|there| there.name == "peer-3").unwrap();
        half.life = Life::Created;
        half.networks.pop_first();
        let found = compare(&wanted, &present);
        let names = |list: &[(String, usize)]| -> Vec<_> {
            list.iter().map(|&(_, at)| wanted.nodes[at].name.clone()).collect()
        };
        assert_eq!(names(&found.start), ["peer-1"]);
        assert_eq!(names(&found.resume), ["peer-2"]);
        assert!(found.replaced.contains("peer-3"));
        assert_eq!(found.departed, ["peer-9"]);
        assert_eq!(found.changes(&wanted).stopped, ["peer-9"]);
    }

    #[test]
    fn only_touches_what_was_asked_for() {
        let wanted = wanted_of(&plan());
        let mut present = applied(&wanted);
        present.containers.retain(|there| there.name != "peer-1");
        let found = diff(&wanted, &present, &HashMap::new(), &["peer-2".to_owned()]);
        assert_eq!(found.replaced.iter().collect::<Vec<_>>(), ["peer-2"]);
        assert_eq!(found.create.len(), 1);
        assert_eq!(found.remove.len(), 1);
        // What it needs is made with it, and nothing that only others need.
        let found = diff(&wanted, &Present::default(), &HashMap::new(), &["edge-db-a".to_owned()]);
        let networks: Vec<_> =
            found.create_networks.iter().map(|&at| wanted.networks[at].name.as_str()).collect();
        assert_eq!(networks, ["origin-net", "edge-a-net"]);
        assert_eq!(found.create_volumes.len(), 1);
    }

    #[test]
    fn what_is_not_labelled_is_never_touched() {
        let wanted = wanted_of(&plan());
        let mut present = applied(&wanted);
        for container in &mut present.containers {
            container.label = Label::default();
        }
        for network in &mut present.networks {
            network.label.mesh = Some("another".into());
        }
        for volume in &mut present.volumes {
            volume.label = Label::default();
        }
        let found = compare(&wanted, &present);
        assert!(
            found.remove.is_empty() && found.remove_networks.is_empty() && found.remove_volumes.is_empty()
        );
        let error = crate::docker::checks::names(&wanted, &present).unwrap_err().to_string();
        assert!(error.contains("origin-db") && error.contains("Nothing was touched"), "{error}");
    }
}
