//! Where everything stands. Points (1/72 inch), the origin in the middle, y upwards, as Graphviz has it.

use std::{
    f64::consts::{FRAC_PI_2, TAU},
    fmt,
};

/// Between two neighbours on the circle, centre to centre, while labels are readable.
const STEP: f64 = 19.0;
/// Up to this many peers are labelled at that distance; more move closer together.
const LABELLED: usize = 320;
/// A circle is never smaller, so that the databases fit inside.
const RADIUS: f64 = 210.0;
/// Up to this radius text, bands and databases have their own sizes.
const FULL: f64 = 550.0;
/// From band to band; a little more than a band is wide.
const BAND_STEP: f64 = 11.0;
pub(super) const BAND: f64 = 8.0;

/// A point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) x: f64,
    pub(super) y: f64,
}

impl Point {
    pub(super) const ZERO: Self = Self { x: 0.0, y: 0.0 };

    /// At an angle from the x axis, anticlockwise, in radians.
    pub(super) fn polar(angle: f64, radius: f64) -> Self {
        Self { x: radius * angle.cos(), y: radius * angle.sin() }
    }

    /// On the way to another point; 0 is here, 1 is there.
    pub(super) fn towards(self, other: Self, share: f64) -> Self {
        Self { x: self.x + (other.x - self.x) * share, y: self.y + (other.y - self.y) * share }
    }

    pub(super) fn distance(self, other: Self) -> f64 {
        (self.x - other.x).hypot(self.y - other.y)
    }

    fn scaled(self, by: f64) -> Self {
        Self { x: self.x * by, y: self.y * by }
    }
}

/// As Graphviz reads it, without "-0.0", to a tenth of a point.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y] = [self.x, self.y].map(|v| (v * 10.0).round() / 10.0 + 0.0);
        write!(f, "{x},{y}")
    }
}

/// The circle of peers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circle {
    peers: usize,
    pub(super) radius: f64,
    /// Diameter of a peer.
    pub(super) peer: f64,
    /// What is not a peer grows with the circle, so that a picture of thousands of peers can be read when it is shrunk.
    pub(super) scale: f64,
    /// Between two neighbours, centre to centre.
    step: f64,
}

impl Circle {
    pub(super) fn of(peers: usize) -> Self {
        let count = peers.max(1) as f64;
        // Beyond what can be labelled the picture shows the shape, and stays in the sizes that Graphviz can paint.
        let wanted = if peers <= LABELLED { STEP } else { (STEP * LABELLED as f64 / count).max(STEP / 8.0) };
        let radius = (wanted * count / TAU).max(RADIUS);
        let step = radius * TAU / count;
        Self { peers, radius, peer: (step * 0.82).min(40.0), scale: (radius / FULL).max(1.0), step }
    }

    /// The angle of a place, counted from 0; the first is at the top, the others follow clockwise. Fractions lie between.
    pub(super) fn angle(&self, place: f64) -> f64 {
        FRAC_PI_2 - TAU * place / self.peers.max(1) as f64
    }

    pub(super) fn place(&self, place: usize) -> Point {
        Point::polar(self.angle(place as f64), self.radius)
    }

    /// Size of a label that fits into a peer; `None` where none is readable.
    pub(super) fn label(&self, text: &str) -> Option<f64> {
        // A digit is about 0.58 of its size wide.
        let size = (self.peer * 0.9 / (0.58 * text.len().max(2) as f64)).min(self.peer * 0.6).min(13.0);
        (size >= 5.5).then_some(size)
    }

    /// Radius of the middle of a band.
    pub(super) fn band(&self, band: usize) -> f64 {
        self.radius + self.peer / 2.0 + 4.0 + self.scale * (BAND + BAND_STEP * band as f64)
    }

