//! The picture: what is drawn, and over what.

mod databases;
mod rooms;

use std::collections::HashMap;

use graphviz_rust::dot_structures::{Graph, GraphAttributes, Stmt};
use hopcast_protocol::{DatabaseName, PeerName, RoomName};
use hopcast_topology::{
    Plan,
    plan::{Link, Peer},
};

use super::{
    Overlay, colour,
    layout::{Circle, Point, inside},
    legend::legend,
    sheet::{Sheet, attributes, curve, inches, quoted, tenths},
};

/// The whole picture.
pub(super) fn scene(plan: &Plan, overlay: &Overlay) -> Graph {
    let mut scene = Scene::new(plan, overlay);
    scene.defaults();
    scene.bands();
    scene.peers();
    scene.links();
    // Graphviz paints lines in the order of their first ends: those of the databases lie on top.
    scene.databases();
    scene.legend();
    Graph::Graph { id: quoted(plan.mesh.as_str()), strict: false, stmts: scene.sheet.statements }
}

struct Scene<'a> {
    plan: &'a Plan,
    overlay: &'a Overlay,
    circle: Circle,
    /// Place on the circle.
    places: HashMap<&'a PeerName, usize>,
    sheet: Sheet,
}

impl<'a> Scene<'a> {
    fn new(plan: &'a Plan, overlay: &'a Overlay) -> Self {
        let places = plan.peers.iter().enumerate().map(|(place, peer)| (&peer.name, place)).collect();
        let circle = Circle::of(plan.peers.len());
        Self { plan, overlay, circle, places, sheet: Sheet::default() }
    }

    fn defaults(&mut self) {
        let attributes = [
            GraphAttributes::Graph(attributes([
                // Positions are given: draw them, lay nothing out. `dot` obeys.
                ("layout", "nop2"),
                ("outputorder", "edgesfirst"),
                ("bgcolor", "white"),
                ("pad", "0.2"),
                ("fontname", "Helvetica"),
            ])),
            GraphAttributes::Node(attributes([
                ("fontname", "Helvetica"),
                ("shape", "circle"),
                ("fixedsize", "true"),
                ("width", &inches(self.circle.peer)),
                ("style", "filled"),
                ("fillcolor", "white"),
                ("color", colour::INK),
                ("fontcolor", colour::INK),
                ("penwidth", "0.8"),
            ])),
            GraphAttributes::Edge(attributes([("color", colour::LINK), ("penwidth", "0.9")])),
        ];
        self.sheet.statements.extend(attributes.map(Stmt::GAttribute));
    }

    fn peers(&mut self) {
        let plan = self.plan;
        let fits = |text: &str| self.circle.label(text);
        // All by name where all names can be read, else all by number, else none.
        let named = plan.peers.iter().all(|peer| fits(peer.name.as_str()).is_some_and(|size| size >= 8.0));
        let text = |peer: &Peer| if named { peer.name.to_string() } else { peer.number.to_string() };
        let size = plan.peers.iter().map(|peer| fits(&text(peer)).unwrap_or(0.0)).fold(f64::MAX, f64::min);
        let size = (size > 0.0 && size < f64::MAX).then(|| tenths(size));
        for (place, peer) in plan.peers.iter().enumerate() {
            let mut looks = vec![
                ("label", if size.is_some() { text(peer) } else { String::new() }),
                ("tooltip", self.peer_tooltip(peer)),
            ];
            looks.extend(size.clone().map(|size| ("fontsize", size)));
            let gateway = self.plan.edges.iter().position(|edge| peer.edges.first() == Some(&edge.name));
            if let Some(edge) = gateway {
                looks.extend([
                    ("fillcolor", colour::gateway(edge).to_owned()),
                    ("color", colour::edge(edge).to_owned()),
                ]);
            }
            let at = self.overlay.path.iter().position(|hop| hop == &peer.name);
            if at.is_some() {
                looks.extend(
                    [("fillcolor", colour::PATH), ("color", colour::PATH), ("fontcolor", "white")]
                        .map(|(key, value)| (key, value.to_owned())),
                );
            }
            if at.is_some_and(|at| at == 0 || at + 1 == self.overlay.path.len()) {
                // The ends of the way have a second ring.
                looks.push(("peripheries", "2".to_owned()));
            }
            if self.overlay.is_dead(&peer.name) {
                looks.extend(
                    [
                        ("style", "filled,dashed"),
                        ("fillcolor", colour::DEAD_FILL),
                        ("color", colour::DEAD),
                        ("fontcolor", colour::DEAD),
                        ("penwidth", "1.4"),
                    ]
                    .map(|(key, value)| (key, value.to_owned())),
                );
            }
            let at = self.circle.place(place);
            self.sheet.node(peer.name.as_str(), at, looks.iter().map(|(key, value)| (*key, value.as_str())));
        }
    }

