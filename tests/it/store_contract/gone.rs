//! Tombstones, and the budget that keeps too much of a source from going at once.

use std::time::Duration;

use headpond::domain::change::ChangeKind;
use headpond::domain::failure::FailureKind;
use headpond::domain::schedule::Because;
use headpond::store::{Changes, Claim, Fate, GoneBudget, Settled};

use crate::support::outcomes::{HOUR, content, status};
use crate::support::store::{TestStore, UNLIMITED, on_each_database};

on_each_database! {
    a_tombstone_keeps_what_was_last_seen,
    what_was_gone_comes_back_with_the_next_version,
    absent_from_the_start_is_gone_without_a_change,
    three_404s_over_the_window_are_gone,
    no_more_than_the_budget_goes_in_a_period,
    the_budget_comes_back_with_the_next_period,
    one_may_always_go,
    looking_at_a_tombstone_again_costs_no_budget,
    budgets_of_sources_are_apart,
}

async fn a_tombstone_keeps_what_was_last_seen(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
    test.clock.advance(HOUR);
    test.settle_all(weather.upstream, |_| status(410)).await;
    let gone = test.current("weather", "k0").await;
    assert_eq!((gone.gone_since, gone.version, gone.failing.as_ref()), (Some(test.now()), 1, None));
    assert_eq!(gone.content.unwrap().body.as_ref(), b"A");
    assert_eq!(gone.due.unwrap().because, Because::GoneRecheck);
    assert!(gone.validators.is_empty());
    assert_eq!(kinds(test).await, [ChangeKind::Created, ChangeKind::Gone]);
}

async fn what_was_gone_comes_back_with_the_next_version(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    for (seen, wait) in [(content("A", &[]), HOUR), (status(410), 48 * HOUR), (content("A", &[]), HOUR)] {
        test.settle(&test.claim_one(weather.upstream).await, seen).await;
        test.clock.advance(wait);
    }
    let back = test.current("weather", "k0").await;
    assert_eq!((back.gone_since, back.version), (None, 2));
    assert_eq!(kinds(test).await, [ChangeKind::Created, ChangeKind::Gone, ChangeKind::Returned]);
}

async fn absent_from_the_start_is_gone_without_a_change(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| status(404)).await;
    let gone = test.current("weather", "k0").await;
    assert_eq!((gone.gone_since, gone.version, gone.content), (Some(test.now()), 0, None));
    assert!(kinds(test).await.is_empty());
}

async fn three_404s_over_the_window_are_gone(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    for count in 1..=3 {
        test.clock.advance(2 * HOUR);
        test.settle_all(weather.upstream, |_| status(404)).await;
        assert_eq!(test.current("weather", "k0").await.gone_since.is_some(), count == 3, "after {count}");
    }
}

/// 20 keys with content, due and claimed.
async fn twenty(test: &TestStore) -> Vec<Claim> {
    let weather = test.source_with_keys("weather", 20).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.clock.advance(HOUR);
    test.claim(weather.upstream).await
}

fn gone(test: &TestStore, claim: &Claim, share: f64) -> Settled {
    Settled { gone_budget: GoneBudget { share, period: HOUR }, ..test.settled(claim, status(410)) }
}

async fn no_more_than_the_budget_goes_in_a_period(test: &TestStore) {
    let claims = twenty(test).await;
    let batch: Vec<_> = claims[..3].iter().map(|claim| gone(test, claim, 0.1)).collect();
    assert_eq!(test.store.apply(&batch).await.unwrap().fates, [Fate::Committed, Fate::Committed, Fate::Held]);
    assert_eq!(test.store.apply(&[gone(test, &claims[3], 0.1)]).await.unwrap().fates, [Fate::Held]);

    let held = test.current("weather", claims[2].key.as_str()).await;
    assert_eq!((held.gone_since, held.version, held.content.unwrap().body.as_ref()), (None, 1, &b"A"[..]));
    let failing = held.failing.unwrap();
    assert_eq!((failing.last.kind, failing.count), (FailureKind::Held, 1));
    assert!(held.due.unwrap().at > test.now());
    assert_eq!(kinds(test).await.iter().filter(|kind| **kind == ChangeKind::Gone).count(), 2);
}

async fn the_budget_comes_back_with_the_next_period(test: &TestStore) {
    let claims = twenty(test).await;
    for (wait, claim, fate) in [
        (Duration::ZERO, &claims[0], Fate::Committed),
        (HOUR / 2, &claims[1], Fate::Committed),
        ((HOUR / 2).saturating_sub(Duration::from_micros(1)), &claims[2], Fate::Held),
        (Duration::from_micros(1), &claims[3], Fate::Committed),
    ] {
        test.clock.advance(wait);
        assert_eq!(test.store.apply(&[gone(test, claim, 0.1)]).await.unwrap().fates, [fate]);
    }
}

async fn one_may_always_go(test: &TestStore) {
    let claims = twenty(test).await;
    let batch: Vec<_> = claims[..2].iter().map(|claim| gone(test, claim, 0.0)).collect();
    assert_eq!(test.store.apply(&batch).await.unwrap().fates, [Fate::Committed, Fate::Held]);
}

async fn looking_at_a_tombstone_again_costs_no_budget(test: &TestStore) {
    let claims = twenty(test).await;
    let first = claims[0].key.as_str();
    test.store.apply(&[gone(test, &claims[0], 0.0)]).await.unwrap();
    let since = test.current("weather", first).await.gone_since;
    assert!(since.is_some());
    test.clock.advance(48 * HOUR);
    let upstream = test.source("weather", UNLIMITED).await.upstream;
    let (again, others): (Vec<_>, Vec<_>) =
        test.claim(upstream).await.into_iter().partition(|claim| claim.key.as_str() == first);
    let batch = [gone(test, &again[0], 0.0), gone(test, &others[0], 0.0)];
    assert_eq!(test.store.apply(&batch).await.unwrap().fates, [Fate::Committed; 2]);
    assert_eq!(test.current("weather", first).await.gone_since, since);
    assert_eq!(kinds(test).await.iter().filter(|kind| **kind == ChangeKind::Gone).count(), 2);
}

async fn budgets_of_sources_are_apart(test: &TestStore) {
    let users = test.source_with_keys("users", 1).await;
    test.settle_all(users.upstream, |_| content("A", &[])).await;
    let claims = twenty(test).await;
    let user = test.claim_one(users.upstream).await;
    let batch = [gone(test, &claims[0], 0.0), gone(test, &user, 0.0), gone(test, &claims[1], 0.0)];
    let fates = test.store.apply(&batch).await.unwrap().fates;
    assert_eq!(fates, [Fate::Committed, Fate::Committed, Fate::Held]);
}

async fn kinds(test: &TestStore) -> Vec<ChangeKind> {
    match test.store.changes(None, 1000).await.unwrap() {
        Changes::Page { changes, .. } => changes.iter().map(|change| change.kind).collect(),
        Changes::Unknown => panic!("the beginning is always known"),
    }
}
