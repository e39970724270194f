//! The environment variables of the original deploy script, on top of the file.
//!
//! An empty variable counts as unset, as `${COUNT:-160}` of a shell has it. Every value keeps its variable's name, so
//! that whatever is wrong with it later can name the variable.

use std::collections::BTreeMap;

use crate::{
    config::{
        At, File, Maybe,
        file::MAX_PEERS,
        read::Reader,
        value::{Int, Prefix, Selector, Word},
    },
    report::Problem,
    source::{Kind, Span},
};

/// Peers that COUNT gives at most where MAX_COUNT is unset.
const DEFAULT_MAX_COUNT: u32 = 160;

/// Every variable that [`crate::load`] reads, with what it does.
pub const VARIABLES: &[(&str, &str)] = &[
    (
        "COUNT",
        "Number of peers, in place of `peers.count`. Ranges, edge-peer sets and links are clipped to it; a room or \
         edge that is left empty is dropped with a warning. At most `MAX_COUNT`.",
    ),
    ("MAX_COUNT", "Most peers that `COUNT` may give: 160 when unset. When set it also bounds `peers.count`."),
    (
        "PREFIX",
        "In place of `peers.prefix`: the generated peers and the file's references to them are renamed. `EDGE1_PEERS` \
         and `EDGE2_PEERS` use the new names.",
    ),
    ("PEER_NETWORK", "In place of `docker.network`."),
    ("EDGE1_NETWORK", "In place of the first edge's `network`."),
    ("EDGE2_NETWORK", "In place of the second edge's `network`."),
    ("ORIGIN_NETWORK", "In place of `origin.network`."),
    ("EDGE1_PEERS", "In place of the first edge's `peers`: names and ranges with commas between, or `*`."),
    ("EDGE2_PEERS", "In place of the second edge's `peers`."),
    ("IMAGE", "In place of `docker.peer_image`."),
    ("POSTGRES_DB", "In place of `postgres.database`."),
    ("POSTGRES_USER", "In place of `postgres.user`."),
    (
        "POSTGRES_PASSWORD",
        "The owner's password; before `postgres.password_file`. Never part of the plan, never printed.",
    ),
    ("SIGNAL_ADDR", "In place of `signalling.listen` and of `local.signalling`; `:7080` is every address."),
];

/// The environment, as far as it matters here.
#[derive(Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// Without any variable.
    pub fn empty() -> Self {
        Self::default()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Env {
    /// Keeps the [`VARIABLES`], drops the rest.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let ours = |(name, value): (K, V)| {
            let name = name.into();
            VARIABLES.iter().any(|(known, _)| *known == name).then(|| (name, value.into()))
        };
        Self(variables.into_iter().filter_map(ours).collect())
    }
}

impl std::fmt::Debug for Env {
    /// The names only: one of the values is a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the variables say that is not simply another value of a key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// COUNT, clamped.
    pub(crate) count: Option<At<u32>>,
    /// MAX_COUNT, where set.
    pub(crate) max_count: Option<At<u32>>,
    /// PREFIX.
    pub(crate) prefix: Option<At<Prefix>>,
}

