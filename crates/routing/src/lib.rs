//! Rooms as changing graphs, and the shortest paths through them.
