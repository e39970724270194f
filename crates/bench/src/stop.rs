//! Ctrl-C, SIGTERM and the end of the terminal: a bench has processes, meshes and files to put away first.
//!
//! Nothing is dropped in the middle: who works asks between two pieces of work, who waits for a program passes the signal
//! on and waits for its end. Benches that block ask `check`, the asynchronous one has a `Stop`.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::timeout,
};

use crate::process;

/// How long a bench that blocks may take to put everything away: to take a large mesh down.
const WIND_UP: Duration = Duration::from_secs(120);
/// How often [`pause`] looks.
const LOOK: Duration = Duration::from_millis(50);

/// The code to end with, once a signal has come; 0 before.
static ASKED: AtomicU8 = AtomicU8::new(0);

/// A bench was asked to end, and has put everything away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted {
    /// What the program should end with: 129, 130 or 143.
    pub code: u8,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// The signals, and what a program that they end ends with.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` where who started this has it ignored, as `nohup` does.
    hangup: Option<Signal>,
}

impl Signals {
    /// Needs a runtime.
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    async fn next(&mut self) -> u8 {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = hangup => 129,
        }
    }
}

/// `SigIgn` of proc_pid_status(5): a mask, SIGHUP is its first bit.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 != 0)
}

/// Listens from now on, in a thread of its own, for benches that block: `check` tells them. A second signal ends the
/// program at once, and so does one that nobody heeds; what the bench started and keeps goes with it.
pub fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    thread::spawn(move || {
        runtime.block_on(async {
            let code = signals.next().await;
            ASKED.store(code, Ordering::Relaxed);
            let code = timeout(WIND_UP, signals.next()).await.unwrap_or(code);
            process::exit(code)
        })
    });
    Ok(())
}

/// An error once a signal has come to a bench that blocks.
pub(crate) fn check() -> Result<()> {
    match ASKED.load(Ordering::Relaxed) {
        0 => Ok(()),
        code => bail!(Interrupted { code }),
    }
}

/// Lets that time pass, unless a signal comes.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(LOOK));
    }
}

/// Whether one of the signals has come. Clones hear the same.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<Option<u8>>);

impl Stop {
    /// Listens from now on, in the background of this runtime.
    pub(crate) fn listen() -> Result<Self> {
        let mut signals = Signals::new()?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            // Fails where nobody asks any more.
            let _ = sender.send(Some(signals.next().await));
        });
        Ok(Self(receiver))
    }

    /// An error once a signal has come.
    pub(crate) fn check(&self) -> Result<()> {
        match *self.0.borrow() {
            Some(code) => bail!(Interrupted { code }),
            None => Ok(()),
        }
    }

    /// Returns when a signal has come.
    pub(crate) async fn asked(&self) -> Interrupted {
        let mut receiver = self.0.clone();
        let code = receiver.wait_for(Option::is_some).await.map_or(None, |code| *code);
        match code {
            Some(code) => Interrupted { code },
            // Nobody listens for signals any more: nobody is asked to end.
            None => std::future::pending().await,
        }
    }
}
