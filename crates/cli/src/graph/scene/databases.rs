//! The databases: who feeds whom, and who may ask.

use std::f64::consts::{FRAC_PI_2, TAU};

use super::Scene;
use crate::graph::{
    colour,
    layout::{Point, spread},
    sheet::{inches, line, tenths},
};

/// Width and height of a database, before it is scaled.
const DATABASE: (f64, f64) = (84.0, 46.0);
/// The edges stand this far out, as a share of the circle.
const EDGES_AT: f64 = 0.56;
/// Length of an arrow's head.
const HEAD: f64 = 10.0;

impl Scene<'_> {
    /// Width and height of a database.
    pub(super) fn database(&self) -> (f64, f64) {
        (DATABASE.0 * self.circle.scale, DATABASE.1 * self.circle.scale)
    }

    /// The origin in the middle, each edge on the side of its gateways.
    pub(super) fn databases(&mut self) {
        let plan = self.plan;
        let count = plan.edges.len().max(1) as f64;
        let wanted: Vec<f64> = plan
            .edges
            .iter()
            .enumerate()
            .map(|(n, edge)| {
                let places = edge.peers.iter().filter_map(|peer| self.places.get(peer).copied());
                let evenly = FRAC_PI_2 - TAU * n as f64 / count;
                self.circle.direction(places).unwrap_or(evenly)
            })
            .collect();
        let out = self.circle.radius * EDGES_AT;
        // Side by side on their own circle.
        let angles = spread(&wanted, 2.0 * (self.database().0 * 0.6 / out).min(1.0).asin());
        for ((n, edge), &angle) in plan.edges.iter().enumerate().zip(&angles) {
            let at = Point::polar(angle, out);
            let colour = colour::edge(n);
            for peer in &edge.peers {
                let Some(&place) = self.places.get(peer) else { continue };
                self.sheet.edge(
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
            let tip = boundary(at, self.database(), Point::ZERO);
            let base = tip.towards(Point::ZERO, HEAD * self.circle.scale / tip.distance(Point::ZERO));
            self.sheet.edge(
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
            self.cylinder(edge.name.as_str(), at, colour);
        }
        self.cylinder(plan.origin.name.as_str(), Point::ZERO, colour::ORIGIN);
    }

    fn cylinder(&mut self, name: &str, at: Point, colour: &str) {
        let (width, height) = self.database();
        // A name that is too long becomes smaller.
        let text = (width * 0.92 / (0.58 * name.len() as f64)).min(14.0 * self.circle.scale);
        self.sheet.node(
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
}

/// Where a line from elsewhere enters a database.
fn boundary(database: Point, size: (f64, f64), from: Point) -> Point {
    let (dx, dy) = ((from.x - database.x).abs(), (from.y - database.y).abs());
    let across = (size.0 / 2.0 + 3.0) / dx.max(1e-9);
    let along = (size.1 / 2.0 + 3.0) / dy.max(1e-9);
    database.towards(from, across.min(along).min(1.0))
}
