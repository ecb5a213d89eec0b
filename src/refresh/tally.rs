//! What became of refreshes, counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::domain::change::ChangeKind;
use crate::domain::decision::Outcome;
use crate::domain::failure::{Failure, FailureKind};
use crate::domain::governor::Wait;
use crate::domain::resource::{Key, SourceName};
use crate::store::Brought;

/// What became of one refresh, after its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// First content, or content after having been gone.
    New,
    /// Other content than before.
    Changed,
    /// The same content.
    Unchanged,
    /// Confirmed to be absent upstream.
    Gone,
    /// A 304 was of no use; the resource is asked for again.
    Reset,
    /// Nothing usable came.
    Failed(Failure),
    /// A collection was walked: what became of its members, and what was wrong, if anything was.
    Walked(Walked),
    /// Another worker has the resource by now: what this one brought was discarded.
    Lost,
    /// Nothing was sent, since the upstream wants to be left alone; the lease is given back.
    HeldBack,
    /// It could not be stored, or not even asked for: a fault of ours or of the database. The lease is given back.
    GivenUp(String),
}

impl Verdict {
    /// What a committed outcome counts as.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Replaced(replacement) if replacement.kind == ChangeKind::Changed => Self::Changed,
            Outcome::Replaced(_) => Self::New,
            Outcome::Confirmed { .. } => Self::Unchanged,
            Outcome::Gone(_) => Self::Gone,
            Outcome::Reset { .. } => Self::Reset,
            Outcome::Deferred(deferral) => Self::Failed(deferral.failing.last.clone()),
        }
    }

    /// What was wrong, if anything was.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Walked(walked) => walked.failure.as_ref(),
            _ => None,
        }
    }

    /// Its name in metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Gone => "gone",
            Self::Reset => "reset",
            Self::Walked(walked) => {
                if walked.failure.is_some() {
                    "failed"
                } else {
                    "walked"
                }
            }
            Self::Failed(_) => "failed",
            Self::Lost => "lost",
            Self::HeldBack => "held_back",
            Self::GivenUp(_) => "given_up",
        }
    }
}

/// What a walk over a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Walked {
    /// What became of the members that it saw.
    pub brought: Brought,
    /// How many members are gone since.
    pub gone: u64,
    /// What was wrong.
    pub failure: Option<Failure>,
}

/// How many failures a summary names; the others are counted.
const NAMED_FAILURES: usize = 20;

/// Counts of verdicts, shared by the flights of one run.
#[derive(Debug, Default)]
pub struct Tally {
    new: AtomicU64,
    changed: AtomicU64,
    unchanged: AtomicU64,
    gone: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    // A std mutex: only pushes and clones happen under it.
    failures: Mutex<Vec<NamedFailure>>,
    waits: Mutex<Vec<NamedWait>>,
}

/// An upstream that was not waited for any longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedWait {
    /// Its name.
    pub upstream: String,
    /// Until when what is due of it waits, at the earliest.
    pub until: DateTime<Utc>,
    /// What for, for a person.
    pub why: String,
}

/// A failed refresh, named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedFailure {
    /// Its source.
    pub source: SourceName,
    /// Its key.
    pub key: Key,
    /// What went wrong.
    #[serde(flatten)]
    pub failure: Failure,
}

/// The counts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Resources with their first content.
    pub new: u64,
    /// Resources with other content than before.
    pub changed: u64,
    /// Resources with the same content.
    pub unchanged: u64,
    /// Resources that are absent upstream.
    pub gone: u64,
    /// Resources that could not be refreshed.
    pub failed: u64,
    /// Resources that another process refreshed, or is refreshing, instead.
    pub elsewhere: u64,
    /// Resources that are due, and wait for their upstream longer than this run did.
    pub waiting: u64,
    /// The first of the failures.
    pub failures: Vec<NamedFailure>,
    /// What is waited for.
    pub waits: Vec<NamedWait>,
}

impl Counts {
    /// How many resources are done with, or left.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.new + self.changed + self.unchanged + self.gone + self.failed + self.elsewhere + self.waiting
    }
}

impl Tally {
    /// Counts one verdict. What was reset or held back is not counted: it is asked for again.
    pub fn count(&self, source: &SourceName, key: &Key, verdict: &Verdict) {
        let counter = match verdict {
            Verdict::New => &self.new,
            Verdict::Changed => &self.changed,
            Verdict::Unchanged => &self.unchanged,
            Verdict::Gone => &self.gone,
            Verdict::Lost => &self.lost,
            Verdict::Failed(failure) => {
                self.name(source, key, failure.clone());
                &self.failed
            }
            Verdict::GivenUp(why) => {
                self.name(source, key, Failure { kind: FailureKind::Unstorable, status: None, detail: why.clone() });
                &self.failed
            }
            Verdict::Walked(walked) => return self.count_walked(source, key, walked),
            Verdict::Reset | Verdict::HeldBack => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn count_walked(&self, source: &SourceName, key: &Key, walked: &Walked) {
        let Brought { new, changed, unchanged } = walked.brought;
        let counted =
            [(&self.new, new), (&self.changed, changed), (&self.unchanged, unchanged), (&self.gone, walked.gone)];
        for (counter, more) in counted {
            counter.fetch_add(more, Ordering::Relaxed);
        }
        if let Some(failure) = &walked.failure {
            self.name(source, key, failure.clone());
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn name(&self, source: &SourceName, key: &Key, failure: Failure) {
        let mut failures = locked(&self.failures);
        if failures.len() < NAMED_FAILURES {
            failures.push(NamedFailure { source: source.clone(), key: key.clone(), failure });
        }
    }

    /// What is due of an upstream is not waited for.
    pub fn gave_up_waiting(&self, upstream: &str, wait: &Wait) {
        let named = NamedWait { upstream: upstream.to_owned(), until: wait.until, why: wait.why.to_string() };
        locked(&self.waits).push(named);
    }

    /// The counts so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            new: read(&self.new),
            changed: read(&self.changed),
            unchanged: read(&self.unchanged),
            gone: read(&self.gone),
            failed: read(&self.failed),
            elsewhere: read(&self.lost),
            waiting: 0,
            failures: locked(&self.failures).clone(),
            waits: locked(&self.waits).clone(),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
