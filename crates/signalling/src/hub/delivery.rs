//! From what a room put out to the queues of its connections. Nothing here waits.

use super::{Cell, CellState, Hub, lock};
use crate::{
    core::{Cut, Output},
    frame::Frame,
};

impl Hub {
    /// Works on one room, finds other ways for what was lost thereby, then delivers what it put out.
    pub(super) fn with<T>(&self, cell: &Cell, work: impl FnOnce(&mut CellState) -> T) -> T {
        let mut state = lock(cell);
        state.outputs.watched = self.events.watched();
        let result = work(&mut state);
        self.deliver(&mut state);
        result
    }

    fn deliver(&self, state: &mut CellState) {
        let CellState { room, outboxes, outputs, .. } = state;
        loop {
            if room.mend(self.now(), outputs).is_some() {
                self.mending.notify_one(); // the rest, later
            }
            let mut slow = Vec::new();
            for output in outputs.frames.drain(..) {
                match output {
                    Output::Send { to, frame } => {
                        self.metrics.frames.inc();
                        if outboxes.get(&to).is_some_and(|outbox| outbox.push(frame).is_err()) {
                            slow.push(to);
                        }
                    }
                    Output::Close { to, code, reason } => {
                        self.metrics.closed(code);
                        if let Some(outbox) = outboxes.remove(&to) {
                            outbox.finish(Some(Frame::close(code, reason)));
                        }
                    }
                    Output::Cut { to, why } => {
                        self.metrics.cut(why);
                        if let Some(outbox) = outboxes.remove(&to) {
                            outbox.abort();
                        }
                    }
                }
            }
            let all_took = slow.is_empty();
            for connection in slow {
                // Once only: a second full queue of the same connection finds it gone.
                if let Some(outbox) = outboxes.remove(&connection) {
                    self.metrics.cut(Cut::Slow);
                    outbox.abort();
                    room.disconnect(connection, outputs);
                }
            }
            if all_took {
                break;
            }
        }
        for tally in outputs.tally.drain(..) {
            self.metrics.tally(tally);
        }
        for event in outputs.events.drain(..) {
            self.events.publish(&event);
        }
    }
}
