//! Leases on due resources.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use headpond::domain::limit::Limits;
use headpond::domain::resource::UpstreamId;
use headpond::domain::schedule::Because;
use headpond::store::{Authority, ClaimRequest, Fate, Selection};
use tokio::sync::Barrier;

use crate::support::outcomes::{HOUR, content};
use crate::support::store::{
    LEASE, TestStore, UNLIMITED, ask, ids_of, is_rejected, key, keys_of, nothing_until, on_each_database, spec,
};

on_each_database! {
    a_resource_that_cannot_be_read_is_put_off_and_the_others_are_granted,
    a_reason_that_is_not_known_is_no_obstacle,
    what_is_leased_is_not_claimed_again,
    two_workers_that_claim_at_the_same_moment_never_get_the_same_resource,
    what_has_been_due_longest_comes_first,
    a_claim_takes_no_more_than_asked_for,
    a_claim_of_some_sources_leaves_the_others,
    a_claim_of_some_resources_leaves_the_others,
    a_claim_can_reach_into_the_future,
    an_expired_lease_is_claimable_again,
    a_late_apply_after_the_lease_was_taken_over_leaves_no_trace,
    a_late_apply_of_a_lease_that_nobody_took_over_counts,
    a_released_resource_is_due_as_before,
    a_release_of_a_lost_lease_gives_back_nothing_of_the_new_one,
    nothing_due_says_when_to_ask_again,
    leases_in_the_way_say_when_to_ask_again,
    an_empty_claim_writes_nothing,
    an_unknown_upstream_is_an_error,
}

async fn what_is_leased_is_not_claimed_again(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    let other = test.another().await;
    let first = test.store.claim(&ask(weather.upstream, 3)).await.unwrap().claims;
    let second = other.claim(&ask(weather.upstream, 9)).await.unwrap().claims;
    assert_eq!((keys_of(&first), keys_of(&second)), (vec!["k0", "k1", "k2"], vec!["k3", "k4"]));
    assert_ne!(first[0].token, second[0].token);
    assert_eq!(test.current("weather", "k0").await.leased_until, Some(test.now() + LEASE));
}

async fn two_workers_that_claim_at_the_same_moment_never_get_the_same_resource(test: &TestStore) {
    let weather = test.source_with_keys("weather", 200).await;
    let barrier = Arc::new(Barrier::new(2));
    let worker = |store: Arc<dyn headpond::store::Store>| {
        let barrier = Arc::clone(&barrier);
        tokio::spawn(async move {
            let mut claimed = Vec::new();
            for _ in 0..10 {
                barrier.wait().await;
                claimed.extend(ids_of(&store.claim(&ask(weather.upstream, 10)).await.unwrap().claims));
            }
            claimed
        })
    };
    let (one, two) = (worker(Arc::clone(&test.store)), worker(test.another().await));
    let claimed = [one.await.unwrap(), two.await.unwrap()].concat();
    assert_eq!((claimed.len(), claimed.iter().collect::<BTreeSet<_>>().len()), (200, 200));
}

async fn what_has_been_due_longest_comes_first(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let users = test.store.register(&[spec("users", "weather", UNLIMITED)], Authority::Owns).await.unwrap()[0];
    test.add(users, 1).await;
    test.clock.advance(HOUR);
    test.add(weather, 2).await;
    let claims = test.claim(weather.upstream).await;
    assert_eq!(keys_of(&claims), ["k0", "k0", "k1"]);
    assert_eq!(
        claims.iter().map(|claim| claim.source).collect::<Vec<_>>(),
        [users.source, weather.source, weather.source]
    );
    assert_eq!(claims[0].due.at, test.now() - HOUR);
}

async fn a_claim_takes_no_more_than_asked_for(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    let claimed = test.store.claim(&ask(weather.upstream, 2)).await.unwrap();
    assert_eq!(keys_of(&claimed.claims), ["k0", "k1"]);
    assert_eq!(claimed.ask_again_at, Some(test.now()), "more is due, and nothing but the caller held it back");
    assert_eq!(nothing_until(&test.store.claim(&ask(weather.upstream, 0)).await.unwrap()), Some(test.now()));
}

