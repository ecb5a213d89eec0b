//! What workers bring, and what becomes of it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::domain::decision::Outcome;
use crate::domain::governor::{Signal, Turn};
use crate::domain::resource::{LeaseToken, ResourceId, UpstreamId};

/// One outcome to commit.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The lease under which it was fetched.
    pub token: LeaseToken,
    /// The resource.
    pub resource: ResourceId,
    /// When it was known what to ask: the claim's `granted_at`. A wish (`wanted_at`) that came later leaves it due.
    pub requested_at: DateTime<Utc>,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
    /// What follows.
    pub outcome: Outcome,
    /// The share of the source's keys that may go within `gone_period`; see [`crate::domain::decision::Absent::held`].
    pub gone_budget: GoneBudget,
    /// What the answer says about the upstream.
    pub signal: Signal,
}

/// How much of a source may become gone within a period before the rest is held back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GoneBudget {
    /// Share of the source's keys, 0 to 1; at least one key may always go.
    pub share: f64,
    /// The period: the source's interval.
    pub period: Duration,
}

/// What [`Store::apply`](super::Store::apply) did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The batch's number; `None` when every outcome was refused.
    pub number: Option<i64>,
    /// For each outcome of the batch, in its order, what became of it.
    pub fates: Vec<Fate>,
    /// What changed for upstreams.
    pub turns: Vec<(UpstreamId, Turn)>,
}

/// What became of one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Committed as decided.
    Committed,
    /// It would have made too much of the source gone: committed as its `held` deferral.
    Held,
    /// The lease no longer held the resource: nothing was stored.
    LeaseLost,
}
