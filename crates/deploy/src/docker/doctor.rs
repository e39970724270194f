//! What the engine and this machine lack for a plan.
