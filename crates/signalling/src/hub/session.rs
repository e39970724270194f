//! One client in one room, for as long as its connection's task keeps this.

use std::sync::Arc;

use super::{Cell, Hub, lock};
use crate::{connection::Handler, core::ConnectionId, group::Group, outbox::Outbox};

/// One client in one room. Dropping it leaves the room.
#[derive(Debug)]
pub struct Session {
    pub(super) hub: Arc<Hub>,
    pub(super) cell: Arc<Cell>,
    pub(super) connection: ConnectionId,
    pub(super) outbox: Arc<Outbox>,
    pub(super) group: Group,
}

impl Session {
    /// What waits for the client.
    pub fn outbox(&self) -> Arc<Outbox> {
        self.outbox.clone()
    }

    /// What is to serve the client, in turn with others.
    pub(crate) fn group(&self) -> Group {
        self.group.clone()
    }
}

impl Handler for Session {
    fn alive(&mut self) {
        let now = self.hub.now();
        lock(&self.cell).room.alive(self.connection, now);
    }

    fn message(&mut self, payload: &[u8], _text: bool) {
        let now = self.hub.now();
        self.hub.with(&self.cell, |state| {
            state.room.alive(self.connection, now);
            state.room.message(self.connection, payload, now, &mut state.outputs);
        });
    }

    fn too_large(&mut self) {
        let bound = self.hub.settings.limits.connection.message;
        self.hub.with(&self.cell, |state| state.room.too_large(self.connection, bound, &mut state.outputs));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hub.metrics.connections.dec();
        self.hub.with(&self.cell, |state| {
            state.outboxes.remove(&self.connection);
            state.room.disconnect(self.connection, &mut state.outputs);
        });
        self.hub.retire_if_idle(&self.cell);
    }
}
