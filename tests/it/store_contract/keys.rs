//! Sources and their keys.

use std::collections::BTreeSet;

use headpond::domain::limit::Limits;
use headpond::domain::resource::Params;
use headpond::domain::schedule::Because;
use headpond::store::{Authority, Fate, KeysChanged};

use crate::support::outcomes::{HOUR, content};
use crate::support::store::{LEASE, TestStore, UNLIMITED, ask, key, keys_of, nothing_until, on_each_database, spec};

on_each_database! {
    a_source_keeps_its_id,
    new_limits_hold_from_the_next_claim_on,
    a_source_moves_to_another_upstream_with_its_resources,
    what_is_in_flight_when_its_source_moves_is_not_claimed_again,
    what_expires_when_its_source_has_moved_is_leased_once,
    keys_are_due_at_once_and_added_once,
    keys_that_are_added_together_have_neighbouring_ids,
    other_parameters_make_a_key_due,
    validators_of_other_parameters_are_not_sent,
    retired_keys_are_not_polled_and_keep_their_content,
    a_key_that_comes_back_is_polled_again,
    retiring_in_flight_lets_the_outcome_in_but_polls_no_more,
    sources_that_are_dropped_are_retired,
    keys_of_any_text_are_found,
}

fn params(value: &str) -> Params {
    Params::from([("lat".into(), value.into())])
}

async fn a_source_keeps_its_id(test: &TestStore) {
    let specs = [spec("weather", "metno", UNLIMITED), spec("sea", "metno", UNLIMITED), spec("users", "hub", UNLIMITED)];
    let first = test.store.register(&specs, Authority::Owns).await.unwrap();
    assert_eq!(first[0].upstream, first[1].upstream);
    assert_ne!(first[0].upstream, first[2].upstream);
    assert_ne!(first[0].source, first[1].source);
    let again = test.another().await.register(&[specs[2].clone(), specs[0].clone()], Authority::Owns).await.unwrap();
    assert_eq!(again, [first[2], first[0]]);
}

async fn new_limits_hold_from_the_next_claim_on(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    test.source("weather", Limits { max_concurrent: 2, ..UNLIMITED }).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 2);
}

async fn a_source_moves_to_another_upstream_with_its_resources(test: &TestStore) {
    let before = test.source_with_keys("weather", 3).await;
    let after = test.store.register(&[spec("weather", "elsewhere", UNLIMITED)], Authority::Owns).await.unwrap()[0];
    assert_eq!(after.source, before.source);
    assert_eq!(nothing_until(&test.store.claim(&ask(before.upstream, 9)).await.unwrap()), None);
    assert_eq!(keys_of(&test.claim(after.upstream).await), ["k0", "k1", "k2"]);
}

async fn what_is_in_flight_when_its_source_moves_is_not_claimed_again(test: &TestStore) {
    let before = test.source_with_keys("weather", 2).await;
    let claim = test.claim_one(before.upstream).await;
    let after = test.store.register(&[spec("weather", "elsewhere", UNLIMITED)], Authority::Owns).await.unwrap()[0];
    assert_eq!(keys_of(&test.claim(after.upstream).await), ["k1"]);
    test.settle(&claim, content("A", &[])).await;
    assert_eq!(test.current("weather", "k0").await.version, 1);
}

async fn what_expires_when_its_source_has_moved_is_leased_once(test: &TestStore) {
    let before = test.source_with_keys("weather", 1).await;
    let late = test.claim_one(before.upstream).await;
    let after = test.store.register(&[spec("weather", "elsewhere", UNLIMITED)], Authority::Owns).await.unwrap()[0];
    test.clock.advance(LEASE);
    let present = test.claim_one(after.upstream).await;
    let applied = test.store.apply(&[test.settled(&late, content("late", &[]))]).await.unwrap();
    assert_eq!(applied.fates, [Fate::LeaseLost]);
    test.settle(&present, content("A", &[])).await;
}

async fn keys_are_due_at_once_and_added_once(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let keys = [(key("a"), Params::new()), (key("b"), params("1")), (key("a"), Params::new())];
    assert_eq!(
        test.store.add_keys(weather.source, &keys, Authority::Owns).await.unwrap(),
        KeysChanged { added: 2, ..Default::default() }
    );
    assert_eq!(test.store.add_keys(weather.source, &keys, Authority::Owns).await.unwrap(), KeysChanged::default());

    let claims = test.claim(weather.upstream).await;
    assert_eq!(keys_of(&claims), ["a", "b"]);
    assert_eq!(claims[1].params, params("1"));
    assert_eq!(claims[1].source, weather.source);
    assert_eq!((claims[0].due.at, claims[0].due.because), (test.now(), Because::New));
    assert_eq!((claims[0].previous.version, claims[0].granted_at), (0, test.now()));
}

