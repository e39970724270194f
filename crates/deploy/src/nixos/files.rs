//! The files of every node: what everybody may read, and what only its host may have.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use hopcast_protocol::{Credentials, MeshSecret, SignallingCredentials};
use hopcast_store::{
    hba::{self, Block},
    settings::{self, Listen, Purpose},
};
use hopcast_topology::Plan;
use serde::Serialize;

use super::{
    Role, SIGNALLING, hosts,
    place::{Hosts, Seen},
};
use crate::{
    Error, databases,
    render::{self, Loopback},
};

/// One file: its path below the directory that is written, and its text.
pub type File = (PathBuf, String);

/// Everything that is no secret: `peers/<peer>.json`, `signalling.json`, and of each database `<database>/pg_hba.conf` and
/// `<database>/postgresql.conf`.
pub fn configs(plan: &Plan, hosts: &Hosts) -> Result<Vec<File>, Error> {
    // What is derived from it is taken out again below.
    let secret = MeshSecret([0; 32]);
    let place = Seen { hosts, port: plan.postgres.port };
    let mut files = Vec::new();
    for mut config in render::peers(plan, &secret, &place) {
        Credentials::take(&mut config);
        files.push((format!("peers/{}.json", config.name).into(), json(&config)?));
    }
    let mut server = render::signalling(plan, &secret, &place);
    SignallingCredentials::take(&mut server);
    files.push(("signalling.json".into(), json(&server)?));

    let operator = hosts.database(plan, &plan.origin.name).ip();
    let from = [operator, Ipv4Addr::LOCALHOST.into()].map(Block::from);
    let owner = hba::Owner {
        database: &plan.postgres.database,
        user: &plan.postgres.user,
        from: &from,
        socket: false,
    };
    let mut database = |name: &str, rules: String, purpose| {
        // NixOS prepares the cluster as this user, over the socket.
        files.push((format!("{name}/pg_hba.conf").into(), format!("local all postgres peer\n{rules}")));
        files.push((format!("{name}/postgresql.conf").into(), settings::text(purpose, Listen::Unset, None)));
    };
    let edges: Vec<Block> =
        plan.edges.iter().map(|edge| hosts.database(plan, &edge.name).ip().into()).collect();
    let gateways = plan.edges.iter().map(|edge| edge.peers.len() as u32).sum();
    let purpose = Purpose::Origin { edges: plan.edges.len() as u32, gateways };
    database(plan.origin.name.as_str(), hba::origin(&owner, &edges), purpose);
    for edge in &plan.edges {
        // The operator, who owns the database anyway, may read it as a gateway does: `verify` looks from there.
        let mut from: Vec<IpAddr> = hosts.gateways(plan, edge);
        from.push(operator);
        let purpose = Purpose::Edge { gateways: edge.peers.len() as u32 };
        database(edge.name.as_str(), hba::edge(&owner, &from), purpose);
    }
    Ok(files)
}

/// What one host may have of the secret.
#[derive(Debug)]
pub struct Keys {
    /// The host.
    pub host: String,
    /// Its files.
    pub files: Vec<File>,
}

/// The secret files of every host: `<peer>.json`, `signalling.json`, the databases' `owner-password`, and at the origin the
/// mesh's `secret` itself.
pub fn keys(plan: &Plan, secret: &MeshSecret) -> Result<Vec<Keys>, Error> {
    let password = databases::superuser_password(plan, secret)?;
    // Keys do not depend on where a node is.
    let mut peers = render::peers(plan, secret, &Loopback);
    let mut server = render::signalling(plan, secret, &Loopback);
    let mut all = Vec::new();
    for host in hosts(plan)? {
        let owner = || ("owner-password".into(), format!("{password}\n"));
        let files = match host.role {
            Role::Signalling => {
                let keys = SignallingCredentials::take(&mut server);
                vec![(format!("{SIGNALLING}.json").into(), json(&keys)?)]
            }
            Role::Origin => vec![owner(), ("secret".into(), format!("{secret}\n"))],
            Role::Edge => vec![owner()],
            Role::Peers => {
                let here =
                    peers.iter_mut().filter(|config| host.peers.iter().any(|peer| peer.name == config.name));
                here.map(|config| {
                    let keys = Credentials::take(config);
                    Ok((format!("{}.json", config.name).into(), json(&keys)?))
                })
                .collect::<Result<_, Error>>()?
            }
        };
        all.push(Keys { host: host.name, files });
    }
    Ok(all)
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Error::State(format!("a configuration has no JSON form: {error}")))?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use hopcast_protocol::PeerConfig;

    use super::*;
    use crate::{fixture::plan, nixos::place::tests::addresses};

    fn text<'a>(files: &'a [File], path: &str) -> &'a str {
        &files.iter().find(|(at, _)| at.to_str() == Some(path)).unwrap_or_else(|| panic!("{path}")).1
    }

    #[test]
    fn a_hosts_keys_make_its_peers_files_whole_and_nothing_else_holds_a_secret() {
        let (plan, secret) = (plan(), MeshSecret([7; 32]));
        let hosts = Hosts::new(&plan, addresses(&plan)).unwrap();
        let public = configs(&plan, &hosts).unwrap();
        let keys = keys(&plan, &secret).unwrap();
        let mut config: PeerConfig = serde_json::from_str(text(&public, "peers/peer-1.json")).unwrap();
        let own = keys.iter().find(|keys| keys.host == "peers-1").unwrap();
        let credentials: Credentials = serde_json::from_str(text(&own.files, "peer-1.json")).unwrap();
        credentials.give(&mut config).unwrap();
        assert_eq!(config.neighbors[0].endpoint, "10.0.0.6:8082");
        assert_eq!(config.neighbors[0].key, secret.link_key(&plan.peers[0].name, &plan.peers[1].name));
        assert_eq!(config.databases[0].host, "10.2.0.3");
        // Whatever the secret is, what everybody may read is the same: nothing in it is derived from one.
        let derived = [
            secret.password("edge-db-a", render::GATEWAY_ROLE),
            secret.token_key().to_string(),
            MeshSecret([0; 32]).token_key().to_string(),
            MeshSecret([0; 32]).link_key(&plan.peers[0].name, &plan.peers[1].name).to_string(),
        ];
        for (path, text) in &public {
            assert!(!derived.iter().any(|secret| text.contains(secret)), "{}", path.display());
        }
        let with_secret: Vec<_> =
            keys.iter().filter(|keys| keys.files.iter().any(|(path, _)| path.ends_with("secret"))).collect();
        assert_eq!(with_secret.len(), 1);
        assert_eq!(with_secret[0].host, "origin-db");
    }

    #[test]
    fn an_edge_admits_its_gateways_hosts_and_the_operators() {
        let plan = plan();
        let hosts = Hosts::new(&plan, addresses(&plan)).unwrap();
        let files = configs(&plan, &hosts).unwrap();
        let rules = text(&files, "edge-db-a/pg_hba.conf");
        for wanted in [
            "host \"hls\" \"hopcast_gateway\" 10.2.0.5/32 scram-sha-256\n",
            "host \"hls\",postgres \"media\" 10.1.0.2/32 scram-sha-256\n",
        ] {
            assert!(rules.contains(wanted), "{wanted} in {rules}");
        }
        assert!(!rules.contains("10.3.0") && rules.ends_with("reject\n"), "{rules}");
        assert!(text(&files, "origin-db/pg_hba.conf").contains("\"hopcast_repl\" 10.1.0.3/32"));
        assert!(text(&files, "origin-db/postgresql.conf").contains("wal_level = 'logical'"));
    }
}
