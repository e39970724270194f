//! From a plan to a running mesh, and back to nothing.
