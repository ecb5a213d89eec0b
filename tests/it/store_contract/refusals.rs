//! Bodies that were refused.

use std::time::Duration;

use headpond::domain::content::{BodyRules, JsonPath};
use headpond::domain::fingerprint::Fingerprint;
use headpond::domain::observation::{Seen, Via};
use headpond::domain::policy::Policy;
use headpond::domain::refused::MOST_KEPT;
use headpond::domain::resource::{ResourceId, SourceName};
use headpond::store::{Authority, MOST_REFUSED, PruneRules, Refusal, Settled, SourceSpec};

use crate::support::outcomes::{HOUR, content, policy, status, unreachable};
use crate::support::store::{TestStore, UNLIMITED, key, on_each_database, spec};

on_each_database! {
    a_refused_body_is_kept_apart_until_something_usable_comes,
    a_refused_body_takes_nothing_from_the_copy,
    what_is_gone_or_unchanged_ends_it_too,
    of_a_long_body_the_beginning_is_kept,
    bodies_of_any_bytes_are_kept,
    what_is_dropped_is_nowhere_in_the_database,
    what_was_refused_by_other_rules_goes_when_they_change,
    it_goes_with_its_resource,
    only_the_newest_are_kept,
}

const JSON: (&str, &str) = ("content-type", "application/json");

async fn refusal(test: &TestStore, name: &str) -> Option<Refusal> {
    test.store.refusal(&SourceName::new("weather").unwrap(), &key(name)).await.unwrap()
}

/// The key's resource is asked for, an hour after the last time, and this comes.
async fn sees(test: &TestStore, seen: Seen) {
    test.clock.advance(2 * HOUR);
    let weather = test.source("weather", UNLIMITED).await;
    test.settle(&test.claim_one(weather.upstream).await, seen).await;
}

async fn a_refused_body_is_kept_apart_until_something_usable_comes(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    assert_eq!(refusal(test, "k0").await, None);
    sees(test, content("<html>", &[JSON])).await;
    let first = refusal(test, "k0").await.unwrap();
    assert_eq!((first.at, first.refused.status, first.refused.size), (test.now(), 200, 6));
    assert_eq!(first.refused.content_type.as_deref(), Some(&b"application/json"[..]));
    assert_eq!(first.refused.body.as_deref(), Some(&b"<html>"[..]));
    sees(test, unreachable()).await;
    assert_eq!(refusal(test, "k0").await, Some(first), "nothing came in its place");
    sees(test, content("{", &[JSON])).await;
    assert_eq!(refusal(test, "k0").await.unwrap().refused.body.as_deref(), Some(&b"{"[..]));
    sees(test, content("{}", &[JSON])).await;
    assert_eq!(refusal(test, "k0").await, None);
}

async fn a_refused_body_takes_nothing_from_the_copy(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    sees(test, content("{\"a\":1}", &[JSON, ("etag", "\"a\"")])).await;
    let before = test.current("weather", "k0").await;
    sees(test, content("<html>", &[JSON, ("etag", "\"b\""), ("cache-control", "max-age=9")])).await;
    let after = test.current("weather", "k0").await;
    assert_eq!((&after.content, &after.validators, after.version), (&before.content, &before.validators, 1));
    assert_eq!(after.freshness, before.freshness);
}

async fn what_is_gone_or_unchanged_ends_it_too(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    sees(test, content("{}", &[JSON])).await;
    for seen in [content("{}", &[JSON]), status(410)] {
        sees(test, content("<html>", &[JSON])).await;
        assert!(refusal(test, "k0").await.is_some());
        sees(test, seen).await;
        assert_eq!(refusal(test, "k0").await, None);
        test.clock.advance(24 * HOUR);
    }
}

async fn of_a_long_body_the_beginning_is_kept(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    let long = "<".repeat(MOST_KEPT + 5);
    sees(test, content(&long, &[JSON])).await;
    let refused = refusal(test, "k0").await.unwrap().refused;
    assert_eq!((refused.size, refused.body.unwrap().len()), (MOST_KEPT as u64 + 5, MOST_KEPT));
}

