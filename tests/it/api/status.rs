//! How all stands, as the API tells it.

use std::sync::Arc;
use std::time::Duration;

use headpond::api::access::Access;
use headpond::api::settings::Settings;
use headpond::api::{ApiState, router};
use headpond::config;
use headpond::domain::resource::SourceName;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::pond::{Pond, reading, state};
use super::serving::{Answer, Served, settings};
use crate::support::outcomes::{content, status, unreachable};
use crate::support::store::{TestStore, on_each_database, start};

on_each_database! {
    everything_is_told_by_its_documented_name,
    sources_are_told_without_the_rest,
    what_waits_for_a_new_allowance_is_told_by_status_and_meta,
    retired_sources_are_left_out_and_empty_ones_are_not,
    a_reader_is_shown_the_sources_that_its_token_opens,
    there_are_no_parameters,
}

/// A time as JSON has it.
fn time(seconds: u64) -> String {
    (start() + Duration::from_secs(seconds)).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

async fn everything_is_told_by_its_documented_name(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin", "bonn", "köln", "ulm"]).await;
    pond.gets("berlin", &[], "rain").await;
    pond.sees("bonn", status(410)).await;
    test.clock.advance(Duration::from_secs(10));
    pond.sees("köln", unreachable()).await;
    pond.claim("ulm").await;
    test.store.own_config("a worker", start() + Duration::from_secs(60)).await.unwrap();

    let mut told = pond.json("/v1/-/status").await;
    let disk = told.as_object_mut().unwrap().remove("disk").unwrap();
    assert!(disk["bytes"].as_u64().unwrap() > 0, "{disk}");
    let next_due = test.current("weather", "köln").await.due.unwrap().at;
    let expected = json!({
        "at": time(10),
        "serve": "a worker",
        "sources": [{
            "name": "weather",
            "upstream": "weather",
            "ready": false,
            "keys": 4, "fresh": 1, "stale": 0, "pending": 2, "gone": 1, "failing": 1,
            "origins": [{
                "name": "config", "about": null, "keys": 4, "synced_at": time(0), "problem": null, "problem_at": null,
            }],
            "because": { "new": 1, "interval": 1, "outage": 1, "gone_recheck": 1 },
            "oldest_fetched_at": told["sources"][0]["oldest_fetched_at"],
            "next_due_at": next_due,
            "next_due_not_before": null,
            "last_failure": {
                "key": "köln", "at": time(10), "kind": "connect", "status": null, "detail": "connection refused",
            },
            "history": { "versions": 0, "bytes": 0 },
        }],
        "upstreams": [{
            "name": "weather",
            "requests_per_second_limit": null,
            "burst": 1,
            "max_concurrent_requests": 1_000_000,
            "tokens": null,
            "budgets": [], "pace": 1.0,
            "in_flight": 1,
            "due": 0,
            "due_is_more": false,
            "oldest_due_at": null,
            "pauses": [],
        }],
        "webhooks": [],
    });
    assert_eq!(told, expected);
    let oldest = told["sources"][0]["oldest_fetched_at"].as_str().unwrap();
    assert!((time(0).as_str()..=time(10).as_str()).contains(&oldest), "rounded up, not into the future: {oldest}");

    for key in ["berlin", "bonn"] {
        pond.sees(key, unreachable()).await;
    }
    let told = pond.json("/v1/-/status").await;
    let outage = json!([{ "because": "outage", "answers": 3, "resources": 3 }]);
    assert_eq!(told["upstreams"][0]["pauses"], outage);
}

async fn what_waits_for_a_new_allowance_is_told_by_status_and_meta(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin", "bonn"]).await;
    pond.gets("berlin", &[("ratelimit", "\"hourly\";r=0;t=1800")], "rain").await;
    let until = time(1800);
    let why = format!("200 that says that its allowance is spent until {until}");
    let told = pond.json("/v1/-/status").await;
    let pause = json!([{
        "because": "pause", "source": null, "until": until, "why": why, "answered": "weather", "resources": 1,
    }]);
    assert_eq!(told["upstreams"][0]["pauses"], pause);
    let waits = json!({ "because": "pause", "why": format!("the upstream is left alone: {why}"), "until": until });
    assert_eq!(pond.json("/v1/weather/bonn/meta").await["waits"], waits);
    assert_eq!(pond.json("/v1/weather/berlin/meta").await["waits"], Value::Null, "it is not due");
}

async fn sources_are_told_without_the_rest(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[], "rain").await;
    let (all, sources) = (pond.json("/v1/-/status").await, pond.json("/v1/-/sources").await);
    assert_eq!(sources, json!({ "at": time(0), "sources": all["sources"] }));
    assert_eq!(sources["sources"][0]["keys"], 1);
}

