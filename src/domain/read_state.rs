//! What a reader is told about a copy.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::decision::Freshness;
use super::failure::Failing;
use super::terms::{Reuse, Terms};
use super::time::later;

/// The state of a copy at the moment in which it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadState {
    /// There is a copy, and its `stale_after` is still to come.
    Fresh,
    /// There is a copy, and its `stale_after` has come.
    Stale,
    /// The key is known, and nothing was ever fetched for it.
    Pending,
    /// The upstream has no such resource (any more).
    Gone,
}

impl ReadState {
    /// The state at `now` of a resource that is gone since then, or whose copy is as fresh as that.
    ///
    /// Gone decides first: a former copy is never answered for something that is known to be absent.
    #[must_use]
    pub fn of(gone_since: Option<DateTime<Utc>>, freshness: Option<Freshness>, now: DateTime<Utc>) -> Self {
        match (gone_since, freshness) {
            (Some(_), _) => Self::Gone,
            (None, None) => Self::Pending,
            (None, Some(freshness)) if now < freshness.stale_after => Self::Fresh,
            (None, Some(_)) => Self::Stale,
        }
    }

    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fresh, Self::Stale, Self::Pending, Self::Gone];

    /// The state of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// The name used in headers and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Pending => "pending",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for ReadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a reader's request adds to what the upstream allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leave {
    /// The upstream has confirmed the copy for this request.
    pub has_validated: bool,
    /// For how long the copy may have been stale (`max-stale`, RFC 9111 §5.2.1.2).
    pub max_stale: Option<Duration>,
}

/// Why the upstream's terms keep a copy from being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// Each answer needs the upstream's word first.
    Unvalidated,
    /// It is stale, and no stale copy may be answered.
    Stale,
    /// It is stale for longer than the upstream, or the reader, allows.
    StaleForLong,
}

/// Whether a copy may be answered at `now`. `terms` are there where the upstream's are respected, and `failing` while
/// refreshes fail. The windows are counted from the moment at which the copy became stale.
///
/// # Errors
/// Why it may not.
pub fn may_answer(
    terms: Option<&Terms>,
    freshness: Freshness,
    failing: Option<&Failing>,
    leave: Leave,
    now: DateTime<Utc>,
) -> Result<(), Withheld> {
    let Some(terms) = terms.filter(|_| !leave.has_validated) else { return Ok(()) };
    let is_fresh = now < freshness.stale_after;
    let until = |seconds: u32| later(freshness.stale_after, Duration::from_secs(seconds.into()));
    match terms.reuse {
        // RFC 9111 §5.2.2.4.
        Reuse::Never => Err(Withheld::Unvalidated),
        Reuse::Allowed | Reuse::WhileFresh if is_fresh => Ok(()),
        // §4.2.4: no window and no wish of a reader stands against this.
        Reuse::WhileFresh => Err(Withheld::Stale),
        // RFC 5861 §3: it is asked for again by its schedule.
        Reuse::Allowed if now < until(terms.stale_while_revalidate) => Ok(()),
        // RFC 5861 §4.
        Reuse::Allowed if failing.is_some_and(Failing::is_error) && now < until(terms.stale_if_error) => Ok(()),
        Reuse::Allowed if leave.max_stale.is_some_and(|most| now <= later(freshness.stale_after, most)) => Ok(()),
        Reuse::Allowed => Err(Withheld::StaleForLong),
    }
}

