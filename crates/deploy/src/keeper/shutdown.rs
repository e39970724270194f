//! The end of a mesh: peers, signalling server, databases, and whatever else carries its mark.

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinSet};

use super::{Keeper, WIND_UP};
use crate::{NodeRole, Step, orphans, wire::Event};

/// Stops everything and tells everyone who asked for it.
pub(super) async fn run(
    keeper: &Arc<Keeper>,
    stops: &mut mpsc::Receiver<mpsc::Sender<Event>>,
    mut listeners: Vec<mpsc::Sender<Event>>,
) {
    keeper.stopping.send_replace(true);
    let Ok(mut clusters) = tokio::time::timeout(WIND_UP, keeper.changing.lock()).await else {
        // A change that does not heed the signal: end it with everything else.
        tracing::error!("a change does not end; ending every process");
        sweep(keeper).await;
        return;
    };
    let names = keeper.nodes.up(None);
    let total = names.len() as u64;
    let mut done = 0;
    let mut tell = |listeners: &[mpsc::Sender<Event>]| {
        done += 1;
        for listener in listeners {
            // A slow reader misses a step, nothing more.
            let _ = listener.try_send(Event::Step { step: Step::Stopped, done, total });
        }
    };
    keeper.end(&keeper.nodes.up(Some(NodeRole::Peer)), || tell(&listeners)).await;
    keeper.end(&keeper.nodes.up(Some(NodeRole::Signalling)), || tell(&listeners)).await;
    let mut tasks = JoinSet::new();
    for (name, running) in std::mem::take(&mut clusters.running) {
        keeper.nodes.ending(&name);
        tasks.spawn(running.stop());
    }
    while let Some(stopped) = tasks.join_next().await {
        match stopped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the sweep ends it"),
            Err(error) => tracing::error!(%error, "a database was not stopped; the sweep ends it"),
        }
        tell(&listeners);
    }
    sweep(keeper).await;
    while let Ok(late) = stops.try_recv() {
        listeners.push(late);
    }
    for listener in listeners {
        let _ = listener.send(Event::Stopped { nodes: names.clone() }).await;
    }
}

/// Whatever was on its way when the mesh was told to stop: an initdb, a server that was just starting.
async fn sweep(keeper: &Keeper) {
    let dir = keeper.dir.clone();
    let warden = crate::proc::children(std::process::id());
    let me = std::process::id();
    let swept = tokio::task::spawn_blocking(move || {
        let spared: Vec<u32> = warden.into_iter().filter(|&pid| is_warden(pid)).chain([me]).collect();
        orphans::end(&dir, &spared)
    });
    match swept.await {
        Ok(found) if found.is_empty() => {}
        Ok(found) => tracing::warn!(processes = ?found, "ended what was still on its way"),
        Err(error) => tracing::error!(%error, "failed to look for what was left"),
    }
}

fn is_warden(pid: u32) -> bool {
    crate::proc::command(pid).is_some_and(|command| command.contains(" --warden "))
}
