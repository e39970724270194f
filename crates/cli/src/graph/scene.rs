//! The statements of the picture, from back to front.

use std::collections::HashMap;

use graphviz_rust::dot_structures::{
    Attribute, Edge, EdgeTy, Graph, GraphAttributes, Id, Node, NodeId, Stmt, Vertex,
};
use hopcast_protocol::{DatabaseName, PeerName, RoomName};
use hopcast_topology::{
    Plan,
    plan::{Link, Peer},
};

use super::{
    Overlay, colour,
    layout::{BAND, Circle, Point, runs, spread},
    legend::legend,
};

/// Width and height of a database, before it is scaled.
const DATABASE: (f64, f64) = (84.0, 46.0);
/// The edges stand this far out, as a share of the circle.
const EDGES_AT: f64 = 0.56;
/// Length of an arrow's head.
const HEAD: f64 = 10.0;
/// Size of a room's name, before it is scaled.
const ROOM_TEXT: f64 = 18.0;

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
    Graph::Graph { id: quoted(plan.mesh.as_str()), strict: false, stmts: scene.statements }
}

struct Scene<'a> {
    plan: &'a Plan,
    overlay: &'a Overlay,
    circle: Circle,
    /// Width and height of a database.
    database: (f64, f64),
    /// Place on the circle.
    places: HashMap<&'a PeerName, usize>,
    statements: Vec<Stmt>,
}

impl<'a> Scene<'a> {
    fn new(plan: &'a Plan, overlay: &'a Overlay) -> Self {
        let places = plan.peers.iter().enumerate().map(|(place, peer)| (&peer.name, place)).collect();
        let circle = Circle::of(plan.peers.len());
        let database = (DATABASE.0 * circle.scale, DATABASE.1 * circle.scale);
        Self { plan, overlay, circle, database, places, statements: Vec::new() }
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
        self.statements.extend(attributes.map(Stmt::GAttribute));
    }

    /// Each room is a band around its peers.
    fn bands(&mut self) {
        let outside = self.circle.band(self.plan.rooms.len()) + 4.0;
        let text = ROOM_TEXT * self.circle.scale;
        let wide = tenths(BAND * self.circle.scale);
        let mut names: Vec<Point> = Vec::new();
        for (band, room) in self.plan.rooms.iter().enumerate() {
            let places: Vec<usize> =
                room.peers.iter().filter_map(|peer| self.places.get(peer).copied()).collect();
            let runs = runs(&places, self.plan.peers.len());
            let tooltip = format!("room {}: {} peers", room.name, places.len());
            for (n, &(first, last)) in runs.iter().enumerate() {
                let arc = self.circle.arc(first, last, self.circle.band(band));
                // An edge needs ends; these are not seen. No name of a peer has a colon.
                let ends = ["from", "to"].map(|end| format!("{}:{n}:{end}", room.name));
                for (end, at) in ends.iter().zip([arc[0], arc[arc.len() - 1]]) {
                    self.hidden(end, at);
                }
                self.edge(
                    &ends[0],
                    &ends[1],
                    &curve(&arc),
                    [("color", colour::room(band)), ("penwidth", &wide), ("tooltip", &tooltip)],
                );
            }
            let Some(&(first, last)) = runs.iter().max_by_key(|(first, last)| last - first) else { continue };
            // Beside the middle of its longest run, or further along where another name stands.
            let at = [0.5, 0.35, 0.65, 0.2, 0.8]
                .map(|share| self.circle.angle(first as f64 + (last - first) as f64 * share))
                .map(|angle| {
                    let width = 0.58 * text * room.name.as_str().len() as f64;
                    let out = angle.cos().abs() * width / 2.0 + angle.sin().abs() * text / 2.0;
                    Point::polar(angle, outside + out)
                });
            let free = at.iter().find(|at| names.iter().all(|name| name.distance(**at) > 3.5 * text));
            let at = *free.unwrap_or(&at[0]);
            names.push(at);
            self.node(
                &format!("{}:name", room.name),
                at,
                [
                    ("label", room.name.as_str()),
                    ("shape", "plain"),
                    ("style", "solid"),
                    ("fixedsize", "false"),
                    ("width", "0"),
                    ("fontsize", &tenths(text)),
                    ("fontcolor", colour::room(band)),
                ],
            );
        }
    }

