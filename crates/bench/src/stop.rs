//! Ctrl-C and SIGTERM, for benches that have something to put away first.
//!
//! Nothing is dropped in the middle: who works asks between two pieces of work, who waits for a program passes the signal
//! on and waits for its end.

use std::fmt;

use anyhow::{Result, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// A bench was asked to end, and has put everything away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted {
    /// What the program should end with: 130 or 143.
    pub code: u8,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Whether one of the signals has come. Clones hear the same.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<Option<u8>>);

impl Stop {
    /// Listens from now on, in the background of this runtime.
    pub(crate) fn listen() -> Result<Self> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let code = tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            };
            // Fails where nobody asks any more.
            let _ = sender.send(Some(code));
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
