//! The gate that pays with an upstream's tokens, on a real database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headpond::clock::{Clock, ManualClock, monotonic};
use headpond::domain::allowance::Fields;
use headpond::domain::governor::{Hearing, PauseScope, Said};
use headpond::domain::limit::Limits;
use headpond::domain::resource::{SourceId, UpstreamId};
use headpond::store::{Authority, Store, StoreOptions, connect};
use headpond::upstream::{Gate, LONGEST_WAIT, NoPass, Quiet, TokenGate, lease_for};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tempfile::TempDir;

use crate::support::store::spec;

const TIMEOUT: Duration = Duration::from_secs(20);
/// Older than a token may be when it is used.
const STALE: Duration = Duration::from_millis(200);

struct Pond {
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
    upstream: UpstreamId,
    limits: Limits,
    _directory: TempDir,
}

impl Pond {
    async fn with_rate(requests_per_second: Option<f64>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let url = format!("sqlite://{}", directory.path().join("pond.db").display());
        let options = StoreOptions { readers: 1, migrate: true, create: true };
        let store = connect(&url, &options, clock.clone()).await.unwrap();
        // Tokens enough for a machine that is slow to grant them, which takes some more.
        let limits = Limits {
            requests_per_second,
            burst: 20,
            max_concurrent: 1,
            budgets: headpond::domain::budget::Budgets::NONE,
        };
        let source = spec("weather", "metno", limits);
        let upstream = store.register(&[source], Authority::Owns).await.unwrap()[0].upstream;
        Self { store, clock, upstream, limits, _directory: directory }
    }

    fn gate_for_claim(&self, granted: Instant) -> TokenGate {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        TokenGate::for_claim(store, clock, (self.upstream, "metno"), &self.limits, granted, lease_for(TIMEOUT))
    }

    /// Takes all tokens that are left, and says how many there were.
    async fn take_all(&self) -> u32 {
        let mut taken = 0;
        while self.store.take_token(self.upstream).await.unwrap().is_ok() {
            taken += 1;
        }
        taken
    }
}

fn ago(span: Duration) -> Instant {
    monotonic().checked_sub(span).unwrap()
}

