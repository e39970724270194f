//! Pictures of a mesh: the plan, or what runs now laid over it, as DOT; SVG and PNG through Graphviz.
//!
//! The peers stand on a circle in the order of their numbers, the rooms are coloured bands around it, the databases inside. All
//! positions are worked out here and written into the DOT together with the engine that honours them (`nop2`), so that a plain
//! `dot -Tpng mesh.dot` draws the same picture: no general layout of Graphviz keeps 160 peers readable. Two files that
//! describe the same mesh give the same text.

mod colour;
mod layout;
mod legend;
mod render;
mod scene;
mod sheet;

use std::collections::HashSet;

use graphviz_rust::printer::{DotPrinter as _, PrinterContext};
use hopcast_protocol::PeerName;
use hopcast_topology::Plan;

pub(crate) use render::{Format, render};

/// What is drawn over the plan. The default draws the plan alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overlay {
    /// The peers that are connected now; all others are drawn dead. `None`: nothing is known, no one is.
    pub connected: Option<HashSet<PeerName>>,
    /// Links that are reported down, in either order of their ends.
    pub down: HashSet<(PeerName, PeerName)>,
    /// A way to highlight, from its requester to its holder; empty for none.
    pub path: Vec<PeerName>,
}

impl Overlay {
    /// Whether the peer is known to be away.
    fn is_dead(&self, peer: &PeerName) -> bool {
        self.connected.as_ref().is_some_and(|connected| !connected.contains(peer))
    }

    /// Whether the link between the two is reported down.
    fn is_down(&self, a: &PeerName, b: &PeerName) -> bool {
        // Mostly nothing is down: spare the copies of the names.
        !self.down.is_empty()
            && (self.down.contains(&(a.clone(), b.clone())) || self.down.contains(&(b.clone(), a.clone())))
    }

    /// Whether the way takes the link between the two, in either direction.
    fn takes(&self, a: &PeerName, b: &PeerName) -> bool {
        self.path.windows(2).any(|hop| (&hop[0] == a && &hop[1] == b) || (&hop[0] == b && &hop[1] == a))
    }
}

/// The picture as DOT.
pub(crate) fn dot(plan: &Plan, overlay: &Overlay) -> String {
    // One statement a line, each on one line: friendly to diff and grep.
    let mut printer = PrinterContext::new(false, 2, "\n".to_owned(), usize::MAX);
    let mut text = scene::scene(plan, overlay).print(&mut printer);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
