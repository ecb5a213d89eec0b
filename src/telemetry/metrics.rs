//! Every metric, by the conventions of Prometheus: base units, `_total` for counters, labels with few values. A key is
//! never a label.
//!
//! The other rooms report what happened by the functions here, and know no names. Until a recorder is
//! [installed](install), as `serve` does, reports go nowhere and cost next to nothing.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// What a metric counts or measures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram(&'static [f64]),
}

/// One metric as its documentation describes it.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it counts or measures.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it means, in a sentence.
    pub help: &'static str,
}

/// Upper bounds in seconds for what a local database or a reader waits for.
const LOCAL: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// Upper bounds in seconds for what an upstream takes.
const REMOTE: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Upper bounds in seconds for how late a refresh begins.
const LATENESS: &[f64] = &[0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0];

const BUILD: &str = "headpond_build_info";
const REFRESHES: &str = "headpond_refreshes_total";
const FAILURES: &str = "headpond_refresh_failures_total";
const LATE: &str = "headpond_refresh_lateness_seconds";
const EXCHANGES: &str = "headpond_upstream_exchange_duration_seconds";
const IN_FLIGHT: &str = "headpond_upstream_in_flight";
const PAUSES: &str = "headpond_upstream_pauses_total";
const PAUSED: &str = "headpond_upstream_paused_seconds";
const PACE: &str = "headpond_upstream_pace_ratio";
const BUDGET: &str = "headpond_upstream_budget_requests";
const UNPAID: &str = "headpond_upstream_budget_waiting";
const TOKENS: &str = "headpond_access_token_requests_total";
const WAITING: &str = "headpond_grants_waiting";
const RESOURCES: &str = "headpond_resources";
const FAILING: &str = "headpond_resources_failing";
const DUE: &str = "headpond_due_resources";
const OVERDUE: &str = "headpond_due_oldest_seconds";
const LEASED: &str = "headpond_leased_resources";
const SIZE: &str = "headpond_database_bytes";
const STORE: &str = "headpond_store_duration_seconds";
const STORE_ERRORS: &str = "headpond_store_errors_total";
const READS: &str = "headpond_reads_total";
const STREAMS: &str = "headpond_streams";
const DEMANDED: &str = "headpond_demanded_keys_total";
const WEBHOOKS: &str = "headpond_webhook_messages_total";
const REQUESTS: &str = "headpond_http_request_duration_seconds";

