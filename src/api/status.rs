//! `GET /v1/-/sources` and `GET /v1/-/status`: how all stands.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::{Uri, header};
use serde::Serialize;

use super::ApiState;
use super::access::Reader;
use super::error::ApiError;
use super::parameters::Parameters;
use crate::domain::budget::Budget;
use crate::domain::failure::FailureKind;
use crate::domain::resource::{Key, SourceName};
use crate::domain::schedule::Because;
use crate::store::{
    Disk, LastFailure, NextDue, OriginStatus, Pause, SourceStatus, Status, UpstreamStatus, WebhookState,
};

/// Everything. What is not there is `null`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The moment that all of it is of.
    at: DateTime<Utc>,
    /// The worker of the running `serve`; `null` when there is none.
    serve: Option<String>,
    sources: Vec<Source>,
    upstreams: Vec<Upstream>,
    disk: Sizes,
    /// Who is told of changes.
    webhooks: Vec<Webhook>,
}

/// Who is told of changes.
#[derive(Debug, Serialize)]
pub struct Webhook {
    name: String,
    /// How many messages its endpoint has taken.
    delivered: u64,
    /// Entries of the feed that it has not got to.
    behind: u64,
    /// Messages that its endpoint has not taken, and those behind them.
    queued: u64,
    /// Failures in a row.
    failures: u32,
    paused_until: Option<DateTime<Utc>>,
    /// Nothing is sent since then, until `headpond webhooks resume`.
    dead_since: Option<DateTime<Utc>>,
    error: Option<String>,
    error_at: Option<DateTime<Utc>>,
}

impl Webhook {
    /// What the store knows of it.
    #[must_use]
    pub fn of(state: WebhookState) -> Self {
        let (error, error_at) = state.error.unzip();
        Self {
            name: state.name,
            delivered: state.delivered,
            behind: state.behind,
            queued: state.queued,
            failures: state.failures,
            paused_until: state.paused_until,
            dead_since: state.dead_since,
            error,
            error_at,
        }
    }
}

/// The sources alone.
#[derive(Debug, Serialize)]
struct Sources {
    at: DateTime<Utc>,
    sources: Vec<Source>,
}

/// A source. All counts are of keys that are polled; `keys` = `fresh` + `stale` + `pending` + `gone`.
#[derive(Debug, Serialize)]
struct Source {
    name: SourceName,
    upstream: String,
    /// Whether each key that it had when it was first started has been tried.
    ready: bool,
    keys: u64,
    /// A copy can count as fresh for a 128th of its time, or a second, longer than it is.
    fresh: u64,
    stale: u64,
    pending: u64,
    gone: u64,
    /// Of all these, those whose latest refresh failed.
    failing: u64,
    /// Where its keys come from. One key can come from several.
    origins: Vec<Origin>,
    /// How many keys have their due time for which reason.
    because: BTreeMap<Because, u64>,
    /// Of the copies of keys that are not gone. It can be as much too late as `fresh` is too long.
    oldest_fetched_at: Option<DateTime<Utc>>,
    /// When the first key that is not in flight is or was due. `null` when it is known only that it is not before
    /// `next_due_not_before`, or when there is none.
    next_due_at: Option<DateTime<Utc>>,
    next_due_not_before: Option<DateTime<Utc>>,
    /// Whether it has passed or not.
    last_failure: Option<Failed>,
    /// What is kept of contents that were replaced.
    history: Kept,
}

/// How many contents, and the bytes of their bodies.
#[derive(Debug, Serialize)]
struct Kept {
    versions: u64,
    bytes: u64,
}

/// Where keys come from.
#[derive(Debug, Serialize)]
struct Origin {
    /// `config`, `api` or `cli`; `file`, `query` or `source`, with a number from the second one on.
    name: String,
    /// The file, the query, or the other source.
    about: Option<String>,
    keys: u64,
    /// When it was last found to have other keys than before, and these were taken in; `null` when it was never read.
    synced_at: Option<DateTime<Utc>>,
    /// What is wrong with it now.
    problem: Option<String>,
    problem_at: Option<DateTime<Utc>>,
}

/// A failure.
#[derive(Debug, Serialize)]
struct Failed {
    key: Key,
    at: DateTime<Utc>,
    kind: FailureKind,
    status: Option<u16>,
    detail: String,
}

/// An upstream.
#[derive(Debug, Serialize)]
struct Upstream {
    name: String,
    requests_per_second_limit: Option<f64>,
    burst: u32,
    max_concurrent_requests: u32,
    /// How many requests may be sent at once now; `null` without a limit.
    tokens: Option<f64>,
    /// What longer windows allow.
    budgets: Vec<BudgetNow>,
    /// The share of its limits that it is asked for, since it said that it was too much: 0.05 to 1.
    pace: f64,
    /// Resources that are being fetched.
    in_flight: u64,
    /// Resources that are due and not in flight.
    due: u64,
    /// Whether there are more of them, and no one counted on.
    due_is_more: bool,
    /// Since when the first of them has been due.
    oldest_due_at: Option<DateTime<Utc>>,
    pauses: Vec<Held>,
}

/// A budget.
#[derive(Debug, Serialize)]
struct BudgetNow {
    requests: u32,
    per_seconds: f64,
    /// How many requests it pays for now.
    tokens: f64,
}

impl BudgetNow {
    fn of((budget, tokens): (Budget, f64)) -> Self {
        Self { requests: budget.requests, per_seconds: budget.per.as_secs_f64(), tokens }
    }
}