async fn bodies_of_any_bytes_are_kept(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let content_type = http::HeaderValue::from_bytes(b"application/json; \xff").unwrap();
    let headers = http::HeaderMap::from_iter([(http::header::CONTENT_TYPE, content_type)]);
    let body: &[u8] = b"\x00\xff'\\\xf0";
    let seen = Seen::Content { headers, body: body.into() };
    test.settle(&test.claim_one(weather.upstream).await, seen).await;
    let refused = refusal(test, "k0").await.unwrap().refused;
    assert_eq!(refused.body.as_deref(), Some(body));
    assert_eq!(refused.content_type.as_deref(), Some(&b"application/json; \xff"[..]));
}

/// A source that drops what is under `email`, and keeps what is under `user`.
fn dropping() -> Policy {
    let path = |path| JsonPath::new(path).unwrap();
    let body = BodyRules { data: Some(path("$.user")), drop: vec![path("$..email")], ..BodyRules::default() };
    Policy { body, ..policy() }
}

async fn what_is_dropped_is_nowhere_in_the_database(test: &TestStore) {
    let weather = test.source_with_keys("weather", 4).await;
    let bodies = [
        "{\"user\":{\"id\":1,\"email\":\"canary@x.example\"},\"email\":\"canary\"}",
        "{\"error\":{\"email\":\"canary@x.example\"}}",
        "{\"user\":{\"email\":\"canary@x.example\"",
        "<html>canary@x.example</html>",
    ];
    let claims = test.claim(weather.upstream).await;
    let settle = |claim| {
        let ResourceId(id) = claim;
        bodies[usize::try_from(id - 1).unwrap() % 4]
    };
    let batch: Vec<Settled> = claims
        .iter()
        .map(|claim| test.settled_by(&dropping(), claim, content(settle(claim.resource), &[JSON]), Via::default()))
        .collect();
    test.store.apply(&batch).await.unwrap();
    let mut kept = Vec::new();
    for name in ["k0", "k1", "k2", "k3"] {
        let stored = test.current("weather", name).await.content.map(|content| content.body);
        let refused = refusal(test, name).await.and_then(|refusal| refusal.refused.body);
        kept.extend([stored, refused].into_iter().flatten().map(|body| String::from_utf8(body.to_vec()).unwrap()));
        let failing = test.current("weather", name).await.failing;
        assert!(failing.is_none_or(|failing| !failing.last.detail.contains("canary")));
    }
    assert_eq!(kept, ["{\"id\":1}", "{\"error\":{}}"]);
}

async fn what_was_refused_by_other_rules_goes_when_they_change(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    test.source_with_keys("users", 1).await;
    for name in ["weather", "users"] {
        let upstream = test.source(name, UNLIMITED).await.upstream;
        test.settle_all(upstream, |_| content("<html>", &[JSON])).await;
    }
    let anew = SourceSpec { fingerprint: Fingerprint(2), ..spec("weather", "weather", UNLIMITED) };
    test.store.register(&[anew], Authority::Owns).await.unwrap();
    assert_eq!(refusal(test, "k0").await, None);
    assert_eq!(test.number("SELECT count(*) FROM {refused}").await, 1, "that of the other source");
}

fn keeping_everything(test: &TestStore) -> PruneRules {
    let long = Duration::from_secs(365 * 86_400);
    PruneRules { now: test.now(), retired: long, changes: long, applied: long }
}

async fn it_goes_with_its_resource(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    sees(test, content("<html>", &[JSON])).await;
    assert_eq!(test.store.prune(&keeping_everything(test)).await.unwrap(), 0);
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    let rules = PruneRules { retired: Duration::ZERO, ..keeping_everything(test) };
    assert_eq!(test.store.prune(&rules).await.unwrap(), 1);
    assert_eq!(test.number("SELECT count(*) FROM {refused}").await, 0);
}

async fn only_the_newest_are_kept(test: &TestStore) {
    let most = MOST_REFUSED as usize;
    let weather = test.source_with_keys("weather", most + 7).await;
    let old = test.store.claim(&crate::support::store::ask(weather.upstream, 7)).await.unwrap().claims;
    for claim in &old {
        test.settle(claim, content("<html>", &[JSON])).await;
    }
    test.clock.advance(Duration::from_secs(1));
    test.settle_all(weather.upstream, |_| content("<html>", &[JSON])).await;
    assert_eq!(test.store.prune(&keeping_everything(test)).await.unwrap(), 7);
    for claim in &old {
        assert_eq!(refusal(test, claim.key.as_str()).await, None);
    }
    assert_eq!(test.number("SELECT count(*) FROM {refused}").await, i64::from(MOST_REFUSED));
}
