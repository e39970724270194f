//! Makes what runs equal to what should run. Only the difference is touched.
//!
//! Order: what left the plan ends; what must be another process ends; databases start, and beside them the signalling
//! server, then the peers. The server takes its new links before any peer announces them.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use hopcast_protocol::PeerName;
use tokio::sync::mpsc;

use super::{
    Keeper,
    cluster::Clusters,
    process::{Action, ConfigFile, Setup, action, send},
};
use crate::{
    Changes, NodeRole, Step,
    error::Error,
    graph, render,
    wire::{Desired, Event},
};

/// The signalling server's node.
pub(super) const SIGNALLING: &str = "signalling";
/// Progress is told once for this many processes.
const BATCH: usize = 8;
/// How long the signalling server may take to listen, and between two looks.
const LISTEN: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(2);

/// Tells the one who asked; it may have gone.
pub(super) struct Reporter(pub(super) mpsc::Sender<Event>);

impl Reporter {
    pub(super) async fn step(&self, step: Step, done: usize, total: usize) {
        let _ = self.0.send(Event::Step { step, done: done as u64, total: total as u64 }).await;
    }
}

impl Keeper {
    /// What every process should read, the cut links taken out.
    pub(super) fn setups(&self, desired: &Desired) -> Vec<(String, NodeRole, Arc<Setup>)> {
        let cut = self.shared().cut.clone();
        let is_cut = |a: &PeerName, b: &PeerName| {
            !cut.is_empty()
                && cut.contains(&if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) })
        };
        let signalling = Setup {
            program: desired.signalling_program.clone(),
            file: ConfigFile::Signalling(render::cut_signalling(desired.signalling.clone(), is_cut)),
        };
        let peers = desired.peers.iter().map(|peer| {
            let setup = Setup {
                program: desired.peer_program.clone(),
                file: ConfigFile::Peer(render::cut_peer(peer.clone(), is_cut)),
            };
            (peer.name.to_string(), NodeRole::Peer, Arc::new(setup))
        });
        std::iter::once((SIGNALLING.to_owned(), NodeRole::Signalling, Arc::new(signalling)))
            .chain(peers)
            .collect()
    }

    fn action(&self, name: &str, wanted: &Setup) -> Action {
        let nodes = self.nodes.all();
        let running = nodes.get(name).filter(|node| node.pid.is_some());
        let action =
            action(running.and_then(|node| Some((&**node.setup.as_ref()?, node.is_paused()))), wanted);
        // What a process read is one thing, what it would read at its next start another: somebody may have changed it.
        match action {
            Action::Keep | Action::Resume if !self.is_written(name, &wanted.file) => Action::Reload,
            action => action,
        }
    }

    /// See the module. The caller holds `changing`.
    pub(super) async fn apply(
        self: &Arc<Self>,
        clusters: &mut Clusters,
        desired: Desired,
        report: &Reporter,
    ) -> Result<Changes, Error> {
        let desired = Arc::new(desired);
        {
            let mut shared = self.shared();
            shared.cut.clear();
            shared.desired = Some(Arc::clone(&desired));
        }
        let setups = self.setups(&desired);
        let mut changes = Changes::default();
        self.remove_departed(clusters, &desired, &mut changes).await?;

        let mut todo = HashMap::new();
        for (name, _, setup) in &setups {
            todo.insert(name.as_str(), self.action(name, setup));
        }
        let restarts: Vec<String> = setups
            .iter()
            .filter(|(name, ..)| todo[name.as_str()] == Action::Restart)
            .map(|(name, ..)| name.clone())
            .collect();
        self.end(&restarts, || {}).await;

        // In a task of the same thread, so that processes start while initdb runs.
        let mut changed_here = Changes::default();
        let databases = self.databases(clusters, &desired, report);
        let processes = self.processes(&setups, &todo, report, &mut changed_here);
        let (databases, processes) = tokio::join!(databases, processes);
        let of_databases = databases?;
        processes?;
        for (all, new) in [
            (&mut changes.started, [of_databases.started, changed_here.started]),
            (&mut changes.restarted, [of_databases.restarted, changed_here.restarted]),
            (&mut changes.reloaded, [of_databases.reloaded, changed_here.reloaded]),
        ] {
            all.extend(new.into_iter().flatten());
        }
        Ok(changes)
    }

    async fn remove_departed(
        &self,
        clusters: &mut Clusters,
        desired: &Desired,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let databases: Vec<String> = clusters
            .running
            .keys()
            .filter(|name| !desired.databases.iter().any(|spec| spec.name.as_str() == *name))
            .cloned()
            .collect();
        for name in databases {
            self.stop_database(clusters, &name).await?;
            self.nodes.forget(&name);
            changes.stopped.push(name);
        }
        let stays = |name: &str| {
            name == SIGNALLING
                || desired.databases.iter().any(|spec| spec.name.as_str() == name)
                || desired.peers.iter().any(|peer| peer.name.as_str() == name)
        };
        let all: Vec<String> = self.nodes.all().keys().filter(|name| !stays(name)).cloned().collect();
        self.end(&all, || {}).await;
        for name in &all {
            self.nodes.forget(name);
            let _ = std::fs::remove_file(self.dir.join("config").join(format!("{name}.json")));
        }
        changes.stopped.extend(all);
        Ok(())
    }

    async fn processes(
        self: &Arc<Self>,
        setups: &[(String, NodeRole, Arc<Setup>)],
        todo: &HashMap<&str, Action>,
        report: &Reporter,
        changes: &mut Changes,
    ) -> Result<(), Error> {
        let mut first = None;
        for (done, (name, role, setup)) in setups.iter().enumerate() {
            match todo[name.as_str()] {
                Action::Keep => {}
                Action::Resume => {
                    if let Some(pid) = self.nodes.pid(name) {
                        send(pid, rustix::process::Signal::CONT);
                    }
                    changes.reloaded.push(name.clone());
                }
                Action::Reload => {
                    self.reload(name, Arc::clone(setup))?;
                    changes.reloaded.push(name.clone());
                    if let ConfigFile::Signalling(config) = &setup.file {
                        graph::wait_for_links(config.listen, config).await;
                    }
                }
                todo @ (Action::Start | Action::Restart) => {
                    let list =
                        if todo == Action::Start { &mut changes.started } else { &mut changes.restarted };
                    list.push(name.clone());
                    // One bad peer must not keep the others from starting; the first failure is told.
                    if let Err(error) = self.spawn(name, *role, Arc::clone(setup)) {
                        first.get_or_insert(error);
                    }
                    if let ConfigFile::Signalling(config) = &setup.file {
                        self.wait_for_listener(name, config.listen).await;
                    }
                }
            }
            if (done + 1) % BATCH == 0 || done + 1 == setups.len() {
                report.step(Step::Processes, done + 1, setups.len()).await;
            }
            // A spawn blocks, and initdb, which takes longest of all, is begun by the same thread.
            tokio::task::yield_now().await;
        }
        first.map_or(Ok(()), Err)
    }

    /// Peers that find no server wait before they ask again, so it is worth waiting for. What goes wrong is told by the
    /// node's state.
    async fn wait_for_listener(&self, name: &str, listen: SocketAddr) {
        until_it_listens(listen, LISTEN, || self.nodes.pid(name).is_some()).await;
    }
}

/// Waits until somebody listens there, for so long at most and while it is of use.
pub(super) async fn until_it_listens(listen: SocketAddr, within: Duration, of_use: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + within;
    while of_use()
        && tokio::time::Instant::now() < deadline
        && tokio::net::TcpStream::connect(render::reachable(listen)).await.is_err()
    {
        tokio::time::sleep(LOOK).await;
    }
}
