//! What readers see, and whether the sources are ready.

use std::time::Duration;

use futures_util::future::join_all;
use headpond::clock::monotonic;
use headpond::domain::resource::SourceName;
use headpond::domain::schedule::Because;
use headpond::store::{Bodies, ListRequest, Selection};

use crate::support::outcomes::{HOUR, content, status, unreachable};
use crate::support::store::{TestStore, UNLIMITED, key, on_each_database};

on_each_database! {
    a_key_that_was_never_fetched_is_pending,
    a_snapshot_is_read_as_it_came,
    bodies_and_validators_of_any_bytes_are_kept,
    what_is_not_known_is_none,
    the_time_is_the_databases_own,
    ready_is_each_key_tried_once,
    ready_once_is_ready_for_ever,
    a_source_without_keys_holds_nobody_up,
    a_wish_does_not_count_as_a_try,
    the_store_says_what_it_runs_on,
    a_reader_who_leaves_in_the_middle_leaves_nothing_old_to_others,
}

/// However far his request has come. A connection that is left inside a transaction shows to all who get it next what the first
/// of them saw.
async fn a_reader_who_leaves_in_the_middle_leaves_nothing_old_to_others(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let name = SourceName::new("weather").unwrap();
    let request = ListRequest { after: None, limit: 10, state: None, bodies: Bodies::UpTo(0) };
    let mut left = 0;
    for round in 1..=100 {
        let (mut listing, mut has_come) = (test.store.list(&name, &request), false);
        let until = monotonic() + Duration::from_micros(20 * round);
        while !has_come && monotonic() < until {
            has_come = futures_util::poll!(&mut listing).is_ready();
            tokio::task::yield_now().await;
        }
        drop(listing);
        left += usize::from(!has_come);
        // By all connections.
        assert!(join_all((0..8).map(|_| test.current("weather", "k0"))).await.iter().all(|one| one.version < round));
        test.clock.advance(3 * HOUR);
        test.settle_all(weather.upstream, |_| content(&round.to_string(), &[])).await;
        for current in join_all((0..8).map(|_| test.current("weather", "k0"))).await {
            assert_eq!(current.version, round);
        }
    }
    assert!(left > 0, "none left in the middle");
}

async fn a_key_that_was_never_fetched_is_pending(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    let current = test.current("weather", "k0").await;
    assert_eq!((current.version, current.content, current.freshness), (0, None, None));
    assert_eq!((current.gone_since, current.failing, current.leased_until), (None, None, None));
    let due = current.due.unwrap();
    assert_eq!((due.at, due.because), (test.now(), Because::New));
}

async fn a_snapshot_is_read_as_it_came(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let fields = [
        ("etag", "no-quotes"),
        ("content-type", "text/plain"),
        ("content-language", "de"),
        ("link", "<a?token=secret>"),
    ];
    test.settle(&test.claim_one(weather.upstream).await, content("A\u{0}ß", &fields)).await;
    let fetched = test.now();
    let current = test.current("weather", "k0").await;
    let stored = current.content.unwrap();
    assert_eq!((current.version, stored.changed_at, stored.body.as_ref()), (1, fetched, "A\u{0}ß".as_bytes()));
    let mut names: Vec<_> = stored.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-language", "content-type"]);
    assert_eq!(current.validators.etag.as_deref(), Some(&b"no-quotes"[..]));
    let freshness = current.freshness.unwrap();
    assert_eq!((freshness.fetched_at, freshness.stale_after), (fetched, fetched + 2 * HOUR));
}

async fn bodies_and_validators_of_any_bytes_are_kept(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut headers = http::HeaderMap::new();
    headers.insert(http::header::ETAG, http::HeaderValue::from_bytes(b"\"\xff'\\\"").unwrap());
    let seen = headpond::domain::observation::Seen::Content { headers, body: body.clone().into() };
    test.settle(&test.claim_one(weather.upstream).await, seen).await;
    let current = test.current("weather", "k0").await;
    assert!(current.content.unwrap().body == body);
    assert_eq!(current.validators.etag.as_deref(), Some(&b"\"\xff'\\\""[..]));
    test.clock.advance(2 * HOUR);
    assert_eq!(test.claim_one(weather.upstream).await.previous.metadata.validators, current.validators);
}

async fn what_is_not_known_is_none(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    for (source, name) in [("weather", "k1"), ("users", "k0"), ("weather", "K0")] {
        let current = test.store.current(&SourceName::new(source).unwrap(), &key(name)).await.unwrap();
        assert_eq!(current, None, "{source}/{name}");
    }
}

async fn the_time_is_the_databases_own(test: &TestStore) {
    // Where the database has a clock, it is not the test's.
    assert!(test.store.database_time().await.unwrap().is_none_or(|time| time != test.now()));
}

async fn ready_is_each_key_tried_once(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    assert!(!test.store.is_ready().await.unwrap());
    let claims = test.claim(weather.upstream).await;
    test.settle(&claims[0], content("A", &[])).await;
    test.settle(&claims[1], status(404)).await;
    assert!(!test.store.is_ready().await.unwrap());
    test.settle(&claims[2], unreachable()).await;
    assert!(test.store.is_ready().await.unwrap());
}

async fn ready_once_is_ready_for_ever(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    assert!(test.store.is_ready().await.unwrap());
    test.add(weather, 5).await;
    assert!(test.store.is_ready().await.unwrap());
    assert!(test.another().await.is_ready().await.unwrap());
    test.source_with_keys("users", 1).await;
    assert!(!test.store.is_ready().await.unwrap(), "a source that is new has not tried its keys");
}

async fn a_source_without_keys_holds_nobody_up(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    assert!(test.store.is_ready().await.unwrap());
    test.add(weather, 1).await;
    assert!(!test.store.is_ready().await.unwrap(), "it has keys now, and none of them was tried");
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    assert!(test.store.is_ready().await.unwrap());
}

async fn a_wish_does_not_count_as_a_try(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.clock.advance(Duration::from_secs(1));
    let id = test.current("weather", "k0").await.resource;
    test.store.want(&Selection::Resources(vec![id]), test.now()).await.unwrap();
    assert!(!test.store.is_ready().await.unwrap());
    assert_eq!(test.current("weather", "k0").await.due.unwrap().at, test.now());
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    assert!(test.store.is_ready().await.unwrap());
}

async fn the_store_says_what_it_runs_on(test: &TestStore) {
    let description = test.store.describe();
    assert!(description.starts_with("SQLite 3.") || description.starts_with("PostgreSQL"), "{description}");
}