    /// The origin in the middle, each edge on the side of its gateways.
    fn databases(&mut self) {
        let plan = self.plan;
        let count = plan.edges.len().max(1) as f64;
        let wanted: Vec<f64> = plan
            .edges
            .iter()
            .enumerate()
            .map(|(n, edge)| {
                let places = edge.peers.iter().filter_map(|peer| self.places.get(peer).copied());
                let evenly = std::f64::consts::FRAC_PI_2 - std::f64::consts::TAU * n as f64 / count;
                self.circle.direction(places).unwrap_or(evenly)
            })
            .collect();
        let out = self.circle.radius * EDGES_AT;
        // Side by side on their own circle.
        let angles = spread(&wanted, 2.0 * (self.database.0 * 0.6 / out).min(1.0).asin());
        for ((n, edge), &angle) in plan.edges.iter().enumerate().zip(&angles) {
            let at = Point::polar(angle, out);
            let colour = colour::edge(n);
            for peer in &edge.peers {
                let Some(&place) = self.places.get(peer) else { continue };
                self.edge(
                    edge.name.as_str(),
                    peer.as_str(),
                    &line(at, self.circle.place(place)),
                    [
                        ("color", colour),
                        ("style", "dashed"),
                        ("tooltip", &format!("{peer} is a gateway of {}", edge.name)),
                    ],
                );
            }
            let tip = boundary(at, self.database, Point::ZERO);
            let base = tip.towards(Point::ZERO, HEAD * self.circle.scale / tip.distance(Point::ZERO));
            self.edge(
                plan.origin.name.as_str(),
                edge.name.as_str(),
                &format!("e,{tip} {}", line(Point::ZERO, base)),
                [
                    ("color", colour::ORIGIN),
                    ("penwidth", &tenths(2.0 * self.circle.scale)),
                    ("arrowsize", &tenths(self.circle.scale)),
                    ("dir", "forward"),
                    ("tooltip", &format!("{} replicates to {}", plan.origin.name, edge.name)),
                ],
            );
            self.database(edge.name.as_str(), at, colour);
        }
        self.database(plan.origin.name.as_str(), Point::ZERO, colour::ORIGIN);
    }

    fn database(&mut self, name: &str, at: Point, colour: &str) {
        let (width, height) = self.database;
        // A name that is too long becomes smaller.
        let text = (width * 0.92 / (0.58 * name.len() as f64)).min(14.0 * self.circle.scale);
        self.node(
            name,
            at,
            [
                ("shape", "cylinder"),
                ("width", &inches(width)),
                ("height", &inches(height)),
                ("fontsize", &tenths(text)),
                ("fillcolor", colour),
                ("fontcolor", "white"),
                ("tooltip", name),
            ],
        );
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
            self.node(peer.name.as_str(), at, looks.iter().map(|(key, value)| (*key, value.as_str())));
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
                (colour::FAINT, "0.9", "dotted")
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
            self.edge(link.a.as_str(), link.b.as_str(), &curve, looks.iter().map(|(k, v)| (*k, v.as_str())));
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
        let half = (legend.width / 2.0).hypot(legend.height / 2.0);
        // Between the origin and the links.
        let nearest = half + self.database.0 / 2.0;
        let at = if nearest + half < free {
            Point::polar(away, f64::midpoint(nearest, free - half))
        } else {
            let outside = self.circle.band(self.plan.rooms.len()) + 60.0;
            Point { x: outside + legend.width / 2.0, y: 0.0 }
        };
        self.statements.push(Stmt::Node(Node {
            id: NodeId(quoted(":legend"), None),
            attributes: [Attribute(Id::Plain("label".to_owned()), Id::Html(legend.html))]
                .into_iter()
                .chain(attributes([
                    ("shape", "plain"),
                    ("style", "solid"),
                    ("fixedsize", "false"),
                    ("width", "0"),
                    ("fontsize", &tenths(13.0 * self.circle.scale)),
                    ("pos", &at.to_string()),
                    ("tooltip", "legend"),
                ]))
                .collect(),
        }));
    }

    fn hidden(&mut self, name: &str, at: Point) {
        self.node(name, at, [("shape", "point"), ("style", "invis"), ("width", "0.01")]);
    }

    fn node<'v>(&mut self, name: &str, at: Point, looks: impl IntoIterator<Item = (&'v str, &'v str)>) {
        let mut all = attributes([("pos", at.to_string().as_str())]);
        all.extend(attributes(looks));
        self.statements.push(Stmt::Node(Node { id: NodeId(quoted(name), None), attributes: all }));
    }

    fn edge<'v>(
        &mut self,
        a: &str,
        b: &str,
        curve: &str,
        looks: impl IntoIterator<Item = (&'v str, &'v str)>,
    ) {
        let [a, b] = [a, b].map(|end| Vertex::N(NodeId(quoted(end), None)));
        let mut all = attributes([("pos", curve)]);
        all.extend(attributes(looks));
        self.statements.push(Stmt::Edge(Edge { ty: EdgeTy::Pair(a, b), attributes: all }));
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

/// Where a line from elsewhere enters a database.
fn boundary(database: Point, size: (f64, f64), from: Point) -> Point {
    let (dx, dy) = ((from.x - database.x).abs(), (from.y - database.y).abs());
    let across = (size.0 / 2.0 + 3.0) / dx.max(1e-9);
    let along = (size.1 / 2.0 + 3.0) / dy.max(1e-9);
    database.towards(from, across.min(along).min(1.0))
}

fn line(from: Point, to: Point) -> String {
    curve(&[from, from.towards(to, 1.0 / 3.0), from.towards(to, 2.0 / 3.0), to])
}

fn curve(points: &[Point]) -> String {
    points.iter().map(Point::to_string).collect::<Vec<_>>().join(" ")
}

fn inches(points: f64) -> String {
    format!("{:.3}", points / 72.0)
}

fn tenths(value: f64) -> String {
    format!("{value:.1}")
}

fn attributes<'v>(list: impl IntoIterator<Item = (&'v str, &'v str)>) -> Vec<Attribute> {
    list.into_iter().map(|(key, value)| Attribute(Id::Plain(key.to_owned()), quoted(value))).collect()
}

/// A string of the DOT language: only the quote itself needs care (and a backslash, which Graphviz expands in labels).
fn quoted(text: &str) -> Id {
    Id::Escaped(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")))
}
