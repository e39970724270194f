//! What is asked of the engine for one object: make it, start it, remove it. Thin.

use std::{
    future::Future,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use bollard::{
    models::{NetworkConnectRequest, NetworkDisconnectRequest},
    query_parameters::{
        CreateContainerOptionsBuilder, InspectNetworkOptions, KillContainerOptionsBuilder,
        RemoveContainerOptionsBuilder, RemoveVolumeOptionsBuilder, StartContainerOptions,
        StopContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt as _, stream};
use hopcast_protocol::MeshName;

use super::{
    Engine, body,
    engine::{CHANGE, IN_FLIGHT, LOOK},
    present::Leaving,
    wanted::{Network, Node, Volume},
};
use crate::Error;

/// Does this to each item, as many at a time as the engine takes. After the first failure nothing more is begun; what is
/// under way is waited for, and the failure is the answer. `done` hears how many are done.
pub async fn each<T, F>(
    items: impl IntoIterator<Item = T>,
    work: impl Fn(T) -> F,
    mut done: impl FnMut(u64),
) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let failed = AtomicBool::new(false);
    let (failed_yet, work) = (&failed, &work);
    let jobs = items.into_iter().map(|item| async move {
        if failed_yet.load(Ordering::Relaxed) {
            return Ok(());
        }
        work(item).await.inspect_err(|_| failed_yet.store(true, Ordering::Relaxed))
    });
    let mut jobs = stream::iter(jobs).buffer_unordered(IN_FLIGHT as usize);
    let (mut first, mut count) = (None, 0);
    while let Some(ended) = jobs.next().await {
        match ended {
            Ok(()) => {
                count += 1;
                if first.is_none() {
                    done(count);
                }
            }
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// Makes a container and puts it into its networks; its id. It does not run yet.
pub async fn create(engine: &Engine, mesh: &MeshName, node: &Node, files: &Path) -> Result<String, Error> {
    let body = body::container(mesh, node, files);
    let options = CreateContainerOptionsBuilder::new().name(&node.name).build();
    let create = |docker: bollard::Docker| async move { docker.create_container(Some(options), body).await };
    let id = engine.call(format!("create container {}", node.name), CHANGE, create).await?.id;
    for (network, address) in node.container.networks.iter().skip(1) {
        let request =
            NetworkConnectRequest { container: id.clone(), endpoint_config: Some(body::endpoint(*address)) };
        let name = network.clone();
        let connect = |docker: bollard::Docker| async move { docker.connect_network(&name, request).await };
        engine.call(format!("connect {} to network {network}", node.name), CHANGE, connect).await?;
    }
    Ok(id)
}

/// Starts a container. An endpoint that a killed `up` left in its place is removed on the way.
pub async fn start(engine: &Engine, node: &Node, id: &str) -> Result<(), Error> {
    match start_id(engine, &node.name, id).await {
        Err(Error::Engine { why, .. }) if is_left_over(&why) => {
            for (network, _) in &node.container.networks {
                // It is not there in every one of them.
                let _ = disconnect(engine, network, &node.name).await;
            }
            start_id(engine, &node.name, id).await
        }
        result => result,
    }
}

/// The engine has an endpoint of a container that it has forgotten.
fn is_left_over(why: &str) -> bool {
    why.contains("Address already in use")
        || (why.contains("endpoint with name") && why.contains("already exists"))
}

/// Starts a container, whatever it is.
pub async fn start_id(engine: &Engine, name: &str, id: &str) -> Result<(), Error> {
    let id = id.to_owned();
    let start = |docker: bollard::Docker| async move {
        docker.start_container(&id, None::<StartContainerOptions>).await
    };
    engine.call(format!("start container {name}"), CHANGE, start).await
}

/// Takes whatever is called `container` out of a network, also where there is no such container.
async fn disconnect(engine: &Engine, network: &str, container: &str) -> Result<(), Error> {
    let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
    let at = network.to_owned();
    let disconnect = |docker: bollard::Docker| async move { docker.disconnect_network(&at, request).await };
    engine.call(format!("take {container} out of network {network}"), CHANGE, disconnect).await
}

/// A signal to a container's first process.
pub async fn signal(engine: &Engine, name: &str, id: &str, signal: &str) -> Result<(), Error> {
    let (id, options) = (id.to_owned(), KillContainerOptionsBuilder::new().signal(signal).build());
    let kill = |docker: bollard::Docker| async move { docker.kill_container(&id, Some(options)).await };
    engine.call(format!("send {signal} to {name}"), CHANGE, kill).await
}

/// Schedules a paused container again.
pub async fn resume(engine: &Engine, name: &str, id: &str) -> Result<(), Error> {
    let id = id.to_owned();
    let resume = |docker: bollard::Docker| async move { docker.unpause_container(&id).await };
    engine.call(format!("resume {name}"), CHANGE, resume).await
}

/// Takes a container out of the scheduler's hands.
pub async fn pause(engine: &Engine, name: &str, id: &str) -> Result<(), Error> {
    let id = id.to_owned();
    let pause = |docker: bollard::Docker| async move { docker.pause_container(&id).await };
    engine.call(format!("pause {name}"), CHANGE, pause).await
}

/// Ends and removes a container, `in_order` within so many seconds or at once.
pub async fn remove(engine: &Engine, container: &Leaving, in_order: Option<i32>) -> Result<(), Error> {
    leave(engine, container, in_order).await?;
    remove_now(engine, container).await
}

/// Takes a container out of its networks, from each one after the other, see [`Engine::alone_in`]; `in_order`, which ends it
/// within so many seconds, or at once.
pub async fn leave(engine: &Engine, container: &Leaving, in_order: Option<i32>) -> Result<(), Error> {
    let Leaving { id, name, networks } = container;
    if let Some(seconds) = in_order {
        // It may need its networks for that, and leaves them all in one.
        let _alone = engine.alone_in(networks).await;
        return stop(engine, name, id, seconds).await;
    }
    for network in networks {
        let _alone = engine.alone_in([network]).await;
        // What is not there any more need not leave; whatever else is wrong, the removal says so.
        let _ = disconnect(engine, network, id).await;
    }
    Ok(())
}

/// Ends a container in order.
pub async fn stop(engine: &Engine, name: &str, id: &str, seconds: i32) -> Result<(), Error> {
    let (id, options) = (id.to_owned(), StopContainerOptionsBuilder::new().t(seconds).build());
    let stop = |docker: bollard::Docker| async move { docker.stop_container(&id, Some(options)).await };
    not_there_is_well(engine.call(format!("stop {name}"), CHANGE, stop).await)
}

/// Ends and removes a container that has left its networks.
pub async fn remove_now(engine: &Engine, container: &Leaving) -> Result<(), Error> {
    let Leaving { id, name, .. } = container;
    let (id, options) = (id.to_owned(), RemoveContainerOptionsBuilder::new().force(true).v(true).build());
    let remove = |docker: bollard::Docker| async move { docker.remove_container(&id, Some(options)).await };
    match engine.call(format!("remove container {name}"), CHANGE, remove).await {
        // Somebody else is at it: whoever waits for the end looks again.
        Err(error) if error.has_status(409) => Ok(()),
        result => not_there_is_well(result),
    }
}

/// Makes a network.
pub async fn create_network(engine: &Engine, mesh: &MeshName, network: &Network) -> Result<(), Error> {
    let body = body::network(mesh, network);
    let create = |docker: bollard::Docker| async move { docker.create_network(body).await };
    engine.call(format!("create network {}", network.name), CHANGE, create).await.map(|_| ())
}

/// Removes a network. Endpoints of containers that are no more, which a client killed in the middle of a start leaves
/// behind, are removed by their names first. False where the engine counts endpoints in it and has none.
pub async fn remove_network(engine: &Engine, name: &str, id: &str) -> Result<bool, Error> {
    let once = || async {
        let id = id.to_owned();
        let remove = |docker: bollard::Docker| async move { docker.remove_network(&id).await };
        not_there_is_well(engine.call(format!("remove network {name}"), CHANGE, remove).await)
    };
    match once().await {
        Err(Error::Engine { why, .. }) if why.contains("active endpoints") => {
            let left = endpoints(engine, name, id).await?;
            for endpoint in &left {
                let _ = disconnect(engine, id, endpoint).await;
            }
            match once().await {
                Err(Error::Engine { why, .. }) if left.is_empty() && why.contains("active endpoints") => {
                    Ok(false)
                }
                result => result.map(|()| true),
            }
        }
        result => result.map(|()| true),
    }
}

/// The names of what the engine thinks is in a network.
async fn endpoints(engine: &Engine, name: &str, id: &str) -> Result<Vec<String>, Error> {
    let id = id.to_owned();
    let inspect = |docker: bollard::Docker| async move {
        docker.inspect_network(&id, None::<InspectNetworkOptions>).await
    };
    let network = engine.call(format!("look at network {name}"), LOOK, inspect).await?;
    Ok(network.containers.unwrap_or_default().into_values().filter_map(|endpoint| endpoint.name).collect())
}

/// Makes a volume.
pub async fn create_volume(engine: &Engine, mesh: &MeshName, volume: &Volume) -> Result<(), Error> {
    let body = body::volume(mesh, volume);
    let create = |docker: bollard::Docker| async move { docker.create_volume(body).await };
    engine.call(format!("create volume {}", volume.name), CHANGE, create).await.map(|_| ())
}

/// Removes a volume.
pub async fn remove_volume(engine: &Engine, name: &str) -> Result<(), Error> {
    let (at, options) = (name.to_owned(), RemoveVolumeOptionsBuilder::new().force(true).build());
    let remove = |docker: bollard::Docker| async move { docker.remove_volume(&at, Some(options)).await };
    not_there_is_well(engine.call(format!("remove volume {name}"), CHANGE, remove).await)
}

fn not_there_is_well(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.has_status(404) => Ok(()),
        other => other,
    }
}
