//! The peer agent: players on one side, neighbours on the other.
