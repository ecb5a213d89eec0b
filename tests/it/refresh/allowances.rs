//! An upstream that says how much is left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use headpond::api::explain::Explanation;
use wiremock::matchers::method;
use wiremock::{Mock, ResponseTemplate};

use super::{Process, asked, mock_server};
use crate::support::store::{TestStore, key, on_each_database};

on_each_database! {
    what_is_left_is_counted_by_the_upstream_and_asked_for_no_more_than_that,
    what_makes_no_sense_is_no_failure,
}

const KEYS: [&str; 5] = ["1", "2", "3", "4", "5"];
const AN_HOUR: Duration = Duration::from_secs(3600);

fn serial(origin: &str, allowance: &str) -> String {
    let serial = format!("max_concurrent_requests = 1\n{allowance}");
    super::users(origin, &KEYS, "").replace("max_concurrent_requests = 100", &serial).replace("1h", "1d")
}

/// What an operator is told of a key of `users`.
async fn explained(test: &TestStore, process: &Process<'_>, name: &str) -> String {
    let source = process.refresher.roster.source(process.ids[0].source).unwrap();
    let (current, status) = (test.current("users", name).await, test.store.status(test.now()).await.unwrap());
    let explanation = Explanation::of(source, key(name), &current, &status, test.now());
    explanation.says.into_iter().map(|says| says.says).collect::<Vec<_>>().join("\n")
}

async fn what_is_left_is_counted_by_the_upstream_and_asked_for_no_more_than_that(test: &TestStore) {
    let upstream = mock_server().await;
    let answered = AtomicUsize::new(0);
    // Two requests an hour.
    let answer = move |_: &wiremock::Request| {
        let left = if answered.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { "1" } else { "0" };
        let answer = ResponseTemplate::new(200).set_body_string("x");
        answer.insert_header("x-calls-left", left).insert_header("x-calls-again-in", "3600")
    };
    Mock::given(method("GET")).respond_with(answer).mount(&upstream).await;
    let named = "allowance = { remaining = \"x-calls-left\", reset = \"x-calls-again-in\" }";
    let process = Process::with_config(test, &serial(&upstream.uri(), named)).await;
    let beside = Process::beside(test, &serial(&upstream.uri(), named)).await;
    for (new, all) in [(2, 2), (2, 4), (1, 5)] {
        let counts = process.refresh().await;
        assert_eq!((counts.new, asked(&upstream).await.len()), (new, all), "{counts:?}");
        if all < KEYS.len() {
            assert_eq!(counts.waits[0].until, test.now() + AN_HOUR);
            assert!(counts.waits[0].why.contains("says that its allowance is spent until"), "{counts:?}");
            let explained = explained(test, &process, "5").await;
            let said = "is left alone until 2027-01-15T";
            let why = "(in 1h): 200 that says that its allowance is spent until";
            assert!(explained.contains(said) && explained.contains(why), "{explained}");
            let counts = beside.refresh().await;
            assert_eq!(
                (counts.new, counts.waits.len(), asked(&upstream).await.len()),
                (0, 1, all),
                "nor by another process"
            );
            test.clock.advance(AN_HOUR);
        }
    }
}

async fn what_makes_no_sense_is_no_failure(test: &TestStore) {
    let upstream = mock_server().await;
    let answer = ResponseTemplate::new(200)
        .set_body_string("x")
        .append_header("ratelimit", "\"default\";r=0;t=-30")
        .append_header("ratelimit-policy", ";;;")
        .append_header("x-ratelimit-remaining", "-1")
        .append_header("x-ratelimit-reset", "in 1970")
        .append_header("x-poll-interval", "-99999999999999999999");
    Mock::given(method("GET")).respond_with(answer).mount(&upstream).await;
    let process = Process::with_config(test, &serial(&upstream.uri(), "")).await;
    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.failed, counts.waits), (5, 0, vec![]));
}
