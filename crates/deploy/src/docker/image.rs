//! The three images, made without a registry.
