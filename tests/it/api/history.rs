//! Contents that were replaced, as readers see them.

use std::time::Duration;

use headpond::domain::history::History;
use headpond::store::{Authority, SourceSpec};
use serde_json::{Value, json};

use super::pond::{JSON, Pond};
use crate::support::outcomes::{HOUR, status};
use crate::support::store::{TestStore, UNLIMITED, on_each_database, spec};

on_each_database!(
    versions_are_listed_and_read,
    a_version_that_is_not_there_says_which_are,
    what_is_gone_can_still_be_read_by_its_versions,
    wrong_versions_are_named,
);

/// `weather/a/b`, with the contents 1 to 4, of which two are kept beside the current one.
async fn pond(test: &TestStore) -> Pond<'_> {
    let pond = Pond::with_keys(test, &["a/b", "new"]).await;
    let history = Some(History { versions: 2, keep: 30 * 24 * HOUR });
    let spec = SourceSpec { history, ..spec("weather", "weather", UNLIMITED) };
    test.store.register(&[spec], Authority::Owns).await.unwrap();
    for n in 1..=4 {
        test.clock.advance(HOUR);
        pond.gets("a/b", &[JSON], &format!("{{\"n\":{n}}}")).await;
    }
    pond
}

async fn versions_are_listed_and_read(test: &TestStore) {
    let pond = pond(test).await;
    let history = pond.json("/v1/weather/a%2Fb/history").await;
    assert_eq!((&history["source"], &history["key"]), (&json!("weather"), &json!("a/b")));
    let versions = history["versions"].as_array().unwrap();
    let told: Vec<_> = versions.iter().map(|one| (&one["version"], &one["changed_at"], &one["until"])).collect();
    let times = ["2027-01-15T12:00:00Z", "2027-01-15T11:00:00Z", "2027-01-15T10:00:00Z"].map(Value::from);
    assert_eq!(
        told,
        [(&json!(4), &times[0], &Value::Null), (&json!(3), &times[1], &times[0]), (&json!(2), &times[2], &times[1]),]
    );
    assert_eq!((&versions[1]["gone"], &versions[1]["size"]), (&json!(false), &json!(7)));
    assert_eq!(versions[1]["content_type"], JSON.1);
    for path in ["/v1/weather/a%2Fb?version=3", "/v1/weather?key=a/b&version=3"] {
        let answer = pond.get(path, &[]).await;
        assert_eq!((answer.status(), answer.text()), (200, "{\"n\":3}".into()), "{path}");
        assert_eq!(answer.field("etag"), versions[1]["etag"].as_str());
        assert_eq!(answer.field("headpond-version"), Some("3"));
        assert_eq!(answer.field("last-modified"), Some("Fri, 15 Jan 2027 11:00:00 GMT"));
        assert_eq!((answer.field("content-type"), answer.field("cache-control")), (Some(JSON.1), Some("no-cache")));
        assert_eq!(answer.field("age"), None);
    }
    let etag = format!("If-None-Match: {}", versions[1]["etag"].as_str().unwrap());
    assert_eq!(pond.get("/v1/weather/a%2Fb?version=3", &[&etag]).await.status(), 304);
    assert_eq!(pond.get("/v1/weather/a%2Fb?version=2", &[&etag]).await.status(), 200);
    assert_eq!(pond.get("/v1/weather/a%2Fb?version=4", &[]).await.text(), "{\"n\":4}");
    assert_eq!(pond.json("/v1/-/sources").await["sources"][0]["history"], json!({"versions": 2, "bytes": 14}));
    assert_eq!(pond.json("/v1/weather/new/history").await["versions"], json!([]));
}

async fn a_version_that_is_not_there_says_which_are(test: &TestStore) {
    let pond = pond(test).await;
    for (path, status, kind, there) in [
        ("/v1/weather/a%2Fb?version=1", 410, "version-not-kept", json!([4, 3, 2])),
        ("/v1/weather/a%2Fb?version=5", 404, "unknown-version", json!([4, 3, 2])),
        ("/v1/weather/new?version=1", 404, "unknown-version", json!([])),
    ] {
        let answer = pond.get(path, &[]).await;
        assert_eq!(answer.status(), status, "{path}");
        let problem: Value = serde_json::from_str(&answer.text()).unwrap();
        assert!(problem["type"].as_str().unwrap().ends_with(kind), "{problem}");
        assert_eq!(problem["versions"], there);
    }
    for path in ["/v1/weather/nobody?version=1", "/v1/weather/nobody/history", "/v1/nothing/a/history"] {
        assert_eq!(pond.get(path, &[]).await.status(), 404, "{path}");
    }
}

async fn what_is_gone_can_still_be_read_by_its_versions(test: &TestStore) {
    let pond = pond(test).await;
    test.clock.advance(Duration::from_secs(60));
    pond.sees("a/b", status(410)).await;
    assert_eq!(pond.get("/v1/weather/a%2Fb", &[]).await.status(), 410);
    assert_eq!(pond.get("/v1/weather/a%2Fb?version=4", &[]).await.text(), "{\"n\":4}");
    let versions = pond.json("/v1/weather/a%2Fb/history").await["versions"].clone();
    assert_eq!((&versions[0]["gone"], &versions[0]["until"]), (&json!(true), &json!("2027-01-15T12:01:00Z")));
}

async fn wrong_versions_are_named(test: &TestStore) {
    let pond = pond(test).await;
    for value in ["0", "-1", "%2B1", "1.0", "", "x", "99999999999999999999", "1'--"] {
        for path in [format!("/v1/weather/a%2Fb?version={value}"), format!("/v1/weather?key=a/b&version={value}")] {
            let answer = pond.get(&path, &[]).await;
            assert_eq!(answer.status(), 400, "{path}");
            assert!(answer.text().contains("a whole number of at least 1"), "{path}: {}", answer.text());
        }
    }
    for path in ["/v1/weather?version=1", "/v1/weather?keys=a&version=1", "/v1/weather/a%2Fb/history?version=1"] {
        assert_eq!(pond.get(path, &[]).await.status(), 400, "{path}");
    }
}
