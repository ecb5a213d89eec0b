//! Known resources without content that would do, and what their readers are told.

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};

use super::bounds::Bound;
use super::error::{about, unavailable};
use super::freshness_headers::timestamp;
use super::problem::Problem;
use super::resource_path::ResourcePath;
use crate::domain::read_state::Withheld;

/// A known resource without content that would do.
#[derive(Debug)]
pub struct Missing {
    /// Which.
    pub path: ResourcePath,
    /// Why.
    pub because: MissingBecause,
    /// The header fields that tell its state.
    pub fields: HeaderMap,
}

/// Why a known resource has no content that would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingBecause {
    /// The upstream never had anything under its key.
    Absent,
    /// There was content, and the upstream has removed it.
    Gone {
        /// When that was confirmed.
        since: DateTime<Utc>,
    },
    /// All that there was of it was erased, and nothing may be kept of it again.
    Erased {
        /// When.
        since: DateTime<Utc>,
    },
    /// Nothing was fetched for it yet.
    Pending {
        /// Seconds after which to ask again.
        retry_after: u64,
    },
    /// There is a copy, and the upstream's terms don't allow to answer with it now.
    Withheld(Withheld),
    /// The request's Cache-Control asks for a better copy than there is.
    Bound(Bound),
}

impl Missing {
    pub(super) fn problem(self) -> Problem {
        let problem = match self.because {
            MissingBecause::Absent => {
                let detail = "The key is known, but its upstream says that there is nothing under it.";
                Problem::new(StatusCode::NOT_FOUND, "absent", "Absent upstream", detail)
            }
            MissingBecause::Gone { since } => {
                let detail = "There was content under this key, and its upstream has removed it.";
                Problem::new(StatusCode::GONE, "gone", "Gone", detail).with("gone_since", timestamp(since))
            }
            MissingBecause::Erased { since } => {
                let detail = "What there was under this key has been erased, and it is not fetched again unless an \
                              administrator allows it.";
                Problem::new(StatusCode::GONE, "erased", "Erased", detail).with("erased_at", timestamp(since))
            }
            MissingBecause::Pending { retry_after } => {
                let detail = "The key is known, but its content has not been fetched yet. Its /meta says when it is due, \
                              and what went wrong if it was tried.";
                unavailable("pending", "Not fetched yet", detail, retry_after)
            }
            MissingBecause::Withheld(why) => {
                let detail = format!(
                    "{} There is a copy, and its source respects the upstream's Cache-Control (cache_control = \"respect\").",
                    why.sentence()
                );
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "withheld", "Withheld by the upstream's terms", detail)
            }
            // RFC 9111 §5.2.1.7 names the status for only-if-cached; the others fail alike.
            MissingBecause::Bound(bound) => {
                let detail = format!(
                    "{}, and the request's Cache-Control allows no other answer. The key's /meta says when it is due, and \
                     what went wrong if it was tried.",
                    bound.complaint()
                );
                Problem::new(
                    StatusCode::GATEWAY_TIMEOUT,
                    "bound-not-kept",
                    "No copy within the request's bounds",
                    detail,
                )
                .with("bound", bound.to_string())
            }
        };
        about(&self.path, problem).with_fields(self.fields)
    }
}
