//! What an operator makes due.

use std::collections::BTreeSet;
use std::time::Duration;

use headpond::config;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::pond::{JSON, Pond, path_of};
use super::serving::{Answer, settings};
use crate::support::outcomes::{content, status, unreachable};
use crate::support::program::eventually;
use crate::support::store::{TestStore, key, keys_of, on_each_database};

on_each_database!(
    a_refresh_is_accepted_and_told_where_to_look,
    however_often_it_is_asked_for_one_request_will_do,
    what_is_under_way_is_followed_by_another,
    a_refresh_that_is_waited_for_brings_the_meta,
    a_refresh_of_what_failed_or_is_gone_is_due_at_once,
    what_can_not_be_refreshed_is_refused,
    only_an_admin_may_refresh,
);

const REFRESH: &str = "/v1/weather/berlin/refresh";

async fn refresh(pond: &Pond<'_>, fields: &[&str]) -> Answer {
    pond.ask("POST", REFRESH, &[&["Content-Length: 0"], fields].concat()).await
}

fn body(answer: &Answer) -> Value {
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    serde_json::from_slice(&answer.body).unwrap()
}

async fn a_refresh_is_accepted_and_told_where_to_look(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin", "a/b c"]).await;
    pond.gets("berlin", &[JSON], "{}").await;
    test.clock.advance(Duration::from_secs(5));
    let answer = refresh(&pond, &[]).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(answer.field("location"), Some("/v1/weather/berlin/meta"));
    let expected = json!({
        "source": "weather", "key": "berlin", "state": "fresh",
        "due": { "at": "2027-01-15T08:00:05Z", "because": "manual" }, "leased_until": null,
    });
    assert_eq!(body(&answer), expected);
    let claims = test.claim(pond.source.upstream).await;
    assert_eq!(keys_of(&claims)[0], "berlin", "before what is due anyway");

    let odd = path_of("a/b c");
    let answer = pond.ask("POST", &format!("{odd}/refresh"), &["Content-Length: 0"]).await;
    assert_eq!((answer.status(), answer.field("location")), (202, Some(format!("{odd}/meta").as_str())));
    assert_eq!(pond.json(answer.field("location").unwrap()).await["key"], "a/b c");
}

async fn however_often_it_is_asked_for_one_request_will_do(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON], "{}").await;
    for _ in 0..3 {
        test.clock.advance(Duration::from_secs(1));
        assert_eq!(refresh(&pond, &[]).await.status(), 202);
    }
    pond.gets("berlin", &[JSON], "{}").await;
    assert!(test.claim(pond.source.upstream).await.is_empty());
}

async fn what_is_under_way_is_followed_by_another(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    let claim = pond.claim("berlin").await;
    let answer = test.settled(&claim, content("{}", &[JSON]));
    test.clock.advance(Duration::from_secs(1));
    let accepted = body(&refresh(&pond, &[]).await);
    assert_eq!((&accepted["state"], &accepted["leased_until"]), (&json!("pending"), &json!("2027-01-15T08:01:00Z")));
    test.store.apply(&[answer]).await.unwrap();
    assert_eq!(keys_of(&test.claim(pond.source.upstream).await), ["berlin"], "what came may be older than the wish");
}

/// Answers, as soon as it is wanted, as the upstream would.
async fn answer_when_wanted(pond: &Pond<'_>, with: &str) {
    let wanted = async || pond.test.current("weather", "berlin").await.wanted_at;
    eventually("a wish", Duration::from_secs(30), wanted).await;
    pond.gets("berlin", &[JSON], with).await;
}

