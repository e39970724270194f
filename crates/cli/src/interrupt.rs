//! The end of a command by Ctrl-C or SIGTERM, where it has begun something that must not stay half-made.

use std::future::Future;

use hopcast_deploy::Backend;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{self, Failure};

/// Does the work. At a signal it is dropped, and what it has under way at the backend is waited for: each request of it has a
/// deadline.
pub(crate) async fn until_signal<T>(
    backend: &dyn Backend,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let code = tokio::select! {
        done = work => return done,
        _ = interrupt.recv() => exit::INTERRUPTED,
        _ = terminate.recv() => exit::TERMINATED,
    };
    // What it could not end in time, the next `up` or `down` removes.
    let _ = backend.settle().await;
    Err(Failure::new(code, "interrupted").into())
}
