//! The socket audit: who is connected to whom, sampled from the kernel while traffic runs and after it.
//!
//! [`rules`] decides (pure), [`sample`] reads, [`Audit`] owns the one task that samples until the checks are over.

pub(crate) mod rules;
mod sample;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{task::spawn_blocking, time::Instant};

use crate::{audit::sample::Auditor, context::Context, http::Task, report::Tally};

/// The check's name.
pub(crate) const NAME: &str = "sockets";
pub(crate) const CLAIM: &str =
    "no process of the mesh has a connection that the plan does not allow, during and after the traffic";

/// Pause between two looks at the tables; longer where a look takes longer than this, so that looking takes half a core at most.
const EVERY: Duration = Duration::from_millis(200);

/// A running audit.
pub(crate) struct Audit {
    auditor: Arc<Mutex<Auditor>>,
    sampler: Task,
}

fn sample(auditor: &Mutex<Auditor>) {
    // A panic inside a sample would leave a half-taken one: everything found stays valid.
    auditor.lock().unwrap_or_else(PoisonError::into_inner).sample();
}

impl Audit {
    /// Takes the first sample (connections that were closed before it don't count) and goes on sampling.
    pub(crate) async fn start(context: &Context<'_>) -> Self {
        let auditor = Arc::new(Mutex::new(Auditor::new(context.target, &context.dead)));
        let shared = Arc::clone(&auditor);
        // It fails only if it panics, or at the runtime's end.
        drop(spawn_blocking(move || sample(&shared)).await);
        let shared = Arc::clone(&auditor);
        let sampler = Task(tokio::spawn(async move {
            let mut pause = EVERY;
            loop {
                tokio::time::sleep(pause).await;
                let (shared, began) = (Arc::clone(&shared), Instant::now());
                if spawn_blocking(move || sample(&shared)).await.is_err() {
                    return;
                }
                pause = began.elapsed().max(EVERY);
            }
        }));
        Self { auditor, sampler }
    }

    /// Stops, takes the last sample, and returns what was found and how many connections were looked at.
    pub(crate) async fn finish(self) -> (Tally, u64) {
        drop(self.sampler);
        let shared = Arc::clone(&self.auditor);
        drop(spawn_blocking(move || sample(&shared)).await);
        let auditor = self.auditor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tally = Tally::default();
        tally.checked = auditor.connections();
        for text in auditor.violations() {
            tally.fail(text);
        }
        let reasons: HashSet<&String> = auditor.unreadable().collect();
        let mut reasons: Vec<&String> = reasons.into_iter().collect();
        reasons.sort();
        for why in reasons {
            tally.not_run(why);
        }
        (tally, auditor.connections())
    }
}
