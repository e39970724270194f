//! The engine alone: bare containers of the peer's image, through its API.

use std::{
    cell::Cell,
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bollard::{
    Docker,
    errors::Error,
    models::{ContainerCreateBody, HostConfig, NetworkConnectRequest, NetworkCreateRequest},
    query_parameters::{
        CreateContainerOptionsBuilder, InspectNetworkOptions, ListContainersOptionsBuilder,
        ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder, StartContainerOptions,
    },
};
use futures_util::{StreamExt as _, stream};

use super::ours::Plan;
use crate::stop::Stop;

/// On every container and network of the floor; its value is this process's id.
pub(super) const LABEL: &str = "io.hopcast.bench";
/// What a mesh's objects carry.
const MESH: &str = "io.hopcast.mesh";
/// How long the engine may take for one request.
const WITHIN: Duration = Duration::from_secs(120);
/// How long it may take to answer at all.
const HELLO: Duration = Duration::from_secs(5);

pub(super) struct Floor {
    docker: Docker,
    plan: Plan,
    in_flight: usize,
    stop: Stop,
    id: String,
    /// Rounds: networks of its own each, since one may not go.
    round: Cell<usize>,
}

impl Floor {
    /// The engine of `DOCKER_HOST`, else the usual socket. Nothing is made.
    pub(super) async fn connect(plan: Plan, in_flight: usize, stop: Stop) -> Result<Self> {
        let set = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        let host = set.as_deref().unwrap_or("unix:///var/run/docker.sock");
        ensure!(
            host.starts_with("unix://"),
            "DOCKER_HOST is {host}: only an engine of this machine can be measured"
        );
        let docker = Docker::connect_with_unix(host, WITHIN.as_secs(), bollard::API_DEFAULT_VERSION)?;
        let hello = tokio::time::timeout(HELLO, docker.negotiate_version()).await;
        let docker = hello
            .with_context(|| format!("Docker does not answer at {host} within {} s", HELLO.as_secs()))?
            .with_context(|| format!("Docker does not answer at {host}: start it"))?;
        Ok(Self { docker, plan, in_flight, stop, id: std::process::id().to_string(), round: Cell::new(0) })
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The mesh must not be there, because it would be taken down; nor another bench that still runs. What one left that
    /// was killed is removed.
    pub(super) async fn refuse_company(&self) -> Result<()> {
        let there = self.list(&format!("{MESH}={}", self.plan.mesh)).await?;
        ensure!(
            there.is_empty(),
            "mesh {} is on the engine, and the bench would take it down: `hopcast down --backend docker` first",
            self.plan.mesh
        );
        for (_, owner) in self.list(LABEL).await? {
            ensure!(
                owner == self.id || !Path::new("/proc").join(&owner).exists(),
                "another bench (process {owner}) is running: wait for it"
            );
        }
        self.sweep().await
    }

    /// Ids of containers with this label, and its value.
    async fn list(&self, label: &str) -> Result<Vec<(String, String)>> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed =
            self.docker.list_containers(Some(options)).await.context("failed to list the containers")?;
        let name = label.split('=').next().unwrap_or(label);
        Ok(listed
            .into_iter()
            .filter_map(|mut one| Some((one.id?, one.labels.as_mut()?.remove(name).unwrap_or_default())))
            .collect())
    }

    /// Makes and starts all containers; seconds, without what their networks take.
    pub(super) async fn up(&self) -> Result<f64> {
        self.round.set(self.round.get() + 1);
        let network = format!("hopcast-bench-{}-{}", self.id, self.round.get());
        let further: Vec<_> =
            (1..=self.plan.networks.len()).map(|at| format!("{network}-net-{at}")).collect();
        for name in std::iter::once(&network).chain(&further) {
            let request = NetworkCreateRequest {
                name: name.clone(),
                driver: Some("bridge".to_owned()),
                labels: Some(self.labels()),
                ..NetworkCreateRequest::default()
            };
            self.docker.create_network(request).await.context("failed to create the bench's networks")?;
        }
        // Not before: the `up` that counts finds its networks there, too.
        let begin = Instant::now();
        self.each(1..=self.plan.peers, |number| {
            let (name, body) = (format!("{network}-{number}"), self.body(&network, number));
            let members = further.iter().zip(&self.plan.networks);
            let in_further = members.filter(move |(_, members)| members.contains(&number));
            async move {
                let options = CreateContainerOptionsBuilder::new().name(&name).build();
                let id = self.docker.create_container(Some(options), body).await;
                let id = id.with_context(|| format!("failed to create container {name}"))?.id;
                for (network, _) in in_further {
                    let request =
                        NetworkConnectRequest { container: id.clone(), ..NetworkConnectRequest::default() };
                    let connected = self.docker.connect_network(network, request).await;
                    connected.with_context(|| format!("failed to connect {name} to {network}"))?;
                }
                let started = self.docker.start_container(&id, None::<StartContainerOptions>).await;
                started.with_context(|| format!("failed to start container {name}"))
            }
        })
        .await?;
        let seconds = begin.elapsed().as_secs_f64();
        let filters = HashMap::from([("label", vec![LABEL]), ("status", vec!["running"])]);
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        let running = self.docker.list_containers(Some(options)).await?.len();
        ensure!(
            running == self.plan.peers,
            "{running} of {} bare containers of {} run: see `docker logs {network}-1`",
            self.plan.peers,
            self.plan.image
        );
        Ok(seconds)
    }

    fn labels(&self) -> HashMap<String, String> {
        HashMap::from([(LABEL.to_owned(), self.id.clone())])
    }

    /// The image, the caps, the network: what nobody could leave out.
    fn body(&self, network: &str, number: usize) -> ContainerCreateBody {
        ContainerCreateBody {
            image: Some(self.plan.image.clone()),
            // A peer on its own, whose server is not there: it waits.
            env: Some(vec![format!("PEER_NAME=peer-{number}"), "SIGNAL_URL=ws://127.0.0.1:1/ws".to_owned()]),
            labels: Some(self.labels()),
            host_config: Some(HostConfig {
                network_mode: Some(network.to_owned()),
                memory: Some(self.plan.memory),
                memory_swap: Some(self.plan.memory),
                nano_cpus: Some(self.plan.nano_cpus),
                pids_limit: Some(self.plan.pids),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Removes all of it; seconds.
    pub(super) async fn down(&self) -> Result<f64> {
        let containers = self.list(LABEL).await?;
        let begin = Instant::now();
        self.remove(containers, true).await?;
        Ok(begin.elapsed().as_secs_f64())
    }

    /// Removes the mesh's containers of one role, and nothing else of it. One after the other, so that the engine counts the
    /// endpoints of the mesh's networks right.
    pub(super) async fn remove_role(&self, role: &str) -> Result<()> {
        let filters = [format!("{MESH}={}", self.plan.mesh), format!("io.hopcast.role={role}")];
        let filters = HashMap::from([("label", filters.to_vec())]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed =
            self.docker.list_containers(Some(options)).await.context("failed to list the containers")?;
        let ids = listed.into_iter().filter_map(|one| one.id);
        all(ids, 1, |id| self.remove_container(id), || self.stop.check()).await
    }

    async fn remove_container(&self, id: String) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let removed = self.docker.remove_container(&id, Some(options)).await;
        removed.with_context(|| format!("failed to remove container {id}"))
    }

    /// Removes whatever carries the label, signal or not.
    pub(super) async fn sweep(&self) -> Result<()> {
        let containers = self.list(LABEL).await?;
        self.remove(containers, false).await
    }

    async fn remove(&self, containers: Vec<(String, String)>, ends_at_signal: bool) -> Result<()> {
        let remove = |(id, _): (String, String)| self.remove_container(id);
        if ends_at_signal {
            self.each(containers, remove).await?;
        } else {
            all(containers, self.in_flight, remove, || Ok(())).await?;
        }
        let filters = HashMap::from([("label", vec![LABEL])]);
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        for network in
            self.docker.list_networks(Some(options)).await.context("failed to list the networks")?
        {
            self.remove_network(network.id.unwrap_or_default()).await?;
        }
        Ok(())
    }

    /// Docker 20.10 loses count of a network's endpoints when several containers leave it at once. An empty network that it does
    /// not remove for that is let be: nothing but the engine's restart mends it.
    async fn remove_network(&self, id: String) -> Result<()> {
        let removed = self.docker.remove_network(&id).await;
        if let Err(Error::DockerResponseServerError { status_code: 403, message }) = &removed
            && message.contains("active endpoints")
        {
            let there = self.docker.inspect_network(&id, None::<InspectNetworkOptions>).await;
            if there.is_ok_and(|network| network.containers.unwrap_or_default().is_empty()) {
                return Ok(());
            }
        }
        removed.context("failed to remove the bench's network")
    }

    /// Does this to each, so many at a time. After a failure or a signal nothing more is begun, and what is under way is
    /// waited for: an engine whose client vanishes in mid-start can be left with a network that it cannot remove.
    async fn each<T, F>(&self, items: impl IntoIterator<Item = T>, work: impl Fn(T) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        all(items, self.in_flight, work, || self.stop.check()).await
    }
}

async fn all<T, F>(
    items: impl IntoIterator<Item = T>,
    in_flight: usize,
    work: impl Fn(T) -> F,
    go_on: impl Fn() -> Result<()>,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let failed = std::cell::Cell::new(false);
    let (failed, work, go_on) = (&failed, &work, &go_on);
    let jobs = items.into_iter().map(|item| async move {
        if failed.get() {
            return Ok(());
        }
        let within = async {
            go_on()?;
            match tokio::time::timeout(WITHIN, work(item)).await {
                Ok(done) => done,
                Err(_) => bail!("the engine gave no answer within {} s", WITHIN.as_secs()),
            }
        };
        let done = within.await;
        failed.set(failed.get() || done.is_err());
        done
    });
    let ended: Vec<Result<()>> = stream::iter(jobs).buffer_unordered(in_flight).collect().await;
    ended.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn after_a_failure_nothing_is_begun_and_what_was_begun_is_ended() {
        let (begun, ended) = (Cell::new(0), Cell::new(0));
        let work = |number: usize| {
            let (begun, ended) = (&begun, &ended);
            async move {
                begun.set(begun.get() + 1);
                tokio::task::yield_now().await;
                ensure!(number != 3, "the third");
                tokio::task::yield_now().await;
                ended.set(ended.get() + 1);
                Ok(())
            }
        };
        let error = all(1..=100, 4, work, || Ok(())).await.unwrap_err();
        assert_eq!(error.to_string(), "the third");
        assert!(begun.get() < 100 && ended.get() == begun.get() - 1, "{begun:?} {ended:?}");
        begun.set(0);
        assert!(all(1..=9, 4, work, || bail!("a signal")).await.is_err());
        assert_eq!(begun.get(), 0);
    }
}
