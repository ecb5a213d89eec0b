//! What a source's config says about deciding.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;

use super::allowance::{Fields, Left};
use super::content::BodyRules;
use super::governor::{Hearing, PauseScope};
use super::resource::SourceId;
use super::schedule::{Backoff, Cadence};
use super::time::later;

/// The longest that a copy counts as fresh by a budget that is too small.
const LONGEST_STRETCH: Duration = Duration::from_secs(366 * 86_400);

/// The freshness contract of a source and its rules for failures.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How often it is refreshed.
    pub cadence: Cadence,
    /// The most that is added at random to each regular due time.
    pub jitter: Duration,
    /// From which age on a copy is stale; `None` is twice the effective interval.
    pub stale_after: Option<Duration>,
    /// How many times longer than asked for the interval is that the upstream's budgets can pay for; at least 1.
    pub stretch: f64,
    /// What the upstream's Cache-Control and Expires are heeded for.
    pub cache_control: Heed,
    /// The most that an upstream's own freshness lifetime can delay a refresh.
    pub freshness_cap: Duration,
    /// Whether a reader can have a copy asked for again that is fresh by the upstream's own word.
    pub early_refresh: bool,
    /// How failures push the next attempt back.
    pub backoff: Backoff,
    /// What says how much is left of an allowance, and how soon to ask again; `None` where nothing of that is heeded.
    pub allowance: Option<Fields>,
    /// The longest Retry-After that is obeyed, and the longest that is waited for a new allowance.
    pub retry_after_cap: Duration,
    /// What a 429 or 503 is about.
    pub pause_scope: PauseScope,
    /// When a 404 means gone.
    pub gone: GoneRules,
    /// What bodies must be, and what of them is kept.
    pub body: BodyRules,
}

impl Policy {
    /// Two regular refreshes after `at`, as far apart as the upstream's budgets let them be: what a copy that is refreshed in
    /// time never reaches.
    #[must_use]
    pub fn after_two(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        let two = self.cadence.after_two(at);
        if self.stretch <= 1.0 {
            return two;
        }
        let long = (two - at).to_std().unwrap_or_default().as_secs_f64() * self.stretch;
        later(at, Duration::try_from_secs_f64(long).unwrap_or(LONGEST_STRETCH).min(LONGEST_STRETCH)).max(two)
    }

    /// How the answers to this source are listened to.
    #[must_use]
    pub fn hearing(&self, source: SourceId) -> Hearing {
        let own_cap = self.retry_after_cap.min(self.backoff.cap);
        let (scope, allowance) = (self.pause_scope, self.allowance.clone());
        Hearing { source, scope, allowance, retry_after_cap: self.retry_after_cap, own_cap, has_waited: false }
    }

    /// Before when the upstream wants the one resource not to be asked for again.
    #[must_use]
    pub fn not_before(&self, headers: &HeaderMap, answered_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let fields = self.allowance.as_ref()?;
        let Left { spent_until, not_before, .. } = fields.left(headers, answered_at, self.retry_after_cap);
        not_before.max(spent_until.filter(|_| self.pause_scope == PauseScope::Key))
    }
}

/// What an upstream's Cache-Control and Expires are heeded for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Heed {
    /// For the schedule alone: what is fresh by the upstream's word is not asked for. What forbids a shared cache to answer or
    /// to store (`no-cache`, `private`, `no-store`) carries no freshness, and does no more: the copy is the operator's own.
    #[default]
    Schedule,
    /// For the schedule, for whether a copy may be stored, and for whether it may be answered (RFC 9111).
    ///
    /// Where the upstream states no lifetime, the operator's `stale_after` is the contract (§4.2.4); without one, a tenth of
    /// the time without change is guessed (§4.2.2), at most `freshness_cap`. A guess never delays a refresh: the interval is
    /// what the operator asks for, and the upstream said nothing against it. So it is made under `respect` alone, where a copy
    /// could otherwise not be answered at all.
    Respect,
    /// For nothing.
    Ignore,
}

impl Heed {
    /// The name used in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Respect => "respect",
            Self::Ignore => "ignore",
        }
    }
}

/// When an absent resource is gone rather than failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoneRules {
    /// So many 404s in a row …
    pub after: u32,
    /// … over at least this long.
    pub window: Duration,
    /// How often a gone resource is looked at again.
    pub recheck: Duration,
}
