//! What answers say about the upstream as such, rather than about the resource that was asked for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};

use super::pause::{Cause, Covers};
use crate::domain::allowance::{Fields, Left};
use crate::domain::resource::SourceId;
use crate::domain::retry_after::retry_after;
use crate::domain::time::later;

/// The wait after an answer that speaks of a limit and says no more: what GitHub asks for at the least.
const AFTER_WORDS: Duration = Duration::from_secs(60);

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hearing {
    /// The source.
    pub source: SourceId,
    /// What its 429s and 503s are about.
    pub scope: PauseScope,
    /// What says how much is left; `None` is nothing.
    pub allowance: Option<Fields>,
    /// The longest Retry-After that is obeyed.
    pub retry_after_cap: Duration,
    /// The longest pause that nobody asked for: no longer than a resource of it waits after failures.
    pub own_cap: Duration,
    /// Whether a redirect's Retry-After was waited for: then it is followed when it comes again.
    pub has_waited: bool,
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
    /// The same, but not before a time.
    Later(Later),
    /// "Not now".
    Enough(Enough),
}

/// A 429 (RFC 6585 §4) or 503 (RFC 9110 §15.6.4), or a 403 that is meant so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enough {
    /// Which of them.
    pub status: u16,
    /// What says until when; [`Cause::Limit`] where nothing does.
    pub cause: Cause,
    /// What it is about.
    pub covers: Covers,
    /// Its Retry-After, or when there is more of the allowance.
    pub until: Option<DateTime<Utc>>,
}

/// A wish to be asked nothing for a while, in an answer that refuses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Later {
    /// The status of the answer.
    pub status: u16,
    /// Why.
    pub cause: Cause,
    /// What it is about.
    pub covers: Covers,
    /// Until when.
    pub until: DateTime<Utc>,
}

impl Hearing {
    /// What an answer says whose header has come.
    #[must_use]
    pub fn of(&self, status: StatusCode, headers: &HeaderMap, answered_at: DateTime<Utc>) -> Said {
        let is_limit = self.is_limit(status, headers, answered_at);
        let covers = match self.covers() {
            Some(covers) => covers,
            None if is_limit => return Said::Nothing,
            None => return Said::Well,
        };
        let spent_until = self.left(headers, answered_at).spent_until;
        if is_limit {
            let asked = retry_after(headers, answered_at, self.retry_after_cap);
            let cause = if spent_until > asked { Cause::Allowance } else { Cause::Limit };
            return Said::Enough(Enough { status: status.as_u16(), cause, covers, until: asked.max(spent_until) });
        }
        let redirect = self.redirect_after(status, headers, answered_at);
        let cause = if redirect > spent_until { Cause::Redirect } else { Cause::Allowance };
        let later = |until| Said::Later(Later { status: status.as_u16(), cause, covers, until });
        redirect.max(spent_until).map_or(Said::Well, later)
    }

    /// What an answer says whose body says that it is a limit; where nothing says until when, for a minute.
    #[must_use]
    pub fn of_words(&self, status: StatusCode, headers: &HeaderMap, answered_at: DateTime<Utc>) -> Said {
        let Some(covers) = self.covers() else { return Said::Nothing };
        match self.of(status, headers, answered_at) {
            Said::Enough(enough) if enough.until.is_some() => Said::Enough(enough),
            _ => {
                let until = Some(later(answered_at, AFTER_WORDS.min(self.retry_after_cap)));
                Said::Enough(Enough { status: status.as_u16(), cause: Cause::Words, covers, until })
            }
        }
    }

    /// Whether an answer says that it was asked too often: a 429 or 503, or a 403 that says when to come again.
    #[must_use]
    pub fn is_limit(&self, status: StatusCode, headers: &HeaderMap, answered_at: DateTime<Utc>) -> bool {
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => true,
            StatusCode::FORBIDDEN => {
                self.left(headers, answered_at).spent_until.is_some()
                    || retry_after(headers, answered_at, self.retry_after_cap).is_some()
            }
            _ => false,
        }
    }

    /// What its limits are about; `None` is the one key.
    fn covers(&self) -> Option<Covers> {
        match self.scope {
            PauseScope::Upstream => Some(Covers::Upstream),
            PauseScope::Source => Some(Covers::Source(self.source)),
            PauseScope::Key => None,
        }
    }

    /// Before when a redirect is not to be followed: by its Retry-After (RFC 9110 §10.2.3), or since nothing is left.
    #[must_use]
    pub fn follow_after(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        answered_at: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        is_redirect(status).then(|| {
            let spent_until = self.left(headers, answered_at).spent_until;
            self.redirect_after(status, headers, answered_at).max(spent_until)
        })?
    }

    fn redirect_after(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        answered_at: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let waits = is_redirect(status) && !self.has_waited;
        waits.then(|| retry_after(headers, answered_at, self.retry_after_cap))?
    }

    /// What an answer says of how much is left.
    #[must_use]
    pub fn left(&self, headers: &HeaderMap, answered_at: DateTime<Utc>) -> Left {
        let fields = self.allowance.as_ref();
        fields.map(|fields| fields.left(headers, answered_at, self.retry_after_cap)).unwrap_or_default()
    }

    /// The signal of that.
    #[must_use]
    pub fn signal(&self, said: Said) -> Signal {
        Signal { source: self.source, own_cap: self.own_cap, said }
    }
}

/// Whether a status sends us elsewhere (RFC 9110 §15.4). All of these mean the same to a GET. Of a POST, all
/// but 303 mean the same POST elsewhere: a 301 or 302 may be taken for a GET, but that would ask for something else.
#[must_use]
pub fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

impl Said {
    /// Of two answers within one exchange, what counts.
    #[must_use]
    pub fn and_then(self, later: Self) -> Self {
        match (self, later) {
            (Self::Later(first), Self::Later(second)) if second.until < first.until => self,
            (Self::Nothing | Self::Silence | Self::Well, _)
            | (Self::Later(_), Self::Later(_) | Self::Enough(_))
            | (Self::Enough(_), Self::Enough(_)) => later,
            (Self::Later(_) | Self::Enough(_), _) => self,
        }
    }

    /// What is to be left alone, and until when, if that is said.
    #[must_use]
    pub fn quiet(self) -> Option<(Covers, DateTime<Utc>)> {
        match self {
            Self::Later(Later { covers, until, .. }) => Some((covers, until)),
            Self::Enough(Enough { covers, until, .. }) => Some((covers, until?)),
            Self::Nothing | Self::Silence | Self::Well => None,
        }
    }
}

#[cfg(test)]
mod tests;
