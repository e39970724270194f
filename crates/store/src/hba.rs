//! `pg_hba.conf`: who may reach which database from where. Pure; whoever deploys writes the text and reloads.
//!
//! The first line that matches decides (PostgreSQL manual 21.1), and the last ones match everything and reject. Locally a
//! client that does not bind its socket comes from 127.0.0.1, whatever loopback address it dials: that is where the
//! owner, and the edges' own connections to the origin, come from.

use std::{fmt, net::IpAddr};

use crate::roles::{GATEWAY, READER, REPL};

/// A block of addresses: the first one and the prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    address: IpAddr,
    prefix: u8,
}

impl Block {
    /// The block around an address; a prefix longer than the address means the address alone.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix: prefix.min(bits) }
    }
}

impl From<IpAddr> for Block {
    fn from(address: IpAddr) -> Self {
        Self::new(address, 128)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Who owns a database, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The database that holds the songs.
    pub database: &'a str,
    /// Its owner, a superuser of the cluster.
    pub user: &'a str,
    /// Where the owner connects from.
    pub from: &'a [Block],
    /// The owner may also use the Unix socket, without a password: where nobody reaches it but who has the data files as
    /// well (inside a container).
    pub socket: bool,
}

/// The origin's rules: the owner, and the edges' two roles from where the edges are.
pub fn origin(owner: &Owner<'_>, edges: &[Block]) -> String {
    let mut rules = Rules::new(owner);
    for role in [REPL, READER] {
        rules.admit(owner.database, role, edges);
    }
    rules.end()
}

/// An edge's rules: the owner, and the gateways from their own addresses.
pub fn edge(owner: &Owner<'_>, gateways: &[IpAddr]) -> String {
    let mut rules = Rules::new(owner);
    let gateways: Vec<Block> = gateways.iter().copied().map(Block::from).collect();
    rules.admit(owner.database, GATEWAY, &gateways);
    rules.end()
}

struct Rules(String);

impl Rules {
    fn new(owner: &Owner<'_>) -> Self {
        let mut rules = Self("# Written by hopcast at every `up`; changes are lost.\n".into());
        if owner.socket {
            rules.0 += &format!("local all {} trust\n", quoted(owner.user));
        }
        // `postgres` as well: where the owner creates the database from.
        for block in owner.from {
            rules.0 += &format!(
                "host {},postgres {} {block} scram-sha-256\n",
                quoted(owner.database),
                quoted(owner.user)
            );
        }
        rules
    }

    fn admit(&mut self, database: &str, role: &str, from: &[Block]) {
        for block in from {
            self.0 += &format!("host {} {} {block} scram-sha-256\n", quoted(database), quoted(role));
        }
    }

    fn end(mut self) -> String {
        // `all` does not cover physical replication.
        for database in ["all", "replication"] {
            self.0 += &format!("host {database} all all reject\n");
        }
        self.0
    }
}

/// Quoted, a name means itself even where it is a keyword (`all`, `replication`); a doubled quote stands for one.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn owner(from: &[Block]) -> Owner<'_> {
        Owner { database: "hls", user: "media", from, socket: false }
    }

    #[test]
    fn an_edge_admits_its_own_gateways_and_nobody_else() {
        let from = [ADMIN.into()];
        let text = edge(&owner(&from), &["127.77.0.1".parse().unwrap(), "127.77.0.2".parse().unwrap()]);
        assert_eq!(
            text,
            "# Written by hopcast at every `up`; changes are lost.\n\
             host \"hls\",postgres \"media\" 127.0.0.1/32 scram-sha-256\n\
             host \"hls\" \"hopcast_gateway\" 127.77.0.1/32 scram-sha-256\n\
             host \"hls\" \"hopcast_gateway\" 127.77.0.2/32 scram-sha-256\n\
             host all all all reject\n\
             host replication all all reject\n"
        );
    }

    #[test]
    fn an_origin_admits_the_edges_roles_from_their_network() {
        let network = Block::new("172.30.1.0".parse().unwrap(), 24);
        let from = [ADMIN.into()];
        let text = origin(&Owner { socket: true, ..owner(&from) }, &[network]);
        assert!(text.contains("local all \"media\" trust\n"));
        assert!(text.contains("host \"hls\" \"hopcast_repl\" 172.30.1.0/24 scram-sha-256\n"));
        assert!(text.contains("host \"hls\" \"hopcast_reader\" 172.30.1.0/24 scram-sha-256\n"));
        let trusted = |line: &str| line.starts_with("host") && line.contains("trust");
        assert!(!text.contains("gateway") && !text.lines().any(trusted), "{text}");
        assert!(text.ends_with("reject\n"));
    }

    #[test]
    fn names_that_are_keywords_mean_themselves() {
        let from = [ADMIN.into()];
        let text = edge(&Owner { database: "all", user: "a\"b", ..owner(&from) }, &[]);
        assert!(text.contains("host \"all\",postgres \"a\"\"b\" 127.0.0.1/32 scram-sha-256\n"), "{text}");
    }
}
