//! What was asked for by hand, what is left to do, and who is told.

use std::time::Duration;

use headpond::domain::schedule::Because;
use headpond::store::{Authority, Backlog, Follower, News, Selection};

use crate::support::outcomes::{HOUR, content, unreachable};
use crate::support::store::{LEASE, TestStore, UNLIMITED, key, keys_of, on_each_database, spec};

on_each_database! {
    what_is_wanted_goes_first,
    whole_sources_that_are_wanted_take_their_turn,
    a_whole_source_that_is_wanted_during_its_fetch_takes_its_turn_again,
    what_makes_something_due_earlier_counts_as_a_wish,
    a_wish_says_since_when_it_is_due,
    what_is_wanted_during_its_fetch_is_due_again,
    what_is_wanted_before_its_fetch_is_satisfied_by_it,
    a_wish_for_a_retired_key_is_nothing,
    wishes_can_be_for_sources_resources_or_all,
    the_backlog_counts_what_is_due_free_and_leased,
    followers_hear_of_applies_and_wishes_of_others,
}

async fn what_is_wanted_goes_first(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.clock.advance(2 * HOUR);
    let id = test.current("weather", "k2").await.resource;
    assert_eq!(test.store.want(&Selection::Resources(vec![id]), test.now()).await.unwrap(), 1);
    let claims = test.claim(weather.upstream).await;
    assert_eq!((claims[0].key.as_str(), claims[0].due.because, claims.len()), ("k2", Because::Manual, 3));
}

async fn whole_sources_that_are_wanted_take_their_turn(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let users = test.store.register(&[spec("users", "weather", UNLIMITED)], Authority::Owns).await.unwrap()[0];
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.clock.advance(2 * HOUR);
    test.add(users, 3).await;
    let (overdue, id) =
        (test.current("weather", "k0").await.due.unwrap().at, test.current("users", "k2").await.resource);
    test.clock.advance(HOUR);
    test.store.want(&Selection::Sources(vec![users.source]), test.now()).await.unwrap();
    test.store.want(&Selection::All, test.now()).await.unwrap();
    test.store.want(&Selection::Resources(vec![id]), test.now()).await.unwrap();
    let told = test.current("weather", "k0").await.due.unwrap();
    assert_eq!((told.at, told.because), (overdue, Because::Manual), "nothing becomes due later");
    assert_eq!(test.current("users", "k2").await.due.unwrap().at, test.now());
    let claims = test.claim(weather.upstream).await;
    assert_eq!((claims[0].source, claims[0].key.as_str()), (users.source, "k2"));
    let sources: Vec<_> = claims[1..].iter().map(|claim| claim.source).collect();
    assert_eq!(sources, [weather.source, weather.source, users.source, users.source]);
}

async fn a_whole_source_that_is_wanted_during_its_fetch_takes_its_turn_again(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let answer = test.settled(&test.claim_one(weather.upstream).await, content("A", &[]));
    test.clock.advance(Duration::from_secs(1));
    test.store.want(&Selection::All, test.now()).await.unwrap();
    test.clock.advance(Duration::from_secs(1));
    test.store.apply(&[answer]).await.unwrap();
    let claims = test.claim(weather.upstream).await;
    assert_eq!(keys_of(&claims), ["k1", "k0"], "k1 has been due for longer");
    assert_eq!(claims[1].due.at, test.now() - Duration::from_secs(1));
}

async fn what_makes_something_due_earlier_counts_as_a_wish(test: &TestStore) {
    let wishes = async || test.store.applied_since(0).await.unwrap().wishes;
    let mut before = wishes().await;
    let mut counts = async |expected: bool, what: &str| {
        let now = wishes().await;
        assert_eq!(now > before, expected, "{what}");
        before = now;
    };
    let weather = test.source("weather", UNLIMITED).await;
    counts(false, "a source").await;
    test.add(weather, 2).await;
    counts(true, "keys").await;
    test.add(weather, 2).await;
    counts(false, "the same keys").await;
    let claims = test.claim(weather.upstream).await;
    test.settle(&claims[0], content("A", &[])).await;
    counts(false, "a claim and its outcome").await;
    test.store.release(&[(claims[0].token, claims[0].resource)]).await.unwrap();
    test.store.release(&[(claims[1].token, claims[1].resource)]).await.unwrap();
    counts(true, "a release").await;
    test.store.release(&[(claims[1].token, claims[1].resource)]).await.unwrap();
    counts(false, "a release of nothing").await;
    test.store.want(&Selection::Resources(vec![claims[0].resource]), test.now()).await.unwrap();
    counts(true, "a wish").await;
    test.store.want(&Selection::Sources(Vec::new()), test.now()).await.unwrap();
    counts(false, "a wish for nothing").await;
    let other = [(key("k0"), [("lat".into(), "1".into())].into())];
    test.store.add_keys(weather.source, &other, Authority::Owns).await.unwrap();
    counts(true, "other parameters").await;
    test.retire_keys_except(weather.source, &[key("k0")].into()).await.unwrap();
    counts(false, "a key that goes").await;
    test.add(weather, 2).await;
    counts(true, "a key that comes back").await;
    for expected in [true, false] {
        test.store.register(&[spec("weather", "elsewhere", UNLIMITED)], Authority::Owns).await.unwrap();
        counts(expected, "a source that moves").await;
    }
}

