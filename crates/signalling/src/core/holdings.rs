//! Who holds what in one room.

use std::collections::{BTreeSet, HashMap, HashSet};

use hopcast_protocol::{ContentId, Sha256, limits::HELD};
use hopcast_routing::NodeId;

/// A peer would hold more than [`HELD`] contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany(pub(super) usize);

/// Blobs and their holders, both ways, and the gateways, which can get anything.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    holders: HashMap<Sha256, BTreeSet<NodeId>>,
    held: HashMap<NodeId, HashSet<Sha256>>,
    gateways: BTreeSet<NodeId>,
}

impl Holdings {
    /// Adds to what a peer holds; beyond the bound nothing is added. Manifests are no blobs and are skipped: only
    /// gateways hold them.
    pub(super) fn hold(&mut self, peer: NodeId, contents: &[ContentId]) -> Result<(), TooMany> {
        let held = self.held.entry(peer).or_default();
        let new: HashSet<Sha256> = blobs(contents).filter(|blob| !held.contains(blob)).collect();
        let total = held.len() + new.len();
        if total > HELD {
            return Err(TooMany(total));
        }
        for &blob in &new {
            self.holders.entry(blob).or_default().insert(peer);
        }
        held.extend(new);
        Ok(())
    }

    /// Takes from what a peer holds; what it does not hold is ignored.
    pub(super) fn release(&mut self, peer: NodeId, contents: &[ContentId]) {
        let Some(held) = self.held.get_mut(&peer) else { return };
        for blob in blobs(contents) {
            if held.remove(&blob) {
                forget(&mut self.holders, blob, peer);
            }
        }
        if held.is_empty() {
            self.held.remove(&peer);
        }
    }

    /// A peer is a gateway, or no longer.
    pub(super) fn set_gateway(&mut self, peer: NodeId, gateway: bool) {
        if gateway {
            self.gateways.insert(peer);
        } else {
            self.gateways.remove(&peer);
        }
    }

    /// A peer is gone, and all that it held.
    pub(super) fn clear(&mut self, peer: NodeId) {
        self.gateways.remove(&peer);
        for blob in self.held.remove(&peer).unwrap_or_default() {
            forget(&mut self.holders, blob, peer);
        }
    }

    /// Peers that can get anything.
    pub(super) fn gateways(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.gateways.iter().copied()
    }

    /// Those who have said that they hold a content.
    pub(super) fn holders<'a>(&'a self, content: &ContentId) -> impl Iterator<Item = NodeId> + 'a {
        let blob = match content {
            ContentId::Blob(blob) => self.holders.get(blob),
            ContentId::Manifest(_) => None,
        };
        blob.into_iter().flatten().copied()
    }
}

fn blobs(contents: &[ContentId]) -> impl Iterator<Item = Sha256> {
    contents.iter().filter_map(|content| match content {
        ContentId::Blob(blob) => Some(*blob),
        ContentId::Manifest(_) => None,
    })
}

fn forget(holders: &mut HashMap<Sha256, BTreeSet<NodeId>>, blob: Sha256, peer: NodeId) {
    if let Some(peers) = holders.get_mut(&blob) {
        peers.remove(&peer);
        if peers.is_empty() {
            holders.remove(&blob);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(index: usize) -> NodeId {
        NodeId::from_index(index).unwrap()
    }

    fn blob(n: u32) -> ContentId {
        ContentId::Blob(Sha256::of(&n.to_le_bytes()))
    }

    fn of(holdings: &Holdings, content: &ContentId) -> Vec<usize> {
        holdings.holders(content).chain(holdings.gateways()).map(NodeId::index).collect()
    }

    #[test]
    fn manifests_are_the_gateways_alone() {
        let mut holdings = Holdings::default();
        let manifest: ContentId = "manifest:demo".parse().unwrap();
        holdings.hold(node(1), &[manifest.clone(), blob(1)]).unwrap();
        holdings.set_gateway(node(2), true);
        assert_eq!(of(&holdings, &manifest), [2]);
        assert_eq!(of(&holdings, &blob(1)), [1, 2]);
        holdings.release(node(1), &[blob(1)]);
        holdings.set_gateway(node(2), false);
        assert!(of(&holdings, &blob(1)).is_empty());
    }

    #[test]
    fn the_bound_holds_whole_and_a_peer_that_leaves_frees_all() {
        let mut holdings = Holdings::default();
        let all: Vec<_> = (0..HELD as u32).map(blob).collect();
        holdings.hold(node(1), &all).unwrap();
        assert_eq!(holdings.hold(node(1), &all), Ok(()), "the same again is nothing new");
        assert_eq!(holdings.hold(node(1), &[blob(u32::MAX)]), Err(TooMany(HELD + 1)));
        holdings.clear(node(1));
        assert!(holdings.holders.is_empty() && holdings.held.is_empty());
    }
}
