//! Keys in paths.

use serde_json::json;

use super::pond::{Pond, path_of, query_of};
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    a_key_may_be_any_text,
    a_path_is_decoded_once,
    a_path_that_can_name_no_key_is_a_bad_request,
    an_unknown_source_is_told_from_an_unknown_key,
);

async fn a_key_may_be_any_text(test: &TestStore) {
    let (long, long_in_utf8) = ("k".repeat(2048), "\u{1F600}".repeat(512));
    let keys = [
        "a/b",
        "a%2Fb",
        "a%252Fb",
        "100%",
        "%",
        ".",
        "..",
        "../../etc/passwd",
        "a b",
        "a+b",
        "a,b",
        " ",
        "f\u{fc}r \u{1F600}",
        "who?me#here",
        "a&b=c;d",
        "meta",
        "-",
        "{key}",
        "\"quoted\" \\ <b>",
        &long,
        &long_in_utf8,
    ];
    let pond = Pond::with_keys(test, &keys).await;
    for key in keys {
        pond.gets(key, &[], &format!("content of {key}")).await;
    }
    for key in keys {
        let answer = pond.get(&path_of(key), &[]).await;
        assert_eq!((answer.status(), answer.text()), (200, format!("content of {key}")), "{key}");
        assert_eq!(pond.json(&format!("{}/meta", path_of(key))).await["key"], json!(key));
        let in_query = pond.get(&query_of("key", key), &[]).await;
        assert_eq!((in_query.status(), in_query.text()), (200, format!("content of {key}")), "{key}");
        let among_others = pond.json(&query_of("keys", key)).await;
        assert_eq!(among_others["items"][0]["data"], json!(format!("content of {key}")), "{key}");
        assert_eq!(among_others["items"][0]["key"], json!(key));
    }
}

async fn a_path_is_decoded_once(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a/b", "a%2Fb", "..", "a+b", "%zz"]).await;
    for key in ["a/b", "a%2Fb", "..", "a+b", "%zz"] {
        pond.gets(key, &[], key).await;
    }
    for (path, key) in [
        ("/v1/weather/a%2fb", "a/b"),
        ("/v1/weather/a%252Fb", "a%2Fb"),
        ("/v1/weather/..", ".."),
        ("/v1/weather/a+b", "a+b"),
        ("/v1/weather/%zz", "%zz"),
        ("/v1/%77eather/a+b", "a+b"),
    ] {
        let answer = pond.get(path, &[]).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, key), "{path}");
    }
    let unencoded = pond.get("/v1/weather/a/b", &[]).await;
    assert_eq!(unencoded.status(), 404);
    unencoded.problem("unknown-route");
}

async fn a_path_that_can_name_no_key_is_a_bad_request(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    for (path, kind) in [
        ("/v1/weather/%ff".to_owned(), "unreadable-path"),
        ("/v1/weather/%ed%a0%80/meta".to_owned(), "unreadable-path"),
        ("/v1/%ff/berlin".to_owned(), "unreadable-path"),
        ("/v1/weather//meta".to_owned(), "impossible-key"),
        ("/v1/weather/%00".to_owned(), "impossible-key"),
        ("/v1/weather/a%0D%0Ab/meta".to_owned(), "impossible-key"),
        (format!("/v1/weather/{}", "k".repeat(2049)), "impossible-key"),
        ("/v1/%ff".to_owned(), "unreadable-path"),
        ("/v1/weather?key=".to_owned(), "impossible-key"),
        ("/v1/weather?key=%00".to_owned(), "impossible-key"),
        (format!("/v1/weather?key={}", "k".repeat(2049)), "impossible-key"),
    ] {
        let answer = pond.get(&path, &[]).await;
        assert_eq!(answer.status(), 400, "{path}");
        answer.problem(kind);
    }
}

async fn an_unknown_source_is_told_from_an_unknown_key(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    for (path, kind, member, value) in [
        ("/v1/weather/atlantis", "unknown-key", "key", "atlantis"),
        ("/v1/weather/Berlin", "unknown-key", "key", "Berlin"),
        ("/v1/users/berlin", "unknown-source", "source", "users"),
        ("/v1/Weather/berlin", "unknown-source", "source", "Weather"),
    ] {
        let (collection, key) = path.rsplit_once('/').unwrap();
        for path in [path.to_owned(), format!("{path}/meta"), format!("{collection}?key={key}")] {
            let answer = pond.get(&path, &[]).await;
            assert_eq!(answer.status(), 404, "{path}");
            assert_eq!(answer.field("headpond-state"), None, "{path}");
            assert_eq!(answer.problem(kind)[member], value, "{path}");
        }
    }
}
