//! The health of links: what is reported to the signalling server, and when a link is believed again.

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use tokio::time::{Instant, sleep_until};

use crate::{
    backoff::Backoff,
    link::{Blame, HopError, Link, Patience},
    metrics::count,
    node::Node,
    upstream,
};

/// How long a neighbour may take to say that it is well.
pub(crate) const PROBE: Duration = Duration::from_secs(1);

impl Node {
    /// Acts on a failure over a link.
    pub fn blame(&self, link: &Rc<Link>, error: &HopError) {
        tracing::debug!(neighbor = %link.name, "{error}");
        match error.blame() {
            Blame::Link => self.link_down(link),
            Blame::Perhaps if link.is_up() && !link.probing.replace(true) => {
                let (node, link) = (self.rc(), link.clone());
                self.spawn(async move {
                    let well = probe(&node, &link).await;
                    link.probing.set(false);
                    if !well {
                        node.link_down(&link);
                    }
                });
            }
            Blame::Perhaps | Blame::Nobody => {}
        }
    }

    fn link_down(&self, link: &Rc<Link>) {
        if !link.is_up() || link.is_cut() {
            return;
        }
        tracing::warn!(neighbor = %link.name, "link down");
        count(&self.metrics.link_reports);
        link.set_up(false);
        self.tell_link(link);
        let (node, link) = (self.rc(), link.clone());
        self.spawn(watch(node, link));
    }

    fn tell_link(&self, link: &Link) {
        for room in self.rooms().iter().filter(|room| link.is_in(&room.name)) {
            room.tell(|outbox| outbox.link(&link.name, link.is_up()));
        }
    }

    /// The neighbour was heard of: a link that is down may work again.
    pub fn heard_of(&self, link: &Link) {
        if !link.is_up() {
            link.probe_now.notify_one();
        }
    }
}

/// Probes a link that is down, ever more rarely, until it works or is removed.
async fn watch(node: Rc<Node>, link: Rc<Link>) {
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
    loop {
        let wait = tokio::time::sleep(backoff.next(node.random.unit()));
        tokio::select! {
            () = wait => {}
            () = link.probe_now.notified() => {}
            () = link.was_cut() => return,
        }
        if probe(&node, &link).await && !link.is_cut() {
            tracing::info!(neighbor = %link.name, "link up");
            link.set_up(true);
            node.tell_link(&link);
            return;
        }
    }
}

/// Waits until a neighbour that makes no progress is to be given up: it does not answer a probe either, or has used up all
/// patience. Drop it when there is progress.
pub(crate) async fn given_up(node: Rc<Node>, link: Rc<Link>, patience: Patience) {
    let began = Instant::now();
    let mut until = began + patience.silent;
    loop {
        sleep_until(until - PROBE).await;
        let well = Box::pin(probe(&node, &link)).await; // rare, so it takes no room in those that wait
        sleep_until(until).await;
        if !well || until - began >= patience.most {
            return;
        }
        until += PROBE;
    }
}

/// True if the neighbour, and nobody else at its address, answers on a fresh connection.
async fn probe(node: &Node, link: &Rc<Link>) -> bool {
    let exchange = async {
        let mut wire = upstream::open(node, link).await.ok()?;
        let request =
            Request::get("/health").header(header::HOST, &link.host).body(Empty::<Bytes>::new()).ok()?;
        let response = wire.ask(request).await.ok()?;
        wire.rest();
        let body = Limited::new(response.into_body(), 256).collect().await.ok()?.to_bytes();
        let mut name = body.split(|byte| *byte == b':');
        (name.next() == Some(link.name.as_str().as_bytes())).then_some(())
    };
    tokio::time::timeout(PROBE, exchange).await.ok().flatten().is_some()
}
