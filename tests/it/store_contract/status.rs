//! How sources and upstreams stand.

use std::time::Duration;

use chrono::TimeDelta;
use headpond::domain::failure::FailureKind;
use headpond::domain::limit::Limits;
use headpond::domain::resource::SourceName;
use headpond::domain::schedule::Because;
use headpond::store::{Authority, Counts, NextDue, Overdue, Pause, Selection, SourceStatus, UpstreamStatus};

use crate::support::outcomes::{HOUR, content, enough, status, unreachable};
use crate::support::store::{TestStore, UNLIMITED, ask, key, on_each_database, spec};

on_each_database! {
    an_empty_database_has_nothing_to_tell,
    each_state_is_counted_and_time_alone_makes_copies_stale,
    the_last_failure_stays_when_it_has_passed,
    a_source_is_next_due_when_its_first_free_key_is,
    a_source_behind_many_others_is_due_not_before_them,
    what_is_wished_for_is_overdue_since_the_wish,
    an_upstream_tells_its_tokens_and_what_is_in_flight,
    an_outage_and_retry_after_are_told_as_pauses,
    what_is_due_is_counted_and_the_oldest_told,
    a_source_without_keys_counts_nothing,
    the_owner_of_the_configuration_is_told_while_it_lasts,
    the_database_takes_up_room,
}

async fn source(test: &TestStore, name: &str) -> SourceStatus {
    let status = test.store.status(test.now()).await.unwrap();
    assert_eq!(status.at, test.now());
    status.sources.into_iter().find(|source| source.name.as_str() == name).unwrap()
}

async fn upstream(test: &TestStore, name: &str) -> UpstreamStatus {
    let status = test.store.status(test.now()).await.unwrap();
    status.upstreams.into_iter().find(|upstream| upstream.name == name).unwrap()
}

async fn an_empty_database_has_nothing_to_tell(test: &TestStore) {
    let status = test.store.status(test.now()).await.unwrap();
    assert_eq!((status.sources, status.upstreams, status.owner), (vec![], vec![], None));
}

/// `k0` … `k4`: two copies, one gone, one failing, one that was never tried.
async fn of_each_kind(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    let claims = test.store.claim(&ask(weather.upstream, 4)).await.unwrap().claims;
    let answers = [content("A", &[]), content("A", &[]), status(410), status(503)];
    let batch: Vec<_> = claims.iter().zip(answers).map(|(claim, seen)| test.settled(claim, seen)).collect();
    test.store.apply(&batch).await.unwrap();
}

async fn each_state_is_counted_and_time_alone_makes_copies_stale(test: &TestStore) {
    of_each_kind(test).await;
    let weather = source(test, "weather").await;
    let fresh = Counts { keys: 5, fresh: 2, stale: 0, pending: 2, gone: 1, failing: 1 };
    assert_eq!((weather.counts, weather.upstream.as_str(), weather.is_ready), (fresh, "weather", false));
    assert_eq!(weather.oldest_fetched_at, Some(test.now()), "not rounded into the future");
    let because = [(Because::New, 1), (Because::Interval, 2), (Because::Outage, 1), (Because::GoneRecheck, 1)];
    assert_eq!(weather.because, because.into());

    test.clock.advance((2 * HOUR).saturating_sub(Duration::from_micros(1)));
    assert_eq!(source(test, "weather").await.counts, fresh);
    // A copy that is fresh for two hours counts as such for no more than a 128th longer.
    test.clock.advance(2 * HOUR / 128);
    let stale = Counts { fresh: 0, stale: 2, ..fresh };
    let weather = source(test, "weather").await;
    assert_eq!(weather.counts, stale);
    let fetched_at = test.current("weather", "k0").await.freshness.unwrap().fetched_at;
    let rounding = weather.oldest_fetched_at.unwrap() - fetched_at;
    assert!(rounding >= TimeDelta::zero() && rounding < TimeDelta::from_std(2 * HOUR / 128).unwrap(), "{rounding}");
}

