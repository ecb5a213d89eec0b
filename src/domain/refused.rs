//! A body that could not become a resource's content, kept apart so that someone can see what came instead.

use bytes::Bytes;

/// How much of such a body is kept.
pub const MOST_KEPT: usize = 256 << 10;

/// A refused body with what it came under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// The bytes of the Content-Type field.
    pub content_type: Option<Bytes>,
    /// How many bytes the upstream sent, decompressed.
    pub size: u64,
    /// Its first [`MOST_KEPT`] bytes, without what `drop` names. `None` where that can't be told apart, since the body is no
    /// JSON: what must never be stored could be in it.
    pub body: Option<Bytes>,
}
