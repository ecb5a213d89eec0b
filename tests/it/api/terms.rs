//! What readers get where the upstream's terms are respected.

use std::time::Duration;

use headpond::domain::schedule::Because;
use serde_json::json;

use super::pond::{JSON, Pond};
use crate::support::outcomes::{content, not_modified, status, unreachable};
use crate::support::program::eventually;
use crate::support::store::{TestStore, on_each_database};

const BERLIN: &str = "/v1/weather/berlin";
/// Without it, a copy that is withheld is asked for and waited for.
const CACHED: &str = "Cache-Control: only-if-cached";

on_each_database! {
    a_copy_beyond_its_terms_is_withheld_with_its_state_and_kept,
    a_copy_is_answered_within_the_windows_counted_from_when_it_became_stale,
    without_respect_a_copy_is_answered_whatever_the_upstream_says,
    meta_says_on_which_terms_a_copy_is_answered,
    a_list_shows_no_data_that_is_withheld,
    meta_says_that_a_body_was_refused,
    who_is_answered_while_it_is_revalidated_makes_it_due,
}

fn terms(value: &str) -> headpond::domain::observation::Seen {
    content("{}", &[JSON, ("etag", "\"a\""), ("cache-control", value)])
}

async fn a_copy_beyond_its_terms_is_withheld_with_its_state_and_kept(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.sees_respectfully("berlin", terms("max-age=60, must-revalidate, stale-if-error=600")).await;
    test.clock.advance(Duration::from_secs(59));
    assert_eq!(pond.get(BERLIN, &[]).await.status(), 200);
    test.clock.advance(Duration::from_secs(1));
    pond.sees_respectfully("berlin", unreachable()).await;
    let answer = pond.get(BERLIN, &["If-None-Match: *", CACHED]).await;
    assert_eq!(answer.status(), 504);
    answer.problem("withheld");
    assert_eq!(answer.field("headpond-state"), Some("stale"));
    assert_eq!(answer.field("headpond-version"), Some("1"));
    assert_eq!(answer.field("headpond-last-failure"), Some("connect"));
    assert_eq!(answer.field("headpond-fetched-at"), Some("2027-01-15T08:00:00Z"));
    assert_eq!(answer.field("headpond-stale-after"), Some("2027-01-15T08:01:00Z"));
    pond.sees_respectfully("berlin", not_modified()).await;
    let answer = pond.get(BERLIN, &[]).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "{}"), "the copy was kept");
}

async fn a_copy_is_answered_within_the_windows_counted_from_when_it_became_stale(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.sees_respectfully("berlin", terms("max-age=60, stale-while-revalidate=30, stale-if-error=600")).await;
    for (passed, seen, answered) in [
        (89, None, 200),
        (1, None, 504),
        (0, Some(status(403)), 504),
        (0, Some(status(500)), 200),
        (569, None, 200),
        (1, None, 504),
        (0, Some(not_modified()), 200),
    ] {
        test.clock.advance(Duration::from_secs(passed));
        if let Some(seen) = seen {
            pond.sees_respectfully("berlin", seen).await;
        }
        let answer = pond.get(BERLIN, &[CACHED]).await;
        assert_eq!(answer.status(), answered, "{passed}: {}", answer.text());
    }
}

async fn without_respect_a_copy_is_answered_whatever_the_upstream_says(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.sees("berlin", terms("no-store, no-cache, must-revalidate")).await;
    test.clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(pond.get(BERLIN, &[]).await.status(), 200);
}

async fn meta_says_on_which_terms_a_copy_is_answered(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.sees_respectfully("berlin", terms("max-age=60, stale-if-error=600")).await;
    let meta = pond.json("/v1/weather/berlin/meta").await;
    let expected = json!({
        "reuse": "allowed", "stale_while_revalidate": 0, "stale_if_error": 600, "by_expires": false,
    });
    assert_eq!(meta["upstream"]["terms"], expected);
    assert_eq!(meta["stale_after"], "2027-01-15T08:01:00Z");
}

async fn a_list_shows_no_data_that_is_withheld(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin", "prishtina"]).await;
    pond.sees_respectfully("berlin", terms("max-age=60, stale-if-error=600")).await;
    pond.sees("prishtina", terms("max-age=60")).await;
    test.clock.advance(Duration::from_secs(60));
    let listed = async |parameters| {
        let list = pond.json(&format!("/v1/weather?{parameters}")).await;
        let item = |nth: usize| (list["items"][nth]["withheld"].clone(), list["items"][nth]["data"].clone());
        (item(0), item(1))
    };
    for parameters in ["data=true", "data=true&keys=berlin,prishtina"] {
        let expected = ((json!(true), json!(null)), (json!(null), json!({})));
        assert_eq!(listed(parameters).await, expected, "{parameters}");
    }
    pond.sees_respectfully("berlin", unreachable()).await;
    assert_eq!(listed("data=true").await.0, (json!(null), json!({})), "asking ended in an error");
}

async fn meta_says_that_a_body_was_refused(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON], "<html>").await;
    let meta = pond.json("/v1/weather/berlin/meta").await;
    let expected = json!({
        "at": "2027-01-15T08:00:00Z", "status": 200, "content_type": "application/json; charset=utf-8", "size": 6, "kept": 6,
    });
    assert_eq!(meta["refused"], expected);
}

async fn who_is_answered_while_it_is_revalidated_makes_it_due(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.sees_respectfully("berlin", terms("max-age=60, stale-while-revalidate=600")).await;
    let because = async || test.current("weather", "berlin").await.due.unwrap().because;
    assert_eq!(pond.get(BERLIN, &[]).await.status(), 200);
    assert_eq!(because().await, Because::Interval, "it is fresh");
    test.clock.advance(Duration::from_secs(60));
    assert_eq!(pond.get(BERLIN, &[]).await.status(), 200);
    let wanted = async || (because().await == Because::Manual).then_some(());
    eventually("that it is due", Duration::from_secs(30), wanted).await;
}
