//! What the wire said. A failure of the network or of the upstream is data here, never an `Err`.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};

use super::failure::Failure;

/// The result of one attempt to fetch a resource.
#[derive(Debug, Clone)]
pub struct Observation {
    /// When the request was handed to the connection.
    pub requested_at: DateTime<Utc>,
    /// When the last byte of the answer came, or the attempt failed.
    pub answered_at: DateTime<Utc>,
    /// Whether the request carried validators.
    pub conditional: bool,
    /// What came.
    pub seen: Seen,
}

/// What came back from an upstream.
#[derive(Debug, Clone)]
pub enum Seen {
    /// A 200 or 203 whose body arrived whole and within `max_body`.
    Content {
        /// The answer's header fields.
        headers: HeaderMap,
        /// The body, decompressed.
        body: Bytes,
    },
    /// A 304.
    NotModified {
        /// The answer's header fields.
        headers: HeaderMap,
    },
    /// The upstream answered, with something else.
    Refused {
        /// The final status.
        status: StatusCode,
        /// The answer's header fields.
        headers: HeaderMap,
        /// What was wrong with it.
        failure: Failure,
    },
    /// No whole answer came.
    Unreachable {
        /// What went wrong.
        failure: Failure,
    },
}
