//! Erasing over the API, and what is told of what is erased.

use headpond::store::Authority;
use serde_json::{Value, json};

use super::pond::Pond;
use crate::support::outcomes::content;
use crate::support::store::{TestStore, key, on_each_database};

on_each_database!(
    an_administrator_erases_a_key_and_readers_are_told,
    what_is_erased_may_be_allowed_again,
    wrong_erasures_are_refused,
);

async fn problem(pond: &Pond<'_>, method: &str, path: &str) -> (u16, Value) {
    let answer = pond.ask(method, path, &["Content-Length: 0"]).await;
    (answer.status(), serde_json::from_str(&answer.text()).unwrap_or_default())
}

async fn an_administrator_erases_a_key_and_readers_are_told(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a/b", "c"]).await;
    pond.sees("a/b", content("A", &[])).await;
    let (status, done) = problem(&pond, "POST", "/v1/weather/a%2Fb/erase").await;
    assert_eq!((status, &done), (200, &json!({"source": "weather", "key": "a/b", "erased": true, "polled": false})));
    assert_eq!(problem(&pond, "POST", "/v1/weather/a%2Fb/erase").await, (200, done), "once more changes nothing");
    for (method, path) in [
        ("GET", "/v1/weather/a%2Fb"),
        ("GET", "/v1/weather?key=a/b"),
        ("GET", "/v1/weather/a%2Fb?version=1"),
        ("GET", "/v1/weather/a%2Fb/meta"),
        ("GET", "/v1/weather/a%2Fb/history"),
        ("GET", "/v1/weather/a%2Fb/explain"),
        ("POST", "/v1/weather/a%2Fb/refresh"),
        ("PUT", "/v1/weather/a%2Fb"),
    ] {
        let (status, problem) = problem(&pond, method, path).await;
        assert_eq!(status, 410, "{method} {path}: {problem}");
        assert!(problem["type"].as_str().unwrap().ends_with("erased"), "{problem}");
        assert_eq!(problem["erased_at"], "2027-01-15T08:00:00Z");
    }
    let batch = pond.json("/v1/weather?keys=a%2Fb,c").await;
    assert_eq!((&batch["absent"], batch["items"].as_array().unwrap().len()), (&json!(["a/b"]), 1));
    let feed = pond.json("/v1/-/changes?include=data").await;
    let kinds: Vec<_> = feed["changes"].as_array().unwrap().iter().map(|change| &change["kind"]).collect();
    assert_eq!(kinds, ["created", "erased"]);
    assert_eq!(feed["changes"][1]["item"], Value::Null);
}

async fn what_is_erased_may_be_allowed_again(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a"]).await;
    pond.sees("a", content("A", &[])).await;
    problem(&pond, "POST", "/v1/weather/a/erase").await;
    let (status, done) = problem(&pond, "POST", "/v1/weather/a/allow").await;
    assert_eq!((status, &done["polled"], &done["erased"]), (200, &json!(true), &json!(false)));
    let (status, again) = problem(&pond, "POST", "/v1/weather/a/allow").await;
    assert!(status == 409 && again["type"].as_str().unwrap().ends_with("not-erased"), "{again}");
    pond.sees("a", content("B", &[])).await;
    assert_eq!(pond.get("/v1/weather/a", &[]).await.text(), "B");
}

async fn wrong_erasures_are_refused(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a"]).await;
    for (path, status, kind) in [
        ("/v1/weather/nobody/erase", 404, "unknown-key"),
        ("/v1/nothing/a/erase", 404, "unknown-source"),
        ("/v1/nothing/a/allow", 404, "unknown-source"),
        ("/v1/weather/nobody/allow", 409, "not-erased"),
        ("/v1/weather/a/erase?unseen=yes", 400, "bad-parameter"),
        ("/v1/weather/a/allow?unseen=true", 400, "bad-parameter"),
    ] {
        let (got, problem) = problem(&pond, "POST", path).await;
        assert!(got == status && problem["type"].as_str().unwrap().ends_with(kind), "{path}: {got} {problem}");
    }
    assert_eq!(problem(&pond, "POST", "/v1/weather/nobody/erase?unseen=true").await.0, 200);
    let keys = [(key("nobody"), headpond::domain::resource::Params::new())];
    let added = test.store.add_keys(pond.source.source, &keys, Authority::Owns).await.unwrap();
    assert_eq!(added.added, 0);
    assert_eq!(pond.get("/v1/weather/nobody", &[]).await.status(), 410);
}