/// The names of the sources and the upstreams.
fn names(report: &Value) -> [Vec<&str>; 2] {
    ["sources", "upstreams"]
        .map(|part| report[part].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect())
}

async fn retired_sources_are_left_out_and_empty_ones_are_not(test: &TestStore) {
    // The config of the pond has the source `weather` alone.
    let pond = Pond::with_keys(test, &[]).await;
    test.source_with_keys("dropped", 1).await;
    assert_eq!(names(&pond.json("/v1/-/status").await), [["dropped", "weather"], ["dropped", "weather"]]);
    test.store.retire_sources_except(&[pond.source.source]).await.unwrap();
    assert_eq!(names(&pond.json("/v1/-/status").await), [["weather"], ["weather"]]);
}

/// Asks with a token, if there is one.
async fn ask(pond: &Served, path: &str, token: &str) -> Answer {
    let field = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    pond.exchange("GET", format!("GET {path} HTTP/1.1\r\nHost: x\r\n{field}\r\n")).await
}

async fn a_reader_is_shown_the_sources_that_its_token_opens(test: &TestStore) {
    const READ: &str = "reads-what-has-no-tokens-of-its-own";
    const USERS: &str = "reads-the-users-and-only-these";
    const ADMIN: &str = "administers-everything-here";
    for name in ["users", "weather", "dropped"] {
        let source = test.source_with_keys(name, 1).await;
        test.settle(&test.claim_one(source.upstream).await, content(name, &[])).await;
    }
    let token = |token: &str| vec![SecretString::from(token)];
    let server = config::Server { read_tokens: token(READ), admin_tokens: token(ADMIN), ..settings() };
    let [weather, users] = ["weather", "users"].map(|name| SourceName::new(name).unwrap());
    let of_users = token(USERS);
    let access = Access::of(&server, [(&users, &of_users[..])].into_iter());
    let (_, settings) =
        watch::channel(Arc::new(Settings { sources: [weather, users].into(), access, ..reading(&server) }));
    let (store, clock) = (Arc::clone(&test.store), Arc::clone(&test.clock) as _);
    let state = ApiState { settings, ..state(store, clock, &server) };
    let pond = Served::start(router(state), server).await;

    for path in ["/v1/-/sources", "/v1/-/status"] {
        for (token, status) in [("", 401), ("wrong", 401), (USERS, 403), (READ, 200), (ADMIN, 200)] {
            assert_eq!(ask(&pond, path, token).await.status(), status, "{path} with {token:?}");
        }
    }
    for (token, shown) in [(READ, &["weather"][..]), (ADMIN, &["dropped", "users", "weather"])] {
        let answer = ask(&pond, "/v1/-/status", token).await;
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(names(&told), [shown, shown], "{token}: nothing of the upstreams of others either");
    }
}

async fn there_are_no_parameters(test: &TestStore) {
    let pond = Pond::with_keys(test, &[]).await;
    for path in ["/v1/-/sources?all", "/v1/-/status?source=weather"] {
        let answer = pond.get(path, &[]).await;
        assert_eq!(answer.status(), 400, "{path}");
        answer.problem("bad-parameter");
    }
}
