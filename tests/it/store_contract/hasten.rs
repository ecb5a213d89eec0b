//! What a reader who waits makes due.

use std::time::Duration;

use headpond::domain::schedule::Because;
use headpond::store::{Hastened, News, Selection, Wish};

use crate::support::outcomes::{HOUR, content, status, unreachable};
use crate::support::store::{LEASE, TestStore, ask, keys_of, on_each_database, wish};

on_each_database! {
    what_a_reader_waits_for_goes_first,
    many_readers_of_one_resource_make_one_wish,
    what_is_being_fetched_is_not_fetched_again,
    what_was_fetched_since_the_reader_looked_is_left_alone,
    what_was_fetched_for_readers_does_for_those_who_come_a_moment_later,
    what_failed_waits_out_its_backoff,
    what_is_retired_never_comes,
    a_wish_for_a_whole_source_does_not_hold_a_reader_up,
    what_was_never_fetched_stays_untried,
    others_hear_of_a_readers_wish,
    a_request_fulfils_the_wish_that_it_was_claimed_for_whatever_the_clocks_say,
}

impl TestStore {
    /// A reader looks at a key and waits for more.
    async fn hasten(&self, name: &str) -> Hastened {
        let current = self.current("weather", name).await;
        let seen = current.freshness.map(|freshness| freshness.fetched_at);
        self.store.hasten(current.resource, wish(seen, self.now())).await.unwrap()
    }
}

async fn what_a_reader_waits_for_goes_first(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.clock.advance(2 * HOUR);
    assert_eq!(test.hasten("k2").await, Hastened::Due);
    let current = test.current("weather", "k2").await;
    assert_eq!(current.wanted_at, Some(test.now()));
    let due = current.due.unwrap();
    assert_eq!((due.at, due.because), (test.now(), Because::Manual));
    let claims = test.claim(weather.upstream).await;
    assert_eq!((claims[0].key.as_str(), claims.len()), ("k2", 3));
    assert_eq!((claims[0].wanted_at, claims[1].wanted_at), (Some(test.now()), None));
    test.settle(&claims[0], content("B", &[])).await;
    assert_eq!(test.current("weather", "k2").await.wanted_at, None, "that is what was wanted");
}

async fn many_readers_of_one_resource_make_one_wish(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    let wishes = async || test.store.applied_since(0).await.unwrap().wishes;
    let before = wishes().await;
    assert_eq!(test.hasten("k0").await, Hastened::Due);
    assert_eq!(test.hasten("k0").await, Hastened::Coming);
    let seen = test.current("weather", "k0").await;
    let again = wish(seen.freshness.map(|freshness| freshness.fetched_at), test.now());
    let there = test.another().await.hasten(seen.resource, again).await;
    assert_eq!(there.unwrap(), Hastened::Coming, "in another process too");
    assert_eq!(wishes().await, before + 1);
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
}

async fn what_is_being_fetched_is_not_fetched_again(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.clock.advance(2 * HOUR);
    let claim = test.claim_one(weather.upstream).await;
    let answer = test.settled(&claim, content("B", &[]));
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(test.hasten("k0").await, Hastened::Coming);
    test.store.apply(&[answer]).await.unwrap();
    assert!(test.claim(weather.upstream).await.is_empty(), "one request for both");

    test.clock.advance(2 * HOUR);
    test.claim_one(weather.upstream).await;
    test.clock.advance(LEASE);
    assert_eq!(test.hasten("k0").await, Hastened::Due, "whoever fetched it is gone");
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
}

async fn what_was_fetched_since_the_reader_looked_is_left_alone(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let id = test.current("weather", "k0").await.resource;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    assert_eq!(test.store.hasten(id, wish(None, test.now())).await.unwrap(), Hastened::Newer);
    let first = test.now();
    test.clock.advance(2 * HOUR);
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    assert_eq!(test.store.hasten(id, wish(Some(first), test.now())).await.unwrap(), Hastened::Newer);
    assert!(test.claim(weather.upstream).await.is_empty());
}