    /// A link, bowed inwards just as far as it must to clear the peers between its ends.
    pub(super) fn chord(&self, a: usize, b: usize) -> [Point; 4] {
        let (from, to) = (self.place(a), self.place(b));
        let apart = a.abs_diff(b).min(self.peers - a.abs_diff(b));
        let straight = [from, from.towards(to, 1.0 / 3.0), from.towards(to, 2.0 / 3.0), to];
        if apart <= 1 {
            return straight;
        }
        // How close the straight line comes to the peer beside an end.
        let angle = TAU / 2.0 / self.peers as f64;
        let clear = 2.0 * self.radius * (angle * (apart - 1) as f64).sin() * angle.sin();
        if self.peers < 24 && clear > self.peer * 0.75 {
            return straight;
        }
        let depth = 0.85 * (1.0 - (-0.62 * self.step * apart as f64 / (0.85 * self.radius)).exp());
        [from, from.scaled(1.0 - depth), to.scaled(1.0 - depth), to]
    }

    /// How much of the inside no link crosses, as a radius.
    pub(super) fn free(&self, links: impl Iterator<Item = (usize, usize)>) -> f64 {
        links.fold(self.radius - self.peer, |free, (a, b)| {
            // The middle of a symmetrical curve is where it comes closest to the middle of the circle.
            free.min(along(&self.chord(a, b), 0.5).distance(Point::ZERO))
        })
    }

    /// An arc around the places `first..=last` (clockwise; `last` may exceed the number of peers) as a chain of Bézier curves.
    pub(super) fn arc(&self, first: usize, last: usize, radius: f64) -> Vec<Point> {
        let (from, to) = (self.angle(first as f64 - 0.42), self.angle(last as f64 + 0.42));
        let pieces = ((from - to) / (TAU / 8.0)).ceil().max(1.0);
        let piece = (to - from) / pieces;
        // The usual approximation of an arc by a cubic curve.
        let reach = 4.0 / 3.0 * (piece / 4.0).tan() * radius;
        let mut points = vec![Point::polar(from, radius)];
        for n in 0..pieces as usize {
            let (u, v) = (from + piece * n as f64, from + piece * (n + 1) as f64);
            let (start, end) = (Point::polar(u, radius), Point::polar(v, radius));
            points.push(Point { x: start.x - reach * u.sin(), y: start.y + reach * u.cos() });
            points.push(Point { x: end.x + reach * v.sin(), y: end.y - reach * v.cos() });
            points.push(end);
        }
        points
    }

    /// The mean direction of some places; `None` where they balance.
    pub(super) fn direction(&self, places: impl Iterator<Item = usize>) -> Option<f64> {
        let sum = places.fold(Point::ZERO, |sum, place| {
            let unit = Point::polar(self.angle(place as f64), 1.0);
            Point { x: sum.x + unit.x, y: sum.y + unit.y }
        });
        (sum.x.hypot(sum.y) > 1e-6).then(|| sum.y.atan2(sum.x))
    }
}

/// A point of a Bézier curve, by de Casteljau's construction; 0 is its start, 1 its end.
fn along(curve: &[Point; 4], share: f64) -> Point {
    let mut points = *curve;
    for left in (1..points.len()).rev() {
        for n in 0..left {
            points[n] = points[n].towards(points[n + 1], share);
        }
    }
    points[0]
}

/// Where a box has most room around it, in roughly that direction from the middle: within a circle of radius `free`, beside a box
/// in the middle. `None`: it fits nowhere.
pub(super) fn inside(free: f64, direction: f64, size: (f64, f64), middle: (f64, f64)) -> Option<Point> {
    const AIR: f64 = 10.0;
    let around = |at: Point| {
        let corner = (at.x.abs() + size.0 / 2.0).hypot(at.y.abs() + size.1 / 2.0);
        let beside =
            (at.x.abs() - f64::midpoint(size.0, middle.0)).max(at.y.abs() - f64::midpoint(size.1, middle.1));
        (free - corner).min(beside)
    };
    (-4..=4)
        .flat_map(|turn| (1..40).map(move |out| (f64::from(turn) * 0.2, f64::from(out) / 40.0)))
        .map(|(turn, out)| Point::polar(direction + turn, free * out))
        .max_by(|&a, &b| around(a).total_cmp(&around(b)))
        .filter(|&at| around(at) >= AIR)
}

