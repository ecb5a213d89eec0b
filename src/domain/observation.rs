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
    /// How it came.
    pub via: Via,
}

/// How an answer came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Via {
    /// Whether the request carried Authorization.
    pub authorized: bool,
    /// Whether something between the upstream and us changed the content (203, RFC 9110 §15.3.4).
    pub transformed: bool,
    /// The path that the upstream says the resource is under for good (301 or 308), behind the origin where that is another
    /// one; without its query, which may hold a secret.
    pub moved_to: Option<String>,
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

impl Seen {
    /// The answer's header fields, if one came.
    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        match self {
            Self::Content { headers, .. } | Self::NotModified { headers } | Self::Refused { headers, .. } => {
                Some(headers)
            }
            Self::Unreachable { .. } => None,
        }
    }

    /// The same, to be changed.
    pub fn headers_mut(&mut self) -> Option<&mut HeaderMap> {
        match self {
            Self::Content { headers, .. } | Self::NotModified { headers } | Self::Refused { headers, .. } => {
                Some(headers)
            }
            Self::Unreachable { .. } => None,
        }
    }
}
