//! What answers say about the upstream as such, rather than about the resource that was asked for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};

use super::pause::Covers;
use crate::domain::resource::SourceId;
use crate::domain::retry_after::retry_after;

/// What an answer that says "not now" (429, 503) is taken to be about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PauseScope {
    /// All that is asked of the upstream.
    #[default]
    Upstream,
    /// The source that asked.
    Source,
    /// The key that was asked for: nothing else waits, and nothing is slowed down.
    Key,
}

impl PauseScope {
    /// The name used in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Source => "source",
            Self::Key => "key",
        }
    }
}

/// How a source's answers are listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hearing {
    /// The source.
    pub source: SourceId,
    /// What its 429s and 503s are about.
    pub scope: PauseScope,
    /// The longest Retry-After that is obeyed.
    pub retry_after_cap: Duration,
    /// The longest pause that nobody asked for: no longer than a resource of it waits after failures.
    pub own_cap: Duration,
}

/// What an answer says about its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// The source that asked.
    pub source: SourceId,
    /// The longest pause that nobody asked for.
    pub own_cap: Duration,
    /// What was said.
    pub said: Said,
}

/// What was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// Nothing that concerns the upstream: it was not asked, or what it answered is about the one key.
    Nothing,
    /// Nothing came back.
    Silence,
    /// Nothing against being asked.
    Well,
    /// "Not now".
    Enough(Enough),
}

/// A 429 (RFC 6585 §4) or 503 (RFC 9110 §15.6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enough {
    /// Which of the two.
    pub status: u16,
    /// What it is about.
    pub covers: Covers,
    /// Its Retry-After.
    pub until: Option<DateTime<Utc>>,
}

impl Hearing {
    /// What an answer says whose header has come.
    #[must_use]
    pub fn of(&self, status: StatusCode, headers: &HeaderMap, answered_at: DateTime<Utc>) -> Said {
        if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return Said::Well;
        }
        let covers = match self.scope {
            PauseScope::Upstream => Covers::Upstream,
            PauseScope::Source => Covers::Source(self.source),
            PauseScope::Key => return Said::Nothing,
        };
        let until = retry_after(headers, answered_at, self.retry_after_cap);
        Said::Enough(Enough { status: status.as_u16(), covers, until })
    }

    /// The signal of that.
    #[must_use]
    pub fn signal(&self, said: Said) -> Signal {
        Signal { source: self.source, own_cap: self.own_cap, said }
    }
}

impl Said {
    /// Of two answers within one exchange, what counts.
    #[must_use]
    pub fn and_then(self, later: Self) -> Self {
        match (self, later) {
            (Self::Enough(_), Self::Enough(_)) | (Self::Nothing | Self::Silence | Self::Well, _) => later,
            (Self::Enough(_), _) => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, header};

    const HEARING: Hearing = Hearing {
        source: SourceId(1),
        scope: PauseScope::Upstream,
        retry_after_cap: Duration::from_secs(3600),
        own_cap: Duration::from_secs(3600),
    };

    fn said(hearing: Hearing, status: u16, wait: &'static str) -> Said {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(wait))]);
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        hearing.of(StatusCode::from_u16(status).unwrap(), &headers, now)
    }

    #[test]
    fn only_429_and_503_say_enough_and_nonsense_for_a_time_says_no_time() {
        let until = |said| match said {
            Said::Enough(enough) => Some(enough.until.map(|until| until.timestamp() - 1_800_000_000)),
            _ => None,
        };
        for (status, wait, expected) in [
            (200, "30", None),
            (404, "30", None),
            (500, "30", None),
            (429, "30", Some(Some(30))),
            (503, "30", Some(Some(30))),
            (429, "-30", Some(None)),
            (429, "soon", Some(None)),
            (429, "Thu, 01 Jan 1970 00:00:00 GMT", Some(None)),
            (429, "999999999999", Some(Some(3600))),
        ] {
            assert_eq!(until(said(HEARING, status, wait)), expected, "{status} {wait}");
        }
    }

    #[test]
    fn the_scope_says_what_it_is_about() {
        let covers = |scope| match said(Hearing { scope, ..HEARING }, 429, "30") {
            Said::Enough(enough) => Some(enough.covers),
            _ => None,
        };
        assert_eq!(covers(PauseScope::Upstream), Some(Covers::Upstream));
        assert_eq!(covers(PauseScope::Source), Some(Covers::Source(SourceId(1))));
        assert_eq!(covers(PauseScope::Key), None);
    }
}
