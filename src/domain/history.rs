//! Contents that were replaced and are kept for a while.

use std::time::Duration;

/// What a source keeps of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// How many of a resource, the newest, besides the one that is current.
    pub versions: u32,
    /// For how long after they were current.
    pub keep: Duration,
}