/// Groups ascending places into runs without a gap, first and last place of each; the last run goes on over the end of the
/// circle where the first begins.
pub(super) fn runs(places: &[usize], peers: usize) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for &place in places {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == place => *last = place,
            _ => runs.push((place, place)),
        }
    }
    if let [(0, end), .., (_, last)] = runs[..]
        && last + 1 == peers
    {
        runs.remove(0);
        if let Some((_, last)) = runs.last_mut() {
            *last = peers + end;
        }
    }
    runs
}

/// Moves directions apart that are closer than `gap`, in turns, as little as it takes; the order given stays that of the result.
pub(super) fn spread(angles: &[f64], gap: f64) -> Vec<f64> {
    let gap = gap.min(TAU / angles.len().max(1) as f64 * 0.95);
    let mut spread = angles.to_vec();
    let mut order: Vec<usize> = (0..angles.len()).collect();
    order.sort_by(|&a, &b| angles[a].total_cmp(&angles[b]).then(a.cmp(&b)));
    // Each round moves neighbours in the order; a handful of databases settle in a few rounds.
    for _ in 0..64 {
        for (n, &at) in order.iter().enumerate() {
            let next = order[(n + 1) % order.len()];
            // Not modulo a turn: one that was pushed past the next must come back.
            let turn = if n + 1 == order.len() { TAU } else { 0.0 };
            let apart = spread[next] + turn - spread[at];
            if next != at && apart < gap {
                let half = (gap - apart) / 2.0;
                spread[at] -= half;
                spread[next] += half;
            }
        }
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_go_over_the_top() {
        assert_eq!(runs(&[0, 1, 4, 8, 9], 10), [(4, 4), (8, 11)]);
        assert_eq!(runs(&[0, 1, 2], 3), [(0, 2)]);
        assert_eq!(runs(&[1, 2], 3), [(1, 2)]);
        assert_eq!(runs(&[], 3), []);
    }

    #[test]
    fn chords_clear_the_peers_between_their_ends() {
        for peers in [5, 12, 24, 100, 160, 2000] {
            let circle = Circle::of(peers);
            for apart in 2..=peers / 2 {
                let chord = circle.chord(0, apart);
                for n in 0..=100 {
                    let point = along(&chord, f64::from(n) / 100.0);
                    for between in 1..apart {
                        let room = point.distance(circle.place(between)) / circle.peer;
                        assert!(room > 0.5, "{peers} peers: 0 to {apart} runs through {between}: {room}");
                    }
                }
            }
        }
    }

    #[test]
    fn neighbours_do_not_touch() {
        for peers in [1, 2, 3, 5, 40, 160, 1000, 10_000] {
            let circle = Circle::of(peers);
            assert!(peers == 1 || circle.place(0).distance(circle.place(1)) > circle.peer);
        }
    }

    #[test]
    fn directions_are_spread() {
        let spread = spread(&[1.0, 1.0, 1.1, 4.0], 0.5);
        for a in 0..4 {
            for b in 0..a {
                let apart = (spread[a] - spread[b]).rem_euclid(TAU);
                assert!(apart.min(TAU - apart) > 0.49, "{spread:?}");
            }
        }
        assert!((spread[3] - 4.0).abs() < 1e-9, "who has room stays");
    }

    #[test]
    fn arcs_stay_on_their_circle() {
        let circle = Circle::of(160);
        let arc = circle.arc(0, 99, 500.0);
        assert_eq!(arc.len() % 3, 1, "a chain of cubic curves");
        for end in arc.iter().step_by(3) {
            assert!((end.distance(Point::ZERO) - 500.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_box_inside_touches_nothing() {
        let at = inside(400.0, -1.0, (300.0, 200.0), (84.0, 46.0)).expect("there is room");
        assert!((at.x.abs() + 150.0).hypot(at.y.abs() + 100.0) < 400.0, "{at}");
        assert!(at.x.abs() > 192.0 || at.y.abs() > 123.0, "{at}");
        assert!(at.y < 0.0, "in about the direction asked for: {at}");
        assert_eq!(inside(200.0, -1.0, (300.0, 200.0), (84.0, 46.0)), None);
    }

    #[test]
    fn points_are_short() {
        assert_eq!(Point { x: -0.01, y: 12.34 }.to_string(), "0,12.3");
    }
}
