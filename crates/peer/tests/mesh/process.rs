//! The real programs.