/// Puts the variables' values into the file.
pub(crate) fn apply(env: &Env, file: &mut File, to: &mut Reader) -> Overrides {
    if let Some(at) = word(env, "PEER_NETWORK", to) {
        file.docker.value.network = at;
    }
    if let Some(at) = word(env, "ORIGIN_NETWORK", to) {
        file.origin.value.network = at;
    }
    if let Some(at) = word(env, "IMAGE", to) {
        file.docker.value.peer_image = at;
    }
    if let Some(at) = word(env, "POSTGRES_DB", to) {
        file.postgres.value.database = at;
    }
    if let Some(at) = word(env, "POSTGRES_USER", to) {
        file.postgres.value.user = at;
    }
    if let Some(at) = word(env, "SIGNAL_ADDR", to) {
        file.signalling.value.listen = at;
        file.local.value.signalling = Maybe { at: None, bad: false };
    }
    if env.get("POSTGRES_PASSWORD").is_some_and(|password| password.contains(['\0', '\n', '\r'])) {
        let message = "POSTGRES_PASSWORD (an environment variable) has a line end or a NUL in it";
        to.report(Problem::error("bad-password", Span::NONE, message).help("set it to one line of text"));
    }
    edges(env, file, to);

    let max_count = number(env, "MAX_COUNT", to);
    let mut count = number(env, "COUNT", to);
    if let Some(count) = &mut count {
        let max = max_count.as_ref().map_or(DEFAULT_MAX_COUNT, |at| at.value);
        if count.value > max {
            let message = format!("{} peers are clamped to {max}", count.value);
            to.report(
                Problem::warning("clamped", count.span, message)
                    .help("MAX_COUNT sets how many COUNT may give"),
            );
            count.value = max;
        }
    }
    Overrides { count, max_count, prefix: word(env, "PREFIX", to) }
}

/// The variables of the first two edges.
fn edges(env: &Env, file: &mut File, to: &mut Reader) {
    let edges_bad = file.edges.bad;
    for (index, network, peers) in [(0, "EDGE1_NETWORK", "EDGE1_PEERS"), (1, "EDGE2_NETWORK", "EDGE2_PEERS")]
    {
        let network = word(env, network, to);
        let selectors = list(env, peers, to);
        let Some(edge) = file.edges.value.get_mut(index) else {
            let written = [network.map(|at| at.span), selectors.map(|at| at.span)];
            for span in written.into_iter().flatten().filter(|_| !edges_bad) {
                let message = format!("the file has no edge number {}", index + 1);
                to.report(
                    Problem::error("no-such-edge", span, message)
                        .help("unset it, or add an `[[edges]]` to the file"),
                );
            }
            continue;
        };
        if let Some(network) = network {
            edge.value.network = network;
        }
        if let Some(selectors) = selectors {
            edge.value.peers = selectors;
        }
    }
}

fn add(env: &Env, name: &str, to: &mut Reader) -> Option<(String, Span)> {
    let value = env.get(name)?;
    let id = to.texts.add(Kind::Variable, name, value);
    Some((value.to_owned(), Span::new(id, 0..value.len())))
}

fn word<T: Word>(env: &Env, name: &str, to: &mut Reader) -> Option<At<T>> {
    let (value, span) = add(env, name, to)?;
    match T::parse(value.trim()) {
        Ok(value) => Some(At::new(value, span)),
        Err(mistake) => {
            to.report(mistake.problem(T::CODE, span));
            None
        }
    }
}

fn number(env: &Env, name: &str, to: &mut Reader) -> Option<At<u32>> {
    let (value, span) = add(env, name, to)?;
    let Ok(number) = value.trim().parse::<i64>() else {
        let message = format!("`{}` is not a number of peers", value.escape_default());
        to.report(Problem::error("wrong-type", span, message).help("write a number such as 160"));
        return None;
    };
    match Int::<1, MAX_PEERS>::check(Some(number)) {
        Ok(number) => Some(At::new(number.get() as u32, span)),
        Err(mistake) => {
            to.report(mistake.problem("out-of-range", span));
            None
        }
    }
}

/// A list with commas between, each item with its place in the variable.
fn list(env: &Env, name: &str, to: &mut Reader) -> Option<At<Vec<At<Selector>>>> {
    let (value, span) = add(env, name, to)?;
    let mut items = Vec::new();
    let mut start = 0;
    for item in value.split(',') {
        let trimmed = item.trim();
        let at = start + (item.len() - item.trim_start().len());
        start += item.len() + 1;
        if !trimmed.is_empty() {
            items.push(At::new(Selector(trimmed.to_owned()), Span::new(span.text, at..at + trimmed.len())));
        }
    }
    Some(At::new(items, span))
}
