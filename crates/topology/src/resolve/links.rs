//! The links: those of the shape or the imported graph, with the written ones on top.

use std::collections::{BTreeMap, BTreeSet};

use hopcast_protocol::{Emulation, limits};

use super::{Context, peers::Numbering};
use crate::{
    config::{
        At, Maybe,
        file::{Link, Links},
        read::Reader,
        value::{ShapeName, Time},
    },
    report::Problem,
    shape::{Pair, Shape},
    source::Span,
};

/// Most links of a mesh.
pub(crate) const MAX_LINKS: u64 = 1_000_000;

/// Longest emulated latency and jitter.
const MAX_DELAY_US: u64 = 60_000_000;

/// Each link once, with its emulation.
pub(crate) type LinkMap = BTreeMap<Pair, Emulation>;

/// The shape that the file asks for; `None` after reporting why there is none, or where a graph is imported.
pub(crate) fn shape(links: &Maybe<Links>, context: &Context, to: &mut Reader) -> Option<Shape> {
    let Some(at) = &links.at else {
        return (!links.bad).then(|| Shape::Ring { skip: vec![4] });
    };
    let links = &at.value;
    if links.import.at.is_some() || links.import.bad {
        foreign(links, "import", &[], to);
        return None;
    }
    let Some(name) = &links.shape.at else {
        if !links.shape.bad {
            let help = "add `shape = \"ring\"`, or another one, or `import = \"graph.json\"`";
            to.report(
                Problem::error("missing-key", at.span, "neither `shape` nor `import` is given").help(help),
            );
        }
        return None;
    };
    let before = to.dirt();
    let seed = links.seed.get().map_or(1, |seed| seed.get());
    let n = context.numbering.count;
    let shape = match name.value {
        ShapeName::Ring => {
            foreign(links, "ring", &["skip"], to);
            let skip = links.skip.get().map_or(&[][..], |skip| skip);
            Some(Shape::Ring { skip: skip.iter().map(|skip| skip.value.get()).collect() })
        }
        ShapeName::RandomRegular => {
            foreign(links, "random-regular", &["degree", "seed"], to);
            needed(&links.degree, "degree = 4", at.span, to)
                .map(|degree| Shape::RandomRegular { degree: degree.get() as u32, seed })
        }
        ShapeName::SmallWorld => {
            foreign(links, "small-world", &["k", "p", "seed"], to);
            let k = needed(&links.k, "k = 4", at.span, to);
            let p = needed(&links.p, "p = 0.1", at.span, to);
            k.zip(p).map(|(k, p)| Shape::SmallWorld { k: k.get() as u32, p: p.0, seed })
        }
        ShapeName::ErdosRenyi => {
            foreign(links, "erdos-renyi", &["p", "seed"], to);
            needed(&links.p, "p = 0.3", at.span, to).map(|p| Shape::ErdosRenyi { p: p.0, seed })
        }
        ShapeName::Grid => {
            foreign(links, "grid", &["width"], to);
            let square = (1..=n).find(|width| width * width >= n).unwrap_or(1);
            Some(Shape::Grid { width: links.width.get().map_or(square, |width| width.get() as u32) })
        }
        ShapeName::Full => {
            foreign(links, "full", &[], to);
            Some(Shape::Full)
        }
        ShapeName::None => {
            foreign(links, "none", &[], to);
            Some(Shape::None)
        }
    };
    let fits = shape.as_ref().is_none_or(|shape| fits(shape, links, name.span, context, to));
    shape.filter(|_| fits && to.dirt() == before && !at.bad)
}

fn needed<'a, T>(maybe: &'a Maybe<T>, example: &str, span: Span, to: &mut Reader) -> Option<&'a T> {
    if maybe.at.is_none() && !maybe.bad {
        let key = example.split(' ').next().unwrap_or_default();
        let message = format!("this shape needs `{key}`");
        to.report(Problem::error("missing-key", span, message).help(format!("add `{example}`")));
    }
    maybe.get()
}

