//! Why a refresh did not bring content.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

/// The kind of a failure: what a dashboard groups by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The host name could not be resolved.
    Dns,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed, or the certificate is not trusted.
    Tls,
    /// The total deadline passed between connecting and the last byte.
    Timeout,
    /// The connection broke, or the answer was not HTTP, before the headers were complete.
    Broken,
    /// The body ended before it was complete, or could not be decompressed.
    Truncated,
    /// The decompressed body is larger than `max_body`.
    TooLarge,
    /// A 200 without a body.
    Empty,
    /// The body is not what its Content-Type or the source's `content` says, or has not the one part that `data` names.
    Unparsable,
    /// The body does not fit the source's table.
    Misfit,
    /// 404, and the gone rules are not yet met; or the answer of a batch has no item with this key.
    NotFound,
    /// The gone rules are met, but more than `max_delete_share` of the source would go within one interval.
    Held,
    /// 429, or a 403 that is meant so.
    RateLimited,
    /// Another 4xx.
    ClientError,
    /// A 5xx.
    ServerError,
    /// A status that has no meaning here (204, 206, 1xx, …).
    UnexpectedStatus,
    /// A redirect that is not followed: another origin, a loop, too many hops, no usable Location, or not yet (Retry-After).
    Redirect,
    /// A 304 to a request that was not conditional.
    UnusableNotModified,
    /// Its host is in a private network, and `block_private_networks` is set.
    Blocked,
    /// By the upstream's own limits the request could not be sent in time.
    Limited,
    /// No access token could be had, so that nothing was asked.
    Credentials,
    /// No request can be made of the URL template and this key.
    BadRequest,
    /// What came can't be kept: the database refused it, or under `cache_control = "respect"` a shared cache may not store it.
    Unstorable,
    /// The pages of a collection don't fit together: a next link that leads back or to another origin, a page that comes again,
    /// or more than `max_pages`.
    Pages,
}

impl FailureKind {
    /// Every kind, for parsing stored names and for documentation.
    pub const ALL: [Self; 24] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Broken,
        Self::Truncated,
        Self::TooLarge,
        Self::Empty,
        Self::Unparsable,
        Self::Misfit,
        Self::NotFound,
        Self::Held,
        Self::RateLimited,
        Self::ClientError,
        Self::ServerError,
        Self::UnexpectedStatus,
        Self::Redirect,
        Self::UnusableNotModified,
        Self::Blocked,
        Self::Limited,
        Self::Credentials,
        Self::BadRequest,
        Self::Unstorable,
        Self::Pages,
    ];

    /// The name used in the database, in JSON and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Truncated => "truncated",
            Self::TooLarge => "too_large",
            Self::Empty => "empty",
            Self::Unparsable => "unparsable",
            Self::Misfit => "misfit",
            Self::NotFound => "not_found",
            Self::Held => "held",
            Self::RateLimited => "rate_limited",
            Self::ClientError => "client_error",
            Self::ServerError => "server_error",
            Self::UnexpectedStatus => "unexpected_status",
            Self::Redirect => "redirect",
            Self::UnusableNotModified => "unusable_not_modified",
            Self::Blocked => "blocked",
            Self::Limited => "limited",
            Self::Credentials => "credentials",
            Self::BadRequest => "bad_request",
            Self::Unstorable => "unstorable",
            Self::Pages => "pages",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failed refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The status that the upstream answered with, if it answered.
    pub status: Option<u16>,
    /// One sentence for a person; without URLs, so without secrets.
    pub detail: String,
}

impl Failure {
    /// Whether it says that the upstream as a whole is out of reach, rather than something about one resource: no answer
    /// came, what stands before it answered that it is down (502, 503, 504), or there is no token to ask it with.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        use FailureKind::{Broken, Connect, Credentials, Dns, Timeout, Tls};
        matches!(self.kind, Dns | Connect | Tls | Timeout | Broken | Credentials)
            || matches!(self.status, Some(502..=504))
    }
}

/// A run of failures that has not ended yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// The latest failure.
    pub last: Failure,
    /// When the latest failure happened.
    pub at: DateTime<Utc>,
    /// When the run began.
    pub since: DateTime<Utc>,
    /// How many in a row, at least 1.
    pub count: u32,
}

impl Failing {
    /// Whether asking ended in what RFC 5861 §4 calls an error: what a gateway would answer 500, 502, 503 or 504 for.
    #[must_use]
    pub fn is_error(&self) -> bool {
        use FailureKind::{Limited, Truncated};
        let Failure { kind, status, .. } = &self.last;
        self.last.is_outage() || matches!(kind, Truncated | Limited) || *status == Some(500)
    }
}

/// 404s since the last content (the gone rules count them).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// How many, at least 1.
    pub count: u32,
    /// When the first came.
    pub since: DateTime<Utc>,
}
