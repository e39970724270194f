//! Reads sockets and their owners, and remembers what was ever wrong.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
};

use hopcast_protocol::PeerName;

use crate::{
    audit::rules::{Owner, Rules},
    proc::{
        owners::{self, Unreadable},
        sockets::{self, Socket, State},
    },
    target::{ProcessRole, Separation, Target},
};

/// Most connections that are remembered as seen; beyond it they are still judged.
const REMEMBERED: usize = 1 << 20;

/// What all samples of one run found.
pub(crate) struct Auditor {
    rules: Rules,
    separation: Separation,
    /// The mesh's processes, with a name for errors; whether one may be gone.
    roots: HashMap<u32, (Owner, String, bool)>,
    /// Connections that were closed before the audit began.
    before: Option<HashSet<(SocketAddr, SocketAddr)>>,
    seen: HashSet<(SocketAddr, SocketAddr)>,
    violations: BTreeSet<String>,
    unreadable: BTreeSet<String>,
}

impl Auditor {
    pub(crate) fn new(target: &Target, dead: &HashSet<PeerName>) -> Self {
        let rules = Rules::new(target);
        let mut unreadable = BTreeSet::new();
        let mut roots = HashMap::new();
        for peer in &target.peers {
            let (Some(at), may_be_gone) = (rules.peer(&peer.name), dead.contains(&peer.name)) else {
                continue;
            };
            match peer.pid {
                Some(pid) => _ = roots.insert(pid, (Owner::Peer(at), peer.name.to_string(), may_be_gone)),
                None if may_be_gone => {}
                None => _ = unreadable.insert(format!("the process of {} is not known", peer.name)),
            }
        }
        for process in &target.processes {
            let owner = match process.role {
                ProcessRole::Database => Owner::Database(process.name.clone()),
                ProcessRole::Signalling | ProcessRole::Keeper => Owner::Player,
            };
            roots.insert(process.pid, (owner, process.name.clone(), false));
        }
        roots.insert(std::process::id(), (Owner::Player, "verify".to_owned(), false));
        let (before, seen, violations) = (None, HashSet::new(), BTreeSet::new());
        Self { rules, separation: target.separation, roots, before, seen, violations, unreadable }
    }

    pub(crate) fn connections(&self) -> u64 {
        self.seen.len() as u64
    }

    pub(crate) fn violations(&self) -> impl Iterator<Item = &String> {
        self.violations.iter()
    }

    pub(crate) fn unreadable(&self) -> impl Iterator<Item = &String> {
        self.unreadable.iter()
    }

    /// Reads everything once. Tables first: a connection that stays open is then found at its owner.
    pub(crate) fn sample(&mut self) {
        let sockets = self.sockets();
        let owners = self.owners();
        let closed = |(socket, _): &&(Socket, Option<Owner>)| socket.inode == 0;
        let before = match &self.before {
            Some(before) => before,
            None => {
                self.before.insert(sockets.iter().filter(closed).map(|(s, _)| (s.local, s.remote)).collect())
            }
        };
        for (socket, host) in &sockets {
            let ends = (socket.local, socket.remote);
            if socket.inode == 0 && before.contains(&ends) {
                continue;
            }
            let owner = if socket.state == State::TimeWait { None } else { owners.get(&socket.inode) };
            let owner = owner.or(host.as_ref());
            if self.rules.concerns(socket, owner) && self.seen.len() < REMEMBERED {
                self.seen.insert(ends);
            }
            self.violations.extend(self.rules.judge(socket, owner));
        }
    }

    fn note(&mut self, name: &str, may_be_gone: bool, error: Unreadable) {
        match error {
            Unreadable::Gone if may_be_gone => {}
            Unreadable::Gone => _ = self.unreadable.insert(format!("the process of {name} is gone")),
            Unreadable::Denied(why) => _ = self.unreadable.insert(why),
        }
    }