async fn a_refresh_that_is_waited_for_brings_the_meta(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON], "{}").await;
    test.clock.advance(Duration::from_secs(5));
    let (answer, ()) = tokio::join!(refresh(&pond, &["Prefer: wait=5"]), answer_when_wanted(&pond, "{\"t\":1}"));
    assert_eq!((answer.status(), answer.field("preference-applied")), (200, Some("wait=5")));
    let meta = body(&answer);
    assert_eq!((&meta["version"], &meta["fetched_at"]), (&json!(2), &json!("2027-01-15T08:00:05Z")));
    assert_eq!(meta, pond.json("/v1/weather/berlin/meta").await);

    // What was under way before is not what was asked for.
    test.clock.advance(Duration::from_secs(1));
    let claim = pond.claim("berlin").await;
    let under_way = test.settled(&claim, content("{\"t\":2}", &[JSON]));
    test.clock.advance(Duration::from_secs(1));
    let upstream = async {
        let wanted = async || test.current("weather", "berlin").await.wanted_at;
        eventually("a wish", Duration::from_secs(30), wanted).await;
        test.store.apply(&[under_way]).await.unwrap();
        test.clock.advance(Duration::from_secs(1));
        answer_when_wanted(&pond, "{\"t\":3}").await;
    };
    let (answer, ()) = tokio::join!(refresh(&pond, &["Prefer: wait=60"]), upstream);
    assert_eq!((answer.status(), &body(&answer)["version"]), (200, &json!(4)));

    let in_vain = refresh(&pond, &["Prefer: wait=0"]).await;
    assert_eq!((in_vain.status(), in_vain.field("preference-applied")), (202, Some("wait=0")));
    assert_eq!(in_vain.field("location"), Some("/v1/weather/berlin/meta"));
}

async fn a_refresh_of_what_failed_or_is_gone_is_due_at_once(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON], "{}").await;
    for (seen, state) in [(unreachable(), "fresh"), (status(410), "gone")] {
        pond.sees("berlin", seen).await;
        assert!(test.claim(pond.source.upstream).await.is_empty());
        test.clock.advance(Duration::from_secs(1));
        assert_eq!(body(&refresh(&pond, &[]).await)["state"], state);
        let claims = test.claim(pond.source.upstream).await;
        test.store.release(&[(claims[0].token, claims[0].resource)]).await.unwrap();
    }
}

async fn what_can_not_be_refreshed_is_refused(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin", "old"]).await;
    pond.gets("old", &[JSON], "{}").await;
    test.retire_keys_except(pond.source.source, &BTreeSet::from([key("berlin")])).await.unwrap();
    for (path, status, kind) in [
        ("/v1/weather/old/refresh", 409, "not-polled"),
        ("/v1/weather/nowhere/refresh", 404, "unknown-key"),
        ("/v1/nothing/berlin/refresh", 404, "unknown-source"),
        ("/v1/weather/%ff/refresh", 400, "unreadable-path"),
        ("/v1/weather/berlin/refresh?wait=5", 400, "bad-parameter"),
        ("/v1/-/berlin/refresh", 404, "unknown-route"),
    ] {
        let answer = pond.ask("POST", path, &["Content-Length: 0", "Prefer: wait=60"]).await;
        assert_eq!(answer.status(), status, "{path}");
        answer.problem(kind);
    }
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let answer = pond.ask(method, REFRESH, &["Content-Length: 0"]).await;
        assert_eq!((answer.status(), answer.field("allow")), (405, Some("POST")), "{method}");
    }
    assert_eq!(test.current("weather", "berlin").await.wanted_at, None);
}

async fn only_an_admin_may_refresh(test: &TestStore) {
    let tokens = |token: &str| vec![SecretString::from(token.to_owned())];
    let guarded = config::Server { read_tokens: tokens("reader"), admin_tokens: tokens("admin"), ..settings() };
    let pond = Pond::with_settings(test, &["berlin"], guarded).await;
    for (fields, status) in [
        (&[][..], 401),
        (&["Authorization: Bearer reader"], 403),
        (&["Authorization: Bearer admi"], 401),
        (&["Authorization: Bearer admin"], 202),
    ] {
        assert_eq!(test.current("weather", "berlin").await.wanted_at, None);
        assert_eq!(refresh(&pond, fields).await.status(), status, "{fields:?}");
    }
    assert!(test.current("weather", "berlin").await.wanted_at.is_some());
    pond.gets("berlin", &[JSON], "{}").await;
    test.clock.advance(Duration::from_secs(5));
    // A reader may wait all the same: that costs an upstream no more than a refresh when it is due.
    let lines = ["Authorization: Bearer reader", "Prefer: wait=5"];
    let (answer, ()) = tokio::join!(pond.get("/v1/weather/berlin", &lines), answer_when_wanted(&pond, "{\"t\":1}"));
    assert_eq!((answer.status(), answer.text()), (200, "{\"t\":1}".into()));
}
