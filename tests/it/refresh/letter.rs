//! HTTP to the letter, as an upstream sees it.

use std::time::Duration;

use wiremock::matchers::{header_exists, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Process, answer, asked, mock_server};
use crate::support::store::{TestStore, on_each_database};

on_each_database! {
    a_304_with_an_unknown_strong_etag_costs_one_unconditional_request,
    what_is_immutable_is_not_asked_for_while_it_is_fresh,
    where_a_resource_has_moved_for_good_is_remembered_and_each_refresh_asks_where_the_url_says,
    no_path_is_remembered_where_the_url_has_a_secret_in_it,
}

const HOUR: Duration = Duration::from_secs(3600);

async fn a_304_with_an_unknown_strong_etag_costs_one_unconditional_request(test: &TestStore) {
    let upstream = mock_server().await;
    Mock::given(header_exists("if-none-match"))
        .respond_with(ResponseTemplate::new(304).insert_header("etag", "\"v9\""))
        .expect(1)
        .mount(&upstream)
        .await;
    let found = ResponseTemplate::new(200).insert_header("etag", "\"v1\"").set_body_string("one");
    Mock::given(path("/users/ada")).respond_with(found).expect(2).mount(&upstream).await;
    let process = Process::with_users(test, &upstream.uri(), &["ada"], "").await;
    assert_eq!(process.refresh().await.new, 1);
    test.clock.advance(HOUR);
    assert_eq!(process.refresh().await.unchanged, 1, "the second answer is the first content again");
}

async fn what_is_immutable_is_not_asked_for_while_it_is_fresh(test: &TestStore) {
    let upstream = mock_server().await;
    // Without it, the mock server says the real time, by which the answer is old when it comes.
    let date = httpdate::fmt_http_date(test.now().into());
    let found = ResponseTemplate::new(200).insert_header("cache-control", "max-age=18000, immutable");
    let found = found.insert_header("date", date.as_str());
    Mock::given(path("/users/ada")).respond_with(found.set_body_string("one")).mount(&upstream).await;
    let process = Process::with_users(test, &upstream.uri(), &["ada"], "").await;
    process.refresh().await;
    test.clock.advance(4 * HOUR);
    assert_eq!((process.refresh().await.total(), asked(&upstream).await.len()), (0, 1));
    test.clock.advance(2 * HOUR);
    assert_eq!((process.refresh().await.total(), asked(&upstream).await.len()), (1, 2));
}

async fn redirect(upstream: &MockServer, status: u16, from: &str, to: &str) {
    let moved = ResponseTemplate::new(status).insert_header("location", to);
    Mock::given(path(from)).respond_with(moved).mount(upstream).await;
}

async fn where_a_resource_has_moved_for_good_is_remembered_and_each_refresh_asks_where_the_url_says(test: &TestStore) {
    let upstream = mock_server().await;
    redirect(&upstream, 301, "/users/ada", "/people/ada?token=s3cret").await;
    redirect(&upstream, 307, "/users/bob", "/users/carol").await;
    Mock::given(path("/people/ada"))
        .respond_with(ResponseTemplate::new(200).set_body_string("x"))
        .mount(&upstream)
        .await;
    answer(&upstream, "carol", "y").await;
    let process = Process::with_users(test, &upstream.uri(), &["ada", "bob"], "").await;
    process.refresh().await;
    assert_eq!(test.current("users", "ada").await.moved_to.as_deref(), Some("/people/ada"));
    assert_eq!(test.current("users", "bob").await.moved_to, None);
    test.clock.advance(HOUR);
    process.refresh().await;
    assert_eq!(asked(&upstream).await.iter().filter(|path| *path == "/users/ada").count(), 2);
    upstream.reset().await;
    answer(&upstream, "ada", "x").await;
    answer(&upstream, "bob", "y").await;
    test.clock.advance(HOUR);
    process.refresh().await;
    assert_eq!(test.current("users", "ada").await.moved_to, None, "it is where it was again");
}

async fn no_path_is_remembered_where_the_url_has_a_secret_in_it(test: &TestStore) {
    let upstream = mock_server().await;
    redirect(&upstream, 301, "/s3cret/ada", "/s3cret/people/ada").await;
    let found = ResponseTemplate::new(200).set_body_string("x");
    Mock::given(path("/s3cret/people/ada")).respond_with(found).mount(&upstream).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "s3cret").unwrap();
    let url = format!("{}/${{file:{}}}/{{key}}", upstream.uri(), file.display());
    let toml = format!("[sources.users]\nrefresh_every = \"1h\"\nkeys = [\"ada\"]\nurl = \"{url}\"\n");
    let process = Process::with_config(test, &toml).await;
    assert_eq!(process.refresh().await.new, 1);
    assert_eq!(test.current("users", "ada").await.moved_to.as_deref(), Some("/…"));
}
