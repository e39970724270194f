//! Finding a way to a content: every common room is asked, and the shortest path wins (tie: the file's order).

use std::{rc::Rc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use hopcast_protocol::ContentId;
use tokio::time::{Instant, timeout_at};

use crate::{fetch::Wish, node::Node, routes::Route, search::Ask, signal::AskError};

/// How much longer the other rooms are waited for when one has answered.
const OTHERS: Duration = Duration::from_millis(250);
/// How long the server may take; `Room::ask` gives up before.
const ALL: Duration = Duration::from_secs(3);

/// Why there is no way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoWay {
    /// Every room's server says that nobody reachable holds it.
    Nobody,
    /// Some room could not be asked.
    Unasked,
}

/// The way to the nearest holder that will do. Where a room's server is away, a route that still stands does.
pub(crate) async fn find(node: &Rc<Node>, wish: &Wish, ask: &Ask) -> Result<Rc<Route>, NoWay> {
    let Ask { gateway, exclude, avoid } = ask;
    // Only gateways hold manifests, and what one serves over a route it serves over the same.
    let manifest = ContentId::Manifest(wish.song.clone());
    let content = if *gateway { &manifest } else { &wish.content };
    let mine = node.rooms();
    let asked: Vec<_> = mine.iter().filter(|room| wish.rooms.contains(&room.name)).cloned().collect();
    let mut answers: FuturesUnordered<_> = asked
        .iter()
        .enumerate()
        .map(|(at, room)| async move { (at, room.ask(content, exclude, avoid).await) })
        .collect();
    let mut best: Option<(usize, Rc<Route>)> = None;
    let mut unasked = vec![];
    let mut deadline = Instant::now() + ALL;
    while let Ok(Some((at, answer))) = timeout_at(deadline, answers.next()).await {
        match answer {
            Ok(route) if route.next.is_none() => {} // this peer itself: nothing to fetch
            Ok(route) => {
                deadline = deadline.min(Instant::now() + OTHERS);
                if best.as_ref().is_none_or(|(order, best)| (route.hops, at) < (best.hops, *order)) {
                    best = Some((at, route));
                }
            }
            Err(AskError::NoHolder) => {}
            Err(error) => {
                tracing::debug!(room = %asked[at].name, "no way: {error:?}");
                unasked.push(asked[at].name.clone());
            }
        }
    }
    if let Some((_, route)) = best {
        return Ok(route);
    }
    if unasked.is_empty() && !asked.is_empty() {
        return Err(NoWay::Nobody);
    }
    let standing = node.routes.borrow().standing(Instant::now());
    standing
        .into_iter()
        .filter(|route| unasked.contains(&route.room))
        .filter(|route| route.holder().is_some_and(|holder| !exclude.contains(holder)))
        .filter(|route| !route.path.iter().skip(1).any(|peer| avoid.contains(peer)))
        .find(|route| route.next.as_ref().and_then(|next| node.link(next)).is_some_and(|link| link.is_up()))
        .ok_or(NoWay::Unasked)
}
