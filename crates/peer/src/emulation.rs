//! What a link is made to feel like: delays, a bounded rate, lost requests.
//!
//! Pure: time and random numbers are arguments. Each end delays what it sends, so both directions feel it. Latency and
//! jitter are taken once for a request and once for its answer (the bytes behind the first follow as fast as the rate
//! allows, as they would in a pipe); all answers over one direction share its rate.

use std::{cell::Cell, time::Duration};

use hopcast_protocol::Emulation;
use tokio::time::Instant;

/// The delay of one direction; `unit` is a random number from 0 to 1.
pub fn delay(emulation: &Emulation, unit: f64) -> Duration {
    let jitter = (unit * 2.0 - 1.0) * emulation.jitter_us as f64;
    let micros = (emulation.latency_us as f64 + jitter).max(0.0);
    Duration::from_micros(micros as u64)
}

/// True where a request is to be lost; `unit` is a random number from 0 to 1.
pub fn lost(emulation: &Emulation, unit: f64) -> bool {
    emulation.loss > 0.0 && unit < emulation.loss
}

/// The rate of one direction of a link, shared by all that is sent over it.
#[derive(Debug)]
pub struct Pace {
    free_at: Cell<Instant>,
}

impl Pace {
    /// Nothing is under way.
    pub fn new(now: Instant) -> Self {
        Self { free_at: Cell::new(now) }
    }

    /// The instant from which `len` more bytes have left at `rate` bytes a second.
    pub fn send(&self, len: usize, rate: u64, now: Instant) -> Instant {
        let took = Duration::from_secs_f64(len as f64 / rate.max(1) as f64);
        let done = self.free_at.get().max(now) + took;
        self.free_at.set(done);
        done
    }
}

/// How much to send at a time, so that a slow link still shows progress twenty times a second.
pub fn piece(rate: u64, most: usize) -> usize {
    usize::try_from(rate / 20).unwrap_or(usize::MAX).clamp(512.min(most), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_latency_plus_or_minus_jitter_and_never_negative() {
        let link = Emulation { latency_us: 20_000, jitter_us: 5_000, ..Emulation::default() };
        assert_eq!(delay(&link, 0.5), Duration::from_millis(20));
        assert_eq!(delay(&link, 0.0), Duration::from_millis(15));
        assert_eq!(delay(&link, 1.0), Duration::from_millis(25));
        assert_eq!(delay(&Emulation { latency_us: 0, ..link }, 0.0), Duration::ZERO);
        assert_eq!(delay(&Emulation::default(), 0.9), Duration::ZERO);
    }

    #[test]
    fn loss_is_a_share_of_the_requests() {
        let link = Emulation { loss: 0.25, ..Emulation::default() };
        assert!(lost(&link, 0.24) && !lost(&link, 0.25));
        assert!(!lost(&Emulation::default(), 0.0));
        assert!(lost(&Emulation { loss: 1.0, ..link }, 0.999));
    }

    #[test]
    fn a_rate_is_shared_and_unused_time_is_not_saved_up() {
        let start = Instant::now();
        let pace = Pace::new(start);
        assert_eq!(pace.send(1000, 10_000, start), start + Duration::from_millis(100));
        assert_eq!(pace.send(500, 10_000, start), start + Duration::from_millis(150), "behind the first");
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.send(1000, 10_000, later), later + Duration::from_millis(100));
    }

    #[test]
    fn pieces_are_small_on_slow_links() {
        assert_eq!(piece(100_000, 65_536), 5000);
        assert_eq!(piece(10, 65_536), 512);
        assert_eq!(piece(u64::MAX, 65_536), 65_536);
    }
}