async fn a_wish_says_since_when_it_is_due(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.store.want(&Selection::All, test.now()).await.unwrap();
    let due = test.current("weather", "k0").await.due.unwrap();
    assert_eq!((due.at, due.because), (test.now(), Because::Manual));
    assert_eq!(test.claim_one(weather.upstream).await.due, due);
}

async fn what_is_wanted_during_its_fetch_is_due_again(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    for seen in [content("A", &[]), content("A", &[]), unreachable()] {
        test.clock.advance(2 * HOUR);
        let answer = test.settled(&test.claim_one(weather.upstream).await, seen);
        test.clock.advance(Duration::from_micros(1));
        test.store.want(&Selection::Sources(vec![weather.source]), test.now()).await.unwrap();
        test.store.apply(&[answer]).await.unwrap();
        let again = test.claim_one(weather.upstream).await;
        assert_eq!((again.due.at, again.due.because), (test.now(), Because::Manual));
        test.settle(&again, content("A", &[])).await;
        assert!(test.claim(weather.upstream).await.is_empty());
    }
}

async fn what_is_wanted_before_its_fetch_is_satisfied_by_it(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let claim = test.claim_one(weather.upstream).await;
    test.store.want(&Selection::All, test.now()).await.unwrap();
    test.settle(&claim, content("A", &[])).await;
    assert_eq!(test.current("weather", "k0").await.due.unwrap().because, Because::Interval);
    assert!(test.claim(weather.upstream).await.is_empty());
}

async fn a_wish_for_a_retired_key_is_nothing(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    test.retire_keys_except(weather.source, &[key("k1")].into()).await.unwrap();
    assert_eq!(test.store.want(&Selection::All, test.now()).await.unwrap(), 1);
    assert_eq!(keys_of(&test.claim(weather.upstream).await), ["k1"]);
}

async fn wishes_can_be_for_sources_resources_or_all(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let users = test.store.register(&[spec("users", "weather", UNLIMITED)], Authority::Owns).await.unwrap()[0];
    test.add(users, 3).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    let id = test.current("users", "k1").await.resource;
    for (which, count) in [
        (Selection::Resources(vec![id]), 1),
        (Selection::Sources(vec![users.source]), 3),
        (Selection::Sources(vec![users.source, weather.source]), 5),
        (Selection::All, 5),
        (Selection::Resources(Vec::new()), 0),
    ] {
        assert_eq!(test.store.want(&which, test.now()).await.unwrap(), count, "{which:?}");
        let claims = test.claim(weather.upstream).await;
        assert_eq!(claims.len() as u64, count, "{which:?}");
        let answers: Vec<_> = claims.iter().map(|claim| test.settled(claim, content("A", &[]))).collect();
        test.store.apply(&answers).await.unwrap();
    }
}

async fn the_backlog_counts_what_is_due_free_and_leased(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    let users = test.source_with_keys("users", 2).await;
    test.claim_one(weather.upstream).await;
    let k0 = test.current("weather", "k0").await.resource;
    let k1 = test.current("weather", "k1").await.resource;
    for (which, waiting, leased) in [
        (Selection::All, 6, 1),
        (Selection::Sources(vec![weather.source]), 4, 1),
        (Selection::Sources(vec![users.source]), 2, 0),
        (Selection::Resources(vec![k0, k1]), 1, 1),
    ] {
        let backlog = test.store.backlog(&which, test.now()).await.unwrap();
        assert_eq!(backlog, Backlog { waiting, leased }, "{which:?}");
    }
    let before = test.now() - Duration::from_micros(1);
    assert_eq!(test.store.backlog(&Selection::All, before).await.unwrap(), Backlog::default());
    test.clock.advance(LEASE);
    assert_eq!(test.store.backlog(&Selection::All, test.now()).await.unwrap(), Backlog { waiting: 7, leased: 0 });
}

/// The next news, or a failure of the test.
async fn news(follower: &mut dyn Follower) -> News {
    tokio::time::timeout(Duration::from_secs(20), follower.news()).await.expect("no news came").unwrap()
}

async fn followers_hear_of_applies_and_wishes_of_others(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let claim = test.claim_one(weather.upstream).await;
    let other = test.another().await;
    let mut here = test.store.follow().await.unwrap();
    let mut there = other.follow().await.unwrap();

    test.settle(&claim, content("A", &[])).await;
    assert_eq!((news(&mut *here).await, news(&mut *there).await), (News::Something, News::Something));
    assert_eq!(other.applied_since(0).await.unwrap().resources.unwrap(), [claim.resource]);

    other.want(&Selection::All, test.now()).await.unwrap();
    assert_eq!((news(&mut *here).await, news(&mut *there).await), (News::Something, News::Something));

    let quiet = tokio::time::timeout(Duration::from_millis(200), here.news()).await;
    assert!(quiet.is_err(), "news without a commit: {quiet:?}");
}
