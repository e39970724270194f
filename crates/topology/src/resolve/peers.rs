//! Which peers there are, and which of them a list of names selects.
//!
//! The file's text always speaks with the file's prefix and count; PREFIX and COUNT change what comes out.

use std::collections::BTreeSet;

use crate::{
    config::{
        At,
        read::Reader,
        value::{Mistake, Selector},
    },
    report::Problem,
    source::{Kind, Span},
};

/// How peers are named and counted. Peers are counted from 0 inside `resolve`.
#[derive(Debug, Clone)]
pub(crate) struct Numbering {
    /// The prefix that the file uses.
    pub(crate) file_prefix: String,
    /// The prefix of the plan, and of the variables.
    pub(crate) prefix: String,
    /// Peers that the file may name.
    pub(crate) named: u32,
    /// Peers of the plan; less than `named` where COUNT clips.
    pub(crate) count: u32,
    /// False where the file's count could not be read: then no number is out of range.
    pub(crate) known: bool,
}

impl Numbering {
    /// The name of peer `index`.
    pub(crate) fn name(&self, index: u32) -> String {
        format!("{}-{}", self.prefix, index + 1)
    }

    /// The name that the file has for peer `index`.
    pub(crate) fn written(&self, index: u32) -> String {
        format!("{}-{}", self.file_prefix, index + 1)
    }

    /// Several peers as ranges, in the file's names: "peer-1..peer-4, peer-9".
    pub(crate) fn ranges(&self, peers: impl IntoIterator<Item = u32>) -> String {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for peer in peers {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == peer => *last = peer,
                _ => runs.push((peer, peer)),
            }
        }
        let shown = 8;
        let mut texts: Vec<_> = runs
            .iter()
            .take(shown)
            .map(|&(first, last)| match last - first {
                0 => self.written(first),
                1 => format!("{}, {}", self.written(first), self.written(last)),
                _ => format!("{}..{}", self.written(first), self.written(last)),
            })
            .collect();
        if runs.len() > shown {
            texts.push("...".to_owned());
        }
        texts.join(", ")
    }

    /// The index of a peer by its name in a text of this kind.
    fn index(&self, name: &str, prefix: &str) -> Result<u32, Mistake> {
        let all = match self.named {
            1 => format!("the only peer is {prefix}-1"),
            n if self.count < n => {
                format!("the peers are {prefix}-1 to {prefix}-{} (the file's own count is {n})", self.count)
            }
            n => format!("the peers are {prefix}-1 to {prefix}-{n}"),
        };
        let number =
            |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let own = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-'));
        let found = own.filter(|digits| !digits.starts_with('0')).and_then(number);
        if let Some(found) = found
            && (found <= self.named || !self.known)
        {
            return Ok(found - 1);
        }
        let shown = name.escape_default();
        if own.is_some_and(|digits| number(digits).is_some_and(|n| n > self.named)) {
            let help = format!("{all}; `count` of `[peers]` sets how many there are");
            return Err(Mistake::new(format!("there is no peer `{shown}`"), help));
        }
        // Another beginning, but a number that would do: the likeliest slip.
        let end = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        let help = match number(&name[end..]) {
            Some(n) if (1..=self.named).contains(&n) => format!("did you mean `{prefix}-{n}`? {all}"),
            _ => format!("{all}; ranges are written {prefix}-1..{prefix}-{}, all of them \"*\"", self.named),
        };
        Err(Mistake::new(format!("`{shown}` is not a peer"), help))
    }

    fn prefix_in(&self, span: Span, to: &Reader) -> &str {
        let variable = to.texts.get(span).is_some_and(|text| text.kind == Kind::Variable);
        if variable { &self.prefix } else { &self.file_prefix }
    }

    /// One peer; `None` after reporting that it is none.
    pub(crate) fn one(&self, selector: &At<Selector>, to: &mut Reader) -> Option<u32> {
        let text = selector.value.0.as_str();
        let prefix = self.prefix_in(selector.span, to);
        if text == "*" || text.contains("..") {
            let help = format!("write one name, such as \"{prefix}-1\"");
            to.report(Problem::error("not-a-peer", selector.span, "one peer is needed here").help(help));
            return None;
        }
        self.index(text, prefix)
            .map_err(|mistake| to.report(mistake.problem("not-a-peer", selector.span)))
            .ok()
    }

    /// The peers that the selectors name, clipped; and whether all of them were understood.
    pub(crate) fn select(&self, selectors: &[At<Selector>], to: &mut Reader) -> (BTreeSet<u32>, bool) {
        let mut peers = BTreeSet::new();
        let mut beyond = Vec::new();
        // Where the count is unknown, so is what a range comes to.
        let mut good = self.known;
        for selector in selectors {
            match self.range(selector, to) {
                Some((first, last)) => {
                    peers.extend(first..=last.min(self.count.saturating_sub(1)));
                    if last >= self.count && to.texts.variable(selector.span).is_some() {
                        beyond.push(selector);
                    }
                }
                None => good = false,
            }
        }
        peers.retain(|peer| *peer < self.count);
        self.warn_beyond(&beyond, to);
        (peers, good)
    }

    /// What a variable asks for beyond the count. The file's own ranges are clipped without a word: that is what COUNT is
    /// for.
    fn warn_beyond(&self, beyond: &[&At<Selector>], to: &mut Reader) {
        let Some(first) = beyond.first() else { return };
        let shown = 8;
        let mut names: Vec<_> = beyond.iter().take(shown).map(|s| format!("`{}`", s.value.0)).collect();
        if beyond.len() > shown {
            names.push("...".to_owned());
        }
        let last = self.name(self.count.saturating_sub(1));
        let message = format!("what is beyond {last}, the last peer, is dropped of {}", names.join(", "));
        to.report(Problem::warning("dropped", first.span, message));
    }

    fn range(&self, selector: &At<Selector>, to: &mut Reader) -> Option<(u32, u32)> {
        let text = selector.value.0.as_str();
        let prefix = self.prefix_in(selector.span, to).to_owned();
        if text == "*" {
            return Some((0, self.count - 1));
        }
        let Some(dots) = text.find("..") else {
            let one = self.one(selector, to)?;
            return Some((one, one));
        };
        let mut end = |from: usize, until: usize| {
            let part = to.texts.part(selector.span, text, from..until);
            self.index(&text[from..until], &prefix)
                .map_err(|mut mistake| {
                    if text[from..until].bytes().all(|b| b.is_ascii_digit()) && from < until {
                        mistake.help =
                            format!("write both ends as names, such as \"{prefix}-1..{prefix}-8\"");
                    }
                    to.report(mistake.problem("not-a-peer", part));
                })
                .ok()
        };
        let (first, last) = (end(0, dots), end(dots + 2, text.len()));
        let (first, last) = (first?, last?);
        if first > last {
            let help = format!("write \"{prefix}-{}..{prefix}-{}\"", last + 1, first + 1);
            to.report(
                Problem::error("bad-range", selector.span, "the range ends before it begins").help(help),
            );
            return None;
        }
        Some((first, last))
    }
}
