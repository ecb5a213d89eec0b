//! Whose configuration holds.

use std::time::Duration;

use headpond::domain::fingerprint::Fingerprint;
use headpond::domain::limit::Limits;
use headpond::domain::resource::Params;
use headpond::store::{Authority, KeysChanged, SourceSpec, StoreError};

use crate::support::outcomes::{HOUR, content};
use crate::support::store::{TestStore, UNLIMITED, key, keys_of, on_each_database, spec};

on_each_database! {
    whoever_only_adds_changes_neither_limits_nor_upstreams,
    whoever_only_adds_is_told_of_a_source_that_is_not_there,
    whoever_only_adds_is_told_of_a_source_that_asks_for_something_else,
    whoever_only_adds_changes_no_parameters,
    the_configuration_has_no_owner_at_first,
    the_last_to_own_the_configuration_owns_it,
    only_the_owner_gives_the_configuration_up,
    an_owner_that_does_not_renew_loses_the_configuration,
    an_owner_that_was_late_to_renew_has_it_back_if_nobody_took_it,
    whoever_lost_the_configuration_can_not_renew_it,
}

fn params(value: &str) -> Params {
    Params::from([("lat".into(), value.into())])
}

async fn whoever_only_adds_changes_neither_limits_nor_upstreams(test: &TestStore) {
    let weather = test.source("weather", Limits { max_concurrent: 2, ..UNLIMITED }).await;
    test.add(weather, 5).await;
    let users = test.source_with_keys("users", 1).await;
    let elsewhere = [spec("users", "elsewhere", UNLIMITED), spec("weather", "weather", UNLIMITED)];
    let found = test.store.register(&elsewhere, Authority::Adds).await.unwrap();
    assert_eq!(found, [users, weather], "in the order given, where they are");
    assert_eq!(test.claim(weather.upstream).await.len(), 2);
    assert_eq!(test.claim(users.upstream).await.len(), 1);
    assert_eq!(test.number("SELECT count(*) FROM {upstream}").await, 2);
}

async fn whoever_only_adds_is_told_of_a_source_that_is_not_there(test: &TestStore) {
    test.source("weather", UNLIMITED).await;
    let specs = [spec("weather", "weather", UNLIMITED), spec("sea", "weather", UNLIMITED)];
    let refused = test.store.register(&specs, Authority::Adds).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unusable(_)));
    let problem = refused.to_string();
    assert!(problem.contains("`sea`") && problem.contains("the running `serve` does not have it"), "{problem}");
    assert_eq!(test.number("SELECT count(*) FROM {source}").await, 1);
}

async fn whoever_only_adds_is_told_of_a_source_that_asks_for_something_else(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
    let other = [SourceSpec { fingerprint: Fingerprint(2), ..spec("weather", "weather", UNLIMITED) }];
    let refused = test.store.register(&other, Authority::Adds).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unusable(_)));
    let problem = refused.to_string();
    assert!(problem.contains("`weather`: the running `serve` asks with another url"), "{problem}");
    assert!(test.current("weather", "k0").await.validators.etag.is_some(), "and nothing is changed");

    // A database from before: what it asked for was never said.
    test.execute("UPDATE {source} SET fingerprint = NULL").await.unwrap();
    assert_eq!(test.store.register(&other, Authority::Adds).await.unwrap(), [weather]);
}

async fn whoever_only_adds_changes_no_parameters(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    test.store.add_keys(weather.source, &[(key("a"), params("1"))], Authority::Owns).await.unwrap();
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;

    let keys = [(key("a"), params("2")), (key("b"), params("2"))];
    let changed = test.store.add_keys(weather.source, &keys, Authority::Adds).await.unwrap();
    assert_eq!(changed, KeysChanged { added: 1, ..KeysChanged::default() });
    assert_eq!(keys_of(&test.claim(weather.upstream).await), ["b"]);
    test.clock.advance(2 * HOUR);
    let known = test.claim(weather.upstream).await.into_iter().find(|claim| claim.key == key("a")).unwrap();
    assert_eq!(known.params, params("1"));
    assert!(known.previous.validators().is_some());

    // A key that nobody polls is as good as missing.
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    test.clock.advance(HOUR);
    let changed = test.store.add_keys(weather.source, &keys[..1], Authority::Adds).await.unwrap();
    assert_eq!(changed.revived, 1);
    assert_eq!(test.claim_one(weather.upstream).await.params, params("2"));
}

const MINUTE: Duration = Duration::from_secs(60);
const ALMOST: Duration = Duration::from_secs(59);

async fn owner(test: &TestStore) -> Option<String> {
    test.store.config_owner(test.now()).await.unwrap()
}

async fn the_configuration_has_no_owner_at_first(test: &TestStore) {
    assert_eq!(owner(test).await, None);
    test.store.disown_config("nobody").await.unwrap();
}

async fn the_last_to_own_the_configuration_owns_it(test: &TestStore) {
    test.store.own_config("first, of host a", test.now() + 2 * MINUTE).await.unwrap();
    assert_eq!(owner(test).await.as_deref(), Some("first, of host a"));
    test.another().await.own_config("second", test.now() + MINUTE).await.unwrap();
    assert_eq!(owner(test).await.as_deref(), Some("second"));
}

async fn only_the_owner_gives_the_configuration_up(test: &TestStore) {
    test.store.own_config("first host", test.now() + MINUTE).await.unwrap();
    test.store.own_config("second host", test.now() + MINUTE).await.unwrap();
    for other in ["first host", "host", "second"] {
        test.store.disown_config(other).await.unwrap();
        assert_eq!(owner(test).await.as_deref(), Some("second host"), "{other}");
    }
    test.store.disown_config("second host").await.unwrap();
    assert_eq!(owner(test).await, None);
}

async fn an_owner_that_does_not_renew_loses_the_configuration(test: &TestStore) {
    test.store.own_config("serve", test.now() + MINUTE).await.unwrap();
    test.clock.advance(ALMOST);
    assert_eq!(owner(test).await.as_deref(), Some("serve"));
    assert!(test.store.renew_config("serve", test.now() + MINUTE).await.unwrap());
    test.clock.advance(ALMOST);
    assert_eq!(owner(test).await.as_deref(), Some("serve"));
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(owner(test).await, None);
}

async fn an_owner_that_was_late_to_renew_has_it_back_if_nobody_took_it(test: &TestStore) {
    test.store.own_config("serve", test.now() + MINUTE).await.unwrap();
    test.clock.advance(2 * MINUTE);
    assert!(test.store.renew_config("serve", test.now() + MINUTE).await.unwrap());
    assert_eq!(owner(test).await.as_deref(), Some("serve"));
}

async fn whoever_lost_the_configuration_can_not_renew_it(test: &TestStore) {
    let later = test.now() + MINUTE;
    assert!(!test.store.renew_config("first host", later).await.unwrap(), "it never had it");
    test.store.own_config("first host", later).await.unwrap();
    test.another().await.own_config("second host", later).await.unwrap();
    for other in ["first host", "host", "second"] {
        assert!(!test.store.renew_config(other, later + MINUTE).await.unwrap(), "{other}");
    }
    assert_eq!(owner(test).await.as_deref(), Some("second host"));
    // Also when the other has given it up: whoever comes next says what holds.
    test.store.disown_config("second host").await.unwrap();
    assert!(!test.store.renew_config("first host", later).await.unwrap());
    assert_eq!(owner(test).await, None);
}