/// What holds requests to an upstream up, beside its limits.
#[derive(Debug, Serialize)]
#[serde(tag = "because", rename_all = "snake_case")]
enum Held {
    /// It, or one of its sources, wants to be left alone until then, or one request is finding out whether it still does.
    Pause { source: Option<SourceName>, until: DateTime<Utc>, why: String, answered: SourceName, resources: u64 },
    /// A budget is spread over its window, and so many resources that are due wait.
    Budget { requests: u32, per_seconds: f64, until: DateTime<Utc>, resources: u64 },
    /// Its last answers said that it is out of reach, and so many resources wait.
    Outage { answers: u32, resources: u64 },
    /// So many resources wait for their Retry-After.
    RetryAfter { resources: u64 },
}

/// What the database takes up, in bytes; `free` and `log` on SQLite alone.
#[derive(Debug, Serialize)]
struct Sizes {
    bytes: u64,
    free_bytes: Option<u64>,
    log_bytes: Option<u64>,
}

/// Answers with the sources that the reader may read.
///
/// # Errors
/// A parameter, or a failing store.
pub async fn sources(State(api): State<ApiState>, reader: Reader, uri: Uri) -> Result<Response, ApiError> {
    let Report { at, sources, .. } = report(&api, &reader, &uri).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(Sources { at, sources })).into_response())
}

/// Answers with everything about the sources that the reader may read.
///
/// # Errors
/// A parameter, or a failing store.
pub async fn status(State(api): State<ApiState>, reader: Reader, uri: Uri) -> Result<Response, ApiError> {
    let report = report(&api, &reader, &uri).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(report)).into_response())
}

async fn report(api: &ApiState, reader: &Reader, uri: &Uri) -> Result<Report, ApiError> {
    Parameters::of(uri, &[])?;
    let mut status = api.store.status(api.clock.now()).await?;
    let settings = api.settings();
    keep(&mut status, |name| settings.sources.contains(name));
    status.sources.retain(|source| reader.sees(&source.name));
    forget_unused_upstreams(&mut status);
    Ok(Report::of(status))
}

/// Leaves sources out that are retired: neither polled nor in the config. And upstreams that no source is left of.
pub fn keep(status: &mut Status, is_configured: impl Fn(&SourceName) -> bool) {
    status.sources.retain(|source| source.counts.keys > 0 || is_configured(&source.name));
    forget_unused_upstreams(status);
}

fn forget_unused_upstreams(status: &mut Status) {
    let Status { sources, upstreams, .. } = status;
    upstreams.retain(|upstream| sources.iter().any(|source| source.upstream == upstream.name));
}

impl Report {
    /// What the store knows, in the words of the API.
    #[must_use]
    pub fn of(status: Status) -> Self {
        let Disk { bytes, free, log } = status.disk;
        Self {
            at: status.at,
            serve: status.owner,
            sources: status.sources.into_iter().map(Source::of).collect(),
            upstreams: status.upstreams.into_iter().map(Upstream::of).collect(),
            disk: Sizes { bytes, free_bytes: free, log_bytes: log },
            webhooks: status.webhooks.into_iter().map(Webhook::of).collect(),
        }
    }
}

impl Source {
    fn of(status: SourceStatus) -> Self {
        let (next_due_at, next_due_not_before) = match status.next_due {
            NextDue::At(at) => (Some(at), None),
            NextDue::NotBefore(at) => (None, Some(at)),
            NextDue::Never => (None, None),
        };
        Self {
            name: status.name,
            upstream: status.upstream,
            ready: status.is_ready,
            keys: status.counts.keys,
            fresh: status.counts.fresh,
            stale: status.counts.stale,
            pending: status.counts.pending,
            gone: status.counts.gone,
            failing: status.counts.failing,
            origins: status.origins.into_iter().map(Origin::of).collect(),
            because: status.because,
            oldest_fetched_at: status.oldest_fetched_at,
            next_due_at,
            next_due_not_before,
            last_failure: status.last_failure.map(Failed::of),
            history: Kept { versions: status.history.versions, bytes: status.history.bytes },
        }
    }
}

impl Origin {
    fn of(OriginStatus { name, about, keys, synced_at, problem }: OriginStatus) -> Self {
        let (problem, problem_at) = problem.unzip();
        Self { name, about: Some(about).filter(|about| !about.is_empty()), keys, synced_at, problem, problem_at }
    }
}

impl Failed {
    fn of(LastFailure { key, at, failure }: LastFailure) -> Self {
        Self { key, at, kind: failure.kind, status: failure.status, detail: failure.detail }
    }
}

impl Upstream {
    fn of(status: UpstreamStatus) -> Self {
        Self {
            name: status.name,
            requests_per_second_limit: status.limits.requests_per_second,
            burst: status.limits.burst,
            max_concurrent_requests: status.limits.max_concurrent,
            tokens: status.tokens,
            budgets: status.budgets.into_iter().map(BudgetNow::of).collect(),
            pace: status.pace,
            in_flight: status.in_flight,
            due: status.backlog.resources,
            due_is_more: status.backlog.is_more,
            oldest_due_at: status.backlog.oldest_due_at,
            pauses: status.pauses.into_iter().map(Held::of).collect(),
        }
    }
}

impl Held {
    fn of(pause: Pause) -> Self {
        match pause {
            Pause::Quiet { source, until, why, answered, resources } => {
                Self::Pause { source, until, why, answered, resources }
            }
            Pause::Budget { budget, until, resources } => {
                let per_seconds = budget.per.as_secs_f64();
                Self::Budget { requests: budget.requests, per_seconds, until, resources }
            }
            Pause::Outage { answers, resources } => Self::Outage { answers, resources },
            Pause::RetryAfter { resources } => Self::RetryAfter { resources },
        }
    }
}
