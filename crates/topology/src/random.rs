//! The generator behind seeded link shapes. Part of the file format: the same seed must give the same links on every
//! machine and in every later version, so it is ours, tiny, and never changes.
//!
//! SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; the constants are
//! those of `java.util.SplittableRandom`. Only integer arithmetic decides, so no platform's floating point can differ.

/// SplitMix64, seeded.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`, without bias: the high half of a 128-bit product, redrawn in the short first interval
    /// (Lemire, "Fast random integer generation in an interval", 2019). 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let short = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        loop {
            let product = u128::from(self.bits()) * u128::from(bound);
            if product as u64 >= short {
                return (product >> 64) as u64;
            }
        }
    }

    /// True with probability `p`: 53 random bits are below `p` times 2^53.
    pub(crate) fn chance(&mut self, p: f64) -> bool {
        // 2^53 and every integer below it are exact in an f64.
        ((self.bits() >> 11) as f64) < p * (1u64 << 53) as f64
    }

    /// Shuffles in place (Fisher and Yates, from the end).
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_published_sequence() {
        let mut random = Random::new(1_234_567);
        let first: Vec<_> = std::iter::repeat_with(|| random.bits()).take(5).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn below_and_chance_keep_their_limits() {
        let mut random = Random::new(7);
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
        assert!((0..1000).all(|_| random.chance(1.0) && !random.chance(0.0)));
        let mut items: Vec<_> = (0..50).collect();
        random.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
