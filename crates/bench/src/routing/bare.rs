//! The limit: arrays of numbers, and nothing around them.
//!
//! The same searches over the same links without names, rooms or the question who is connected. Peers of a small degree lie in
//! lines of equal length that begin at a cache line; where there are hubs, one after another.

/// Links as numbers in one array.
#[derive(Debug, Clone)]
pub(super) struct Bare {
    /// Of each peer: how many neighbours, then the neighbours.
    words: Vec<u32>,
    base: usize,
    /// Words of a peer; 0: see `starts`.
    stride: usize,
    starts: Vec<u32>,
    peers: usize,
}

impl Bare {
    pub(super) fn new(neighbors: &[Vec<u32>]) -> Self {
        let peers = neighbors.len();
        let widest = neighbors.iter().map(Vec::len).max().unwrap_or(0) + 1;
        let stride = if widest <= 16 { widest.next_power_of_two() } else { 0 };
        let mut starts = Vec::new();
        let total = if stride > 0 {
            peers * stride
        } else {
            let mut at = 0;
            for list in neighbors {
                starts.push(at);
                at += list.len() as u32 + 1;
            }
            at as usize
        };
        let words = vec![0; total + 16];
        let base = words.as_ptr().align_offset(64).min(15);
        let mut bare = Self { words, base, stride, starts, peers };
        for (peer, list) in neighbors.iter().enumerate() {
            let at = bare.at(peer as u32);
            bare.words[at] = list.len() as u32;
            bare.words[at + 1..=at + list.len()].copy_from_slice(list);
        }
        bare
    }

    pub(super) fn peers(&self) -> usize {
        self.peers
    }

    #[inline]
    fn at(&self, peer: u32) -> usize {
        if self.stride > 0 {
            self.base + peer as usize * self.stride
        } else {
            self.base + self.starts[peer as usize] as usize
        }
    }

    #[inline]
    pub(super) fn neighbors(&self, peer: u32) -> &[u32] {
        let at = self.at(peer);
        &self.words[at + 1..=at + self.words[at] as usize]
    }

    /// A link that is there. Neighbours stay in ascending order: a search then takes turns that the processor foresees.
    pub(super) fn cut(&mut self, a: u32, b: u32) {
        for (a, b) in [(a, b), (b, a)] {
            let at = self.at(a);
            let len = self.words[at] as usize;
            if let Ok(found) = self.neighbors(a).binary_search(&b) {
                self.words.copy_within(at + 2 + found..=at + len, at + 1 + found);
                self.words[at] -= 1;
            }
        }
    }

    /// A link that was there at first.
    pub(super) fn join(&mut self, a: u32, b: u32) {
        for (a, b) in [(a, b), (b, a)] {
            let at = self.at(a);
            let len = self.words[at] as usize;
            if let Err(place) = self.neighbors(a).binary_search(&b) {
                self.words.copy_within(at + 1 + place..=at + len, at + 2 + place);
                self.words[at + 1 + place] = b;
                self.words[at] += 1;
            }
        }
    }
}

/// Who found a peer, if the stamp is this search's.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    stamp: u32,
    parent: u32,
}

/// What searches need, used again and again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    marks: Vec<Mark>,
    stamp: u32,
    sides: [Vec<u32>; 2],
    path: Vec<u32>,
}

/// One more level; the first contact with the other side ends it.
fn grow(
    bare: &Bare,
    marks: &mut [Mark],
    found: &mut Vec<u32>,
    level: usize,
    mine: u32,
    other: u32,
) -> Option<(u32, u32)> {
    for at in level..found.len() {
        let parent = found[at];
        for &next in bare.neighbors(parent) {
            let mark = &mut marks[next as usize];
            if mark.stamp == mine {
                continue;
            }
            if mark.stamp == other {
                return Some((parent, next));
            }
            *mark = Mark { stamp: mine, parent };
            found.push(next);
        }
    }
    None
}

impl Scratch {
    pub(super) fn new(peers: usize) -> Self {
        Self { marks: vec![Mark::default(); peers], ..Self::default() }
    }

    /// Both ends grow, always the smaller one; the path, both ends included.
    pub(super) fn path(&mut self, bare: &Bare, from: u32, to: u32) -> Option<&[u32]> {
        self.path.clear();
        if from == to {
            self.path.push(from);
            return Some(&self.path);
        }
        self.stamp += 2;
        let stamps = [self.stamp, self.stamp + 1];
        let mut levels = [0, 0];
        for (side, end) in [(0, from), (1, to)] {
            self.sides[side].clear();
            self.sides[side].push(end);
            self.marks[end as usize] = Mark { stamp: stamps[side], parent: end };
        }
        loop {
            let sizes = [self.sides[0].len() - levels[0], self.sides[1].len() - levels[1]];
            if sizes.contains(&0) {
                return None;
            }
            let side = usize::from(sizes[1] < sizes[0]);
            let end = self.sides[side].len();
            let touch = grow(
                bare,
                &mut self.marks,
                &mut self.sides[side],
                levels[side],
                stamps[side],
                stamps[1 - side],
            );
            if let Some((parent, next)) = touch {
                let ends = if side == 0 { (parent, next) } else { (next, parent) };
                return Some(self.join(ends.0, Some(ends.1)));
            }
            levels[side] = end;
        }
    }

    /// One ball around all holders grows until it has the requester; the path, requester first.
    pub(super) fn nearest(&mut self, bare: &Bare, from: u32, holders: &[u32]) -> Option<&[u32]> {
        self.stamp += 2;
        let stamp = self.stamp;
        let found = &mut self.sides[0];
        found.clear();
        for &holder in holders {
            self.marks[holder as usize] = Mark { stamp, parent: holder };
            found.push(holder);
        }
        let mut at = 0;
        while self.marks[from as usize].stamp != stamp {
            let parent = *found.get(at)?;
            at += 1;
            for &next in bare.neighbors(parent) {
                let mark = &mut self.marks[next as usize];
                if mark.stamp != stamp {
                    *mark = Mark { stamp, parent };
                    found.push(next);
                }
            }
        }
        self.path.clear();
        self.walk(from);
        Some(&self.path)
    }

    fn walk(&mut self, mut node: u32) {
        loop {
            self.path.push(node);
            let parent = self.marks[node as usize].parent;
            if parent == node {
                return;
            }
            node = parent;
        }
    }

    fn join(&mut self, here: u32, there: Option<u32>) -> &[u32] {
        self.walk(here);
        self.path.reverse();
        if let Some(there) = there {
            self.walk(there);
        }
        &self.path
    }
}