/// All metrics.
pub static ALL: &[Metric] = &[
    Metric { name: BUILD, kind: Kind::Gauge, labels: &["version"], help: "Always 1; the version is in the label." },
    Metric {
        name: REFRESHES,
        kind: Kind::Counter,
        labels: &["source", "upstream", "outcome"],
        help: "Refreshes that came to an end, by outcome: new, changed, unchanged, gone, reset, failed, lost, held_back, given_up; a \
               collection's whole walk is walked or failed.",
    },
    Metric {
        name: FAILURES,
        kind: Kind::Counter,
        labels: &["source", "upstream", "kind"],
        help: "Failed refreshes by the kind of failure, as in a resource's /meta.",
    },
    Metric {
        name: LATE,
        kind: Kind::Histogram(LATENESS),
        labels: &["upstream"],
        help: "How long after its due time a resource was leased for a refresh.",
    },
    Metric {
        name: EXCHANGES,
        kind: Kind::Histogram(REMOTE),
        labels: &["upstream", "status"],
        help: "Exchanges with upstreams from the first request to the last byte, redirects included; status `none` got \
               no answer.",
    },
    Metric {
        name: IN_FLIGHT,
        kind: Kind::Gauge,
        labels: &["upstream"],
        help: "Resources that this process is refreshing now.",
    },
    Metric {
        name: PAUSES,
        kind: Kind::Counter,
        labels: &["upstream"],
        help: "Pauses that answers to this process began or renewed: of the upstream, or of one of its sources.",
    },
    Metric {
        name: PAUSED,
        kind: Kind::Gauge,
        labels: &["upstream"],
        help: "How long the upstream, or one of its sources, is still left alone, or what is due waits for a budget; 0 when nothing is.",
    },
    Metric {
        name: PACE,
        kind: Kind::Gauge,
        labels: &["upstream"],
        help: "The share of its limits that the upstream is asked for, after it said that it was too much: 0.05 to 1.",
    },
    Metric {
        name: BUDGET,
        kind: Kind::Gauge,
        labels: &["upstream", "per"],
        help: "How many requests the budget of this window pays for now.",
    },
    Metric {
        name: UNPAID,
        kind: Kind::Gauge,
        labels: &["upstream"],
        help: "Resources that are due and wait for a budget of their upstream.",
    },
    Metric {
        name: TOKENS,
        kind: Kind::Counter,
        labels: &["upstream", "outcome"],
        help: "Requests for OAuth2 access tokens, by outcome: given, failed.",
    },
    Metric {
        name: WAITING,
        kind: Kind::Gauge,
        labels: &["upstream"],
        help: "Refreshes under way in this process that wait to be allowed one more request.",
    },
    Metric {
        name: RESOURCES,
        kind: Kind::Gauge,
        labels: &["source", "state"],
        help: "Keys that are polled, by the state that a reader is told: fresh, stale, pending, gone.",
    },
    Metric {
        name: FAILING,
        kind: Kind::Gauge,
        labels: &["source"],
        help: "Keys whose latest refresh failed, by whatever process.",
    },
    Metric {
        name: DUE,
        kind: Kind::Gauge,
        labels: &["upstream"],
        help: "Resources that are due and not being refreshed; beyond 100,000 they are not counted on.",
    },
    Metric {
        name: OVERDUE,
        kind: Kind::Gauge,
        labels: &["upstream"],
        help: "How long the first of those has been due.",
    },
    Metric {
        name: LEASED,
        kind: Kind::Gauge,
        labels: &["upstream"],
        help: "Resources that are being refreshed, by whatever process.",
    },
    Metric { name: SIZE, kind: Kind::Gauge, labels: &[], help: "What the database takes up on disk." },
    Metric {
        name: STORE,
        kind: Kind::Histogram(LOCAL),
        labels: &["operation"],
        help: "Calls of the database, waiting for a connection or lock included.",
    },
    Metric {
        name: STORE_ERRORS,
        kind: Kind::Counter,
        labels: &["operation"],
        help: "Calls of the database that failed.",
    },
    Metric {
        name: READS,
        kind: Kind::Counter,
        labels: &["source", "state"],
        help: "Reads of single resources, by the state in which they were found.",
    },
    Metric {
        name: STREAMS,
        kind: Kind::Gauge,
        labels: &["kind"],
        help: "Answers that go on for long now: the feed as events (`feed`), whole sources (`list`).",
    },
    Metric {
        name: WEBHOOKS,
        kind: Kind::Counter,
        labels: &["webhook", "outcome"],
        help: "Messages sent to webhooks: delivered, failed (sent again later), dead (nothing more is sent).",
    },
    Metric {
        name: DEMANDED,
        kind: Kind::Counter,
        labels: &["source", "outcome"],
        help: "First reads of keys that nobody listed, by outcome: added, refused.",
    },
    Metric {
        name: REQUESTS,
        kind: Kind::Histogram(LOCAL),
        labels: &["route", "status"],
        help: "Requests to the read API until the answer began.",
    },
];

/// Makes this process keep what is reported from now on. The handle renders it.
///
/// # Errors
/// When a recorder is there already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in ALL {
        if let Kind::Histogram(bounds) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)?;
        }
    }
    let handle = builder.install_recorder()?;
    for metric in ALL {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, metric.help),
        }
    }
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// How often observations that nobody asked for are folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Keeps what was observed from piling up between two readings, until `stop` is cancelled.
pub async fn upkeep(handle: PrometheusHandle, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
        handle.run_upkeep();
    }
}

/// A refresh came to an end.
pub fn refreshed(source: &str, upstream: &str, outcome: &'static str) {
    counter!(REFRESHES, "source" => source.to_owned(), "upstream" => upstream.to_owned(), "outcome" => outcome)
        .increment(1);
}

/// A refresh failed, for this reason.
pub fn refresh_failed(source: &str, upstream: &str, kind: &'static str) {
    counter!(FAILURES, "source" => source.to_owned(), "upstream" => upstream.to_owned(), "kind" => kind).increment(1);
}

/// A resource was leased so long after it was due.
pub fn leased(upstream: &str, late: Duration) {
    histogram!(LATE, "upstream" => upstream.to_owned()).record(late);
}

/// An exchange with an upstream took so long, and ended with this status if it got an answer.
pub fn exchanged(upstream: &str, status: Option<u16>, took: Duration) {
    let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
    histogram!(EXCHANGES, "upstream" => upstream.to_owned(), "status" => status).record(took);
}

/// So many resources of the upstream are being refreshed.
pub fn in_flight(upstream: &str, number: usize) {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    gauge!(IN_FLIGHT, "upstream" => upstream.to_owned()).set(number);
}

/// An answer of the upstream began a pause, or renewed one.
pub fn paused(upstream: &str) {
    counter!(PAUSES, "upstream" => upstream.to_owned()).increment(1);
}