async fn keys_that_are_added_together_have_neighbouring_ids(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let names: Vec<_> = (0..500).map(|n| key(&format!("{:03}", n * 7 % 500))).collect();
    let keys: Vec<_> = names.iter().map(|name| (name.clone(), Params::new())).collect();
    test.store.add_keys(weather.source, &keys, Authority::Owns).await.unwrap();
    let ids: Vec<_> = test.store.find(weather.source, &names).await.unwrap().into_iter().map(Option::unwrap).collect();
    assert!(ids.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
}

async fn other_parameters_make_a_key_due(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    test.store
        .add_keys(weather.source, &[(key("a"), params("1")), (key("b"), params("1"))], Authority::Owns)
        .await
        .unwrap();
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    assert!(test.claim(weather.upstream).await.is_empty());

    let keys = [(key("a"), params("2")), (key("b"), params("1"))];
    let changed = test.store.add_keys(weather.source, &keys, Authority::Owns).await.unwrap();
    assert_eq!(changed, KeysChanged { updated: 1, ..Default::default() });
    let claims = test.claim(weather.upstream).await;
    assert_eq!(keys_of(&claims), ["a"]);
    assert_eq!(claims[0].params, params("2"));
}

async fn validators_of_other_parameters_are_not_sent(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let tagged = || content("A", &[("etag", "\"same-everywhere\"")]);
    test.store.add_keys(weather.source, &[(key("a"), params("1"))], Authority::Owns).await.unwrap();
    test.settle(&test.claim_one(weather.upstream).await, tagged()).await;

    test.store.add_keys(weather.source, &[(key("a"), params("2"))], Authority::Owns).await.unwrap();
    let claim = test.claim_one(weather.upstream).await;
    assert_eq!(claim.previous.validators(), None);

    // Even when the answer for the old parameters comes after the new ones are known.
    let answer = test.settled(&claim, tagged());
    test.clock.advance(HOUR / 60);
    test.store.add_keys(weather.source, &[(key("a"), params("3"))], Authority::Owns).await.unwrap();
    test.store.apply(&[answer]).await.unwrap();
    let claim = test.claim_one(weather.upstream).await;
    assert_eq!((claim.params.clone(), claim.previous.validators()), (params("3"), None));
}

async fn retired_keys_are_not_polled_and_keep_their_content(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    let keep = BTreeSet::from([key("k1"), key("never-added")]);
    assert_eq!(test.retire_keys_except(weather.source, &keep).await.unwrap(), 2);
    assert_eq!(test.retire_keys_except(weather.source, &keep).await.unwrap(), 0);

    test.clock.advance(2 * HOUR);
    assert_eq!(keys_of(&test.claim(weather.upstream).await), ["k1"]);
    let found = test.store.find(weather.source, &[key("k0"), key("k1")]).await.unwrap();
    assert!(found[0].is_none() && found[1].is_some());
    let retired = test.current("weather", "k0").await;
    assert_eq!((retired.due, retired.content.unwrap().body.as_ref()), (None, &b"A"[..]));
}

async fn a_key_that_comes_back_is_polled_again(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
    test.retire_keys_except(weather.source, &BTreeSet::new()).await.unwrap();

    assert_eq!(test.add(weather, 1).await, KeysChanged { revived: 1, ..Default::default() });
    let claims = test.claim(weather.upstream).await;
    assert_eq!(keys_of(&claims), ["k0"]);
    assert_eq!(claims[0].previous.version, 1);
    assert!(claims[0].previous.validators().is_some());
}

async fn retiring_in_flight_lets_the_outcome_in_but_polls_no_more(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let claim = test.claim_one(weather.upstream).await;
    test.retire_keys_except(weather.source, &BTreeSet::new()).await.unwrap();
    test.settle(&claim, content("A", &[])).await;
    assert_eq!((test.current("weather", "k0").await.version, test.current("weather", "k0").await.due), (1, None));
    test.clock.advance(2 * HOUR);
    assert!(test.claim(weather.upstream).await.is_empty());
}

async fn sources_that_are_dropped_are_retired(test: &TestStore) {
    let kept = test.source_with_keys("weather", 2).await;
    let dropped = test.source_with_keys("users", 3).await;
    assert_eq!(test.store.retire_sources_except(&[kept.source]).await.unwrap(), 3);
    assert_eq!(test.store.retire_sources_except(&[kept.source]).await.unwrap(), 0);
    assert!(test.claim(dropped.upstream).await.is_empty());
    assert_eq!(test.claim(kept.upstream).await.len(), 2);
}

async fn keys_of_any_text_are_found(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let users = test.source("users", UNLIMITED).await;
    let names = ["a/b", "..", "100%", "with space", "\"quoted\\\"", "🦆", "ß", "SS", &"x".repeat(2048)].map(key);
    let keys: Vec<_> = names.iter().map(|name| (name.clone(), params("\"\\🦆"))).collect();
    assert_eq!(test.store.add_keys(weather.source, &keys, Authority::Owns).await.unwrap().added, 9);
    let found = test.store.find(weather.source, &names).await.unwrap();
    let claims = test.claim(weather.upstream).await;
    for ((name, id), claim) in names.iter().zip(found).zip(&claims) {
        assert_eq!((name, id.unwrap(), &claim.params), (&claim.key, claim.resource, &params("\"\\🦆")));
        assert_eq!(test.current("weather", name.as_str()).await.resource, claim.resource);
    }
    assert_eq!(test.store.find(users.source, &names[..1]).await.unwrap(), [None]);
    assert_eq!(test.store.find(weather.source, &[key("A/B")]).await.unwrap(), [None]);
}
