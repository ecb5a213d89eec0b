//! Compressed answers.

use std::time::Duration;

use headpond::domain::observation::Seen;
use http::{HeaderMap, HeaderValue, header};

use super::pond::{JSON, Pond};
use super::serving::Answer;
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    every_encoding_brings_the_same_content,
    the_best_encoding_that_is_accepted_is_chosen,
    what_gains_nothing_is_left_as_it_is,
    the_etag_of_a_compressed_answer_revalidates_it,
    a_head_tells_what_a_get_would_bring,
    a_range_is_not_claimed_and_not_served,
    lists_and_problems_are_compressed_too,
);

const LARGE: &str = "/v1/weather/large";

/// JSON of some 20 KB.
fn forecast() -> String {
    let hours: Vec<_> = (0..500).map(|hour| format!("{{\"hour\":{hour},\"temperature\":{}.5}}", hour % 30)).collect();
    format!("[{}]", hours.join(","))
}

/// A pond with the keys `large`, a forecast, and `small`.
async fn pond(test: &TestStore) -> Pond<'_> {
    let pond = Pond::with_keys(test, &["large", "small"]).await;
    pond.gets("large", &[JSON], &forecast()).await;
    pond.gets("small", &[JSON], "{}").await;
    pond
}

async fn get(pond: &Pond<'_>, path: &str, accept: &str) -> Answer {
    pond.get(path, &[&format!("Accept-Encoding: {accept}")]).await
}

fn encoding(answer: &Answer) -> &str {
    answer.field("content-encoding").unwrap_or("identity")
}

async fn every_encoding_brings_the_same_content(test: &TestStore) {
    _ = rustls::crypto::ring::default_provider().install_default();
    let pond = pond(test).await;
    let plain = pond.get(LARGE, &[]).await;
    let clients = [("gzip", 1, 0, 0), ("br", 0, 1, 0), ("zstd", 0, 0, 1)];
    for (name, gzip, brotli, zstd) in clients {
        // Reads this encoding and no other.
        let client = reqwest::Client::builder().no_proxy().gzip(gzip == 1).brotli(brotli == 1).zstd(zstd == 1);
        let answer = client.build().unwrap().get(pond.address(LARGE)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{name}");
        let weak = format!("W/{}", plain.field("etag").unwrap());
        assert_eq!(answer.headers()[header::ETAG], weak, "{name}");
        assert_eq!(answer.text().await.unwrap(), forecast(), "{name}");

        let encoded = get(&pond, LARGE, name).await;
        assert_eq!((encoding(&encoded), encoded.field("content-length")), (name, None));
        assert!(encoded.body.len() * 4 < plain.body.len(), "{name}: {}", encoded.body.len());
        for field in ["age", "cache-control", "content-type", "headpond-version", "last-modified", "vary"] {
            assert_eq!(encoded.field(field), plain.field(field), "{name}: {field}");
        }
    }
}

async fn the_best_encoding_that_is_accepted_is_chosen(test: &TestStore) {
    let pond = pond(test).await;
    for (accept, expected) in [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("gzip; q=0.2 , identity ; q=0.1", "gzip"),
        ("identity, gzip;q=0.5", "identity"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0, *", "zstd"),
        ("*", "zstd"),
        ("*;q=0, gzip", "gzip"),
        ("identity;q=0, gzip", "gzip"),
        ("deflate", "identity"),
        ("", "identity"),
        ("gzip;q=2", "identity"),
        ("gzip;q=x, br;q=0.1", "br"),
        (",,;;=,gzip", "gzip"),
    ] {
        let answer = get(&pond, LARGE, accept).await;
        assert_eq!((answer.status(), encoding(&answer)), (200, expected), "{accept}");
        assert_eq!(answer.field("vary"), Some("accept-encoding"), "{accept}");
        assert_eq!(answer.field("etag").unwrap().starts_with("W/"), expected != "identity", "{accept}");
    }
    for accept in ["identity;q=0", "*;q=0", "identity;q=0, deflate"] {
        let answer = get(&pond, LARGE, accept).await;
        assert_eq!(answer.status(), 406, "{accept}");
        answer.problem("not-acceptable");
        assert_eq!((answer.field("etag"), answer.field("vary")), (None, Some("accept-encoding")), "{accept}");
    }
    let bytes = HeaderValue::from_bytes(b"gzip, \xff").unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(pond.address(LARGE)).header(header::ACCEPT_ENCODING, bytes).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), forecast(), "bytes that are no text accept nothing");
    let two_lines = pond.get(LARGE, &["Accept-Encoding: gzip;q=0.1", "Accept-Encoding: br"]).await;
    assert_eq!(encoding(&two_lines), "br");
}

