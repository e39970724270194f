//! Reading all rooms, for `/api` and `/metrics`.

use hopcast_protocol::{PeerName, RoomName};

use super::{Hub, lock};
use crate::core::{Fault, GraphView, RoomView, Way};

impl Hub {
    /// For `/api/rooms`.
    pub fn rooms(&self) -> Vec<RoomView> {
        self.cells().iter().map(|cell| lock(cell).room.view()).collect()
    }

    /// For `/api/graph`; of one room, or of all.
    pub fn graphs(&self, room: Option<&RoomName>) -> Option<Vec<GraphView>> {
        let cells = match room {
            Some(room) => vec![self.cell(room)?],
            None => self.cells(),
        };
        Some(cells.iter().map(|cell| lock(cell).room.graph_view()).collect())
    }

    /// For `/api/path`; `None`: there is no such room.
    pub fn way(&self, room: &RoomName, from: &PeerName, to: &PeerName) -> Option<Result<Way, Fault>> {
        self.cell(room).map(|cell| lock(&cell).room.way(from, to))
    }

    /// For `/metrics`.
    pub fn metrics_text(&self) -> String {
        let cells = self.cells();
        self.metrics.rooms.set(cells.len() as i64);
        self.metrics.routes.set(cells.iter().map(|cell| lock(cell).room.routes() as i64).sum());
        self.metrics.text()
    }
}
