//! What a reader is told about a copy.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::decision::Freshness;

/// The state of a copy at the moment in which it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
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

#[cfg(test)]
mod tests {
    use super::*;

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
