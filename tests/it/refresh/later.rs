//! Redirects that are to be followed later (RFC 9110 §10.2.3).

use std::time::Duration;

use headpond::domain::schedule::Because;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{Process, asked, mock_server};
use crate::support::store::{TestStore, on_each_database};

on_each_database! {
    a_redirect_with_retry_after_is_followed_when_that_has_passed_and_nothing_is_asked_before,
    a_redirect_that_one_key_waits_for_leaves_the_others_alone_however_short_the_wait,
    a_redirect_whose_retry_after_makes_no_sense_is_followed_at_once,
}

/// A key's resource is elsewhere, with this Retry-After.
async fn redirects(server: &MockServer, key: &str, retry_after: &str) {
    let redirect =
        ResponseTemplate::new(302).insert_header("location", "/there").insert_header("retry-after", retry_after);
    Mock::given(path(format!("/users/{key}"))).respond_with(redirect).mount(server).await;
    Mock::given(path("/there")).respond_with(ResponseTemplate::new(200).set_body_string("x")).mount(server).await;
}

fn serial(server: &MockServer, keys: &[&str], more: &str) -> String {
    super::users(&server.uri(), keys, more).replace("max_concurrent_requests = 100", "max_concurrent_requests = 1")
}

async fn a_redirect_with_retry_after_is_followed_when_that_has_passed_and_nothing_is_asked_before(test: &TestStore) {
    let server = mock_server().await;
    redirects(&server, "1", "3600").await;
    redirects(&server, "2", "3600").await;
    let process = Process::with_config(test, &serial(&server, &["1", "2"], "")).await;
    let counts = process.refresh().await;
    assert_eq!((counts.failed, asked(&server).await), (1, vec!["/users/1".to_owned()]), "{counts:?}");
    let until = test.now() + Duration::from_secs(3600);
    assert_eq!(
        (counts.waits[0].until, counts.waits[0].why.as_str()),
        (until, "the upstream is left alone: 302 with Retry-After")
    );
    let first = test.current("users", "1").await;
    let failing = first.failing.unwrap().last;
    assert_eq!((failing.kind.as_str(), failing.status), ("redirect", Some(302)));
    assert_eq!(
        failing.detail,
        "the upstream redirects (302), and wants to be asked nothing more before 2027-01-15T09:00:00Z"
    );
    assert_eq!((first.due.unwrap().at, first.due.unwrap().because), (until, Because::RetryAfter));

    let beside = Process::beside(test, &serial(&server, &["1", "2"], "")).await;
    assert_eq!((beside.refresh().await.waits.len(), asked(&server).await.len()), (1, 1), "nor by another process");
    test.clock.advance(Duration::from_secs(3600));
    // What was never asked for is first, and asks to be waited for in its turn.
    process.refresh().await;
    test.clock.advance(Duration::from_secs(3600));
    process.refresh().await;
    assert_eq!(test.current("users", "1").await.version, 1, "{:?}", asked(&server).await);
    assert!(asked(&server).await.contains(&"/there".to_owned()));
}

async fn a_redirect_that_one_key_waits_for_leaves_the_others_alone_however_short_the_wait(test: &TestStore) {
    let server = mock_server().await;
    redirects(&server, "1", "1").await;
    let plain = ResponseTemplate::new(200).set_body_string("x");
    Mock::given(path("/users/2")).respond_with(plain).mount(&server).await;
    let process = Process::with_config(test, &serial(&server, &["1", "2"], "pause_scope = \"key\"")).await;
    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.failed, counts.waits.len()), (1, 1, 0));
    assert_eq!(asked(&server).await, ["/users/1", "/users/2"]);
    let due = test.current("users", "1").await.due.unwrap();
    assert_eq!(due.because, Because::RetryAfter, "though the backoff is longer");
    test.clock.advance((due.at - test.now()).to_std().unwrap());
    assert_eq!(process.refresh().await.new, 1);
    assert_eq!(asked(&server).await[2..], ["/users/1", "/there"]);
}

async fn a_redirect_whose_retry_after_makes_no_sense_is_followed_at_once(test: &TestStore) {
    let server = mock_server().await;
    let nonsense = ["-30", "soon", "1.5", "Thu, 01 Jan 1970 00:00:00 GMT"];
    for (key, retry_after) in ["1", "2", "3", "4"].into_iter().zip(nonsense) {
        redirects(&server, key, retry_after).await;
    }
    let process = Process::with_config(test, &serial(&server, &["1", "2", "3", "4"], "")).await;
    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.waits, asked(&server).await.len()), (4, vec![], 8));
}
