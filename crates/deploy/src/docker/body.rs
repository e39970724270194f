//! A wanted object in the engine's words. Pure.

use std::{collections::HashMap, path::Path};

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig,
    Ipam, IpamConfig, Mount, MountType, MountVolumeOptions, NetworkCreateRequest, NetworkingConfig,
    PortBinding, RestartPolicy, RestartPolicyNameEnum, VolumeCreateRequest,
};
use hopcast_protocol::MeshName;

use super::{
    labels::{self, CONFIG, Role},
    wanted::{self, FILES, Network, Node, Volume},
};

/// Bytes of a container's log, which is one file.
const LOG: &str = "1m";
/// How often the engine starts a node anew that fails at once. One that ran for ten seconds begins to count anew.
const RETRIES: i64 = 5;
/// Between two health checks; each starts a process in the container.
const HEALTH_EVERY: i64 = 30_000_000_000;
const HEALTH_WITHIN: i64 = 5_000_000_000;
/// Failures before this do not count.
const HEALTH_BEGIN: i64 = 20_000_000_000;

/// A fixed address in a network.
pub fn endpoint(address: std::net::Ipv4Addr) -> EndpointSettings {
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    }
}

/// A container; `files` is its directory on this machine.
pub fn container(mesh: &MeshName, node: &Node, files: &Path) -> ContainerCreateBody {
    let container = &node.container;
    let mut labels = labels::of(mesh, node.role, &node.name);
    labels.insert(CONFIG.to_owned(), node.digest.clone());
    let first = container.networks.first();
    let ports: HashMap<String, Option<Vec<PortBinding>>> = container
        .ports
        .iter()
        .map(|(local, port)| {
            let binding = PortBinding {
                host_ip: Some(local.ip().to_string()),
                host_port: Some(local.port().to_string()),
            };
            (format!("{port}/tcp"), Some(vec![binding]))
        })
        .collect();
    ContainerCreateBody {
        image: Some(container.image.clone()),
        user: Some(container.user.to_owned()),
        cmd: Some(container.command.clone()),
        env: Some(container.environment.clone()),
        labels: Some(labels),
        hostname: Some(node.name.clone()),
        exposed_ports: Some(ports.keys().cloned().collect()),
        // Said although it is the usual one: without it the engine takes every signal, SIGHUP too, for the end, and does
        // not restart the node any more.
        stop_signal: Some(container.stop_signal.to_owned()),
        stop_timeout: Some(10),
        healthcheck: Some(health(node)),
        host_config: Some(host(mesh, node, files, ports)),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(
                first.map(|(name, address)| (name.clone(), endpoint(*address))).into_iter().collect(),
            ),
        }),
        ..ContainerCreateBody::default()
    }
}

fn host(
    mesh: &MeshName,
    node: &Node,
    files: &Path,
    ports: HashMap<String, Option<Vec<PortBinding>>>,
) -> HostConfig {
    let container = &node.container;
    let mut mounts = vec![Mount {
        typ: Some(MountType::BIND),
        source: Some(files.display().to_string()),
        target: Some(FILES.to_owned()),
        read_only: Some(true),
        ..Mount::default()
    }];
    if let Some((volume, at)) = &container.volume {
        mounts.push(Mount {
            typ: Some(MountType::VOLUME),
            source: Some(volume.clone()),
            target: Some((*at).to_owned()),
            // The engine makes a volume that is not there: also where a `down` removed it in front of a request that a killed
            // `up` had under way. It is ours all the same.
            volume_options: Some(MountVolumeOptions {
                labels: Some(labels::of_volume(mesh, &node.name, container.major)),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        });
    }
    let tmpfs = container.tmpfs.iter().map(|&(at, how)| (at.to_owned(), how.to_owned())).collect();
    HostConfig {
        network_mode: container.networks.first().map(|(name, _)| name.clone()),
        port_bindings: Some(ports),
        mounts: Some(mounts),
        tmpfs: Some(tmpfs),
        shm_size: (container.shm > 0).then_some(container.shm as i64),
        // Nothing shared and no /dev/shm, where the program has no use for one.
        ipc_mode: Some(if container.shm > 0 { "private" } else { "none" }.to_owned()),
        memory: Some(container.memory as i64),
        // As much as memory: no swap.
        memory_swap: Some(container.memory as i64),
        nano_cpus: (container.nano_cpus > 0).then_some(container.nano_cpus as i64),
        pids_limit: Some(i64::from(container.pids)),
        readonly_rootfs: Some(true),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        // Not `unless-stopped`: the engine takes a node that got any signal, SIGHUP too, for one that was stopped.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::ON_FAILURE),
            maximum_retry_count: Some(RETRIES),
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), LOG.to_owned()),
                ("max-file".to_owned(), "1".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

/// None for peers: each costs a process. Their health is that they are connected.
fn health(node: &Node) -> HealthConfig {
    let command = &node.container.health;
    if command.is_empty() {
        return HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() };
    }
    HealthConfig {
        test: Some(std::iter::once("CMD".to_owned()).chain(command.iter().cloned()).collect()),
        interval: Some(HEALTH_EVERY),
        timeout: Some(HEALTH_WITHIN),
        start_period: Some(HEALTH_BEGIN),
        retries: Some(3),
        ..HealthConfig::default()
    }
}

/// A network.
pub fn network(mesh: &MeshName, network: &Network) -> NetworkCreateRequest {
    let mut labels = labels::of(mesh, Role::Network, &network.name);
    labels.insert(CONFIG.to_owned(), wanted::network_digest(network));
    NetworkCreateRequest {
        name: network.name.clone(),
        driver: Some("bridge".to_owned()),
        internal: Some(network.internal),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(network.subnet.to_string()),
                gateway: Some(network.subnet.nth(1).to_string()),
                ..IpamConfig::default()
            }]),
            ..Ipam::default()
        }),
        labels: Some(labels),
        ..NetworkCreateRequest::default()
    }
}

/// A volume.
pub fn volume(mesh: &MeshName, volume: &Volume) -> VolumeCreateRequest {
    VolumeCreateRequest {
        name: Some(volume.name.clone()),
        driver: Some("local".to_owned()),
        labels: Some(labels::of_volume(mesh, &volume.node, volume.major)),
        ..VolumeCreateRequest::default()
    }
}