    fn peer_tooltip(&self, peer: &Peer) -> String {
        let list = |names: Vec<&str>| names.join(", ");
        let mut text = format!("{} · {}", peer.name, list(peer.rooms.iter().map(RoomName::as_str).collect()));
        if !peer.edges.is_empty() {
            text += &format!(" · gateway of {}", list(peer.edges.iter().map(DatabaseName::as_str).collect()));
        }
        if self.overlay.is_dead(&peer.name) {
            text += " · dead";
        }
        text
    }

    fn links(&mut self) {
        let plain = if self.overlay.path.is_empty() { colour::LINK } else { colour::FAINT };
        for link in &self.plan.links {
            let (Some(&a), Some(&b)) = (self.places.get(&link.a), self.places.get(&link.b)) else { continue };
            let mut looks = vec![("tooltip", link_tooltip(link))];
            let dead = self.overlay.is_dead(&link.a) || self.overlay.is_dead(&link.b);
            // Between two peers that almost touch, dashes would not be seen.
            let stub = self.circle.place(a).distance(self.circle.place(b)) - self.circle.peer < 10.0;
            let (colour, width, style) = if self.overlay.takes(&link.a, &link.b) {
                (colour::PATH, "3.5", "solid")
            } else if self.overlay.is_down(&link.a, &link.b) {
                (colour::DEAD, if stub { "5" } else { "1.8" }, if stub { "solid" } else { "dashed" })
            } else if dead {
                (colour::DEAD_LINK, if stub { "3" } else { "1.2" }, if stub { "solid" } else { "dashed" })
            } else if !link.emulation.is_none() {
                (colour::EMULATED, "1.6", "solid")
            } else {
                (plain, "0.9", "solid")
            };
            for (key, value, default) in
                [("color", colour, colour::LINK), ("penwidth", width, "0.9"), ("style", style, "solid")]
            {
                if value != default {
                    looks.push((key, value.to_owned()));
                }
            }
            let curve = curve(&self.circle.chord(a, b));
            self.sheet.edge(
                link.a.as_str(),
                link.b.as_str(),
                &curve,
                looks.iter().map(|(k, v)| (*k, v.as_str())),
            );
        }
    }

    /// Inside the circle, opposite the databases, where no link crosses; else to the right.
    fn legend(&mut self) {
        let legend = legend(self.plan, self.overlay, 13.0 * self.circle.scale);
        let links = self
            .plan
            .links
            .iter()
            .filter_map(|link| Some((*self.places.get(&link.a)?, *self.places.get(&link.b)?)));
        let free = self.circle.free(links);
        let gateways = self
            .plan
            .edges
            .iter()
            .flat_map(|edge| &edge.peers)
            .filter_map(|peer| self.places.get(peer).copied());
        let away = self
            .circle
            .direction(gateways)
            .map_or(-std::f64::consts::FRAC_PI_2, |angle| angle + std::f64::consts::PI);
        let size = (legend.width, legend.height);
        let outside = self.circle.band(self.plan.rooms.len()) + 60.0;
        let at = inside(free, away, size, self.database())
            .unwrap_or(Point { x: outside + legend.width / 2.0, y: 0.0 });
        self.sheet.html(":legend", at, &legend.html, 13.0 * self.circle.scale);
    }
}

fn link_tooltip(link: &Link) -> String {
    let mut text = format!("{} – {}", link.a, link.b);
    let emulation = &link.emulation;
    let ms = |us: u64| us as f64 / 1000.0;
    if emulation.latency_us > 0 {
        text += &format!(" · {} ms", ms(emulation.latency_us));
    }
    if emulation.jitter_us > 0 {
        text += &format!(" ± {} ms", ms(emulation.jitter_us));
    }
    if let Some(rate) = emulation.rate {
        text += &format!(" · {rate} B/s");
    }
    if emulation.loss > 0.0 {
        text += &format!(" · {} % fail", emulation.loss * 100.0);
    }
    text
}
