//! The hosts' modules as readable Nix, for whoever writes hosts without the flake's `mesh` module.
//!
//! A test holds it against what that module evaluates to; `nix/lib.nix` is the other side.

use std::fmt::Write as _;

use hopcast_protocol::NetworkName;
use hopcast_topology::Plan;

use super::{Host, Role, hosts};
use crate::Error;

/// An attribute set of modules, one for each host, in the order of their names.
pub fn definitions(plan: &Plan) -> Result<String, Error> {
    let mut hosts = hosts(plan)?;
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = format!(
        "# The hosts of mesh {}: one NixOS module each, for the options of hopcast's nixosModules. Written by\n\
         # `hopcast generate nixos`; addresses, keys and the files of `hopcast generate nixos-configs` come beside it.\n{{\n",
        plan.mesh
    );
    for host in &hosts {
        let _ = writeln!(text, "  {} = {{", name(&host.name));
        let (option, lines) = module(plan, host);
        let _ = writeln!(text, "    services.hopcast.{option} = {{\n      enable = true;");
        for line in lines {
            let _ = writeln!(text, "      {line}");
        }
        text += "    };\n  };\n";
    }
    text += "}\n";
    Ok(text)
}

/// The option that a host sets, and its lines.
fn module(plan: &Plan, host: &Host<'_>) -> (&'static str, Vec<String>) {
    let limits = &plan.limits;
    match host.role {
        Role::Signalling => {
            let port = plan.signalling.listen.port();
            ("signalling", vec![format!("port = {port};"), networks(&host.networks)])
        }
        Role::Peers => {
            let mut lines = vec!["instances = {".to_owned()];
            for peer in &host.peers {
                lines.push(format!("  {} = {};", name(peer.name.as_str()), peer.nixos.port));
            }
            lines.push("};".into());
            // What it listens on concerns the peers' network alone.
            lines.push(networks(&host.networks[..1]));
            lines.push(format!("memoryMax = {};", limits.memory));
            lines.push(format!("cpuQuota = \"{}%\";", percent(limits.cpus)));
            lines.push(format!("tasksMax = {};", limits.pids));
            ("peers", lines)
        }
        Role::Origin | Role::Edge => {
            let postgres = &plan.postgres;
            let mut lines = vec![
                format!("name = {};", string(&host.name)),
                format!("database = {};", string(&postgres.database)),
                format!("owner = {};", string(&postgres.user)),
                format!("port = {};", postgres.port),
            ];
            // At the origin the second network is the operator's way to the peers: no database listens there.
            let listens = if host.role == Role::Origin { &host.networks[..1] } else { &host.networks[..] };
            lines.push(networks(listens));
            (if host.role == Role::Origin { "origin-db" } else { "edge-db" }, lines)
        }
    }
}

/// Of one CPU; at least one.
fn percent(cpus: f64) -> u64 {
    ((cpus * 100.0).round() as u64).max(1)
}

fn networks(names: &[&NetworkName]) -> String {
    let names: Vec<_> = names.iter().map(|name| string(name.as_str())).collect();
    match &names[..] {
        [only] => format!("networks = [ {only} ];"),
        several => format!("networks = [\n        {}\n      ];", several.join("\n        ")),
    }
}

/// An attribute's name, quoted where it has to be.
fn name(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let keyword =
        ["assert", "else", "if", "in", "inherit", "let", "or", "rec", "then", "with"].contains(&text);
    if plain && !keyword { text.to_owned() } else { string(text) }
}

fn string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_strings_mean_themselves() {
        assert_eq!(name("peer-1"), "peer-1");
        assert_eq!(name("1a"), "\"1a\"");
        assert_eq!(name("a.b"), "\"a.b\"");
        assert_eq!(name("in"), "\"in\"");
        assert_eq!(string("a\"${b}\\"), r#""a\"\${b}\\""#);
        assert_eq!((percent(0.05), percent(0.29), percent(0.0001)), (5, 29, 1));
    }
}
