//! How long to wait before the next try: doubling, bounded, jittered. Pure: the random number is an argument.

use std::time::Duration;

/// Waits that double from `first` to `most`, each shortened by up to half at random, so that peers that lost
/// something at the same moment do not come back at the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, tries: 0 }
    }

    /// The next wait; `unit` is a random number from 0 to 1.
    pub fn next(&mut self, unit: f64) -> Duration {
        let whole = self.first.saturating_mul(1 << self.tries.min(16)).min(self.most);
        self.tries = self.tries.saturating_add(1);
        whole.mul_f64(0.5 + unit.clamp(0.0, 1.0) / 2.0)
    }

    /// It worked: begin from the shortest wait again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// How many waits since the last success.
    pub fn tries(&self) -> u32 {
        self.tries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_bound_and_begins_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<_> = (0..6).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(50));
        for _ in 0..100 {
            assert!(backoff.next(0.5) <= Duration::from_secs(1));
        }
    }
}
