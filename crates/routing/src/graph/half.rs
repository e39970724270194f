//! One end's entry for one link, in four bytes.
//!
//! A link between `a` and `b` is stored twice: at `a` as the half towards `b`, at `b` as the half towards `a`. What only
//! one end says (announced, reported down) is a flag of that end's half; what holds for the link is in both.

use std::ops::BitOr;

/// Bits that are left for a peer's number beside the flags.
pub(crate) const ID_BITS: u32 = 27;
const FLAG_BITS: u32 = 32 - ID_BITS;

/// Flags of a half.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Flags(u32);

impl Flags {
    /// Nothing said. Stored only while the other half has flags.
    pub(crate) const NONE: Self = Self(0);
    /// A path may take this half now: the link is up and the peer it leads to is active.
    pub(crate) const OPEN: Self = Self(1);
    /// The link exists and nobody reports it down. Same in both halves.
    pub(crate) const UP: Self = Self(1 << 1);
    /// The link is a seed link. Same in both halves.
    pub(crate) const SEED: Self = Self(1 << 2);
    /// The end that owns this half announces the link.
    pub(crate) const ANNOUNCED: Self = Self(1 << 3);
    /// The end that owns this half reports the link down.
    pub(crate) const DOWN: Self = Self(1 << 4);

    const MASK: u32 = (1 << FLAG_BITS) - 1;

    pub(crate) fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(crate) fn with(self, flag: Self, on: bool) -> Self {
        if on { Self(self.0 | flag.0) } else { Self(self.0 & !flag.0) }
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The neighbour's number in the high bits, so that halves sort by neighbour, and the flags in the low ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub(crate) struct Half(u32);

impl Half {
    /// A place for one.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn new(peer: u32, flags: Flags) -> Self {
        debug_assert!(peer < 1 << ID_BITS, "a peer's number has {ID_BITS} bits");
        Self(peer << FLAG_BITS | flags.0)
    }

    /// The peer at the other end.
    pub(crate) fn peer(self) -> u32 {
        self.0 >> FLAG_BITS
    }

    pub(crate) fn flags(self) -> Flags {
        Flags(self.0 & Flags::MASK)
    }

    pub(crate) fn is_open(self) -> bool {
        self.flags().has(Flags::OPEN)
    }
}

/// Where the half towards `peer` is, or belongs, among halves in ascending order.
pub(crate) fn position(halves: &[Half], peer: u32) -> Result<usize, usize> {
    halves.binary_search_by_key(&peer, |half| half.peer())
}
