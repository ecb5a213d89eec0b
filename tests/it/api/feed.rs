//! The change feed over HTTP.

use std::time::Duration;

use serde_json::{Value, json};

use super::pond::Pond;
use crate::support::outcomes::status;
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    the_feed_is_read_page_by_page,
    a_place_that_the_feed_does_not_have_is_gone,
    a_wrong_parameter_is_refused_and_explained,
);

/// A feed of four changes, a second apart.
async fn pond(test: &TestStore) -> Pond<'_> {
    let pond = Pond::with_keys(test, &["a", "b"]).await;
    for (key, body) in [("a", "1"), ("b", "1"), ("a", "2")] {
        pond.gets(key, &[], body).await;
        test.clock.advance(Duration::from_secs(1));
    }
    pond.sees("b", status(410)).await;
    pond
}

async fn the_feed_is_read_page_by_page(test: &TestStore) {
    let pond = pond(test).await;
    let mut all: Vec<Value> = Vec::new();
    let mut next = String::new();
    for expected in [3, 1, 0] {
        let since = if next.is_empty() { String::new() } else { format!("&since={next}") };
        let page = pond.json(&format!("/v1/-/changes?limit=3{since}")).await;
        let changes = page["changes"].as_array().unwrap();
        assert_eq!(changes.len(), expected);
        if let Some(last) = changes.last() {
            assert_eq!(last["cursor"], page["next"]);
        } else {
            assert_eq!(page["next"], json!(next), "nothing new: the same place");
        }
        page["next"].as_str().unwrap().clone_into(&mut next);
        all.extend(changes.iter().cloned());
    }
    let told: Vec<_> = all.iter().map(|one| (&one["key"], &one["kind"], &one["version"], &one["at"])).collect();
    let at = |second| json!(format!("2027-01-15T08:00:0{second}Z"));
    assert_eq!(
        told,
        [
            (&json!("a"), &json!("created"), &json!(1), &at(0)),
            (&json!("b"), &json!("created"), &json!(1), &at(1)),
            (&json!("a"), &json!("changed"), &json!(2), &at(2)),
            (&json!("b"), &json!("gone"), &json!(1), &at(3)),
        ]
    );
    assert!(all.iter().all(|one| one["source"] == "weather"));
    assert_eq!(pond.json("/v1/-/changes").await["changes"], json!(all), "the default limit is larger");
}

async fn a_place_that_the_feed_does_not_have_is_gone(test: &TestStore) {
    let pond = pond(test).await;
    for cursor in ["2-00000000", "99-00000000"] {
        let answer = pond.get(&format!("/v1/-/changes?since={cursor}"), &[]).await;
        assert_eq!(answer.status(), 410, "{cursor}");
        let problem = answer.problem("unknown-cursor");
        assert!(problem["detail"].as_str().unwrap().contains("Resync from the list"));
    }
}

async fn a_wrong_parameter_is_refused_and_explained(test: &TestStore) {
    let pond = pond(test).await;
    for (query, parameter, value, expected) in [
        ("limit=0", "limit", "0", "1 to 1000"),
        ("limit=1001", "limit", "1001", "1 to 1000"),
        ("limit=many", "limit", "many", "1 to 1000"),
        ("limit=", "limit", "", "1 to 1000"),
        ("limit=-1", "limit", "-1", "1 to 1000"),
        ("limit=1&limit=2", "limit", "2", "once"),
        ("since=yesterday", "since", "yesterday", "`next` of an earlier answer"),
        ("since=", "since", "", "`next` of an earlier answer"),
        ("since=1-0000BEEF", "since", "1-0000BEEF", "unchanged"),
        ("after=1", "after", "1", "`limit`, `since`"),
        ("%FF=x", "%FF", "x", "`limit`, `since`"),
    ] {
        let answer = pond.get(&format!("/v1/-/changes?{query}"), &[]).await;
        assert_eq!(answer.status(), 400, "{query}");
        let problem = answer.problem("bad-parameter");
        assert_eq!((&problem["parameter"], &problem["value"]), (&json!(parameter), &json!(value)), "{query}");
        assert!(problem["expected"].as_str().unwrap().contains(expected), "{query}: {problem}");
    }
    for path in ["/v1/weather/a?b", "/v1/weather/a/meta?b=c"] {
        let answer = pond.get(path, &[]).await;
        assert_eq!(answer.status(), 400, "{path}");
        assert_eq!(answer.problem("bad-parameter")["parameter"], "b");
    }
    assert_eq!(pond.get("/v1/weather/a?", &[]).await.status(), 200, "an empty query asks for nothing");
}
