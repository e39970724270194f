//! What is in the way: names and addresses of others, looked at before anything is made.

use std::collections::HashSet;

use hopcast_protocol::MeshName;

use super::{
    labels::MESH,
    place::Subnet,
    present::{Label, Present},
    wanted::{Network, Wanted},
};
use crate::{Error, holder::Listeners};

/// A route of this machine: the device and the addresses behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// `eth0`.
    pub device: String,
    /// Never the default route.
    pub subnet: Subnet,
}

/// Characters of the shortest name of a container: moby's `RestrictedNameChars` and one more.
const SHORTEST: usize = 2;

/// Whose an object is, for people.
fn owner(label: &Label) -> String {
    match &label.mesh {
        Some(mesh) => format!("belongs to mesh {mesh}"),
        None => format!("is not hopcast's (it has no label {MESH})"),
    }
}

/// Nothing of others has a name that this mesh needs, no two of its own parts share one, and the engine takes them all.
pub fn names(wanted: &Wanted, present: &Present) -> Result<(), Error> {
    let mesh = &wanted.mesh;
    let mut seen = HashSet::new();
    for node in &wanted.nodes {
        if !seen.insert(&node.name) {
            return Err(Error::State(format!(
                "two nodes of mesh {mesh} are called {}: rename one in the topology file",
                node.name
            )));
        }
        // Networks may have such names, and volumes begin with the mesh's.
        if node.name.len() < SHORTEST {
            return Err(Error::State(format!(
                "Docker takes no container with a name as short as {}: give it at least {SHORTEST} characters in the topology file",
                node.name
            )));
        }
    }
    let mut taken = Vec::new();
    for container in present.containers.iter().filter(|container| !container.label.is_of(mesh)) {
        if wanted.nodes.iter().any(|node| node.name == container.name) {
            taken.push(format!("container {} {}", container.name, owner(&container.label)));
        }
    }
    for network in present.networks.iter().filter(|network| !network.label.is_of(mesh)) {
        if wanted.networks.iter().any(|wanted| wanted.name == network.name) {
            taken.push(format!("network {} {}", network.name, owner(&network.label)));
        }
    }
    for volume in present.volumes.iter().filter(|volume| !volume.label.is_of(mesh)) {
        if wanted.volumes.iter().any(|wanted| wanted.name == volume.name) {
            taken.push(format!("volume {} {}", volume.name, owner(&volume.label)));
        }
    }
    let Some(first) = taken.first() else { return Ok(()) };
    let more =
        if taken.len() > 1 { format!("; so are {} more names", taken.len() - 1) } else { String::new() };
    Err(Error::State(format!(
        "the name is taken: {first}{more}. Nothing was touched. Remove it, or choose other names in the topology file (docker.signalling_name for the signalling server; PREFIX, PEER_NETWORK, EDGE1_NETWORK, EDGE2_NETWORK and ORIGIN_NETWORK do so as well)"
    )))
}

/// No network of others, and no route of this machine, has addresses that this mesh's networks need.
pub fn subnets(
    networks: &[Network],
    mesh: &MeshName,
    present: &Present,
    routes: &[Route],
) -> Result<(), Error> {
    let clash = |wanted: &Network, what: String, subnet: Subnet| {
        Error::State(format!(
            "network {} of mesh {mesh} needs {}, but {what} has {subnet}: choose another docker.subnet in the topology file",
            wanted.name, wanted.subnet
        ))
    };
    for wanted in networks {
        for network in present.networks.iter().filter(|network| !network.label.is_of(mesh)) {
            if let Some(&subnet) = network.subnets.iter().find(|subnet| subnet.overlaps(wanted.subnet)) {
                let whose = match &network.label.mesh {
                    Some(other) => format!("network {} of mesh {other}", network.name),
                    None => format!("network {}", network.name),
                };
                return Err(clash(wanted, whose, subnet));
            }
        }
        // The bridges of the engine's networks, this mesh's own among them, were looked at above.
        let foreign = routes
            .iter()
            .filter(|route| !present.networks.iter().any(|network| network.subnets.contains(&route.subnet)));
        if let Some(route) = foreign.into_iter().find(|route| route.subnet.overlaps(wanted.subnet)) {
            return Err(clash(wanted, format!("this machine's {}", route.device), route.subnet));
        }
    }
    Ok(())
}