async fn what_was_fetched_for_readers_does_for_those_who_come_a_moment_later(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let id = test.current("weather", "k0").await.resource;
    let elsewhere = test.another().await;
    let late = async |echo| {
        let seen = test.current("weather", "k0").await.freshness.map(|freshness| freshness.fetched_at);
        elsewhere.hasten(id, Wish { echo: Duration::from_secs(echo), ..wish(seen, test.now()) }).await.unwrap()
    };
    assert_eq!(test.hasten("k0").await, Hastened::Due);
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.clock.advance(Duration::from_millis(999));
    assert_eq!((late(1).await, late(0).await), (Hastened::Served, Hastened::Due));
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(late(1).await, Hastened::Due, "that is too long ago");
    test.settle_all(weather.upstream, |_| content("A", &[])).await;

    test.clock.advance(2 * HOUR);
    let claim = test.claim_one(weather.upstream).await;
    assert_eq!(test.hasten("k0").await, Hastened::Coming);
    test.settle(&claim, content("A", &[])).await;
    assert_eq!(late(1).await, Hastened::Served, "it was due anyway, and for readers too");

    test.clock.advance(2 * HOUR);
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    assert_eq!(late(1).await, Hastened::Due, "no reader has waited for that");
}

async fn what_failed_waits_out_its_backoff(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    test.settle_all(weather.upstream, |claim| match claim.key.as_str() {
        "k0" => unreachable(),
        "k1" => status(500),
        _ => status(410),
    })
    .await;
    for name in ["k0", "k1", "k2"] {
        let due = test.current("weather", name).await.due.unwrap();
        assert_eq!(test.hasten(name).await, Hastened::PutOff(due.at), "{name}");
    }
    assert!(test.claim(weather.upstream).await.is_empty());
    // The operator may.
    let id = test.current("weather", "k1").await.resource;
    test.store.want(&Selection::Resources(vec![id]), test.now()).await.unwrap();
    assert_eq!(keys_of(&test.claim(weather.upstream).await), ["k1"]);
}

async fn what_is_retired_never_comes(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    assert_eq!(test.hasten("k0").await, Hastened::Never);
    let nothing = headpond::domain::resource::ResourceId(4711);
    assert_eq!(test.store.hasten(nothing, wish(None, test.now())).await.unwrap(), Hastened::Never);
    assert!(test.claim(weather.upstream).await.is_empty());
}

async fn a_wish_for_a_whole_source_does_not_hold_a_reader_up(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.store.want(&Selection::All, test.now()).await.unwrap();
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(test.hasten("k2").await, Hastened::Due);
    assert_eq!(test.claim_one(weather.upstream).await.key.as_str(), "k2");
}

async fn what_was_never_fetched_stays_untried(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    assert_eq!(test.hasten("k1").await, Hastened::Due);
    assert!(!test.store.is_ready().await.unwrap());
    assert_eq!(keys_of(&test.claim(weather.upstream).await), ["k1", "k0"]);
}

async fn others_hear_of_a_readers_wish(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    let mut there = test.another().await.follow().await.unwrap();
    assert_eq!(test.hasten("k0").await, Hastened::Due);
    let news = tokio::time::timeout(Duration::from_secs(20), there.news()).await.expect("no news came");
    assert_eq!(news.unwrap(), News::Something);
}

async fn a_request_fulfils_the_wish_that_it_was_claimed_for_whatever_the_clocks_say(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let id = test.current("weather", "k0").await.resource;
    // By a process whose clock is ahead.
    let ahead = test.now() + Duration::from_secs(2);
    assert_eq!(test.store.hasten(id, wish(None, ahead)).await.unwrap(), Hastened::Due);
    let claim = test.store.claim(&ask(weather.upstream, 1)).await.unwrap().claims.remove(0);
    assert_eq!(claim.wanted_at, Some(ahead), "which is what the request then counts as begun after");
}