async fn what_gains_nothing_is_left_as_it_is(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a"]).await;
    let (large, small) = ("x".repeat(2000), "x".repeat(859));
    for (content_type, body, expected) in [
        (Some("application/json"), format!("\"{large}\""), "gzip"),
        (Some("APPLICATION/Geo+JSON; charset=utf-8"), format!("\"{large}\""), "gzip"),
        (Some("text/plain"), large.clone(), "gzip"),
        (Some("image/svg+xml"), large.clone(), "gzip"),
        (Some("application/xml"), large.clone(), "gzip"),
        (Some("text/plain"), small, "identity"),
        (Some("text/event-stream"), large.clone(), "identity"),
        (Some("image/png"), large.clone(), "identity"),
        (Some("application/zip"), large.clone(), "identity"),
        (Some("video/mp4"), large.clone(), "identity"),
        (Some("application/octet-stream"), large.clone(), "identity"),
        (None, large.clone(), "identity"),
    ] {
        let fields = content_type.map(|value| ("content-type", value));
        pond.gets("a", fields.as_slice(), &body).await;
        let answer = get(&pond, "/v1/weather/a", "gzip").await;
        assert_eq!((answer.status(), encoding(&answer)), (200, expected), "{content_type:?}");
        assert_eq!(answer.field("vary"), Some("accept-encoding"), "{content_type:?}");
        if expected == "identity" {
            assert_eq!(answer.text(), body, "{content_type:?}");
            assert_eq!(answer.field("content-length"), Some(body.len().to_string().as_str()), "{content_type:?}");
        }
    }
    // What the upstream said of its encoding was about the bytes on its wire, and is not kept.
    let fields = [(header::CONTENT_TYPE, "text/plain"), (header::CONTENT_ENCODING, "gzip")];
    let headers = HeaderMap::from_iter(fields.map(|(name, value)| (name, HeaderValue::from_static(value))));
    pond.sees("a", Seen::Content { headers, body: "decoded".into() }).await;
    let answer = pond.get("/v1/weather/a", &[]).await;
    assert_eq!((encoding(&answer), answer.text().as_str()), ("identity", "decoded"));
}

async fn the_etag_of_a_compressed_answer_revalidates_it(test: &TestStore) {
    let pond = pond(test).await;
    let encoded = get(&pond, LARGE, "gzip").await;
    let etag = encoded.field("etag").unwrap();
    let strong = etag.strip_prefix("W/").unwrap();
    for (accept, given, status, expected) in [
        ("gzip", etag, 304, etag),
        ("br", etag, 304, etag),
        ("identity", etag, 304, etag),
        ("gzip", strong, 304, strong),
        ("identity", strong, 304, strong),
        ("gzip", "*", 304, strong),
        ("gzip", "\"x\"", 200, etag),
        ("gzip", "W/\"x\"", 200, etag),
    ] {
        let lines = [format!("Accept-Encoding: {accept}"), format!("If-None-Match: {given}")];
        let answer = pond.get(LARGE, &lines.each_ref().map(String::as_str)).await;
        assert_eq!((answer.status(), answer.field("etag")), (status, Some(expected)), "{accept} {given}");
        assert_eq!(answer.field("vary"), Some("accept-encoding"), "{accept} {given}");
        assert_eq!(answer.field("cache-control"), encoded.field("cache-control"), "{accept} {given}");
        if status == 304 {
            assert_eq!(answer.field("content-encoding"), None, "{accept} {given}");
        }
    }
    let weak_match = pond.get(LARGE, &[&format!("If-Match: {etag}"), "Accept-Encoding: gzip"]).await;
    assert_eq!(weak_match.status(), 412, "If-Match compares strongly");
    test.clock.advance(Duration::from_secs(1));
    pond.gets("large", &[JSON], "[]").await;
    let changed = pond.get(LARGE, &[&format!("If-None-Match: {etag}"), "Accept-Encoding: gzip"]).await;
    assert_eq!((changed.status(), changed.text().as_str()), (200, "[]"));
}

async fn a_head_tells_what_a_get_would_bring(test: &TestStore) {
    let pond = pond(test).await;
    for (path, accept) in [
        (LARGE, "gzip"),
        (LARGE, "br, zstd"),
        (LARGE, "identity"),
        (LARGE, "identity;q=0"),
        ("/v1/weather/small", "gzip"),
        ("/v1/weather?key=large", "gzip"),
        ("/v1/weather", "gzip"),
    ] {
        let accept = format!("Accept-Encoding: {accept}");
        let (get, head) = (pond.get(path, &[&accept]).await, pond.ask("HEAD", path, &[&accept]).await);
        assert_eq!(head.status(), get.status(), "{path} {accept}");
        let told = |name: &&String| !["date", "transfer-encoding"].contains(&name.as_str());
        assert!(get.fields().iter().filter(told).eq(head.fields().iter().filter(told)), "{path} {accept}");
        for name in get.fields().iter().filter(told) {
            assert_eq!(head.field(name), get.field(name), "{path} {accept} {name}");
        }
    }
}

async fn a_range_is_not_claimed_and_not_served(test: &TestStore) {
    let pond = pond(test).await;
    for accept in ["identity", "gzip"] {
        let range = pond.get(LARGE, &["Range: bytes=0-9", &format!("Accept-Encoding: {accept}")]).await;
        assert_eq!((range.status(), range.field("accept-ranges"), range.field("content-range")), (200, None, None));
        assert_eq!(encoding(&range), accept);
    }
}

async fn lists_and_problems_are_compressed_too(test: &TestStore) {
    let pond = pond(test).await;
    let list = get(&pond, "/v1/weather", "gzip").await;
    assert_eq!((encoding(&list), &list.field("etag").unwrap()[..3]), ("gzip", "W/\""), "one for all encodings");
    assert_eq!(encoding(&get(&pond, "/v1/weather?data=false&limit=1", "gzip").await), "identity");
    let problem = get(&pond, &format!("/{}", "x".repeat(2000)), "gzip").await;
    assert_eq!((problem.status(), encoding(&problem)), (404, "gzip"));
    assert_eq!(problem.field("vary"), Some("accept-encoding"));
}