/// Reports the keys that mean nothing for this shape.
fn foreign(links: &Links, shape: &str, own: &[&str], to: &mut Reader) {
    let written = [
        ("shape", links.shape.span()),
        ("skip", links.skip.span()),
        ("degree", links.degree.span()),
        ("k", links.k.span()),
        ("p", links.p.span()),
        ("seed", links.seed.span()),
        ("width", links.width.span()),
    ];
    for (key, span) in written.into_iter().filter(|(_, span)| !span.is_none()) {
        if own.contains(&key) || (key == "shape" && shape != "import") {
            continue;
        }
        let message = format!("`{key}` means nothing for `{shape}`");
        let help = match own {
            [] => format!("remove it: `{shape}` has no parameters"),
            own => format!("remove it: the parameters of `{shape}` are {}", own.join(", ")),
        };
        to.report(Problem::error("foreign-key", span, message).help(help));
    }
}

/// Checks a shape's parameters against the number of peers. Where COUNT changed that number, the shape makes the best
/// of it instead.
fn fits(shape: &Shape, links: &Links, span: Span, context: &Context, to: &mut Reader) -> bool {
    let n = context.numbering.count;
    let before = to.dirt();
    let estimate = shape.estimate(u64::from(n));
    if estimate > MAX_LINKS {
        let n = context.peers();
        let message = format!("about {estimate} links among {n}, at most {MAX_LINKS} are possible");
        to.report(
            Problem::error("too-many-links", span, message).help("take fewer peers or a sparser shape"),
        );
    }
    if let Shape::SmallWorld { k, .. } = *shape
        && k % 2 == 1
    {
        let help = format!("write {} or {}", k - 1, k + 1);
        to.report(Problem::error("out-of-range", links.k.span(), "`k` must be even").help(help));
    }
    if context.clipped || !context.numbering.known {
        return to.dirt() == before;
    }
    match *shape {
        Shape::RandomRegular { degree, .. } if degree >= n => {
            let message = format!("{degree} links at each of {n} peers");
            let help = format!("write a degree below {n}");
            to.report(Problem::error("out-of-range", links.degree.span(), message).help(help));
        }
        Shape::RandomRegular { degree, .. } if degree % 2 == 1 && n % 2 == 1 => {
            let message =
                format!("an odd number of peers ({n}) can't have an odd number of links ({degree}) each");
            let help = "make `degree` or `count` even";
            to.report(Problem::error("out-of-range", links.degree.span(), message).help(help));
        }
        Shape::SmallWorld { k, .. } if k >= n => {
            let message = format!("{k} nearest neighbours among {n} peers");
            to.report(
                Problem::error("out-of-range", links.k.span(), message).help(format!("write a k below {n}")),
            );
        }
        _ => {}
    }
    to.dirt() == before
}

/// The generated links, then the written ones on top. The flag is false where the links are not what the file means,
/// so that no conclusions should be drawn from them.
pub(crate) fn resolve(
    generated: Option<BTreeSet<Pair>>,
    written: &At<Vec<At<Link>>>,
    context: &Context,
    to: &mut Reader,
) -> (LinkMap, bool) {
    let mut good = generated.is_some();
    let mut links: LinkMap =
        generated.unwrap_or_default().into_iter().map(|pair| (pair, Emulation::default())).collect();
    let mut seen: BTreeMap<Pair, Span> = BTreeMap::new();
    // A link that was dropped for want of its ends leaves no entry to look at.
    good &= !written.bad || written.value.iter().any(|link| link.bad);
    for At { value: link, .. } in &written.value {
        good &= !link.between.bad && !link.remove.bad;
        let Some((a, b)) = ends(link, &context.numbering, to) else {
            good = false;
            continue;
        };
        let pair = (a.min(b), a.max(b));
        if let Some(first) = seen.insert(pair, link.between.span) {
            let message = "this link is already written";
            let problem = Problem::error("duplicate-link", link.between.span, message)
                .related(first, "here first")
                .help("keep one of the two");
            to.report(problem);
            continue;
        }
        let emulation = emulation(link, to);
        if pair.1 >= context.numbering.count {
            continue; // Beyond COUNT.
        }
        if link.remove.value {
            remove(link, pair, emulation, &mut links, good && !context.clipped, to);
        } else {
            links.insert(pair, emulation);
        }
    }
    bounds(&links, written, context, to);
    (links, good)
}

