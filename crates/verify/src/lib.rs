//! The black-box test of a running mesh.