async fn the_last_failure_stays_when_it_has_passed(test: &TestStore) {
    of_each_kind(test).await;
    let failed_at = test.now();
    let last = source(test, "weather").await.last_failure.unwrap();
    assert_eq!((last.key.as_str(), last.at, last.failure.kind), ("k3", failed_at, FailureKind::ServerError));
    assert_eq!((last.failure.status, last.failure.detail.as_str()), (Some(503), "the upstream answered 503"));

    test.clock.advance(HOUR);
    let weather = test.source("weather", UNLIMITED).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    let later = source(test, "weather").await;
    assert!(later.is_ready, "each was tried");
    assert_eq!((later.counts.failing, later.last_failure.unwrap()), (0, last));

    test.clock.advance(HOUR);
    test.settle_all(
        weather.upstream,
        |claim| if claim.key.as_str() == "k1" { unreachable() } else { content("A", &[]) },
    )
    .await;
    let last = source(test, "weather").await.last_failure.unwrap();
    assert_eq!((last.key.as_str(), last.at, last.failure.status), ("k1", test.now(), None));
}

async fn a_source_is_next_due_when_its_first_free_key_is(test: &TestStore) {
    let specs = ["a", "b"].map(|name| spec(name, "shared", UNLIMITED));
    let [a, b] = test.store.register(&specs, Authority::Owns).await.unwrap()[..] else { panic!("two") };
    test.add(a, 2).await;
    let added_at = test.now();
    test.clock.advance(Duration::from_secs(5));
    test.add(b, 1).await;
    assert_eq!(source(test, "a").await.next_due, NextDue::At(added_at));
    assert_eq!(source(test, "b").await.next_due, NextDue::At(test.now()));

    // Both of `a` are in flight, then one is settled.
    let claims = test.store.claim(&ask(a.upstream, 2)).await.unwrap().claims;
    assert_eq!(source(test, "a").await.next_due, NextDue::Never);
    test.settle(&claims[0], content("A", &[])).await;
    let due = test.current("a", claims[0].key.as_str()).await.due.unwrap().at;
    assert_eq!(source(test, "a").await.next_due, NextDue::At(due));
}

async fn a_source_behind_many_others_is_due_not_before_them(test: &TestStore) {
    let specs = ["many", "one"].map(|name| spec(name, "shared", UNLIMITED));
    let [many, one] = test.store.register(&specs, Authority::Owns).await.unwrap()[..] else { panic!("two") };
    test.add(many, 10_001).await;
    test.clock.advance(Duration::from_secs(1));
    test.add(one, 1).await;
    assert_eq!(source(test, "one").await.next_due, NextDue::NotBefore(test.now() - TimeDelta::seconds(1)));
    assert_eq!(source(test, "many").await.next_due, NextDue::At(test.now() - TimeDelta::seconds(1)));
}

async fn what_is_wished_for_is_overdue_since_the_wish(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.clock.advance(Duration::from_secs(60));
    let k0 = test.current("weather", "k0").await.resource;
    let wished_at = test.now();
    test.store.want(&Selection::Resources(vec![k0]), wished_at).await.unwrap();
    test.clock.advance(Duration::from_secs(60));
    let weather = source(test, "weather").await;
    assert_eq!((weather.next_due, weather.because[&Because::Manual]), (NextDue::At(wished_at), 1));
    let backlog = upstream(test, "weather").await.backlog;
    assert_eq!(backlog, Overdue { resources: 1, is_more: false, oldest_due_at: Some(wished_at) });
}

async fn an_upstream_tells_its_tokens_and_what_is_in_flight(test: &TestStore) {
    let limits = Limits {
        requests_per_second: Some(1.0),
        burst: 4,
        max_concurrent: 3,
        budgets: headpond::domain::budget::Budgets::NONE,
    };
    let weather = test.source("weather", limits).await;
    test.add(weather, 10).await;
    let full = limits.capacity();
    assert_eq!(upstream(test, "weather").await.tokens, Some(full));
    let claims = test.claim(weather.upstream).await;
    let told = upstream(test, "weather").await;
    assert_eq!((told.limits, told.in_flight, told.pauses), (limits, 3, vec![]));
    assert!((told.tokens.unwrap() - (full - 3.0)).abs() < 1e-9, "{}", full);
    assert_eq!(told.backlog.resources, 7, "what is in flight is no backlog");
    test.clock.advance(HOUR);
    let told = upstream(test, "weather").await;
    assert_eq!((told.tokens, told.in_flight), (Some(full), 0), "leases have expired, tokens have come");
    test.settle(&claims[0], content("A", &[])).await;
    test.source_with_keys("users", 1).await;
    assert_eq!(upstream(test, "users").await.tokens, None, "without a limit nothing counts them");
}