/// The routes of `/proc/net/route`, the default ones apart.
pub fn routes(table: &str) -> Vec<Route> {
    let number = |field: &str| u32::from_str_radix(field, 16).ok().map(u32::swap_bytes);
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (&device, first, mask) = (fields.first()?, number(fields.get(1)?)?, number(fields.get(7)?)?);
            let subnet = Subnet::new(first.into(), mask.count_ones() as u8);
            (mask != 0).then(|| Route { device: device.to_owned(), subnet })
        })
        .collect()
}

/// The published ports must be free on this machine, this mesh's own containers apart.
pub fn ports(wanted: &Wanted, present: &Present) -> Result<(), Error> {
    let mut asked = Vec::new();
    for node in &wanted.nodes {
        for &(address, _) in &node.container.ports {
            match present.containers.iter().find(|container| container.published.contains(&address)) {
                Some(container) if container.label.is_of(&wanted.mesh) => {}
                Some(container) => {
                    let holder = format!("container {}", container.name);
                    return Err(Error::Taken { node: node.name.clone(), address, holder });
                }
                None => asked.push((node.name.clone(), address)),
            }
        }
    }
    match Listeners::read().holders(asked).into_iter().next() {
        Some((node, address, holder)) => Err(Error::Taken { node, address, holder: holder.text }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::{present, wanted};

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    #[test]
    fn routes_are_read_as_the_kernel_writes_them() {
        let table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                     eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n\
                     docker0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n";
        assert_eq!(routes(table), [Route { device: "docker0".into(), subnet: subnet("172.17.0.0/16") }]);
    }

    #[test]
    fn a_name_that_the_engine_would_refuse_is_told_before() {
        let mut plan = crate::fixture::plan();
        let check = |plan: &hopcast_topology::Plan| {
            let secret = hopcast_protocol::MeshSecret([0; 32]);
            let wanted = wanted::wanted(plan, &secret, "", &crate::docker::apply::names_alone(plan));
            names(&wanted, &Present::default()).map_err(|error| error.to_string())
        };
        check(&plan).unwrap();
        plan.origin.name = hopcast_protocol::DatabaseName::new("o").unwrap();
        let error = check(&plan).unwrap_err();
        assert!(error.contains("short as o:") && error.contains("topology file"), "{error}");
        plan.origin.name = hopcast_protocol::DatabaseName::new("o1").unwrap();
        check(&plan).unwrap();
    }

    #[test]
    fn addresses_of_others_are_named() {
        let plan = crate::fixture::plan();
        let networks = wanted::networks(&plan);
        let mut present = Present::default();
        subnets(&networks, &plan.mesh, &present, &[]).unwrap();
        let route = Route { device: "tun0".into(), subnet: subnet("10.0.0.0/8") };
        let error = subnets(&networks, &plan.mesh, &present, std::slice::from_ref(&route)).unwrap_err();
        assert!(error.to_string().contains("tun0") && error.to_string().contains("docker.subnet"), "{error}");
        present.networks.push(present::Network {
            id: "1".into(),
            name: "theirs".into(),
            label: Label::default(),
            subnets: vec![subnet("10.77.128.0/24")],
        });
        let error = subnets(&networks, &plan.mesh, &present, &[]).unwrap_err().to_string();
        assert!(error.contains("theirs") && error.contains("origin-net"), "{error}");
        present.networks[0].label.mesh = Some(plan.mesh.to_string());
        subnets(&networks, &plan.mesh, &present, &[]).unwrap();
    }
}