fn ends(link: &Link, numbering: &Numbering, to: &mut Reader) -> Option<(u32, u32)> {
    let [a, b] = link.between.value.0.as_slice() else {
        if !link.between.bad {
            let message = format!("a link is between two peers, not {}", link.between.value.0.len());
            let help = format!("write [\"{0}-1\", \"{0}-2\"]", numbering.file_prefix);
            to.report(Problem::error("bad-link", link.between.span, message).help(help));
        }
        return None;
    };
    let (first, second) = (numbering.one(a, to), numbering.one(b, to));
    let (first, second) = (first?, second?);
    if first == second {
        let message = format!("a link from `{}` to itself", a.value.0);
        to.report(
            Problem::error("self-link", link.between.span, message)
                .help("name two different peers, or remove it"),
        );
        return None;
    }
    Some((first, second))
}

fn emulation(link: &Link, to: &mut Reader) -> Emulation {
    let mut delay = |time: &Maybe<Time>| {
        let Some(at) = &time.at else { return 0 };
        if at.value.0 > MAX_DELAY_US {
            to.report(
                Problem::error("out-of-range", at.span, "longer than 60 s").help("write \"60s\" or less"),
            );
        }
        at.value.0
    };
    let (latency_us, jitter_us) = (delay(&link.latency), delay(&link.jitter));
    if let Some(rate) = link.rate.at.as_ref().filter(|rate| rate.value.0 < 1000) {
        to.report(
            Problem::error("out-of-range", rate.span, "slower than 1 kB/s").help("write \"1kB/s\" or more"),
        );
    }
    Emulation {
        latency_us,
        jitter_us,
        rate: link.rate.get().map(|rate| rate.0),
        loss: link.loss.get().map_or(0.0, |loss| loss.0),
    }
}

fn remove(
    link: &Link,
    pair: Pair,
    emulation: Emulation,
    links: &mut LinkMap,
    certain: bool,
    to: &mut Reader,
) {
    if !emulation.is_none() {
        let message = "a link that is removed can't have properties";
        let help = "remove the properties, or `remove = true`";
        to.report(Problem::error("bad-link", link.remove.span, message).help(help));
    }
    if links.remove(&pair).is_none() && certain {
        let message = "there is no such link to remove";
        let help = "remove this entry: neither the shape nor the graph links these two";
        to.report(Problem::error("no-such-link", link.between.span, message).help(help));
    }
}

/// What the signalling protocol and the plan can hold.
fn bounds(links: &LinkMap, written: &At<Vec<At<Link>>>, context: &Context, to: &mut Reader) {
    let span = if context.links_span.is_none() { written.span } else { context.links_span };
    let mut too_many = |message| {
        to.report(
            Problem::error("too-many-links", span, message).help("take fewer peers or a sparser shape"),
        );
    };
    if links.len() as u64 > MAX_LINKS {
        let n = context.peers();
        too_many(format!("{} links among {n}, at most {MAX_LINKS} are possible", links.len()));
    }
    let mut degree = vec![0usize; context.numbering.count as usize];
    for &(a, b) in links.keys() {
        degree[a as usize] += 1;
        degree[b as usize] += 1;
    }
    let most = degree.iter().enumerate().max_by_key(|(_, degree)| **degree);
    if let Some((peer, &degree)) = most.filter(|(_, degree)| **degree > limits::NEIGHBORS) {
        too_many(format!(
            "{} has {degree} neighbours, at most {} are possible",
            context.numbering.written(peer as u32),
            limits::NEIGHBORS
        ));
    }
}
