//! Conditional requests.

use super::pond::Pond;
use crate::support::store::{TestStore, on_each_database};

const BERLIN: &str = "/v1/weather/berlin";
const BEFORE: &str = "Fri, 15 Jan 2027 07:29:59 GMT";
const MODIFIED: &str = "Fri, 15 Jan 2027 07:30:00 GMT";

on_each_database!(
    a_304_freshens_what_the_client_has,
    preconditions_decide_between_200_304_and_412,
    a_head_is_a_get_without_the_body,
    another_content_has_another_etag,
);

async fn pond(test: &TestStore) -> (Pond<'_>, String) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    let sent = [("content-type", "text/plain"), ("content-language", "de"), ("last-modified", MODIFIED)];
    pond.gets("berlin", &sent, "sunny").await;
    let etag = pond.get(BERLIN, &[]).await.field("etag").unwrap().to_owned();
    (pond, etag)
}

async fn a_304_freshens_what_the_client_has(test: &TestStore) {
    let (pond, etag) = pond(test).await;
    let full = pond.get(BERLIN, &[]).await;
    let answer = pond.get(BERLIN, &[&format!("If-None-Match: {etag}")]).await;
    assert_eq!(answer.status(), 304);
    let expected = [
        "age",
        "cache-control",
        "cache-status",
        "date",
        "etag",
        "headpond-fetched-at",
        "headpond-stale-after",
        "headpond-state",
        "headpond-version",
        "vary",
    ];
    assert_eq!(answer.fields(), expected.map(str::to_owned).into());
    for name in expected.iter().filter(|name| **name != "date") {
        assert_eq!(answer.field(name), full.field(name), "{name}");
    }
}

async fn preconditions_decide_between_200_304_and_412(test: &TestStore) {
    let (pond, etag) = pond(test).await;
    let opaque = etag.trim_matches('"');
    for (fields, status) in [
        (vec![format!("If-None-Match: {etag}")], 304),
        (vec![format!("If-None-Match: W/{etag}")], 304),
        (vec![format!("If-None-Match: \"a,b\", \"x\" , {etag}")], 304),
        (vec!["If-None-Match: \"x\"".into(), format!("If-None-Match: {etag}")], 304),
        (vec![format!("If-None-Match: garbage, {etag}")], 304),
        (vec!["If-None-Match: *".into()], 304),
        (vec!["If-None-Match: \"x\"".into()], 200),
        (vec![format!("If-None-Match: {opaque}")], 200),
        (vec!["If-None-Match: garbage".into()], 200),
        (vec!["If-None-Match:".into()], 200),
        (vec!["If-None-Match: garbage".into(), format!("If-Modified-Since: {MODIFIED}")], 200),
        (vec![format!("If-None-Match: {etag}"), format!("If-Modified-Since: {BEFORE}")], 304),
        (vec![format!("If-Modified-Since: {MODIFIED}")], 304),
        (vec![format!("If-Modified-Since: {BEFORE}")], 200),
        (vec!["If-Modified-Since: whenever".into()], 200),
        (vec![format!("If-Match: {etag}")], 200),
        (vec![format!("If-Match: W/{etag}")], 412),
        (vec![format!("If-Unmodified-Since: {BEFORE}")], 412),
    ] {
        let lines: Vec<&str> = fields.iter().map(String::as_str).collect();
        for path in [BERLIN, "/v1/weather?key=berlin"] {
            let answer = pond.get(path, &lines).await;
            assert_eq!(answer.status(), status, "{path} {lines:?}");
            match status {
                200 => assert_eq!(answer.text(), "sunny"),
                412 => _ = answer.problem("precondition-failed"),
                _ => {}
            }
        }
    }
}

async fn a_head_is_a_get_without_the_body(test: &TestStore) {
    let (pond, etag) = pond(test).await;
    for (path, lines) in [
        (BERLIN, vec![]),
        (BERLIN, vec![format!("If-None-Match: {etag}")]),
        ("/v1/weather?key=berlin", vec![format!("If-None-Match: {etag}")]),
        ("/v1/weather?limit=1", vec![]),
        ("/v1/weather?keys=berlin,x", vec![]),
        ("/v1/weather?limit=0", vec![]),
        ("/v1/weather/berlin/meta", vec![]),
        ("/v1/weather/nowhere", vec![]),
        ("/v1/-/changes", vec![]),
        ("/healthz", vec![]),
        ("/readyz", vec![]),
        ("/nowhere", vec![]),
    ] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let get = pond.get(path, &lines).await;
        let head = pond.ask("HEAD", path, &lines).await;
        assert_eq!(head.status(), get.status(), "{path}");
        for name in get.fields().iter().filter(|name| *name != "date") {
            assert_eq!(head.field(name), get.field(name), "{path} {name}");
        }
        // The length of what a GET would bring if it were a 200, or nothing; never that of the empty body.
        assert_ne!(head.field("content-length"), Some("0"), "{path}");
    }
}

async fn another_content_has_another_etag(test: &TestStore) {
    let (pond, etag) = pond(test).await;
    pond.gets("berlin", &[("content-type", "text/plain")], "rainy").await;
    let answer = pond.get(BERLIN, &[&format!("If-None-Match: {etag}")]).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "rainy"));
    assert_eq!(answer.field("headpond-version"), Some("2"));
    assert_ne!(answer.field("etag"), Some(etag.as_str()));
}
