//! The nodes that the keeper knows, and how they are. No I/O but a look at `/proc` for paused processes and memory.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use super::process::Setup;
use crate::{NodeRole, NodeState, NodeStatus, proc};

/// One node.
pub(super) struct Node {
    pub(super) role: NodeRole,
    pub(super) address: Option<SocketAddr>,
    pub(super) state: NodeState,
    pub(super) pid: Option<u32>,
    pub(super) restarts: u32,
    pub(super) since: u64,
    pub(super) detail: Option<String>,
    /// The keeper itself is ending it: its end is no surprise.
    pub(super) ending: bool,
    /// What it last read; absent for databases.
    pub(super) setup: Option<Arc<Setup>>,
    /// False once it has ended.
    alive: watch::Sender<bool>,
}

impl Node {
    fn new(role: NodeRole, address: Option<SocketAddr>) -> Self {
        Self {
            role,
            address,
            state: NodeState::Starting,
            pid: None,
            restarts: 0,
            since: now(),
            detail: None,
            ending: false,
            setup: None,
            alive: watch::Sender::new(false),
        }
    }

    /// Runs, as far as the keeper has heard.
    pub(super) fn is_up(&self) -> bool {
        self.state == NodeState::Running
    }

    /// Stopped by a signal.
    pub(super) fn is_paused(&self) -> bool {
        self.is_up() && self.pid.is_some_and(proc::is_stopped)
    }

    fn status(&self, name: &str) -> NodeStatus {
        let paused = self.is_paused();
        NodeStatus {
            name: name.to_owned(),
            role: self.role,
            state: if paused { NodeState::Paused } else { self.state },
            pid: self.pid,
            address: self.address,
            restarts: self.restarts,
            since: self.since,
            rss_kb: self.pid.and_then(proc::rss_kb),
            cpu_ms: None,
            health: None,
            detail: self.detail.clone(),
        }
    }
}

/// All of them, by name.
#[derive(Default)]
pub(super) struct Nodes(Mutex<BTreeMap<String, Node>>);

impl Nodes {
    pub(super) fn all(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is on its way. A node that was there before counts a restart.
    pub(super) fn starting(&self, name: &str, role: NodeRole, address: Option<SocketAddr>) {
        let mut nodes = self.all();
        let node = nodes
            .entry(name.to_owned())
            .and_modify(|node| node.restarts += 1)
            .or_insert_with(|| Node::new(role, address));
        node.address = address;
        node.detail = None;
        node.set(NodeState::Starting);
    }

    /// It runs.
    pub(super) fn running(&self, name: &str, pid: u32, setup: Option<Arc<Setup>>) {
        if let Some(node) = self.all().get_mut(name) {
            node.pid = Some(pid);
            node.setup = setup;
            node.ending = false;
            node.set(NodeState::Running);
            node.alive.send_replace(true);
        }
    }

    /// It ended: dead, unless the keeper ended it. A report about an earlier process of the node changes nothing.
    pub(super) fn ended(&self, name: &str, pid: u32, detail: impl FnOnce() -> String) {
        if let Some(node) = self.all().get_mut(name)
            && node.pid == Some(pid)
        {
            node.pid = None;
            if node.ending {
                node.set(NodeState::Stopped);
            } else {
                let detail = detail();
                tracing::warn!(node = name, %detail, "ended by itself");
                node.detail = Some(detail);
                node.set(NodeState::Dead);
            }
            node.alive.send_replace(false);
        }
    }

    /// It could not be started.
    pub(super) fn failed(&self, name: &str, detail: &str) {
        if let Some(node) = self.all().get_mut(name) {
            node.pid = None;
            node.detail = Some(detail.to_owned());
            node.set(NodeState::Dead);
        }
    }

    /// The keeper is about to end it.
    pub(super) fn ending(&self, name: &str) {
        if let Some(node) = self.all().get_mut(name) {
            node.ending = true;
        }
    }

    /// Its process, if it has one.
    pub(super) fn pid(&self, name: &str) -> Option<u32> {
        self.all().get(name)?.pid
    }

    /// Waits until it has no process.
    pub(super) async fn wait_ended(&self, name: &str) {
        let Some(mut alive) = self.all().get(name).map(|node| node.alive.subscribe()) else { return };
        // An error means that the node was forgotten: it has none.
        let _ = alive.wait_for(|alive| !alive).await;
    }

    /// It is no longer part of the mesh.
    pub(super) fn forget(&self, name: &str) {
        self.all().remove(name);
    }

    /// For `status`.
    pub(super) fn statuses(&self) -> Vec<NodeStatus> {
        self.all().iter().map(|(name, node)| node.status(name)).collect()
    }

    /// Names of those that run.
    pub(super) fn up(&self, role: Option<NodeRole>) -> Vec<String> {
        let matches = |node: &Node| node.pid.is_some() && role.is_none_or(|role| node.role == role);
        self.all().iter().filter(|(_, node)| matches(node)).map(|(name, _)| name.clone()).collect()
    }
}

impl Node {
    fn set(&mut self, state: NodeState) {
        if self.state != state {
            self.state = state;
            self.since = now();
        }
    }
}

/// Unix seconds.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(nodes: &Nodes, name: &str) -> (NodeState, u32, Option<String>) {
        let nodes = nodes.all();
        let node = &nodes[name];
        (node.state, node.restarts, node.detail.clone())
    }

    #[test]
    fn an_end_of_its_own_is_a_death_and_one_of_ours_is_not() {
        let nodes = Nodes::default();
        nodes.starting("peer-1", NodeRole::Peer, None);
        nodes.running("peer-1", 10, None);
        nodes.ended("peer-1", 10, || "killed by signal 9".into());
        assert_eq!(state(&nodes, "peer-1"), (NodeState::Dead, 0, Some("killed by signal 9".into())));
        nodes.starting("peer-1", NodeRole::Peer, None);
        nodes.running("peer-1", 11, None);
        assert_eq!(state(&nodes, "peer-1"), (NodeState::Running, 1, None));
        nodes.ending("peer-1");
        nodes.ended("peer-1", 11, || unreachable!());
        assert_eq!(state(&nodes, "peer-1"), (NodeState::Stopped, 1, None));
    }

    #[test]
    fn the_end_of_an_earlier_process_changes_nothing() {
        let nodes = Nodes::default();
        nodes.starting("peer-1", NodeRole::Peer, None);
        nodes.running("peer-1", 10, None);
        nodes.ended("peer-1", 9, || unreachable!());
        assert_eq!(nodes.pid("peer-1"), Some(10));
    }

    #[tokio::test]
    async fn waiting_for_an_end_that_was_is_no_wait() {
        let nodes = Nodes::default();
        nodes.wait_ended("nobody").await;
        nodes.starting("peer-1", NodeRole::Peer, None);
        nodes.running("peer-1", 10, None);
        nodes.ending("peer-1");
        nodes.ended("peer-1", 10, String::new);
        nodes.wait_ended("peer-1").await;
    }
}