/// The upstream is asked at this pace, and some of it left alone for so long.
pub fn governed(upstream: &str, pace: f64, paused: Duration) {
    gauge!(PACE, "upstream" => upstream.to_owned()).set(pace);
    gauge!(PAUSED, "upstream" => upstream.to_owned()).set(paused);
}

/// The upstream's budget of this window pays for so many requests.
pub fn budget(upstream: &str, per: &str, requests: f64) {
    gauge!(BUDGET, "upstream" => upstream.to_owned(), "per" => per.to_owned()).set(requests);
}

/// So many resources of the upstream are due and wait for a budget.
pub fn unpaid(upstream: &str, resources: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a number of resources has fewer than 52 bits")]
    gauge!(UNPAID, "upstream" => upstream.to_owned()).set(resources as f64);
}

/// A token endpoint was asked for an access token.
pub fn asked_for_token(upstream: &str, was_given: bool) {
    let outcome = if was_given { "given" } else { "failed" };
    counter!(TOKENS, "upstream" => upstream.to_owned(), "outcome" => outcome).increment(1);
}

/// A refresh waits to be allowed one more request, until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct WaitsForGrant {
    upstream: String,
}

impl WaitsForGrant {
    /// It begins to wait.
    pub fn of(upstream: &str) -> Self {
        gauge!(WAITING, "upstream" => upstream.to_owned()).increment(1);
        Self { upstream: upstream.to_owned() }
    }
}

impl Drop for WaitsForGrant {
    fn drop(&mut self) {
        gauge!(WAITING, "upstream" => std::mem::take(&mut self.upstream)).decrement(1);
    }
}

/// So many keys of a source are in this state.
pub fn resources(source: &str, state: &'static str, number: u64) {
    gauge!(RESOURCES, "source" => source.to_owned(), "state" => state).set(rounded(number));
}

/// So many keys of a source are failing.
pub fn failing(source: &str, number: u64) {
    gauge!(FAILING, "source" => source.to_owned()).set(rounded(number));
}

/// So many resources of an upstream are due and free, the first of them for so long; and so many are leased.
pub fn backlog(upstream: &str, due: u64, oldest: Duration, leased: u64) {
    gauge!(DUE, "upstream" => upstream.to_owned()).set(rounded(due));
    gauge!(OVERDUE, "upstream" => upstream.to_owned()).set(oldest);
    gauge!(LEASED, "upstream" => upstream.to_owned()).set(rounded(leased));
}

/// The database takes up so many bytes.
pub fn database_size(bytes: u64) {
    gauge!(SIZE).set(rounded(bytes));
}

/// A sample is a floating-point number, whose 53 bits no count here exceeds.
#[expect(clippy::cast_precision_loss)]
fn rounded(number: u64) -> f64 {
    number as f64
}

/// A call of the database took so long, and went well or not.
pub fn stored(operation: &'static str, took: Duration, went_well: bool) {
    histogram!(STORE, "operation" => operation).record(took);
    if !went_well {
        counter!(STORE_ERRORS, "operation" => operation).increment(1);
    }
}

/// A reader asked for a resource and found it in this state.
pub fn read(source: &str, state: &'static str) {
    counter!(READS, "source" => source.to_owned(), "state" => state).increment(1);
}

/// An answer goes on for long, until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Streams {
    kind: &'static str,
}

impl Streams {
    /// An answer of this kind does.
    pub fn of(kind: &'static str) -> Self {
        gauge!(STREAMS, "kind" => kind).increment(1);
        Self { kind }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        gauge!(STREAMS, "kind" => self.kind).decrement(1);
    }
}

/// A message was sent to a webhook.
pub fn webhook(webhook: &str, outcome: &'static str) {
    counter!(WEBHOOKS, "webhook" => webhook.to_owned(), "outcome" => outcome).increment(1);
}

/// A reader asked for a key that nobody listed, and it was added or refused.
pub fn demanded(source: &str, outcome: &'static str) {
    counter!(DEMANDED, "source" => source.to_owned(), "outcome" => outcome).increment(1);
}

/// The read API answered a request for this route after so long.
pub fn answered(route: &str, status: u16, took: Duration) {
    histogram!(REQUESTS, "route" => route.to_owned(), "status" => status.to_string()).record(took);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_labels_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in ALL {
            assert!(names.insert(metric.name), "{} is there twice", metric.name);
            assert!(metric.name.starts_with("headpond_"));
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert!(!metric.labels.contains(&"key"));
            if let Kind::Histogram(bounds) = metric.kind {
                assert!(metric.name.ends_with("_seconds") && bounds.is_sorted());
            }
        }
    }
}