impl Withheld {
    /// What keeps the copy from being answered, as a sentence.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Unvalidated => "The upstream wants to be asked before each answer.",
            Self::Stale => "The copy is stale, and the upstream forbids to answer with a stale one.",
            Self::StaleForLong => "The copy is stale, and the upstream does not allow to answer with it any more.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::{Failure, FailureKind};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn failing(kind: FailureKind, status: Option<u16>) -> Failing {
        Failing { last: Failure { kind, status, detail: String::new() }, at: at(0), since: at(0), count: 1 }
    }

    /// Whether a copy that is stale from 200 on may be answered.
    fn answers(terms: Terms, failing: Option<&Failing>, leave: Leave, now: i64) -> Result<(), Withheld> {
        may_answer(Some(&terms), Freshness { fetched_at: at(100), stale_after: at(200) }, failing, leave, at(now))
    }

    const WINDOWS: Terms =
        Terms { reuse: Reuse::Allowed, stale_while_revalidate: 30, stale_if_error: 600, by_expires: false };

    #[test]
    fn windows_are_counted_from_the_moment_at_which_the_copy_became_stale() {
        let down = failing(FailureKind::Connect, None);
        for (failing, now, answered) in [
            (None, 199, Ok(())),
            (None, 229, Ok(())),
            (None, 230, Err(Withheld::StaleForLong)),
            (Some(&down), 230, Ok(())),
            (Some(&down), 799, Ok(())),
            (Some(&down), 800, Err(Withheld::StaleForLong)),
        ] {
            assert_eq!(answers(WINDOWS, failing, Leave::default(), now), answered, "{failing:?} {now}");
        }
    }

    #[test]
    fn only_what_a_gateway_would_answer_with_a_5xx_is_an_error() {
        for (kind, status, answered) in [
            (FailureKind::Timeout, None, true),
            (FailureKind::Truncated, Some(200), true),
            (FailureKind::Limited, None, true),
            (FailureKind::ServerError, Some(500), true),
            (FailureKind::ServerError, Some(502), true),
            (FailureKind::ServerError, Some(504), true),
            (FailureKind::ServerError, Some(501), false),
            (FailureKind::RateLimited, Some(429), false),
            (FailureKind::ClientError, Some(403), false),
            (FailureKind::NotFound, Some(404), false),
            (FailureKind::Unstorable, Some(200), false),
        ] {
            let failing = failing(kind, status);
            assert_eq!(answers(WINDOWS, Some(&failing), Leave::default(), 300).is_ok(), answered, "{kind} {status:?}");
        }
    }

    #[test]
    fn no_stale_copy_is_answered_against_the_upstreams_word_whatever_the_reader_allows() {
        let down = failing(FailureKind::Connect, None);
        let any = Leave { has_validated: false, max_stale: Some(Duration::MAX) };
        let validated = Leave { has_validated: true, max_stale: None };
        let while_fresh = Terms { reuse: Reuse::WhileFresh, ..WINDOWS };
        let never = Terms { reuse: Reuse::Never, ..WINDOWS };
        assert_eq!(answers(while_fresh, None, any, 199), Ok(()));
        assert_eq!(answers(while_fresh, Some(&down), any, 200), Err(Withheld::Stale));
        assert_eq!(answers(never, Some(&down), any, 199), Err(Withheld::Unvalidated));
        assert_eq!(answers(never, None, validated, 10_000), Ok(()));
        assert_eq!(answers(while_fresh, None, validated, 10_000), Ok(()));
    }

    #[test]
    fn a_reader_may_take_a_stale_copy_where_the_upstream_does_not_forbid_it() {
        let within = |seconds| Leave { has_validated: false, max_stale: Some(Duration::from_secs(seconds)) };
        assert_eq!(answers(Terms::default(), None, within(10), 210), Ok(()));
        assert_eq!(answers(Terms::default(), None, within(10), 211), Err(Withheld::StaleForLong));
        assert_eq!(answers(Terms::default(), None, Leave::default(), 200), Err(Withheld::StaleForLong));
    }

    #[test]
    fn without_terms_a_copy_is_answered_however_stale() {
        let freshness = Freshness { fetched_at: at(100), stale_after: at(200) };
        assert_eq!(may_answer(None, freshness, None, Leave::default(), at(1_000_000)), Ok(()));
    }

    #[test]
    fn a_copy_is_fresh_until_its_stale_after_has_come() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
        let copy = Some(Freshness { fetched_at: at(100), stale_after: at(200) });
        for (gone_since, freshness, now, state) in [
            (None, copy, 100, ReadState::Fresh),
            (None, copy, 199, ReadState::Fresh),
            (None, copy, 200, ReadState::Stale),
            (None, copy, 10_000, ReadState::Stale),
            (None, copy, 0, ReadState::Fresh),
            (None, None, 150, ReadState::Pending),
            (Some(at(120)), copy, 150, ReadState::Gone),
            (Some(at(120)), None, 150, ReadState::Gone),
        ] {
            assert_eq!(ReadState::of(gone_since, freshness, at(now)), state, "{gone_since:?} {freshness:?} {now}");
        }
    }
}
