//! `postgresql.conf`: small servers whose bounds come from the plan. Pure; whoever deploys writes the text.
//!
//! [`list`] gives single settings, for engines that pass them as `-c name=value`; [`text`] the file.

use std::{fmt::Write as _, net::IpAddr};

use crate::schema::REPLICATED_TABLES;

/// Connections for who deploys, ingests and watches, beside the gateways. PostgreSQL's own superuser reserve is in it.
const ADMIN_CONNECTIONS: u32 = 12;
/// Copies of tables at a time, per edge: all of them, so that none waits for another.
const SYNC_WORKERS: u32 = REPLICATED_TABLES.len() as u32;
/// Processes beside connections, walsenders and workers: the postmaster and its helpers, autovacuum, PostgreSQL 18's three for
/// reading and writing, and what looks at the server from inside of a container.
const HELPERS: u32 = 32;
/// WAL that a slot may hold back. With less, one long ingest while an edge is down loses the slot.
const SLOT_WAL: &str = "512MB";

/// What a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The origin.
    Origin {
        /// How many edges replicate from it.
        edges: u32,
        /// How many gateways those edges have together: each may need one connection of `postgres_fdw`.
        gateways: u32,
    },
    /// An edge.
    Edge {
        /// How many gateways it has: one connection each.
        gateways: u32,
    },
}

impl Purpose {
    /// Connections that the server takes (`max_connections`).
    pub fn connections(self) -> u32 {
        let (Self::Origin { gateways, .. } | Self::Edge { gateways }) = self;
        // A gateway that lost its way connects anew while the server still holds the old connection.
        gateways + gateways.div_ceil(4) + ADMIN_CONNECTIONS
    }

    /// The most processes that the server and those beside it are: each connection is one.
    pub fn processes(self) -> u32 {
        self.connections() + self.senders() + self.workers() + HELPERS
    }

    /// Walsenders, which are not among the connections.
    fn senders(self) -> u32 {
        match self {
            // One for each edge, and while it copies one more for each table; two for an edge that is being replaced.
            Self::Origin { edges, .. } => (edges + 1) * (1 + SYNC_WORKERS),
            Self::Edge { .. } => 0,
        }
    }

