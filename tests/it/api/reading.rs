//! What a reader is told of a resource in each of its states.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::TimeDelta;
use headpond::domain::observation::Seen;
use http::{HeaderMap, HeaderValue, header};
use serde_json::json;

use super::pond::{JSON, Pond};
use crate::support::outcomes::{HOUR, status, unreachable};
use crate::support::store::{TestStore, on_each_database, start};

const BERLIN: &str = "/v1/weather/berlin";
const MODIFIED: &str = "Fri, 15 Jan 2027 07:30:00 GMT";

on_each_database!(
    a_fresh_copy_comes_as_the_upstream_sent_it_with_its_age_and_lifetime,
    a_stale_copy_is_served_and_says_so,
    a_failing_refresh_is_named_beside_the_copy,
    a_key_that_was_never_fetched_is_pending,
    a_key_that_the_upstream_never_had_is_absent,
    what_the_upstream_has_removed_is_gone_until_it_returns,
    a_retired_key_serves_what_it_has,
    the_last_modified_is_never_made_up_by_the_upstream,
    meta_tells_everything_known,
    meta_marks_what_is_not_text,
    a_real_client_reads_the_copy,
);

async fn a_fresh_copy_comes_as_the_upstream_sent_it_with_its_age_and_lifetime(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    let sent =
        [JSON, ("content-language", "de"), ("last-modified", MODIFIED), ("set-cookie", "a=b"), ("etag", "\"u\"")];
    pond.gets("berlin", &sent, "{ \"t\": 12.0 }\n").await;
    test.clock.advance(Duration::from_millis(90_700));
    let answer = pond.get(BERLIN, &[]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text(), "{ \"t\": 12.0 }\n");
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("content-language", "de"),
        ("content-length", "14"),
        ("last-modified", MODIFIED),
        ("age", "90"),
        ("cache-control", "max-age=7200"),
        ("cache-status", "headpond;hit;ttl=7109"),
        ("headpond-fetched-at", "2027-01-15T08:00:00Z"),
        ("headpond-stale-after", "2027-01-15T10:00:00Z"),
        ("headpond-state", "fresh"),
        ("headpond-version", "1"),
        ("vary", "accept-encoding"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{name}");
    }
    let etag = answer.field("etag").unwrap();
    assert!(etag.len() == 34 && etag.starts_with('"') && etag.ends_with('"'), "strong, and our own: {etag}");
    assert!(answer.field("date").is_some());
    for name in ["set-cookie", "headpond-last-failure", "accept-ranges", "content-encoding", "retry-after"] {
        assert_eq!(answer.field(name), None, "{name}");
    }
}

async fn a_stale_copy_is_served_and_says_so(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON], "{}").await;
    test.clock.advance(2 * HOUR);
    let answer = pond.get(BERLIN, &[]).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"));
    assert_eq!(answer.field("headpond-state"), Some("stale"));
    test.clock.advance(HOUR);
    let answer = pond.get(BERLIN, &[]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.field("headpond-state"), Some("stale"));
    assert_eq!(answer.field("age"), Some("10800"));
    assert_eq!(answer.field("cache-control"), Some("max-age=7200"));
    assert_eq!(answer.field("cache-status"), Some("headpond;hit;ttl=-3600"));
    assert_eq!(answer.field("headpond-last-failure"), None);
}

async fn a_failing_refresh_is_named_beside_the_copy(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON], "{}").await;
    test.clock.advance(HOUR);
    pond.sees("berlin", unreachable()).await;
    test.clock.advance(2 * HOUR);
    pond.sees("berlin", status(502)).await;
    let answer = pond.get(BERLIN, &[]).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"));
    assert_eq!(answer.field("headpond-state"), Some("stale"));
    assert_eq!(answer.field("headpond-last-failure"), Some("server_error"));
    let meta = pond.json("/v1/weather/berlin/meta").await;
    let failing = json!({
        "kind": "server_error", "status": 502, "detail": "the upstream answered 502",
        "at": "2027-01-15T11:00:00Z", "since": "2027-01-15T09:00:00Z", "count": 2,
    });
    assert_eq!(meta["failing"], failing);
    assert_eq!(meta["due"]["because"], "outage");

    pond.gets("berlin", &[JSON], "{}").await;
    assert_eq!(pond.get(BERLIN, &[]).await.field("headpond-last-failure"), None, "it is over");
}

async fn a_key_that_was_never_fetched_is_pending(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    let answer = pond.get(BERLIN, &[]).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.field("retry-after"), Some("1"), "it is due now");
    assert_eq!(answer.field("headpond-state"), Some("pending"));
    assert_eq!(answer.field("headpond-version"), Some("0"));
    let problem = answer.problem("pending");
    assert_eq!((&problem["source"], &problem["key"]), (&json!("weather"), &json!("berlin")));

    pond.sees("berlin", unreachable()).await;
    let answer = pond.get(BERLIN, &[]).await;
    assert_eq!(answer.field("retry-after"), Some("30"), "half of a minute's backoff");
    assert_eq!(answer.field("headpond-last-failure"), Some("connect"));
    pond.sees("berlin", unreachable()).await;
    pond.sees("berlin", unreachable()).await;
    assert_eq!(pond.get(BERLIN, &[]).await.field("retry-after"), Some("60"), "never more than a minute");
}

async fn a_key_that_the_upstream_never_had_is_absent(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.sees("berlin", status(404)).await;
    let answer = pond.get(BERLIN, &[]).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.field("headpond-state"), Some("gone"));
    answer.problem("absent");
    let meta = pond.json("/v1/weather/berlin/meta").await;
    assert_eq!((&meta["state"], &meta["version"]), (&json!("gone"), &json!(0)));
}

