//! A list that is contiguous while it is small and in blocks when it is large.
//!
//! A contiguous one is copied as it grows, and an allocator keeps the room of the copies: easily as much again as the list. Blocks
//! stay where they are. Reading from a block takes one more address, so what a search reads at every visit is not in a
//! [`Table`], but in a list that grows as little ([`push`]).

use std::ops::{Index, IndexMut};

/// A contiguous list grows by this part of itself: what it has too much of is memory for nothing.
const GROWTH: usize = 16;

/// Pieces of more bytes than this are given back to the system when they are freed, whatever lies behind them (mallopt(3),
/// M_MMAP_THRESHOLD: at most 32 MiB on 64-bit systems). What a list leaves behind below it, in all its copies together, the process
/// keeps: easily as much again as the list.
const APART: usize = (32 << 20) + (64 << 10);

/// Adds to a contiguous list. From a quarter of [`APART`] on it has a piece of that size: what of it is not used yet is
/// address space, not memory.
pub(crate) fn push<T>(list: &mut Vec<T>, value: T) {
    if list.len() == list.capacity() {
        let mut wanted = list.len() + list.len() / GROWTH + 4;
        if (APART / 4..APART).contains(&(wanted * size_of::<T>())) {
            wanted = APART / size_of::<T>();
        }
        list.reserve_exact(wanted - list.len());
    }
    list.push(value);
}

/// `2^SHIFT` elements in a block; contiguous up to `SMALL` of them, a multiple of that.
#[derive(Clone, Debug)]
pub(crate) struct Table<T, const SHIFT: u32 = 10, const SMALL: usize = { 16 << 10 }> {
    /// All elements, or none.
    small: Vec<T>,
    /// All elements where `small` has none; all blocks but the last are full.
    blocks: Vec<Vec<T>>,
    len: usize,
}

impl<T, const SHIFT: u32, const SMALL: usize> Default for Table<T, SHIFT, SMALL> {
    fn default() -> Self {
        Self { small: Vec::new(), blocks: Vec::new(), len: 0 }
    }
}

impl<T, const SHIFT: u32, const SMALL: usize> Table<T, SHIFT, SMALL> {
    const BLOCK: usize = 1 << SHIFT;

    #[inline]
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        match self.small.get(at) {
            None => self.blocks.get(at >> SHIFT)?.get(at & (Self::BLOCK - 1)),
            element => element,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        match self.small.get_mut(at) {
            None => self.blocks.get_mut(at >> SHIFT)?.get_mut(at & (Self::BLOCK - 1)),
            element => element,
        }
    }

    pub(crate) fn push(&mut self, value: T) {
        const { assert!(SMALL.is_multiple_of(1 << SHIFT)) }
        if self.len < SMALL {
            push(&mut self.small, value);
        } else {
            if self.len == SMALL {
                let mut elements = std::mem::take(&mut self.small).into_iter();
                while elements.len() > 0 {
                    let mut block = Vec::with_capacity(Self::BLOCK);
                    block.extend(elements.by_ref().take(Self::BLOCK));
                    self.blocks.push(block);
                }
            }
            if self.len.is_multiple_of(Self::BLOCK) {
                self.blocks.push(Vec::with_capacity(Self::BLOCK));
            }
            self.blocks[self.len >> SHIFT].push(value);
        }
        self.len += 1;
    }

    /// Has a place for `at`, and for all before it.
    pub(crate) fn reach(&mut self, at: usize)
    where
        T: Default,
    {
        while self.len <= at {
            self.push(T::default());
        }
    }

    /// Heap bytes.
    pub(crate) fn bytes(&self) -> usize {
        let elements = self.small.capacity() + self.blocks.len() * Self::BLOCK;
        elements * size_of::<T>() + self.blocks.capacity() * size_of::<Vec<T>>()
    }
}

impl<T, const SHIFT: u32, const SMALL: usize> Index<usize> for Table<T, SHIFT, SMALL> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        match self.small.get(at) {
            Some(element) => element,
            None => &self.blocks[at >> SHIFT][at & (Self::BLOCK - 1)],
        }
    }
}

impl<T, const SHIFT: u32, const SMALL: usize> IndexMut<usize> for Table<T, SHIFT, SMALL> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        match self.small.get_mut(at) {
            Some(element) => element,
            None => &mut self.blocks[at >> SHIFT][at & (Self::BLOCK - 1)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 16;
    const SMALL: usize = 4 * BLOCK;
    type Tiny<T> = Table<T, 4, SMALL>;

    #[test]
    fn what_was_put_in_is_where_it_was_put() {
        let mut table = Tiny::default();
        for count in 0..SMALL + 3 * BLOCK + 5 {
            assert_eq!((table.len, table.get(count)), (count, None));
            assert_eq!(table.get_mut(count), None);
            table.push(count);
            let all: Vec<_> = (0..=count).map(|at| table[at]).collect();
            assert!(all.iter().copied().eq(0..=count), "{all:?}");
        }
        for at in [0, BLOCK, SMALL - 1, SMALL, SMALL + 3 * BLOCK] {
            table[at] += 1000;
            assert_eq!((table[at], table.get(at)), (at + 1000, Some(&(at + 1000))));
            assert_eq!(table[at + 1], at + 1, "its neighbour is as it was");
        }
        let mut reached = Tiny::<u8>::default();
        reached.reach(SMALL + 1);
        reached.reach(3);
        assert_eq!(reached.len, SMALL + 2);
    }

    #[test]
    fn a_list_in_one_piece_grows_by_little_and_once_by_much() {
        let mut list: Vec<[u64; 8]> = Vec::new();
        let (mut copies, mut jumps) = (0, 0);
        for count in 1..=(2 * APART / 64) {
            let before = list.capacity();
            push(&mut list, [0; 8]);
            let bytes = list.capacity() * 64;
            copies += usize::from(list.capacity() > before);
            jumps += usize::from(bytes > before * 64 + bytes / 8 && count > 64);
            let little = count * 64 / GROWTH + 256;
            assert!(
                bytes - count * 64 <= little || (count * 64 > APART / 5 && bytes <= APART),
                "{bytes} for {count}"
            );
        }
        assert_eq!(jumps, 1, "of {copies} copies");
    }

    #[test]
    fn a_small_one_is_small_and_a_large_one_wastes_at_most_a_block() {
        let mut table = Table::<[u64; 8]>::default();
        let (small, block) = (16 << 10, 1 << 10);
        for count in 1..=small + 5 * block {
            table.push([0; 8]);
            let waste = table.bytes() - count * 64;
            let most = if count <= small { count * 64 / GROWTH + 256 } else { block * 64 + 1024 };
            assert!(waste <= most, "{waste} for {count}");
        }
    }
}
