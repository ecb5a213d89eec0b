//! Errors of ours, and what the health checks say.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use headpond::clock::Clock;
use headpond::config;
use sqlx::{Connection, PgConnection};

use super::pond::{Pond, serve};
use super::serving::settings;
use crate::support::outcomes::status;
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    paths_that_lead_nowhere_are_not_found,
    other_methods_are_refused_with_those_that_are_allowed,
    a_store_that_fails_is_a_503_without_its_secrets,
    readiness_comes_when_every_key_was_tried,
    a_panic_is_a_500_without_its_message,
    corrupt_data_is_a_500_and_never_an_empty_200,
);

async fn paths_that_lead_nowhere_are_not_found(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/-",
        "/v1/weather/",
        "/v1/weather/berlin/",
        "/v1/weather/berlin/nothing",
        "/v1/-/nothing",
        "/v1/-/changes/meta",
        "/v1/-/changes/",
        "/v2/weather/berlin",
        "/healthz/",
        "//v1/weather/berlin",
        "/v1/weather/../weather/berlin",
    ] {
        let answer = pond.get(path, &[]).await;
        assert_eq!(answer.status(), 404, "{path}");
        assert_eq!(answer.problem("unknown-route")["path"], path);
    }
}

async fn other_methods_are_refused_with_those_that_are_allowed(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    for path in [
        "/v1/weather",
        "/v1/weather/berlin",
        "/v1/weather/berlin/meta",
        "/v1/-/changes",
        "/v1/-/sources",
        "/v1/-/status",
        "/healthz",
        "/readyz",
    ] {
        let is_a_key = path == "/v1/weather/berlin";
        let allowed = if is_a_key { "GET,HEAD,PUT,DELETE" } else { "GET,HEAD" };
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"] {
            if is_a_key && ["PUT", "DELETE"].contains(&method) {
                continue;
            }
            let answer = pond.ask(method, path, &["Content-Length: 0"]).await;
            assert_eq!(answer.status(), 405, "{method} {path}");
            assert_eq!(answer.field("allow"), Some(allowed), "{method} {path}");
            answer.problem("method-not-allowed");
        }
    }
}

async fn a_store_that_fails_is_a_503_without_its_secrets(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    test.store.close().await;
    for path in [
        "/v1/weather",
        "/v1/weather?keys=berlin",
        "/v1/weather?key=berlin",
        "/v1/weather/berlin",
        "/v1/weather/berlin/meta",
        "/v1/-/changes",
        "/readyz",
    ] {
        let answer = pond.get(path, &[]).await;
        assert_eq!(answer.status(), 503, "{path}");
        assert_eq!(answer.field("retry-after"), Some("5"), "{path}");
        answer.problem("store-unavailable");
        assert!(!answer.text().contains("pool") && !answer.text().contains("headpond."), "{}", answer.text());
    }
    assert_eq!(pond.json("/healthz").await["status"], "up", "the process is as well as before");
}

async fn readiness_comes_when_every_key_was_tried(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "b"]).await;
    pond.gets("a", &[], "1").await;
    let answer = pond.get("/readyz", &[]).await;
    assert_eq!(answer.status(), 503);
    answer.problem("not-ready");
    pond.sees("b", status(500)).await;
    assert_eq!(pond.json("/readyz").await["status"], "ready", "tried is enough");
    assert_eq!(pond.json("/healthz").await["status"], "up");
}

/// A clock that can't be read.
#[derive(Debug)]
struct Broken;

#[async_trait]
impl Clock for Broken {
    fn now(&self) -> DateTime<Utc> {
        panic!("the spring is broken")
    }

    async fn sleep_until(&self, _: DateTime<Utc>) {}
}

async fn a_panic_is_a_500_without_its_message(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[], "sunny").await;
    let served = serve(Arc::clone(&test.store), Arc::new(Broken), settings()).await;
    let mut wire = served.connect().await;
    wire.send("GET /v1/weather/berlin HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = wire.answer().await;
    assert_eq!(answer.status(), 500);
    answer.problem("internal");
    assert!(!answer.text().contains("spring"));
    wire.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(wire.answer().await.status(), 200, "the connection goes on");
}

async fn corrupt_data_is_a_500_and_never_an_empty_200(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[], "sunny").await;
    for damage in ["UPDATE {content} SET headers = body", "DELETE FROM {content}"] {
        test.execute(damage).await.unwrap();
        let answer = pond.get("/v1/weather/berlin", &[]).await;
        assert_eq!(answer.status(), 500, "{damage}");
        assert_eq!(answer.field("retry-after"), None, "{damage}: asking again doesn't help");
        answer.problem("internal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_is_a_503_in_time_and_no_more_when_it_is_free() {
    TestStore::postgres().await.check(a_locked_database).await;
}

async fn a_locked_database(test: &TestStore) {
    let short = config::Server { request_timeout: Duration::from_secs(2), ..settings() };
    let pond = Pond::with_settings(test, &["berlin"], short).await;
    pond.gets("berlin", &[], "sunny").await;
    let mut locker = PgConnection::connect(&test.database.url()).await.unwrap();
    let mut transaction = locker.begin().await.unwrap();
    sqlx::query("LOCK TABLE headpond.resource IN ACCESS EXCLUSIVE MODE").execute(&mut *transaction).await.unwrap();
    let answer = pond.get("/v1/weather/berlin", &[]).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.field("vary"), Some("accept-encoding"), "like every answer");
    answer.problem("timed-out");
    transaction.rollback().await.unwrap();
    assert_eq!(pond.get("/v1/weather/berlin", &[]).await.status(), 200);
}