    /// All sockets of all namespaces in which the mesh has a process, and whose namespace it is: what nobody else holds in a
    /// peer's own namespace is that peer's, whichever process of its container it belongs to or did.
    fn sockets(&mut self) -> Vec<(Socket, Option<Owner>)> {
        let mut namespaces: HashMap<PathBuf, u32> = HashMap::new();
        let mut errors = Vec::new();
        for (&pid, (_, name, may_be_gone)) in &self.roots {
            match owners::namespace(pid) {
                Ok(namespace) => {
                    let first = *namespaces.entry(namespace).or_insert(pid);
                    if first != pid && self.separation == Separation::Namespaces {
                        let other = &self.roots[&first].1;
                        self.violations.insert(format!("{name} and {other} share one network"));
                    }
                }
                Err(error) => errors.push((name.clone(), *may_be_gone, error)),
            }
        }
        let mut sockets = Vec::new();
        for pid in namespaces.into_values() {
            let host = match (&self.roots[&pid].0, self.separation) {
                (owner @ (Owner::Peer(_) | Owner::Database(_)), Separation::Namespaces) => {
                    Some(owner.clone())
                }
                _ => None,
            };
            match owners::tables(pid) {
                Ok(tables) => {
                    for table in tables {
                        match sockets::parse(&table) {
                            Ok(found) => {
                                sockets.extend(found.into_iter().map(|socket| (socket, host.clone())));
                            }
                            Err(why) => _ = self.unreadable.insert(why),
                        }
                    }
                }
                Err(error) => errors.push((self.roots[&pid].1.clone(), false, error)),
            }
        }
        for (name, may_be_gone, error) in errors {
            self.note(&name, may_be_gone, error);
        }
        sockets
    }

    /// The owner of each socket inode.
    fn owners(&mut self) -> HashMap<u64, Owner> {
        let roots: HashSet<u32> = self.roots.keys().copied().collect();
        let families = match owners::families(&roots) {
            Ok(families) => families,
            Err(error) => {
                self.unreadable.insert(format!("/proc: {error}"));
                return HashMap::new();
            }
        };
        let (mut found, mut errors) = (HashMap::new(), Vec::new());
        for (pid, root) in families {
            let (owner, name, may_be_gone) = &self.roots[&root];
            match owners::sockets(pid) {
                Ok(inodes) => found.extend(inodes.into_iter().map(|inode| (inode, owner.clone()))),
                // A child may end at any time.
                Err(error) => errors.push((name.clone(), *may_be_gone || pid != root, error)),
            }
        }
        for (name, may_be_gone, error) in errors {
            self.note(&name, may_be_gone, error);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn peer(number: u32) -> PeerName {
        PeerName::new(format!("peer-{number}")).unwrap()
    }

    #[test]
    fn what_can_not_be_looked_at_is_told_unless_it_is_known_to_be_dead() {
        let mut target = testing::target(6);
        target.peers[1].pid = None;
        target.peers[2].pid = Some(u32::MAX - 1);
        let mut auditor = Auditor::new(&target, &HashSet::new());
        auditor.sample();
        let told: Vec<&str> = auditor.unreadable().map(String::as_str).collect();
        assert_eq!(told, ["the process of peer-2 is not known", "the process of peer-3 is gone"]);
        let mut auditor = Auditor::new(&target, &HashSet::from([peer(2), peer(3)]));
        auditor.sample();
        assert_eq!(auditor.unreadable().count(), 0);
    }

    #[test]
    fn a_connection_of_another_process_is_found_and_judged() {
        // `sleep` inherits a connection that peer-1 must not have: to peer-4 of a ring of six.
        let mut target = testing::target_in(20, 6);
        let listener = std::net::TcpListener::bind(target.peers[3].endpoint).unwrap();
        let stream = std::net::TcpStream::connect(target.peers[3].endpoint).unwrap();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .stdout(std::os::fd::OwnedFd::from(stream.try_clone().unwrap()))
            .spawn()
            .unwrap();
        drop(stream);
        target.peers[0].pid = Some(child.id());
        let mut auditor = Auditor::new(&target, &HashSet::new());
        auditor.sample();
        let found: Vec<&String> = auditor.violations().collect();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(listener);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("peer-1 (127.0.0.1:"), "{found:?}");
        assert!(found[0].ends_with("has dialled peer-4, no neighbour"), "{found:?}");
        assert!(auditor.connections() >= 1);
    }
}
