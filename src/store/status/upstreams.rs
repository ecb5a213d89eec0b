//! How upstreams stand.

use chrono::{DateTime, Utc};

use super::{Reading, SourceStatus};
use crate::domain::budget::{Budget, Purse};
use crate::domain::governor::{Covers, Probe, Standing, Why};
use crate::domain::limit::{Bucket, Limits};
use crate::domain::resource::{SourceId, SourceName, UpstreamId};
use crate::domain::schedule::Because;
use crate::store::StoreError;
use crate::store::columns::{Cells, Record};
use crate::store::plan::OUTAGE;

/// How an upstream stands.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Its limits.
    pub limits: Limits,
    /// How many requests may be sent at once now; `None` without a limit on requests per second.
    pub tokens: Option<f64>,
    /// How many requests each of its budgets pays for now.
    pub budgets: Vec<(Budget, f64)>,
    /// The share of its limits that it is asked for, 0.05 to 1.
    pub pace: f64,
    /// How many requests are under way.
    pub in_flight: u64,
    /// What holds its requests up, beside its limits.
    pub pauses: Vec<Pause>,
    /// What is due and not in flight.
    pub backlog: Overdue,
}

/// Why an upstream is asked less than it could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pause {
    /// It wants to be left alone, or one request is finding out whether it still does.
    Quiet {
        /// The source, where it is not all of the upstream.
        source: Option<SourceName>,
        /// Until when, at the earliest.
        until: DateTime<Utc>,
        /// What it answered, for a person.
        why: String,
        /// The source that was answered so.
        answered: SourceName,
        /// So many resources are due and wait; with `source`, those of the others are among them.
        resources: u64,
    },
    /// A budget has nothing left for now.
    Budget {
        /// Which.
        budget: Budget,
        /// Until when there is nothing.
        until: DateTime<Utc>,
        /// So many resources are due and wait.
        resources: u64,
    },
    /// It can't be reached.
    Outage {
        /// So many answers in a row said so.
        answers: u32,
        /// So many resources wait for its end, or for their backoff.
        resources: u64,
    },
    /// Its answers had a Retry-After.
    RetryAfter {
        /// So many resources wait for theirs.
        resources: u64,
    },
}

impl Pause {
    /// Until when, where that is known.
    #[must_use]
    pub fn until(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Quiet { until, .. } | Self::Budget { until, .. } => Some(*until),
            Self::Outage { .. } | Self::RetryAfter { .. } => None,
        }
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overdue {
    /// How many resources.
    pub resources: u64,
    /// Whether there are more than that: no one counted on.
    pub is_more: bool,
    /// Since when the first of them has been.
    pub oldest_due_at: Option<DateTime<Utc>>,
}

/// A row of `upstream`, with what is leased.
#[derive(Debug)]
pub(in crate::store) struct UpstreamRow {
    pub(in crate::store) id: UpstreamId,
    pub(in crate::store) name: String,
    limits: Limits,
    bucket: Bucket,
    outages: u32,
    standing: Standing,
    in_flight: u64,
}

impl UpstreamRow {
    /// All columns of `upstream`, and `in_flight`.
    pub(in crate::store) fn read<R: Cells>(row: &R, now: DateTime<Utc>) -> Result<Self, StoreError> {
        let record = Record::identified_by(row, "upstream", "id")?;
        Ok(Self {
            id: UpstreamId(record.id()),
            name: record.text("name")?,
            limits: record.limits()?,
            bucket: record.bucket()?,
            outages: record.count("outages")?,
            standing: record.standing(now)?.1,
            in_flight: record.count("in_flight")?,
        })
    }
}

impl Reading {
    pub(super) fn upstream(&self, upstream: &UpstreamRow, sources: &[SourceStatus]) -> UpstreamStatus {
        let waiting_for = |because| {
            let own = sources.iter().filter(|source| source.upstream == upstream.name);
            own.filter_map(|source| source.because.get(&because)).sum()
        };
        let outage = Pause::Outage { answers: upstream.outages, resources: waiting_for(Because::Outage) };
        let retry_after = Pause::RetryAfter { resources: waiting_for(Because::RetryAfter) };
        let backlog = self.queues.get(&upstream.id).map(|queue| queue.backlog(self.now)).unwrap_or_default();
        let mut pauses: Vec<_> = self.quiet(upstream, backlog.resources).collect();
        pauses.extend(self.budget(upstream, backlog.resources));
        pauses.extend((upstream.outages >= OUTAGE).then_some(outage));
        pauses.extend((waiting_for(Because::RetryAfter) > 0).then_some(retry_after));
        let pace = upstream.standing.pace();
        let tokens = upstream.bucket.take((&upstream.limits, pace), self.now, 0).bucket.tokens;
        let purses = upstream.standing.purses(&upstream.limits, self.now);
        let left = purses.iter().map(Purse::tokens);
        let budgets = upstream.limits.budgets.iter().zip(left).collect();
        UpstreamStatus {
            name: upstream.name.clone(),
            limits: upstream.limits,
            tokens: upstream.limits.requests_per_second.map(|_| tokens),
            budgets,
            pace,
            in_flight: upstream.in_flight,
            pauses,
            backlog,
        }
    }

    /// The budget that what is due waits for.
    fn budget(&self, upstream: &UpstreamRow, due: u64) -> Option<Pause> {
        let wait = upstream.standing.budget_wait(&upstream.limits, self.now).filter(|_| due > 0)?;
        let Why::Budget(budget) = wait.why else { return None };
        Some(Pause::Budget { budget, until: wait.until, resources: due })
    }

    /// Pauses of the upstream and of sources that are still its own.
    fn quiet(&self, upstream: &UpstreamRow, due: u64) -> impl Iterator<Item = Pause> {
        let own = |id: SourceId| self.sources.iter().find(|source| source.id == id && source.upstream == upstream.id);
        let is_under_way = |probe: &Probe| self.now < probe.ends_at;
        upstream.standing.pauses().iter().filter_map(move |pause| {
            let source = match pause.covers {
                Covers::Upstream => None,
                Covers::Source(id) => Some(own(id)?.name.clone()),
            };
            let wait = upstream.standing.wait(pause.covers, self.now, is_under_way)?;
            let answered = self.sources.iter().find(|source| source.id == pause.source)?.name.clone();
            Some(Pause::Quiet { source, until: wait.until, why: pause.why(), answered, resources: due })
        })
    }
}
