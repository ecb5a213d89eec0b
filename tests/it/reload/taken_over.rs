//! What a new configuration changes, and what goes on as it was.

use serde_json::Value;
use wiremock::matchers::{header, header_exists, method, path};
use wiremock::{Mock, ResponseTemplate};

use super::{PATIENCE, answer, asked, config, fetched, reads, reload, upstream};
use crate::refresh::HeldServer;
use crate::support::program::{Headpond, eventually, get, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(
    a_new_source_is_polled_and_of_a_removed_one_the_copies_are_read_on,
    keys_come_and_go,
    another_url_is_asked_without_the_validators_of_the_old_one,
    the_next_request_shows_the_token_that_is_in_its_file_now,
    a_shorter_interval_holds_at_once,
    the_limit_of_requests_at_once_grows_and_shrinks,
);

async fn a_new_source_is_polled_and_of_a_removed_one_the_copies_are_read_on(database: &Database) {
    let upstream = upstream().await;
    answer(&upstream, "/old/1", "old").await;
    answer(&upstream, "/new/1", "new").await;
    let (old, new) = (format!("{}/old", upstream.uri()), format!("{}/new", upstream.uri()));
    let source = |name, url| config(&database.url(), &[(name, url, "[\"1\"]", "")]).replace("\"1h\"", "\"1s\"");
    let headpond = Headpond::with_config(&source("old", &old));
    let serving = headpond.serve().await;
    reads(&serving, "/v1/old/1", "old").await;

    headpond.configure(&source("new", &new));
    assert_eq!(reload(&serving).await, [] as [Value; 0]);
    reads(&serving, "/v1/new/1", "new").await;
    // What was under way may still arrive; then nobody asks for it any more.
    let before = eventually("three polls of the new one and none of the old one", PATIENCE, async || {
        let (before, polled) = (asked(&upstream, "/old/1").await, asked(&upstream, "/new/1").await);
        let is_polled = async || (asked(&upstream, "/new/1").await >= polled + 3).then_some(());
        eventually("three more polls", PATIENCE, is_polled).await;
        (asked(&upstream, "/old/1").await == before).then_some(before)
    })
    .await;
    reads(&serving, "/v1/old/1", "old").await;
    let (_, meta) = get_json(&serving.url("/v1/old/1/meta")).await;
    assert_eq!(meta["due"], Value::Null, "{meta}");
    assert_eq!(get(&serving.url("/v1/old/2")).await.unwrap().status(), 404);

    headpond.configure(&source("old", &old));
    serving.signal("HUP");
    eventually("polled again", PATIENCE, async || (asked(&upstream, "/old/1").await > before).then_some(())).await;
    serving.stop().await;
}

async fn keys_come_and_go(database: &Database) {
    let upstream = upstream().await;
    for key in ["1", "2", "3"] {
        answer(&upstream, &format!("/{key}"), key).await;
    }
    let with_keys = |keys| config(&database.url(), &[("users", &upstream.uri(), keys, "")]);
    let headpond = Headpond::with_config(&with_keys("[\"1\", \"2\"]"));
    let serving = headpond.serve().await;
    reads(&serving, "/v1/users/1", "1").await;
    reads(&serving, "/v1/users/2", "2").await;
    headpond.configure(&with_keys("[\"2\", \"3\"]"));
    reload(&serving).await;
    reads(&serving, "/v1/users/3", "3").await;
    reads(&serving, "/v1/users/1", "1").await;
    assert_eq!(database.number("SELECT count(*) FROM {schedule} WHERE due_at IS NOT NULL").await, 2);
    assert_eq!(asked(&upstream, "/2").await, 1, "what is as it was is not asked for again");
    serving.stop().await;
}

async fn another_url_is_asked_without_the_validators_of_the_old_one(database: &Database) {
    let upstream = upstream().await;
    // The two are told apart by nothing but their bodies, as by an upstream that numbers its versions.
    let tagged = |body: &str| ResponseTemplate::new(200).insert_header("etag", "\"7\"").set_body_string(body);
    let not_modified = ResponseTemplate::new(304).insert_header("etag", "\"7\"");
    Mock::given(header_exists("if-none-match")).respond_with(not_modified).mount(&upstream).await;
    Mock::given(method("GET")).and(path("/v1/1")).respond_with(tagged("first")).mount(&upstream).await;
    Mock::given(method("GET")).and(path("/v2/1")).respond_with(tagged("second")).mount(&upstream).await;
    let version =
        |version| config(&database.url(), &[("users", &format!("{}/{version}", upstream.uri()), "[\"1\"]", "")]);
    let headpond = Headpond::with_config(&version("v1"));
    let serving = headpond.serve().await;
    reads(&serving, "/v1/users/1", "first").await;
    headpond.configure(&version("v2"));
    reload(&serving).await;
    reads(&serving, "/v1/users/1", "second").await;
    let current = get(&serving.url("/v1/users/1")).await.unwrap();
    assert_eq!(current.headers()["headpond-version"], "2");
    serving.stop().await;
}

async fn the_next_request_shows_the_token_that_is_in_its_file_now(database: &Database) {
    let upstream = upstream().await;
    for token in ["first", "second"] {
        let known = ResponseTemplate::new(200).set_body_string(token);
        let shown = header("authorization", format!("Bearer {token}").as_str());
        Mock::given(method("GET")).and(shown).respond_with(known).mount(&upstream).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let auth = format!("[upstreams.up]\nauth = {{ bearer = \"${{file:{}}}\" }}\n", file.display());
    let sources = config(&database.url(), &[("users", &upstream.uri(), "[\"1\"]", "upstream = \"up\"")]);
    std::fs::write(&file, "first").unwrap();
    let headpond = Headpond::with_config(&format!("{}{auth}", sources.replace("\"1h\"", "\"1s\"")));
    let serving = headpond.serve().await;
    reads(&serving, "/v1/users/1", "first").await;

    std::fs::write(&file, "second").unwrap();
    assert_eq!(reload(&serving).await, [] as [Value; 0]);
    reads(&serving, "/v1/users/1", "second").await;

    std::fs::remove_file(&file).unwrap();
    assert_eq!(serving.post("/v1/-/reload", None).await.0, 422, "there is no token to be read");
    let before = asked(&upstream, "/1").await;
    eventually("polls as before", PATIENCE, async || (asked(&upstream, "/1").await >= before + 2).then_some(())).await;
    let requests = upstream.received_requests().await.unwrap();
    let shown: Vec<_> = requests.iter().map(|request| &request.headers["authorization"]).collect();
    assert_eq!(shown.last().unwrap(), &"Bearer second");
    assert!(shown.is_sorted(), "none shows the old one once the new one was shown: {shown:?}");
    serving.stop().await;
}

async fn a_shorter_interval_holds_at_once(database: &Database) {
    let upstream = upstream().await;
    answer(&upstream, "/1", "1").await;
    let by_the_hour = config(&database.url(), &[("users", &upstream.uri(), "[\"1\"]", "")]);
    let headpond = Headpond::with_config(&by_the_hour);
    let serving = headpond.serve().await;
    reads(&serving, "/v1/users/1", "1").await;
    headpond.configure(&by_the_hour.replace("\"1h\"", "\"1s\""));
    reload(&serving).await;
    eventually("polls by the second", PATIENCE, async || (asked(&upstream, "/1").await >= 3).then_some(())).await;
    serving.stop().await;
}

async fn the_limit_of_requests_at_once_grows_and_shrinks(database: &Database) {
    let mut upstream = HeldServer::start().await;
    let keys = "[\"1\", \"2\", \"3\", \"4\", \"5\", \"6\"]";
    let sources = config(&database.url(), &[("users", &upstream.origin(), keys, "")]);
    let at_once = |requests: u32| format!("{sources}[defaults]\nmax_concurrent_requests = {requests}\n");
    let headpond = Headpond::with_config(&at_once(1));
    let serving = headpond.serve().await;
    upstream.arrival().await;
    headpond.configure(&at_once(3));
    reload(&serving).await;
    upstream.arrival().await;
    upstream.arrival().await;
    assert_eq!(upstream.requests(), 3, "the first of them under way since before");
    headpond.configure(&at_once(1));
    reload(&serving).await;
    for nth in 3..6 {
        upstream.answer(nth);
        upstream.arrival().await;
        assert_eq!(upstream.requests(), nth + 1, "one at a time");
    }
    upstream.answer(6);
    eventually("all of them", PATIENCE, async || (fetched(database).await == 6).then_some(())).await;
    assert_eq!(upstream.requests(), 6, "none was given up or repeated");
    serving.stop().await;
}