async fn a_claim_of_some_sources_leaves_the_others(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let users = test.store.register(&[spec("users", "weather", UNLIMITED)], Authority::Owns).await.unwrap()[0];
    test.add(users, 2).await;
    let request = ClaimRequest { which: Selection::Sources(vec![users.source]), ..ask(weather.upstream, 9) };
    let claims = test.store.claim(&request).await.unwrap().claims;
    assert!(claims.len() == 2 && claims.iter().all(|claim| claim.source == users.source));
    assert_eq!(test.claim(weather.upstream).await.len(), 2);
}

async fn a_claim_of_some_resources_leaves_the_others(test: &TestStore) {
    let weather = test.source_with_keys("weather", 4).await;
    let names = ["k3", "k1"].map(crate::support::store::key);
    let ids = test.store.find(weather.source, &names).await.unwrap().into_iter().flatten().collect();
    let request = ClaimRequest { which: Selection::Resources(ids), ..ask(weather.upstream, 9) };
    assert_eq!(keys_of(&test.store.claim(&request).await.unwrap().claims), ["k1", "k3"]);
    assert!(test.store.claim(&request).await.unwrap().claims.is_empty());
    let elsewhere = ClaimRequest { upstream: test.source("users", UNLIMITED).await.upstream, ..request };
    assert!(test.store.claim(&elsewhere).await.unwrap().claims.is_empty());
}

async fn a_claim_can_reach_into_the_future(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    let request = ask(weather.upstream, 9);
    let early = ClaimRequest { due_by: Some(test.now() + HOUR), ..request.clone() };
    assert_eq!(test.store.claim(&request).await.unwrap().claims.len(), 0);
    assert_eq!(test.store.claim(&early).await.unwrap().claims.len(), 3);
}

async fn an_expired_lease_is_claimable_again(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let lost = test.claim(weather.upstream).await;
    test.clock.advance(LEASE.saturating_sub(Duration::from_micros(1)));
    assert!(test.claim(weather.upstream).await.is_empty());
    test.clock.advance(Duration::from_micros(1));
    let again = test.claim(weather.upstream).await;
    assert_eq!(ids_of(&again), ids_of(&lost));
    assert_eq!((again[0].due, again[0].previous.clone()), (lost[0].due, lost[0].previous.clone()));
}

async fn a_late_apply_after_the_lease_was_taken_over_leaves_no_trace(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let late = test.claim_one(weather.upstream).await;
    test.clock.advance(LEASE);
    let taken_over = test.claim_one(weather.upstream).await;

    let refused = test.store.apply(&[test.settled(&late, content("late", &[]))]).await.unwrap();
    assert_eq!((refused.number, refused.fates), (None, vec![Fate::LeaseLost]));
    let current = test.current("weather", "k0").await;
    assert_eq!((current.version, current.content, current.due.unwrap()), (0, None, late.due));
    assert_eq!(test.store.applied_since(0).await.unwrap().newest, 0);

    test.settle(&taken_over, content("in time", &[])).await;
    assert_eq!(test.current("weather", "k0").await.content.unwrap().body.as_ref(), b"in time");
}

async fn a_late_apply_of_a_lease_that_nobody_took_over_counts(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let late = test.claim_one(weather.upstream).await;
    test.clock.advance(2 * LEASE);
    test.settle(&late, content("A", &[])).await;
    assert_eq!(test.current("weather", "k0").await.version, 1);
}

async fn a_released_resource_is_due_as_before(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    let claims = test.claim(weather.upstream).await;
    test.store.release(&[(claims[0].token, claims[0].resource), (claims[2].token, claims[2].resource)]).await.unwrap();
    let again = test.claim(weather.upstream).await;
    assert_eq!((keys_of(&again), again[0].due), (vec!["k0", "k2"], claims[0].due));
    assert_eq!(
        test.store.apply(&[test.settled(&claims[0], content("A", &[]))]).await.unwrap().fates,
        [Fate::LeaseLost]
    );
    test.settle(&claims[1], content("A", &[])).await;
    test.store.release(&[]).await.unwrap();
}

async fn a_release_of_a_lost_lease_gives_back_nothing_of_the_new_one(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let lost = test.claim_one(weather.upstream).await;
    test.clock.advance(LEASE);
    let present = test.claim_one(weather.upstream).await;
    test.store.release(&[(lost.token, lost.resource)]).await.unwrap();
    assert!(test.claim(weather.upstream).await.is_empty());
    test.settle(&present, content("A", &[])).await;
}

