//! Pauses: what an upstream wants to be left alone with, and the one request that finds out whether it is over.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::signal::{Enough, Later, Signal};
use crate::domain::limit::CLOCK_SKEW;
use crate::domain::resource::{LeaseToken, ResourceId, SourceId};
use crate::domain::time::later;

/// The first wait after a probe that failed without a word about when to come again; it doubles with each.
const AFTER_A_PROBE: Duration = Duration::from_secs(60);
/// The same for a pause that nobody asked for, which begins with it.
const UNASKED: Duration = Duration::from_secs(2);
/// How long a pause is remembered that nobody had anything to ask after.
const FORGOTTEN: TimeDelta = TimeDelta::days(1);

/// What a pause is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// All of the upstream.
    Upstream,
    /// One source.
    Source(SourceId),
}

impl Covers {
    /// Whether it is about this source, too.
    #[must_use]
    pub fn source(self, source: SourceId) -> bool {
        match self {
            Self::Upstream => true,
            Self::Source(covered) => covered == source,
        }
    }
}

/// What a pause follows from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// An answer that says "not now": 429 or 503, or a 403 that says until when.
    #[default]
    Limit,
    /// A 403 or 429 whose body says that it is a limit.
    Words,
    /// An answer that says that nothing is left.
    Allowance,
    /// A redirect that is not to be followed at once (RFC 9110 §10.2.3).
    Redirect,
}

/// A pause. It ends with a request that is answered well: until then one is sent at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What it is about.
    pub covers: Covers,
    /// When it began.
    pub since: DateTime<Utc>,
    /// When it was last begun or renewed.
    pub noted_at: DateTime<Utc>,
    /// Nothing is asked before.
    pub until: DateTime<Utc>,
    /// What it follows from.
    #[serde(default)]
    pub cause: Cause,
    /// The status of the answer. `None` was noted by an older program when a probe got no answer at all.
    pub status: Option<u16>,
    /// Whether the upstream said until when (Retry-After, or when there is more).
    pub asked_for: bool,
    /// The source that was answered so.
    pub source: SourceId,
    /// How many probes failed.
    pub failed_probes: u32,
    /// The one request that is under way after it.
    pub probe: Option<Probe>,
}

/// A request that finds out whether a pause is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Its lease.
    pub lease: LeaseToken,
    /// What it asks for.
    pub resource: ResourceId,
    /// When its lease ends.
    pub ends_at: DateTime<Utc>,
}

/// Whether something may be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It may.
    Open,
    /// One request may.
    OneOnly,
    /// Nothing before then.
    Shut(DateTime<Utc>),
}

impl Pause {
    /// A pause that begins with this signal; one that nobody asked for is short.
    pub(super) fn begun(signal: &Signal, enough: Enough, now: DateTime<Utc>) -> Self {
        let until = enough.until.unwrap_or_else(|| later(now, UNASKED.min(signal.own_cap)));
        Self {
            covers: enough.covers,
            since: now,
            noted_at: now,
            until,
            cause: enough.cause,
            status: Some(enough.status),
            asked_for: enough.until.is_some(),
            source: signal.source,
            failed_probes: 0,
            probe: None,
        }
    }

    /// A pause that an answer asks for which is no refusal.
    pub(super) fn asked(signal: &Signal, asked: Later, now: DateTime<Utc>) -> Self {
        Self {
            covers: asked.covers,
            since: now,
            noted_at: now,
            until: asked.until,
            cause: asked.cause,
            status: Some(asked.status),
            asked_for: true,
            source: signal.source,
            failed_probes: 0,
            probe: None,
        }
    }

    /// Makes it longer, by what another answer asks for.
    pub(super) fn prolong(&mut self, by: &Self) {
        if by.asked_for && by.until > self.until {
            (self.until, self.noted_at) = (by.until, by.noted_at);
            (self.cause, self.status, self.source, self.asked_for) = (by.cause, by.status, by.source, true);
        }
    }

    /// The same after its probe was answered with another "not now".
    pub(super) fn renewed(&self, signal: &Signal, enough: Enough, now: DateTime<Utc>) -> Self {
        let least = enough.until;
        // Words say that it is too much, and not until when.
        let speaks = enough.cause == Cause::Words;
        let asked = least.filter(|_| !speaks);
        let first = match (speaks, self.asked_for) {
            (true, _) => AFTER_A_PROBE.saturating_mul(2),
            (false, true) => AFTER_A_PROBE,
            (false, false) => UNASKED.saturating_mul(2),
        };
        let wait = first.saturating_mul(1 << self.failed_probes.min(30)).min(signal.own_cap);
        Self {
            noted_at: now,
            until: asked.unwrap_or_else(|| later(now, wait)).max(self.until).max(least.unwrap_or(now)),
            cause: enough.cause,
            status: Some(enough.status),
            asked_for: asked.is_some() || self.asked_for,
            source: signal.source,
            failed_probes: self.failed_probes.saturating_add(1),
            probe: None,
            ..*self
        }
    }

    /// Whether one of what it covers may be asked for. `is_alive` says of a probe whether its lease still holds it.
    pub(super) fn way(&self, now: DateTime<Utc>, is_alive: impl Fn(&Probe) -> bool) -> Way {
        match &self.probe {
            _ if now < self.until => Way::Shut(self.until),
            Some(probe) if is_alive(probe) => Way::Shut(probe.ends_at),
            _ => Way::OneOnly,
        }
    }

    /// Whether this is the request that finds out whether it is over.
    #[must_use]
    pub fn is_probed_by(&self, lease: LeaseToken, resource: ResourceId) -> bool {
        self.probe.is_some_and(|probe| (probe.lease, probe.resource) == (lease, resource))
    }

    /// What brought it about, for a person.
    #[must_use]
    pub fn why(&self) -> String {
        match (self.status, self.asked_for) {
            (Some(status), _) if self.cause == Cause::Allowance => {
                let until = self.until.to_rfc3339_opts(SecondsFormat::Secs, true);
                format!("{status} that says that its allowance is spent until {until}")
            }
            (Some(status), _) if self.cause == Cause::Words => format!("{status} whose body speaks of a limit"),
            (Some(status), true) => format!("{status} with Retry-After"),
            (Some(status), false) => format!("{status} without Retry-After, however little it was asked"),
            (None, _) => "no answer to the request after an earlier pause".into(),
        }
    }

    /// What it is about, for a person.
    #[must_use]
    pub fn covered(&self) -> &'static str {
        match self.covers {
            Covers::Upstream => "the upstream",
            Covers::Source(_) => "the source",
        }
    }

    /// Whether it is over for so long that nobody needs to know of it.
    pub(super) fn is_forgotten(&self, now: DateTime<Utc>) -> bool {
        now - self.until > FORGOTTEN
    }

    /// A clock that was far ahead stops nobody: what it noted counts from now.
    pub(super) fn clamp(&mut self, now: DateTime<Utc>) {
        if self.noted_at > later(now, CLOCK_SKEW) {
            let left = self.until - self.noted_at;
            self.since = self.since.min(now);
            self.noted_at = now;
            self.until = now.checked_add_signed(left).unwrap_or(now);
        }
    }
}
