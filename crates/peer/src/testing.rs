//! For unit tests: a node without rooms, and a clock that only moves when everybody waits.

use std::rc::Rc;

use crate::{
    config,
    gateway::{Gateway, Source},
    node::Node,
};

/// Runs a future on a local runtime with a paused clock.
pub(crate) fn paused(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build_local(tokio::runtime::LocalOptions::default())
        .expect("a runtime")
        .block_on(test);
}

/// A node in no room; with sources it is a gateway.
pub(crate) fn node(sources: Vec<Rc<dyn Source>>) -> Rc<Node> {
    let config = config::from_env(|name| (name == "PEER_NAME").then(|| "peer-1".to_owned()));
    let config = config.expect("a name is enough");
    let gateway = Gateway::new(sources, &config.limits);
    Node::new(config, gateway)
}
