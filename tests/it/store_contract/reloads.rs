//! What another configuration makes of what is there: other questions, other schedules.

use std::time::Duration;

use chrono::{DateTime, Utc};
use headpond::domain::fingerprint::Fingerprint;
use headpond::domain::schedule::{Because, Cadence, CronRule};
use headpond::store::{Authority, Registered, SourceSpec, StoreError};

use crate::support::outcomes::{HOUR, content, status, unreachable};
use crate::support::store::{LEASE, TestStore, UNLIMITED, is_rejected, key, keys_of, on_each_database, spec};

on_each_database! {
    what_a_source_asks_for_now_is_due_and_asked_for_without_validators,
    what_it_asks_for_as_before_is_left_alone,
    what_was_asked_for_before_the_change_leaves_it_due_and_no_validators,
    what_was_claimed_before_the_change_counts_as_asked_for_before_it,
    a_claim_says_what_its_source_asks_for,
    absences_of_what_was_asked_for_before_count_for_nothing,
    a_retired_key_forgets_its_validators_too,
    of_a_database_from_before_nothing_is_due,
    a_shorter_interval_makes_what_was_planned_due_earlier,
    a_longer_interval_leaves_what_was_planned,
    the_same_cadence_moves_nothing,
    what_the_schedule_did_not_decide_is_not_rescheduled,
    a_cron_rule_takes_the_place_of_an_interval,
    many_keys_are_rescheduled,
    an_upstream_is_found_by_its_name,
}