async fn what_the_upstream_has_removed_is_gone_until_it_returns(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON], "{}").await;
    test.clock.advance(HOUR);
    pond.sees("berlin", status(410)).await;
    let answer = pond.get(BERLIN, &["If-None-Match: *"]).await;
    assert_eq!(answer.status(), 410, "no precondition makes a 304 of it");
    assert_eq!(answer.field("headpond-state"), Some("gone"));
    assert_eq!(answer.field("headpond-version"), Some("1"));
    assert_eq!(answer.problem("gone")["gone_since"], "2027-01-15T09:00:00Z");
    let meta = pond.json("/v1/weather/berlin/meta").await;
    assert_eq!((&meta["state"], &meta["gone_since"]), (&json!("gone"), &json!("2027-01-15T09:00:00Z")));

    pond.gets("berlin", &[JSON], "{}").await;
    let answer = pond.get(BERLIN, &[]).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.field("headpond-state"), Some("fresh"));
    assert_eq!(answer.field("headpond-version"), Some("2"));
}

async fn a_retired_key_serves_what_it_has(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin", "never"]).await;
    pond.gets("berlin", &[JSON], "{}").await;
    test.retire_keys_except(pond.source.source, &BTreeSet::new()).await.unwrap();
    let answer = pond.get(BERLIN, &[]).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"));
    assert_eq!(pond.json("/v1/weather/berlin/meta").await["due"], json!(null));
    let never = pond.get("/v1/weather/never", &[]).await;
    assert_eq!(never.status(), 404, "nothing is there, and nothing will come");
    never.problem("unknown-key");
}

async fn the_last_modified_is_never_made_up_by_the_upstream(test: &TestStore) {
    let pond = Pond::with_keys(test, &["none", "nonsense", "future"]).await;
    pond.gets("none", &[JSON], "{}").await;
    pond.gets("nonsense", &[JSON, ("last-modified", "yesterday")], "{}").await;
    pond.gets("future", &[JSON, ("last-modified", "Sun, 01 May 2044 12:00:00 GMT")], "{}").await;
    test.clock.advance(Duration::from_secs(5));
    for (key, expected) in [
        ("none", "Fri, 15 Jan 2027 08:00:00 GMT"),
        ("nonsense", "Fri, 15 Jan 2027 08:00:00 GMT"),
        ("future", "Fri, 15 Jan 2027 08:00:05 GMT"),
    ] {
        let answer = pond.get(&format!("/v1/weather/{key}"), &[]).await;
        assert_eq!(answer.field("last-modified"), Some(expected), "{key}");
    }
}

async fn meta_tells_everything_known(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON, ("etag", "W/\"u\""), ("last-modified", MODIFIED)], "{}").await;
    let etag = pond.get(BERLIN, &[]).await.field("etag").unwrap().to_owned();
    let claim = pond.claim("berlin").await;
    let mut meta = pond.json("/v1/weather/berlin/meta").await;
    let due = meta["due"]["at"].take();
    let due: chrono::DateTime<chrono::Utc> = due.as_str().unwrap().parse().unwrap();
    assert!(due > start() && due <= start() + TimeDelta::hours(1), "{due}");
    let expected = json!({
        "source": "weather", "key": "berlin", "state": "fresh", "version": 1,
        "fetched_at": "2027-01-15T08:00:00Z", "stale_after": "2027-01-15T10:00:00Z",
        "changed_at": "2027-01-15T08:00:00Z", "etag": etag, "content_type": "application/json; charset=utf-8",
        "upstream": { "etag": "W/\"u\"", "last_modified": MODIFIED, "transformed": false, "moved_to": null, "terms": null },
        "due": { "at": null, "because": "interval" },
        "leased_until": "2027-01-15T08:01:00Z", "gone_since": null, "failing": null, "refused": null, "waits": null,
    });
    assert_eq!(meta, expected);

    test.store.release(&[(claim.token, claim.resource)]).await.unwrap();
    assert_eq!(pond.json("/v1/weather/berlin/meta").await["leased_until"], json!(null));
}

async fn meta_marks_what_is_not_text(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    let etag = (header::ETAG, HeaderValue::from_bytes(b"no quotes \xff").unwrap());
    let headers = HeaderMap::from_iter([etag]);
    pond.sees("berlin", Seen::Content { headers, body: "x".into() }).await;
    let meta = pond.json("/v1/weather/berlin/meta").await;
    assert_eq!(
        meta["upstream"],
        json!({
            "etag": { "lossy": "no quotes \u{fffd}" }, "last_modified": null, "transformed": false, "moved_to": null, "terms": null,
        })
    );
    assert_eq!(meta["content_type"], json!(null));
    assert_eq!(pond.get(BERLIN, &[]).await.field("content-type"), None, "none was sent, so none is made up");
}

async fn a_real_client_reads_the_copy(test: &TestStore) {
    _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON], "{\"t\":12}").await;
    let address = pond.address(BERLIN);
    let first = client.get(&address).send().await.unwrap();
    assert_eq!(first.status(), 200);
    let etag = first.headers()[header::ETAG].clone();
    assert_eq!(first.text().await.unwrap(), "{\"t\":12}");
    let again = client.get(&address).header(header::IF_NONE_MATCH, etag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert_eq!(again.bytes().await.unwrap(), "");
    let head = client.head(&address).send().await.unwrap();
    assert_eq!(head.headers()[header::CONTENT_LENGTH], "8");
    assert_eq!(client.post(&address).send().await.unwrap().status(), 405);
}
