//! What the colours mean: a table of Graphviz's HTML-like labels.

use std::fmt::Write as _;

use hopcast_protocol::PeerName;
use hopcast_topology::Plan;

use super::{Overlay, colour};

/// Names on one line of a way.
const NAMES_A_LINE: usize = 4;
/// Lines of a way before it is cut short in the middle.
const LINES: usize = 12;
/// Rooms or edges that are listed before the rest is counted.
const LISTED: usize = 12;

/// The table, and about how large it becomes, in points.
pub(super) struct Legend {
    pub(super) html: String,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// The legend in text of that size.
pub(super) fn legend(plan: &Plan, overlay: &Overlay, size: f64) -> Legend {
    let mut rows = Rows { size, html: String::new(), lines: 0, longest: 0 };
    rows.title(plan.mesh.as_str());
    rows.wide(&format!(
        "{} · {} · {}",
        count(plan.peers.len(), "peer"),
        count(plan.rooms.len(), "room"),
        count(plan.links.len(), "link")
    ));
    for (place, room) in plan.rooms.iter().enumerate().take(LISTED) {
        rows.row(colour::room(place), &format!("room {} · {}", room.name, count(room.peers.len(), "peer")));
    }
    rows.more(plan.rooms.len(), "room");
    rows.row(colour::ORIGIN, &format!("{} → edges: replication", plan.origin.name));
    for (place, edge) in plan.edges.iter().enumerate().take(LISTED) {
        rows.row(colour::edge(place), &format!("{} · {}", edge.name, count(edge.peers.len(), "gateway")));
    }
    rows.more(plan.edges.len(), "edge");
    if plan.links.iter().any(|link| !link.emulation.is_none()) {
        rows.row(colour::EMULATED, "emulated link");
    }
    if let Some(connected) = &overlay.connected {
        let dead = plan.peers.iter().filter(|peer| !connected.contains(&peer.name)).count();
        rows.row(
            colour::DEAD,
            &format!(
                "{} connected · {dead} dead · {} down",
                plan.peers.len() - dead,
                count(overlay.down.len(), "link")
            ),
        );
    } else if !overlay.down.is_empty() {
        rows.row(colour::DEAD, &format!("{} down", count(overlay.down.len(), "link")));
    }
    if let Some(hops) = overlay.path.len().checked_sub(1) {
        rows.row(colour::PATH, &format!("the way: {}", count(hops, "hop")));
        for line in way(&overlay.path) {
            rows.wide(&line);
        }
    }
    rows.finish()
}

/// The way in lines; a very long one without its middle.
fn way(path: &[PeerName]) -> Vec<String> {
    let names: Vec<&str> = path.iter().map(PeerName::as_str).collect();
    let lines: Vec<String> = names.chunks(NAMES_A_LINE).map(|names| names.join(" → ")).collect();
    let mut lines: Vec<String> = if lines.len() <= LINES {
        lines
    } else {
        let (head, tail) = (&lines[..LINES / 2], &lines[lines.len() - LINES / 2..]);
        head.iter().cloned().chain(["…".to_owned()]).chain(tail.iter().cloned()).collect()
    };
    for line in lines.iter_mut().skip(1) {
        line.insert_str(0, "→ ");
    }
    lines
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

struct Rows {
    size: f64,
    html: String,
    lines: usize,
    longest: usize,
}

impl Rows {
    fn title(&mut self, text: &str) {
        let size = (self.size * 1.5).round();
        self.add(
            text.chars().count() * 2,
            &format!(r#"<TD ALIGN="LEFT"><FONT POINT-SIZE="{size}"><B>{}</B></FONT></TD>"#, escape(text)),
        );
        self.lines += 1;
    }

    fn wide(&mut self, text: &str) {
        self.add(text.chars().count(), &format!(r#"<TD ALIGN="LEFT">{}</TD>"#, escape(text)));
    }

    fn row(&mut self, colour: &str, text: &str) {
        // A character, not a cell with a background: a long way below would stretch the cell.
        self.add(
            text.chars().count() + 3,
            &format!(r#"<TD ALIGN="LEFT"><FONT COLOR="{colour}">■■</FONT> {}</TD>"#, escape(text)),
        );
    }

    fn more(&mut self, all: usize, what: &str) {
        if all > LISTED {
            self.wide(&format!("and {} more", count(all - LISTED, what)));
        }
    }

    fn add(&mut self, length: usize, cells: &str) {
        self.lines += 1;
        self.longest = self.longest.max(length);
        // Writing into a String cannot fail.
        let _ = write!(self.html, "<TR>{cells}</TR>");
    }

    fn finish(self) -> Legend {
        let html = format!(
            r#"<<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="4" CELLPADDING="0">{}</TABLE>>"#,
            self.html
        );
        Legend {
            html,
            width: 0.55 * self.size * (self.longest + 3) as f64,
            height: 1.45 * self.size * (self.lines + 1) as f64,
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_way_loses_its_middle() {
        let path: Vec<PeerName> =
            (0..200).map(|n| PeerName::new(format!("peer-{n}")).expect("a name")).collect();
        let lines = way(&path);
        assert_eq!(lines.len(), LINES + 1);
        assert_eq!(lines[0], "peer-0 → peer-1 → peer-2 → peer-3");
        assert_eq!(lines[LINES], "→ peer-196 → peer-197 → peer-198 → peer-199");
        assert_eq!(way(&path[..1]), ["peer-0"]);
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
