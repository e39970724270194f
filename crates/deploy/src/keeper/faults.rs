//! Breaking things on purpose, and mending them.

use std::sync::Arc;

use hopcast_protocol::PeerName;
use rustix::process::Signal;

use super::{Keeper, cluster::Clusters, process::ConfigFile, process::send};
use crate::{Fault, NodeRole, error::Error, graph, proc, wire::Desired};

impl Keeper {
    /// Sends a signal to a node's process; to all of a database's.
    pub(super) fn signal_node(&self, name: &str, signal: Signal) -> bool {
        let (pid, role) = match self.nodes.all().get(name) {
            Some(node) => (node.pid, node.role),
            None => return false,
        };
        let Some(pid) = pid else { return false };
        if role == NodeRole::Database && signal != Signal::KILL {
            for child in proc::children(pid) {
                send(child, signal);
            }
        }
        send(pid, signal);
        true
    }

    /// The caller holds `changing`.
    pub(super) async fn fault(self: &Arc<Self>, clusters: &mut Clusters, fault: &Fault) -> Result<(), Error> {
        let desired = self
            .shared()
            .desired
            .clone()
            .ok_or_else(|| Error::Unknown("nothing runs yet: start the mesh with `hopcast up`".into()))?;
        match fault {
            Fault::Kill(name) => {
                self.must_run(name, Signal::KILL)?;
                self.nodes.wait_ended(name).await;
                Ok(())
            }
            Fault::Pause(name) => self.must_run(name, Signal::STOP),
            Fault::Resume(name) => self.must_run(name, Signal::CONT),
            Fault::CutLink(a, b) => self.set_link(&desired, a, b, true).await,
            Fault::RestoreLink(a, b) => self.set_link(&desired, a, b, false).await,
            Fault::StopDatabase(name) => {
                if !clusters.running.contains_key(name.as_str()) {
                    return Err(unknown("running database", name.as_str()));
                }
                self.stop_database(clusters, name.as_str()).await
            }
            Fault::StartDatabase(name) => {
                let spec = desired
                    .databases
                    .iter()
                    .find(|spec| spec.name == *name)
                    .ok_or_else(|| unknown("database", name.as_str()))?
                    .clone();
                if self.nodes.pid(name.as_str()).is_some() {
                    return Ok(());
                }
                self.start_databases(clusters, &desired, vec![spec], |_| std::future::ready(())).await
            }
        }
    }

    fn must_run(&self, name: &str, signal: Signal) -> Result<(), Error> {
        if self.signal_node(name, signal) { Ok(()) } else { Err(unknown("running node", name)) }
    }

    /// Takes a link from both ends' files and from the server's seed links, or gives it back; whoever runs rereads.
    async fn set_link(
        self: &Arc<Self>,
        desired: &Desired,
        a: &PeerName,
        b: &PeerName,
        cut: bool,
    ) -> Result<(), Error> {
        let is_link = |x: &PeerName, y: &PeerName| {
            desired
                .peers
                .iter()
                .any(|peer| peer.name == *x && peer.neighbors.iter().any(|other| other.name == *y))
        };
        if !is_link(a, b) {
            return Err(Error::Unknown(format!("{a} and {b} have no link")));
        }
        let pair = if a <= b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) };
        let changed = {
            let mut shared = self.shared();
            if cut { shared.cut.insert(pair) } else { shared.cut.remove(&pair) }
        };
        if !changed {
            return Ok(());
        }
        // The server comes first in the list: it must know a link before its ends announce it.
        for (name, _, setup) in self.setups(desired) {
            let concerned = match &setup.file {
                ConfigFile::Signalling(_) => true,
                ConfigFile::Peer(config) => config.name == *a || config.name == *b,
            };
            if concerned && self.nodes.pid(&name).is_some() {
                self.reload(&name, Arc::clone(&setup))?;
                if let ConfigFile::Signalling(config) = &setup.file {
                    graph::wait_for_links(config.listen, config).await;
                }
            }
        }
        Ok(())
    }
}

fn unknown(what: &str, name: &str) -> Error {
    Error::Unknown(format!("there is no {what} {name}: `hopcast status` lists them"))
}
