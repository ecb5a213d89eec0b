//! What answers say about the upstream as such, rather than about the resource that was asked for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};

use super::pause::{Cause, Covers};
use crate::domain::allowance::{Fields, Left};
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

/// A 429 (RFC 6585 §4) or 503 (RFC 9110 §15.6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enough {
    /// Which of the two.
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
        let is_limit = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let covers = match self.scope {
            PauseScope::Upstream => Covers::Upstream,
            PauseScope::Source => Covers::Source(self.source),
            PauseScope::Key if is_limit => return Said::Nothing,
            PauseScope::Key => return Said::Well,
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
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn hearing(scope: PauseScope) -> Hearing {
        let hour = Duration::from_secs(3600);
        let allowance = Some(Fields::default());
        Hearing { source: SourceId(1), scope, allowance, retry_after_cap: hour, own_cap: hour, has_waited: false }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn answered(hearing: &Hearing, status: u16, fields: &[(&'static str, &'static str)]) -> Said {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        hearing.of(StatusCode::from_u16(status).unwrap(), &fields.iter().map(field).collect(), now())
    }

    fn said(hearing: &Hearing, status: u16, wait: &'static str) -> Said {
        answered(hearing, status, &[("retry-after", wait)])
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
            assert_eq!(until(said(&hearing(PauseScope::Upstream), status, wait)), expected, "{status} {wait}");
        }
    }

    #[test]
    fn the_scope_says_what_it_is_about() {
        let covers = |scope| match said(&hearing(scope), 429, "30") {
            Said::Enough(enough) => Some(enough.covers),
            _ => None,
        };
        assert_eq!(covers(PauseScope::Upstream), Some(Covers::Upstream));
        assert_eq!(covers(PauseScope::Source), Some(Covers::Source(SourceId(1))));
        assert_eq!(covers(PauseScope::Key), None);
    }

    #[test]
    fn an_answer_that_says_that_nothing_is_left_asks_for_quiet_whatever_its_status() {
        let spent = ("ratelimit", "\"default\";r=0;t=30");
        for status in [200, 304, 302, 404, 500] {
            let Said::Later(later) = answered(&hearing(PauseScope::Upstream), status, &[spent]) else {
                panic!("{status}")
            };
            assert_eq!((later.status, later.covers, later.cause), (status, Covers::Upstream, Cause::Allowance));
            assert_eq!((later.until - now()).num_seconds(), 30);
        }
        let by_source = answered(&hearing(PauseScope::Source), 200, &[spent]).quiet();
        assert_eq!(by_source.map(|(covers, _)| covers), Some(Covers::Source(SourceId(1))));
        assert_eq!(answered(&hearing(PauseScope::Key), 200, &[spent]), Said::Well);
        let deaf = Hearing { allowance: None, ..hearing(PauseScope::Upstream) };
        assert_eq!(answered(&deaf, 200, &[spent]), Said::Well);
        assert_eq!(answered(&hearing(PauseScope::Upstream), 200, &[("ratelimit", "\"default\";r=1;t=30")]), Said::Well);
        assert_eq!(answered(&hearing(PauseScope::Upstream), 200, &[("ratelimit", "r=0")]), Said::Well, "that is none");
    }

    #[test]
    fn of_retry_after_and_a_spent_allowance_the_longer_counts() {
        let both = |wait, reset| {
            let fields = [("retry-after", wait), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)];
            let (_, until) = answered(&hearing(PauseScope::Upstream), 429, &fields).quiet().unwrap();
            (until - now()).num_seconds()
        };
        assert_eq!((both("30", "40"), both("50", "40"), both("soon", "40")), (40, 50, 40));
    }

    #[test]
    fn what_asks_for_more_quiet_outlasts_what_comes_before_and_after_it() {
        let until = |seconds| now() + chrono::TimeDelta::seconds(seconds);
        let later = |seconds| {
            let (cause, covers, until) = (Cause::Allowance, Covers::Upstream, until(seconds));
            Said::Later(Later { status: 200, cause, covers, until })
        };
        let enough =
            Said::Enough(Enough { status: 429, cause: Cause::Limit, covers: Covers::Upstream, until: Some(until(9)) });
        for (first, second, counts) in [
            (Said::Silence, Said::Well, Said::Well),
            (Said::Well, later(5), later(5)),
            (later(5), Said::Well, later(5)),
            (later(5), later(7), later(7)),
            (later(7), later(5), later(7)),
            (later(50), enough, enough),
            (enough, later(50), enough),
            (enough, Said::Well, enough),
        ] {
            assert_eq!(first.and_then(second), counts, "{first:?} then {second:?}");
        }
    }

    #[test]
    fn a_redirect_that_is_to_be_followed_later_asks_for_quiet_until_then_and_was_waited_for_once() {
        let hearing = hearing(PauseScope::Upstream);
        let waited = Hearing { has_waited: true, ..hearing.clone() };
        let after = |hearing: &Hearing, status: u16, wait: &'static str| {
            let fields = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static(wait))]);
            let after = hearing.follow_after(StatusCode::from_u16(status).unwrap(), &fields, now());
            let said = said(hearing, status, wait);
            assert_eq!(said.quiet().map(|(_, until)| until), after, "{status} {wait}");
            after.map(|after| (after - now()).num_seconds())
        };
        for status in [301, 302, 303, 307, 308] {
            assert_eq!((after(&hearing, status, "30"), after(&waited, status, "30")), (Some(30), None), "{status}");
        }
        assert_eq!(after(&hearing, 304, "30"), None, "nobody is sent elsewhere");
        for (wait, expected) in [
            ("-30", None),
            ("soon", None),
            ("0", None),
            ("Thu, 01 Jan 1970 00:00:00 GMT", None),
            ("999999999999", Some(3600)),
        ] {
            assert_eq!(after(&hearing, 302, wait), expected, "{wait}");
        }
        let Said::Later(later) = said(&hearing, 307, "30") else { panic!() };
        assert_eq!((later.cause, later.status), (Cause::Redirect, 307));
        assert_eq!(said(&Hearing { scope: PauseScope::Key, ..hearing }, 302, "30"), Said::Well, "the key alone waits");
    }
}
