//! Why a run could not begin. What is wrong with the mesh is in the report, never here.

/// A target that can't be verified at all.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A peer that the plan does not know, or one that is there twice.
    #[error("the running mesh does not fit its plan: {0}; run `hopcast up` with this topology file first")]
    Target(String),
}
