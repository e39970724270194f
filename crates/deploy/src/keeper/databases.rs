//! The databases' part of an apply: which cluster starts, stops, or only rereads; and a watch over each.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{
    Keeper,
    apply::{Reporter, until_it_listens},
    cluster::{self, Clusters},
    create, logs,
    node::Node,
};
use crate::{
    Changes, NodeRole, Step,
    error::Error,
    wire::{Cluster, Desired},
};

/// How much earlier than the edges an origin starts at most.
const HEAD_START: Duration = Duration::from_millis(500);

impl Keeper {
    /// Makes the clusters that run equal to those that should. The caller holds `changing`.
    pub(super) async fn databases(
        self: &Arc<Self>,
        clusters: &mut Clusters,
        desired: &Desired,
        report: &Reporter,
    ) -> Result<Changes, Error> {
        let mut changes = Changes::default();
        let total = desired.databases.len();
        let mut start = Vec::new();
        for spec in &desired.databases {
            let name = spec.name.as_str();
            let alive = self.nodes.pid(name).is_some();
            match clusters.running.get(name) {
                Some(running) if alive => {
                    let old = &running.spec;
                    if (old.listen, &old.user, &old.settings) != (spec.listen, &spec.user, &spec.settings) {
                        self.stop_database(clusters, name).await?;
                        changes.restarted.push(name.to_owned());
                        start.push(spec.clone());
                        continue;
                    }
                    let paused = self.nodes.all().get(name).is_some_and(Node::is_paused);
                    if paused {
                        self.signal_node(name, rustix::process::Signal::CONT);
                    }
                    if clusters.update(spec, &desired.superuser_password).await? || paused {
                        changes.reloaded.push(name.to_owned());
                    }
                }
                _ => {
                    changes.started.push(name.to_owned());
                    start.push(spec.clone());
                }
            }
        }
        report.step(Step::Databases, total - start.len(), total).await;
        self.start_databases(clusters, desired, start, |done| {
            report.step(Step::Databases, total - done, total)
        })
        .await?;
        Ok(changes)
    }

    /// Starts clusters side by side, making those that are missing. `left` is told how many are left.
    pub(super) async fn start_databases<F: Future<Output = ()>>(
        self: &Arc<Self>,
        clusters: &mut Clusters,
        desired: &Desired,
        specs: Vec<Cluster>,
        left: impl Fn(usize) -> F,
    ) -> Result<(), Error> {
        for spec in &specs {
            // A server that died keeps an entry here: it is replaced.
            clusters.running.remove(spec.name.as_str());
            self.nodes.starting(spec.name.as_str(), NodeRole::Database, Some(spec.listen));
        }
        let all_failed = |error: &Error| {
            for spec in &specs {
                self.nodes.failed(spec.name.as_str(), &error.to_string());
            }
        };
        create::missing(&self.dir, &specs, &desired.postgres, &desired.superuser_password)
            .await
            .inspect_err(all_failed)?;
        let mut tasks = JoinSet::new();
        for spec in &specs {
            let name = spec.name.to_string();
            let start =
                clusters.start(spec.clone(), desired.postgres.clone(), desired.superuser_password.clone());
            tasks.spawn(async move { (name, start.await) });
            if spec.name == desired.plan.origin.name && specs.len() > 1 {
                // An edge whose data are there connects to its origin at once, and where nobody listens again only after
                // `wal_retrieve_retry_interval`. Whether the origin comes up is told by its own start.
                until_it_listens(spec.listen, HEAD_START, || true).await;
            }
        }
        let mut first = None;
        while let Some(ended) = tasks.join_next().await {
            let (name, result) =
                ended.map_err(|error| Error::Keeper(format!("failed to start a database: {error}")))?;
            match result {
                Ok(running) => {
                    self.watch_database(&name, running.postmaster);
                    clusters.running.insert(name, running);
                    left(tasks.len()).await;
                }
                Err(error) => {
                    self.nodes.failed(&name, &error.to_string());
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// It runs; a task waits for its end.
    fn watch_database(self: &Arc<Self>, name: &str, postmaster: u32) {
        self.nodes.running(name, postmaster, None);
        let (keeper, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            if let Err(error) = cluster::exit_of(postmaster).await {
                tracing::error!(node = name, %error, "cannot watch this database");
                return;
            }
            keeper.nodes.ended(&name, postmaster, || {
                let last = logs::last_line(&keeper.dir, &name);
                ended(last.as_deref())
            });
        });
    }

    /// Stops a cluster in order.
    pub(super) async fn stop_database(&self, clusters: &mut Clusters, name: &str) -> Result<(), Error> {
        let Some(running) = clusters.running.remove(name) else { return Ok(()) };
        self.nodes.ending(name);
        running.stop().await?;
        self.nodes.wait_ended(name).await;
        Ok(())
    }
}

/// Why a server ended, by the last line of its log. It is no child of the keeper, so no exit status says so; but whenever
/// it can, it says at its end that it is shut down, and its processes notice where it could not.
fn ended(last: Option<&str>) -> String {
    match last {
        Some(line) if line.contains("is shut down") || line.contains("PANIC:") => {
            format!("its postmaster ended: {line}")
        }
        Some(_) => "killed: its postmaster was gone without a shutdown".to_owned(),
        None => "its postmaster ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::ended;

    #[test]
    fn what_a_killed_server_s_processes_log_is_not_repeated() {
        for of_others in [
            "2026-01-01 00:00:00.000 UTC [7] FATAL:  terminating connection due to unexpected postmaster exit",
            "2026-01-01 00:00:00.000 UTC [8] LOG:  checkpoint complete: wrote 3 buffers",
        ] {
            assert_eq!(ended(Some(of_others)), "killed: its postmaster was gone without a shutdown");
        }
        for own in ["LOG:  database system is shut down", "PANIC:  could not write to file"] {
            assert!(ended(Some(own)).ends_with(own));
        }
    }
}
