//! Finding the way for a request, and telling everyone on it; telling everyone that a route is no more.

use hopcast_protocol::{ContentId, ErrorCode, PeerName, RouteId, ServerMessage};
use hopcast_routing::NodeId;

use super::{
    Room,
    output::{Dialect, Event, Outputs, PathEvent, RouteDownEvent, Tally},
    parse::Fault,
};
use crate::frame::Frame;

impl Room {
    pub(super) fn request(
        &mut self,
        from: NodeId,
        target: Option<&PeerName>,
        content: Option<ContentId>,
        exclude: &[PeerName],
        id: Option<u64>,
        out: &mut Outputs,
    ) -> Result<(), Fault> {
        match (target, &content) {
            (Some(target), None) => self.find_peer(from, target)?,
            (None, Some(content)) => self.find_holder(from, content, exclude)?,
            (None, None) => return Err(Fault::new(ErrorCode::BadMessage, "`target` is missing")),
            (Some(_), Some(_)) => {
                return Err(Fault::new(ErrorCode::BadMessage, "`target` and `content` exclude each other"));
            }
        }
        self.broadcast(content, id, out);
        Ok(())
    }

    fn find_peer(&mut self, from: NodeId, target: &PeerName) -> Result<(), Fault> {
        let to = self.graph.id(target).filter(|&to| self.graph.is_present(to)).ok_or_else(|| {
            let sentence = format!("`{target}` is not connected in room `{}`", self.name);
            Fault::new(ErrorCode::UnknownPeer, sentence)
        })?;
        let path = self.graph.path(&mut self.search, from, to).ok_or_else(|| {
            let sentence = format!("no path leads to `{target}` in room `{}` now", self.name);
            Fault::new(ErrorCode::NoPath, sentence)
        })?;
        self.path.clear();
        self.path.extend_from_slice(path);
        Ok(())
    }

    fn find_holder(&mut self, from: NodeId, content: &ContentId, exclude: &[PeerName]) -> Result<(), Fault> {
        let mut excluded: Vec<_> = exclude.iter().filter_map(|name| self.graph.id(name)).collect();
        excluded.push(from); // who asks does not have it
        let holders = self.holdings.of(content);
        let path = self.graph.nearest(&mut self.search, from, holders, &excluded).ok_or_else(|| {
            let sentence = format!("nobody who can be reached in room `{}` holds {content}", self.name);
            Fault::new(ErrorCode::NoHolder, sentence)
        })?;
        self.path.clear();
        self.path.extend_from_slice(path);
        Ok(())
    }

    /// Sends `self.path` to everyone on it, the holder first and the requester last: when the requester's first request
    /// comes by, the hops know the route.
    fn broadcast(&mut self, content: Option<ContentId>, id: Option<u64>, out: &mut Outputs) {
        let path = std::mem::take(&mut self.path);
        let member = |room: &Self, node: NodeId| room.members.get(node.index()).copied().flatten();
        let speaks = |node: &NodeId| member(self, *node).is_some_and(|m| m.dialect == Dialect::Hopcast);
        let route = path.iter().any(speaks).then(|| self.routes.along(&path, &self.epoch, &mut self.gone));
        self.tell_gone(out);
        let names: Vec<PeerName> = path.iter().map(|&node| self.peer(node)).collect();
        let mut shared: Option<Frame> = None;
        for at in (0..path.len()).rev() {
            let Some(member) = member(self, path[at]) else { continue };
            let frame = match member.dialect {
                Dialect::Original => shared.get_or_insert_with(|| Frame::json(&plain(names.clone()))).clone(),
                Dialect::Hopcast => Frame::json(&ServerMessage::Path {
                    path: if at == 0 { names.clone() } else { Vec::new() },
                    route: route.clone(),
                    room: Some(self.name.clone()),
                    prev: at.checked_sub(1).map(|before| names[before].clone()),
                    next: names.get(at + 1).cloned(),
                    hops: Some((path.len() - 1 - at) as u32),
                    id: id.filter(|_| at == 0),
                }),
            };
            out.send(member.connection, frame);
        }
        out.tally.push(Tally::Path(path.len() - 1));
        out.event(|| Event::Path(PathEvent { route, room: self.name.clone(), path: names, content }));
        self.path = path;
    }

    /// Tells the members of routes that have been forgotten.
    pub(super) fn tell_gone(&mut self, out: &mut Outputs) {
        for route in std::mem::take(&mut self.gone) {
            let frame = Frame::json(&ServerMessage::RouteDown { route: route.id.clone() });
            for node in route.path.iter() {
                if let Some(member) = self.members.get(node.index()).copied().flatten()
                    && member.dialect == Dialect::Hopcast
                {
                    out.send(member.connection, frame.clone());
                }
            }
            out.tally.push(Tally::RouteDown);
            out.event(|| {
                Event::RouteDown(RouteDownEvent { route: route.id.clone(), room: self.name.clone() })
            });
        }
    }
}

/// The original's message.
fn plain(path: Vec<PeerName>) -> ServerMessage {
    ServerMessage::Path {
        path,
        route: None::<RouteId>,
        room: None,
        prev: None,
        next: None,
        hops: None,
        id: None,
    }
}