async fn nothing_due_says_when_to_ask_again(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    let next =
        test.current("weather", "k0").await.due.unwrap().at.min(test.current("weather", "k1").await.due.unwrap().at);
    assert_eq!(nothing_until(&test.store.claim(&ask(weather.upstream, 9)).await.unwrap()), Some(next));
    let idle = test.source("users", UNLIMITED).await;
    assert_eq!(nothing_until(&test.store.claim(&ask(idle.upstream, 9)).await.unwrap()), None);
}

async fn leases_in_the_way_say_when_to_ask_again(test: &TestStore) {
    let weather = test.source("weather", Limits { max_concurrent: 1, ..UNLIMITED }).await;
    test.add(weather, 2).await;
    let one = test.store.claim(&ask(weather.upstream, 9)).await.unwrap();
    assert_eq!((one.claims.len(), one.ask_again_at), (1, Some(test.now() + LEASE)));
    test.clock.advance(LEASE / 2);
    let none = test.store.claim(&ask(weather.upstream, 9)).await.unwrap();
    assert_eq!(nothing_until(&none), Some(test.now() + LEASE / 2));

    // A leased resource is due again when its lease expires, even when there is room for others.
    test.clock.advance(LEASE);
    let users = test.source_with_keys("users", 1).await;
    test.claim_one(users.upstream).await;
    assert_eq!(nothing_until(&test.store.claim(&ask(users.upstream, 9)).await.unwrap()), Some(test.now() + LEASE));
}

async fn an_empty_claim_writes_nothing(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    test.refuse("lease", "true").await;
    test.refuse("upstream", "true").await;
    assert_eq!(nothing_until(&test.store.claim(&ask(weather.upstream, 9)).await.unwrap()), None);
    test.add(weather, 1).await;
    assert!(is_rejected(&test.store.claim(&ask(weather.upstream, 9)).await));
}

async fn an_unknown_upstream_is_an_error(test: &TestStore) {
    assert!(is_rejected(&test.store.claim(&ask(UpstreamId(77), 1)).await));
    assert!(is_rejected(&test.store.take_token(UpstreamId(77)).await));
}

async fn a_resource_that_cannot_be_read_is_put_off_and_the_others_are_granted(test: &TestStore) {
    let limits = Limits { max_concurrent: 1, ..UNLIMITED };
    let weather = test.source("weather", limits).await;
    test.add(weather, 3).await;
    test.execute("UPDATE {resource} SET params = 'no JSON' WHERE key = 'k0'").await.unwrap();
    let no_time = "UPDATE {schedule} SET due_at = -9223372036854775807
                    WHERE resource_id = (SELECT id FROM {resource} WHERE key = 'k1')";
    test.execute(no_time).await.unwrap();
    // It takes no more than one look for each, and neither counts as leased.
    let mut granted = Vec::new();
    for _ in 0..3 {
        let claimed = test.store.claim(&ask(weather.upstream, 1)).await.unwrap();
        granted.extend(claimed.claims);
        if granted.is_empty() {
            assert_eq!(claimed.ask_again_at, Some(test.now()));
        }
    }
    assert_eq!(keys_of(&granted), ["k2"]);
    assert_eq!(test.number("SELECT count(*) FROM {lease}").await, 1);
    test.settle(&granted[0], content("A", &[])).await;
    test.retire_keys_except(weather.source, &["k0", "k1"].map(key).into()).await.unwrap();
    assert_eq!(nothing_until(&test.store.claim(&ask(weather.upstream, 1)).await.unwrap()), Some(test.now() + HOUR));
    // It is tried again, when someone may have mended it.
    test.execute("UPDATE {resource} SET params = (SELECT params FROM {resource} WHERE key = 'k1') WHERE key = 'k0'")
        .await
        .unwrap();
    test.clock.advance(HOUR);
    assert_eq!(test.claim_one(weather.upstream).await.key.as_str(), "k0");
}

/// A newer program may have written it.
async fn a_reason_that_is_not_known_is_no_obstacle(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.execute("UPDATE {schedule} SET because = 99").await.unwrap();
    assert_eq!(test.current("weather", "k0").await.due.unwrap().because, Because::Interval);
    assert_eq!(test.claim_one(weather.upstream).await.due.because, Because::Interval);
}