const SECOND: Duration = Duration::from_secs(1);
const TAGGED: &[(&str, &str)] = &[("etag", "\"a\""), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")];

/// `weather` asks for something else from now on.
async fn ask_anew(test: &TestStore) -> Registered {
    let anew = SourceSpec { fingerprint: Fingerprint(2), ..spec("weather", "weather", UNLIMITED) };
    test.store.register(&[anew], Authority::Owns).await.unwrap()[0]
}

async fn wishes(test: &TestStore) -> i64 {
    test.store.applied_since(0).await.unwrap().wishes
}

async fn what_a_source_asks_for_now_is_due_and_asked_for_without_validators(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    let users = test.source_with_keys("users", 1).await;
    for source in [weather, users] {
        test.settle_all(source.upstream, |_| content("A", TAGGED)).await;
    }
    let before = wishes(test).await;
    test.clock.advance(SECOND);
    assert_eq!(ask_anew(test).await, weather);
    assert!(wishes(test).await > before, "whoever waits for something to do is told");

    let current = test.current("weather", "k0").await;
    assert_eq!((current.due.unwrap().at, current.version), (test.now(), 1), "due, and still what it was");
    let claims = test.claim(weather.upstream).await;
    assert_eq!(keys_of(&claims), ["k0", "k1", "k2"]);
    assert!(claims.iter().all(|claim| claim.previous.validators().is_none()));
    assert!(test.claim(users.upstream).await.is_empty());
    assert!(test.current("users", "k0").await.validators.etag.is_some());

    let batch: Vec<_> = claims.iter().map(|claim| test.settled(claim, content("B", TAGGED))).collect();
    test.store.apply(&batch).await.unwrap();
    assert!(test.claim(weather.upstream).await.is_empty(), "once is enough");
    assert!(test.current("weather", "k0").await.validators.etag.is_some());
}

async fn what_it_asks_for_as_before_is_left_alone(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", TAGGED)).await;
    let before = (test.current("weather", "k0").await, wishes(test).await);
    test.clock.advance(SECOND);
    test.source("weather", UNLIMITED).await;
    assert_eq!((test.current("weather", "k0").await, wishes(test).await), before);
}

async fn what_was_asked_for_before_the_change_leaves_it_due_and_no_validators(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    for seen in [content("A", TAGGED), content("A", &[("etag", "\"b\"")]), unreachable()] {
        let claim = test.claim_one(weather.upstream).await;
        test.clock.advance(SECOND);
        ask_anew(test).await;
        test.source("weather", UNLIMITED).await;
        let again = test.settled(&claim, seen);
        test.clock.advance(SECOND);
        test.store.apply(&[again]).await.unwrap();
        let claim = test.claim_one(weather.upstream).await;
        assert!(claim.previous.validators().is_none());
        test.store.release(&[(claim.token, claim.resource)]).await.unwrap();
    }
}

/// A request can be sent some time after its claim: what it asks for was read with the claim.
async fn what_was_claimed_before_the_change_counts_as_asked_for_before_it(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let claim = test.claim_one(weather.upstream).await;
    test.clock.advance(SECOND);
    ask_anew(test).await;
    test.clock.advance(SECOND);
    assert!(claim.granted_at < test.now());
    test.settle(&claim, content("of the old URL", TAGGED)).await;
    assert!(test.current("weather", "k0").await.validators.etag.is_none());
    test.settle(&test.claim_one(weather.upstream).await, content("of the new URL", TAGGED)).await;
    assert!(test.claim(weather.upstream).await.is_empty());
}

async fn a_claim_says_what_its_source_asks_for(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    assert_eq!(test.claim_one(weather.upstream).await.fingerprint, Some(Fingerprint(1)));
    test.clock.advance(LEASE);
    ask_anew(test).await;
    assert_eq!(test.claim_one(weather.upstream).await.fingerprint, Some(Fingerprint(2)));
}

async fn absences_of_what_was_asked_for_before_count_for_nothing(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    for _ in 0..2 {
        test.clock.advance(2 * HOUR);
        test.settle_all(weather.upstream, |_| status(404)).await;
    }
    assert_eq!(test.number("SELECT sum(absences) FROM {resource}").await, 2);
    test.clock.advance(SECOND);
    ask_anew(test).await;
    test.settle_all(weather.upstream, |_| status(404)).await;
    assert_eq!(test.current("weather", "k0").await.gone_since, None, "it is the first one");
}

async fn a_retired_key_forgets_its_validators_too(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    test.settle_all(weather.upstream, |_| content("A", TAGGED)).await;
    test.clock.advance(2 * HOUR);
    let under_way = test.claim_one(weather.upstream).await;
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    test.clock.advance(SECOND);
    ask_anew(test).await;
    assert!(test.claim(weather.upstream).await.is_empty(), "what is retired stays so");
    test.settle(&under_way, content("of the old URL", TAGGED)).await;
    test.clock.advance(HOUR);
    test.add(weather, 2).await;
    let claims = test.claim(weather.upstream).await;
    assert_eq!(claims.len(), 2);
    assert!(claims.iter().all(|claim| claim.previous.validators().is_none()));
}

async fn of_a_database_from_before_nothing_is_due(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", TAGGED)).await;
    test.execute("UPDATE {source} SET fingerprint = NULL, cadence = NULL").await.unwrap();
    ask_anew(test).await;
    assert_eq!(test.store.reschedule(weather.source, &Cadence::Every(SECOND)).await.unwrap(), 0);
    assert!(test.claim(weather.upstream).await.is_empty());
    assert!(test.current("weather", "k0").await.validators.etag.is_some());
    // From here on it is known.
    test.clock.advance(SECOND);
    test.source("weather", UNLIMITED).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
}

/// `weather` with so many keys, all fetched now and due by the hour.
async fn by_the_hour(test: &TestStore, keys: usize) -> Registered {
    let weather = test.source_with_keys("weather", keys).await;
    test.store.reschedule(weather.source, &Cadence::Every(HOUR)).await.unwrap();
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    weather
}

async fn due(test: &TestStore, name: &str) -> DateTime<Utc> {
    test.current("weather", name).await.due.unwrap().at
}

async fn a_shorter_interval_makes_what_was_planned_due_earlier(test: &TestStore) {
    let weather = by_the_hour(test, 100).await;
    let before = wishes(test).await;
    assert_eq!(test.store.reschedule(weather.source, &Cadence::Every(60 * SECOND)).await.unwrap(), 100);
    assert!(wishes(test).await > before, "whoever waits for something to do is told");
    let mut times = Vec::new();
    for n in 0..100 {
        let at = due(test, &format!("k{n}")).await;
        assert!(at > test.now() && at <= test.now() + 60 * SECOND, "{at}");
        times.push(at);
    }
    times.sort();
    times.dedup();
    assert!(times.len() > 50, "spread over the interval, not all at once: {}", times.len());
    assert_eq!(test.current("weather", "k0").await.due.unwrap().because, Because::Interval);
}

async fn a_longer_interval_leaves_what_was_planned(test: &TestStore) {
    let weather = by_the_hour(test, 3).await;
    let before = due(test, "k0").await;
    assert_eq!(test.store.reschedule(weather.source, &Cadence::Every(24 * HOUR)).await.unwrap(), 0);
    assert_eq!(due(test, "k0").await, before);
}

async fn the_same_cadence_moves_nothing(test: &TestStore) {
    let weather = by_the_hour(test, 3).await;
    test.execute(&format!("UPDATE {{schedule}} SET due_at = {}", (test.now() + 9 * HOUR).timestamp_micros()))
        .await
        .unwrap();
    assert_eq!(test.another().await.reschedule(weather.source, &Cadence::Every(HOUR)).await.unwrap(), 0);
    assert_eq!(due(test, "k0").await, test.now() + 9 * HOUR, "a jitter is not taken away by each restart");
    let nowhere = headpond::domain::resource::SourceId(-1);
    assert!(is_rejected(&test.store.reschedule(nowhere, &Cadence::Every(HOUR)).await));
}

async fn what_the_schedule_did_not_decide_is_not_rescheduled(test: &TestStore) {
    let weather = test.source_with_keys("weather", 4).await;
    test.store.reschedule(weather.source, &Cadence::Every(24 * HOUR)).await.unwrap();
    test.settle_all(weather.upstream, |claim| match claim.key.as_str() {
        "k0" => content("A", &[("cache-control", "max-age=86400")]),
        "k1" => status(410),
        "k2" => unreachable(),
        _ => content("A", &[]),
    })
    .await;
    test.retire_keys_except(weather.source, &["k0", "k1", "k2"].map(key).into()).await.unwrap();
    let before = [due(test, "k0").await, due(test, "k1").await];
    assert_eq!(test.store.reschedule(weather.source, &Cadence::Every(SECOND)).await.unwrap(), 1);
    assert_eq!([due(test, "k0").await, due(test, "k1").await], before, "the upstream's own lifetime, and a gone one");
    assert!(due(test, "k2").await <= test.now() + SECOND, "what failed does not wait longer than the interval");
    assert_eq!(test.current("weather", "k3").await.due, None, "what is retired stays so");
}

async fn a_cron_rule_takes_the_place_of_an_interval(test: &TestStore) {
    let weather = by_the_hour(test, 2).await;
    let rule = CronRule::new("* * * * *", chrono_tz::Tz::UTC, test.now()).unwrap();
    let next = rule.next(test.now()).unwrap();
    assert_eq!(test.store.reschedule(weather.source, &Cadence::Cron(Box::new(rule))).await.unwrap(), 2);
    assert_eq!((due(test, "k0").await, due(test, "k1").await), (next, next));
}

async fn many_keys_are_rescheduled(test: &TestStore) {
    let weather = by_the_hour(test, 12_001).await;
    assert_eq!(test.store.reschedule(weather.source, &Cadence::Every(SECOND)).await.unwrap(), 12_001);
    test.clock.advance(SECOND);
    assert_eq!(test.claim(weather.upstream).await.len(), 12_001);
}

async fn an_upstream_is_found_by_its_name(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    assert_eq!(test.store.upstream("weather").await.unwrap(), Some(weather.upstream));
    assert_eq!(test.store.upstream("Weather").await.unwrap(), None);
    let closed = test.another().await;
    closed.close().await;
    assert!(matches!(closed.upstream("weather").await, Err(StoreError::Unavailable(_))));
}