async fn an_outage_and_retry_after_are_told_as_pauses(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    let claims = test.claim(weather.upstream).await;
    for claim in &claims[..2] {
        test.settle(claim, unreachable()).await;
    }
    assert_eq!(upstream(test, "weather").await.pauses, [], "two may be chance");
    test.settle(&claims[2], unreachable()).await;
    assert_eq!(upstream(test, "weather").await.pauses, [Pause::Outage { answers: 3, resources: 3 }]);

    test.settle(&claims[3], enough(429, 7200)).await;
    let quiet = Pause::Quiet {
        source: None,
        until: test.now() + 2 * HOUR,
        why: "429 with Retry-After".into(),
        answered: SourceName::new("weather").unwrap(),
        resources: 0,
    };
    let (outage, one) = (Pause::Outage { answers: 3, resources: 3 }, Pause::RetryAfter { resources: 1 });
    assert_eq!(upstream(test, "weather").await.pauses, [quiet, outage, one.clone()], "what waits for its end waits on");
    test.clock.advance(2 * HOUR);
    let probe = test.claim_one(weather.upstream).await;
    test.settle(&probe, content("A", &[])).await;
    assert_eq!(upstream(test, "weather").await.pauses, [one], "it answers again");
    test.source_with_keys("users", 1).await;
    assert_eq!(upstream(test, "users").await.pauses, []);
}

async fn what_is_due_is_counted_and_the_oldest_told(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    let added_at = test.now();
    test.clock.advance(Duration::from_secs(30));
    let backlog = upstream(test, "weather").await.backlog;
    assert_eq!(backlog, Overdue { resources: 3, is_more: false, oldest_due_at: Some(added_at) });
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    assert_eq!(upstream(test, "weather").await.backlog, Overdue::default());
}

async fn a_source_without_keys_counts_nothing(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    test.retire_keys_except(weather.source, &[key("k1")].into()).await.unwrap();
    assert_eq!(source(test, "weather").await.counts, Counts { keys: 1, pending: 1, ..Counts::default() });
    test.store.retire_sources_except(&[]).await.unwrap();
    let weather = source(test, "weather").await;
    assert_eq!((weather.counts, weather.because, weather.next_due), (Counts::default(), [].into(), NextDue::Never));
}

async fn the_owner_of_the_configuration_is_told_while_it_lasts(test: &TestStore) {
    test.store.own_config("worker", test.now() + TimeDelta::seconds(60)).await.unwrap();
    assert_eq!(test.store.status(test.now()).await.unwrap().owner.as_deref(), Some("worker"));
    test.clock.advance(HOUR);
    assert_eq!(test.store.status(test.now()).await.unwrap().owner, None);
}

async fn the_database_takes_up_room(test: &TestStore) {
    let before = test.store.status(test.now()).await.unwrap().disk;
    let weather = test.source_with_keys("weather", 20).await;
    let mut rng = fastrand::Rng::with_seed(1);
    let body: String = std::iter::repeat_with(|| rng.alphanumeric()).take(100_000).collect();
    test.settle_all(weather.upstream, |claim| content(&format!("{}{body}", claim.key), &[])).await;
    let after = test.store.status(test.now()).await.unwrap().disk;
    assert!(before.bytes > 0 && after.bytes - before.bytes > 1_000_000, "{before:?} {after:?}");
    assert!(after.free.is_none_or(|free| free < after.bytes), "{after:?}");
    assert_eq!(after.log.is_some(), test.store.describe().starts_with("SQLite"));
    assert!(after.log.is_none_or(|log| log > 1_000_000), "what was just written is in the log: {after:?}");
}
