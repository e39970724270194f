//! The rooms, as bands around their peers.

use super::Scene;
use crate::graph::{
    colour,
    layout::{BAND, Point, runs},
    sheet::{curve, tenths},
};

/// Size of a room's name, before it is scaled.
const ROOM_TEXT: f64 = 18.0;

impl Scene<'_> {
    /// Each room is a band around its peers.
    pub(super) fn bands(&mut self) {
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
                    self.sheet.hidden(end, at);
                }
                self.sheet.edge(
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
            self.sheet.node(
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
}
