//! SQL from this machine to databases that only their own networks reach.
