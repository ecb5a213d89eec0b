//! Rates and concurrency, held by the store for all processes together.

use std::sync::Arc;
use std::time::Duration;

use headpond::domain::limit::Limits;
use headpond::store::Store;
use tokio::task::JoinSet;

use crate::support::outcomes::{HOUR, content};
use crate::support::store::{LEASE, TestStore, UNLIMITED, ask, nothing_until, on_each_database};

on_each_database! {
    a_new_upstream_starts_with_its_burst_and_no_more,
    tokens_come_back_at_the_rate,
    concurrency_holds_under_claims_from_many_tasks_and_processes,
    the_rate_holds_under_claims_from_many_tasks_and_processes,
    single_tokens_come_out_of_the_same_bucket,
    a_settled_resource_makes_room_for_the_next,
    an_expired_lease_makes_room_for_the_next,
    limits_of_one_upstream_leave_another_alone,
}

const RATED: Limits = Limits {
    requests_per_second: Some(2.0),
    burst: 5,
    max_concurrent: 1000,
    budgets: headpond::domain::budget::Budgets::NONE,
};

async fn a_new_upstream_starts_with_its_burst_and_no_more(test: &TestStore) {
    let weather = test.source("weather", RATED).await;
    test.add(weather, 100).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 4, "the burst, less what late sending can add to a second");
    let claimed = test.store.claim(&ask(weather.upstream, 9)).await.unwrap();
    let next = nothing_until(&claimed).unwrap();
    test.clock.advance((next - test.now()).to_std().unwrap());
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
}

async fn tokens_come_back_at_the_rate(test: &TestStore) {
    let weather = test.source("weather", RATED).await;
    test.add(weather, 100).await;
    let mut granted = 0;
    for _ in 0..100 {
        granted += test.claim(weather.upstream).await.len();
        test.clock.advance(Duration::from_millis(100));
    }
    // 4.8 at first (the burst, less what late sending can add to a second), and two a second for 9.9 seconds.
    assert_eq!(granted, 24);
}

/// Claims from many tasks on two handles, all at once; returns how many were granted.
async fn storm(test: &TestStore, upstream: headpond::domain::resource::UpstreamId, at_most: u32) -> usize {
    let handles: [Arc<dyn Store>; 2] = [Arc::clone(&test.store), test.another().await];
    let mut tasks = JoinSet::new();
    for task in 0..20 {
        let store = Arc::clone(&handles[task % 2]);
        tasks.spawn(async move { store.claim(&ask(upstream, at_most)).await.unwrap().claims.len() });
    }
    tasks.join_all().await.into_iter().sum()
}

async fn concurrency_holds_under_claims_from_many_tasks_and_processes(test: &TestStore) {
    let weather = test.source("weather", Limits { max_concurrent: 7, ..UNLIMITED }).await;
    test.add(weather, 100).await;
    assert_eq!(storm(test, weather.upstream, 3).await, 7);
    assert_eq!(storm(test, weather.upstream, 3).await, 0);
}

async fn the_rate_holds_under_claims_from_many_tasks_and_processes(test: &TestStore) {
    let weather = test.source("weather", Limits { burst: 12, ..RATED }).await;
    test.add(weather, 100).await;
    assert_eq!(storm(test, weather.upstream, 2).await, 11);
    assert_eq!(storm(test, weather.upstream, 2).await, 0);
    test.clock.advance(Duration::from_secs(3));
    assert_eq!(storm(test, weather.upstream, 2).await, 6);
}

async fn single_tokens_come_out_of_the_same_bucket(test: &TestStore) {
    let weather = test.source("weather", RATED).await;
    test.add(weather, 100).await;
    for _ in 0..3 {
        assert_eq!(test.store.take_token(weather.upstream).await.unwrap(), Ok(()));
    }
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
    let next = test.store.take_token(weather.upstream).await.unwrap().unwrap_err();
    test.clock.advance((next - test.now()).to_std().unwrap());
    assert_eq!(test.store.take_token(weather.upstream).await.unwrap(), Ok(()));
    assert!(test.claim(weather.upstream).await.is_empty());
    let unlimited = test.source("users", UNLIMITED).await;
    assert_eq!(test.store.take_token(unlimited.upstream).await.unwrap(), Ok(()));
}

async fn a_settled_resource_makes_room_for_the_next(test: &TestStore) {
    let weather = test.source("weather", Limits { max_concurrent: 2, ..UNLIMITED }).await;
    test.add(weather, 5).await;
    let claims = test.claim(weather.upstream).await;
    test.settle(&claims[0], content("A", &[])).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
    test.store.release(&[(claims[1].token, claims[1].resource)]).await.unwrap();
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
    assert_eq!(test.claim(weather.upstream).await.len(), 0);
}

async fn an_expired_lease_makes_room_for_the_next(test: &TestStore) {
    let weather = test.source("weather", Limits { max_concurrent: 2, ..UNLIMITED }).await;
    test.add(weather, 5).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 2);
    test.clock.advance(LEASE);
    assert_eq!(test.claim(weather.upstream).await.len(), 2);
}

async fn limits_of_one_upstream_leave_another_alone(test: &TestStore) {
    let weather = test.source("weather", Limits { max_concurrent: 1, ..RATED }).await;
    test.add(weather, 5).await;
    let users = test.source_with_keys("users", 5).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
    assert_eq!(test.claim(users.upstream).await.len(), 5);
    test.clock.advance(HOUR);
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
}
