//! Where everything listens: addresses of 127.0.0.0/8, others for each run.

use std::net::{Ipv4Addr, SocketAddr};

const PORT: u16 = 8080;

/// The network of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places(u8);

impl Places {
    pub(super) fn of_this_run() -> Self {
        // 127.100 to 127.199: far from the shipped mesh's, and two benches seldom meet.
        Self(100 + (std::process::id() % 100) as u8)
    }

    /// Relay `at` (from 1) of the chain of so many hops of one of the programs (ours is 0).
    pub(super) fn address(self, program: usize, hops: usize, at: usize) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0, (program * 16 + hops) as u8, at as u8)
    }

    pub(super) fn relay(self, program: usize, hops: usize, at: usize) -> SocketAddr {
        (self.address(program, hops, at), PORT).into()
    }

    pub(super) fn signalling(self, hops: usize) -> SocketAddr {
        (Ipv4Addr::new(127, self.0, hops as u8, 250), 7080).into()
    }

    pub(super) fn source(self) -> SocketAddr {
        (Ipv4Addr::new(127, self.0, 0, 251), PORT).into()
    }

    pub(super) fn iperf(self) -> SocketAddr {
        (Ipv4Addr::new(127, self.0, 0, 252), 5201).into()
    }
}
