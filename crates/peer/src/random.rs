//! Random numbers for jitter and emulated loss: nothing here needs to be hard to guess.

use std::cell::Cell;

/// xorshift64* (Vigna, 2016), seeded by the system.
#[derive(Debug)]
pub struct Random(Cell<u64>);

impl Random {
    /// Seeded by the system; by a constant where the system has nothing.
    pub fn seeded() -> Self {
        let mut seed = [0; 8];
        let seed = getrandom::fill(&mut seed).map_or(0x9e37_79b9_7f4a_7c15, |()| u64::from_ne_bytes(seed));
        Self(Cell::new(seed | 1))
    }

    /// Uniform from 0 to 1, 1 excluded.
    pub fn unit(&self) -> f64 {
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        let bits = x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_in_its_range_and_moves() {
        let random = Random::seeded();
        let all: Vec<_> = (0..1000).map(|_| random.unit()).collect();
        assert!(all.iter().all(|unit| (0.0..1.0).contains(unit)));
        let mean = all.iter().sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
    }
}