    /// Background workers: an edge's apply and copy.
    fn workers(self) -> u32 {
        match self {
            Self::Origin { .. } => 2,
            Self::Edge { .. } => 3 + SYNC_WORKERS,
        }
    }
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub enum Listen<'a> {
    /// On these addresses only.
    Addresses(&'a [IpAddr]),
    /// On all of a container's: who can reach it is the engine's business, who may enter that of `pg_hba.conf`.
    Everywhere,
    /// Leave it to the server's command line.
    Unset,
}

/// The settings, in the order that they are written.
pub fn list(purpose: Purpose, listen: Listen<'_>, port: Option<u16>) -> Vec<(&'static str, String)> {
    let mut settings: Vec<(&'static str, String)> = Vec::new();
    let mut set = |name, value: &dyn std::fmt::Display| settings.push((name, value.to_string()));
    match listen {
        Listen::Addresses(addresses) => {
            let list: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            set("listen_addresses", &list.join(","));
            // TCP alone: `pg_hba.conf` then has a say in every connection.
            set("unix_socket_directories", &"");
        }
        Listen::Everywhere => set("listen_addresses", &"*"),
        Listen::Unset => {}
    }
    if let Some(port) = port {
        set("port", &port);
    }
    set("max_connections", &purpose.connections());
    set("password_encryption", &"scram-sha-256");
    match purpose {
        Purpose::Origin { .. } => {
            set("wal_level", &"logical");
            set("max_wal_senders", &purpose.senders());
            set("max_replication_slots", &purpose.senders());
            set("max_slot_wal_keep_size", &SLOT_WAL);
            // An edge that vanished without a word frees its slot soon.
            set("wal_sender_timeout", &"20s");
            set("max_logical_replication_workers", &0);
            set("max_worker_processes", &purpose.workers());
        }
        Purpose::Edge { .. } => {
            set("wal_level", &"minimal");
            set("max_wal_senders", &purpose.senders());
            // On a subscriber these bound the origins it tracks: the subscription and each table's copy.
            set("max_replication_slots", &(2 + 2 * SYNC_WORKERS));
            set("max_logical_replication_workers", &(1 + SYNC_WORKERS));
            set("max_sync_workers_per_subscription", &SYNC_WORKERS);
            set("max_worker_processes", &purpose.workers());
            // Origin and edges start together: look again soon.
            set("wal_retrieve_retry_interval", &"250ms");
            set("wal_receiver_timeout", &"20s");
        }
    }
    set("shared_buffers", &"16MB");
    set("work_mem", &"1MB");
    set("maintenance_work_mem", &"16MB");
    set("logical_decoding_work_mem", &"4MB");
    set("wal_buffers", &"1MB");
    set("min_wal_size", &"32MB");
    set("max_wal_size", &"128MB");
    set("max_parallel_workers", &0);
    set("max_parallel_workers_per_gather", &0);
    set("autovacuum_max_workers", &1);
    set("jit", &"off");
    set("tcp_keepalives_idle", &10);
    set("tcp_keepalives_interval", &5);
    set("tcp_keepalives_count", &3);
    set("log_min_messages", &"warning");
    // A failed statement may have held a password.
    set("log_min_error_statement", &"panic");
    settings
}

/// The settings as a configuration file.
pub fn text(purpose: Purpose, listen: Listen<'_>, port: Option<u16>) -> String {
    let mut text = String::from("# Written by hopcast at every `up`; changes are lost.\n");
    for (name, value) in list(purpose, listen, port) {
        // Values hold no quotes: they are numbers, units, words and addresses.
        let _ = writeln!(text, "{name} = '{value}'");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(purpose: Purpose, name: &str) -> String {
        list(purpose, Listen::Unset, None)
            .into_iter()
            .find(|(key, _)| *key == name)
            .unwrap_or_else(|| panic!("{name} is not set"))
            .1
    }

    #[test]
    fn bounds_come_from_the_plan() {
        assert_eq!(value(Purpose::Edge { gateways: 8 }, "max_connections"), "22");
        assert_eq!(value(Purpose::Origin { edges: 2, gateways: 16 }, "max_connections"), "32");
        assert_eq!(value(Purpose::Origin { edges: 2, gateways: 16 }, "max_wal_senders"), "18");
        assert_eq!(value(Purpose::Origin { edges: 2, gateways: 16 }, "max_slot_wal_keep_size"), "512MB");
        assert_eq!(value(Purpose::Origin { edges: 2, gateways: 16 }, "wal_level"), "logical");
    }

    #[test]
    fn every_process_that_the_settings_allow_is_counted() {
        for purpose in [Purpose::Edge { gateways: 160 }, Purpose::Origin { edges: 2, gateways: 320 }] {
            let allowed =
                ["max_connections", "max_wal_senders", "max_worker_processes", "autovacuum_max_workers"];
            let allowed: u32 = allowed.iter().map(|name| value(purpose, name).parse::<u32>().unwrap()).sum();
            // The postmaster and its six helpers come on top.
            assert!(purpose.processes() > allowed + 7, "{purpose:?}: {}", purpose.processes());
        }
    }

    #[test]
    fn no_setting_is_given_twice_and_addresses_close_the_socket() {
        let addresses = ["127.77.255.254".parse().unwrap()];
        let text = text(Purpose::Edge { gateways: 1 }, Listen::Addresses(&addresses), Some(5432));
        assert!(
            text.contains(
                "listen_addresses = '127.77.255.254'\nunix_socket_directories = ''\nport = '5432'\n"
            )
        );
        let mut names: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(" = ").next()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