fn too_late(result: Result<(), NoPass>) -> String {
    match result {
        Err(NoPass::TooLate(why)) => why,
        other => panic!("this is not too late: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_that_came_with_the_claim_is_used() {
    let pond = Pond::with_rate(Some(1.0)).await;
    // From a moment ahead, so that it is not too old on a machine that pauses here.
    pond.gate_for_claim(monotonic() + STALE).first(TIMEOUT).await.unwrap();
    assert_eq!(pond.take_all().await, 19);
}

#[tokio::test]
async fn a_token_that_is_too_old_is_exchanged_for_another() {
    let pond = Pond::with_rate(Some(1.0)).await;
    pond.gate_for_claim(ago(STALE)).first(TIMEOUT).await.unwrap();
    assert!(pond.take_all().await < 19);
}

#[tokio::test]
async fn without_a_rate_no_token_is_too_old() {
    let pond = Pond::with_rate(None).await;
    let gate = pond.gate_for_claim(ago(STALE));
    // The database isn't asked, or this would be an error.
    pond.store.close().await;
    gate.first(TIMEOUT).await.unwrap();
}

#[tokio::test]
async fn each_further_request_takes_a_token() {
    let pond = Pond::with_rate(Some(1.0)).await;
    let gate = pond.gate_for_claim(monotonic() + STALE);
    gate.first(TIMEOUT).await.unwrap();
    gate.hop(monotonic() + TIMEOUT).await.unwrap();
    gate.hop(monotonic() + TIMEOUT).await.unwrap();
    assert!(pond.take_all().await < 18);
}

#[tokio::test]
async fn a_request_waits_for_its_token() {
    let pond = Pond::with_rate(Some(1.0)).await;
    pond.take_all().await;
    let gate = pond.gate_for_claim(ago(STALE));
    let mut passing = tokio::spawn(async move { gate.first(TIMEOUT).await });
    assert!(tokio::time::timeout(STALE, &mut passing).await.is_err(), "there is no token yet");
    pond.clock.advance(Duration::from_secs(9));
    passing.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_wait_that_would_end_too_late_is_not_begun() {
    let pond = Pond::with_rate(Some(0.01)).await;
    pond.take_all().await;
    // What is left is nearly a token: take that too.
    pond.clock.advance(Duration::from_secs(10));
    pond.take_all().await;
    // Where tokens are rare they keep for longer.
    let why = too_late(pond.gate_for_claim(ago(Duration::from_secs(6))).first(TIMEOUT).await);
    assert!(why.starts_with("no request may be sent for another 1m "), "{why}");
    let why = too_late(pond.gate_for_claim(monotonic()).hop(monotonic() + Duration::from_secs(1)).await);
    assert!(why.contains("too late"), "{why}");
}

#[tokio::test]
async fn nothing_is_sent_that_would_outlast_the_lease() {
    let pond = Pond::with_rate(Some(1.0)).await;
    let long_ago = ago(LONGEST_WAIT + STALE);
    pond.gate_for_claim(long_ago).first(TIMEOUT / 2).await.unwrap();
    let left = pond.take_all().await;
    assert!((1..19).contains(&left), "a shorter one is, for a new token");
    pond.clock.advance(Duration::from_secs(1));
    let why = too_late(pond.gate_for_claim(long_ago).first(TIMEOUT).await);
    assert!(why.starts_with("waited for 10s ") && why.contains("too little time"), "{why}");
    assert_eq!(pond.take_all().await, 1, "nor is a token taken for it");
}

#[tokio::test]
async fn a_fault_of_the_database_is_one() {
    let pond = Pond::with_rate(Some(1.0)).await;
    pond.store.close().await;
    let result = pond.gate_for_claim(monotonic()).hop(monotonic() + TIMEOUT).await;
    assert!(matches!(result, Err(NoPass::Store(_))), "{result:?}");
}

#[tokio::test]
async fn what_holds_a_token_is_not_sent_once_another_was_asked_to_wait() {
    let pond = Pond::with_rate(None).await;
    let (quiet, source) = (Quiet::default(), SourceId(1));
    let hearing = |source, scope| {
        let allowance = Some(Fields::default());
        Hearing { source, scope, allowance, retry_after_cap: TIMEOUT, own_cap: TIMEOUT, has_waited: false }
    };
    let gate = |source, scope| pond.gate_for_claim(monotonic()).listening(hearing(source, scope), quiet.clone());
    let (first, second) = (gate(source, PauseScope::Source), gate(source, PauseScope::Source));
    first.first(TIMEOUT).await.unwrap();
    assert_eq!((first.said(), second.said()), (Said::Silence, Said::Nothing), "one was sent");
    let too_many = |gate: &TokenGate| {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static("10"))]);
        gate.hears(StatusCode::TOO_MANY_REQUESTS, &headers);
    };
    too_many(&first);
    assert!(matches!(first.said(), Said::Enough(_)));
    let until = pond.clock.now() + Duration::from_secs(10);
    let is_quiet = |result| matches!(result, Err(NoPass::Quiet(quiet)) if quiet == until);
    assert!(is_quiet(second.first(TIMEOUT).await));
    assert!(is_quiet(first.hop(monotonic() + TIMEOUT).await), "nor is a redirect followed");
    gate(SourceId(2), PauseScope::Upstream).first(TIMEOUT).await.unwrap();
    too_many(&gate(SourceId(2), PauseScope::Upstream));
    assert!(is_quiet(gate(SourceId(3), PauseScope::Upstream).first(TIMEOUT).await));
    pond.clock.advance(Duration::from_secs(10));
    second.first(TIMEOUT).await.unwrap();
}

#[test]
fn a_lease_outlasts_the_longest_wait_the_timeout_and_the_commit() {
    assert_eq!(lease_for(TIMEOUT), Duration::from_secs(40));
    assert_eq!(lease_for(Duration::MAX), Duration::MAX);
}
