//! The change feed over HTTP.

use std::time::Duration;

use headpond::announce::Announcement;
use headpond::store::ClaimRequest;
use serde_json::{Value, json};

use super::pond::{JSON, Pond};
use super::serving::within;
use crate::support::outcomes::{HOUR, content, status};
use crate::support::program::eventually;
use crate::support::store::{TestStore, UNLIMITED, ask, on_each_database};

on_each_database!(
    the_feed_is_read_page_by_page,
    a_place_that_the_feed_does_not_have_is_gone,
    a_wrong_parameter_is_refused_and_explained,
    the_changes_of_one_source_come_alone,
    resources_come_with_their_changes,
    resources_that_are_too_many_bytes_come_with_the_next_page,
    whoever_waits_is_answered_as_soon_as_there_is_something,
    a_wait_ends_when_its_time_is_over,
    a_list_and_what_follows_its_cursor_have_everything,
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
        ("include=bodies", "include", "bodies", "`data`"),
        ("since=", "since", "", "`next` of an earlier answer"),
        ("since=1-0000BEEF", "since", "1-0000BEEF", "unchanged"),
        ("after=1", "after", "1", "`limit`, `since`, `source`"),
        ("%FF=x", "%FF", "x", "`include`, `limit`"),
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

/// Another source with one key, which is fetched for the first time.
async fn of_another_source(test: &TestStore) {
    let users = test.source_with_keys("users", 1).await;
    test.settle_all(users.upstream, |_| content("\"ada\"", &[JSON])).await;
}

/// The numbers of the changes on a page, and where to go on.
fn numbers(page: &Value) -> (Vec<&str>, String) {
    let changes = page["changes"].as_array().unwrap().iter();
    let numbers = changes.map(|change| change["cursor"].as_str().unwrap().split_once('-').unwrap().0);
    (numbers.collect(), page["next"].as_str().unwrap().to_owned())
}

async fn the_changes_of_one_source_come_alone(test: &TestStore) {
    let pond = pond(test).await;
    of_another_source(test).await;
    pond.gets("a", &[], "3").await;
    let page = pond.json("/v1/-/changes?source=users").await;
    let (users, end) = numbers(&page);
    assert_eq!(users, ["5"]);
    let whole = pond.json("/v1/-/changes").await;
    assert_eq!(numbers(&whole).1, end, "what is passed over is not looked at again");
    let page = pond.json("/v1/-/changes?source=weather&limit=4").await;
    let (first, place) = numbers(&page);
    assert_eq!(first, ["1", "2", "3", "4"]);
    let page = pond.json(&format!("/v1/-/changes?source=weather&limit=4&since={place}")).await;
    assert_eq!(numbers(&page), (vec!["6"], end));
}

async fn resources_come_with_their_changes(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "b"]).await;
    pond.gets("a", &[JSON], "{\"t\":1.50}").await;
    pond.gets("b", &[JSON], "{\"t\":2}").await;
    of_another_source(test).await;
    pond.gets("a", &[JSON], "{\"t\":3.50}").await;
    pond.sees("b", status(410)).await;
    let answer = pond.get("/v1/-/changes?include=data", &[]).await;
    assert!(answer.text().contains("\"data\":{\"t\":3.50}"), "to the last digit: {}", answer.text());
    let page: Value = serde_json::from_slice(&answer.body).unwrap();
    let changes = page["changes"].as_array().unwrap();
    let shown: Vec<_> = changes.iter().map(|change| (change["key"].as_str().unwrap(), change.get("item"))).collect();
    let list = pond.json("/v1/weather").await;
    assert_eq!(shown[..2], [("a", None), ("b", None)], "the last change of each resource has it");
    assert_eq!((shown[2].0, &shown[2].1.unwrap()["data"]), ("k0", &json!("ada")));
    assert_eq!(shown[3..], [("a", Some(&list["items"][0])), ("b", Some(&list["items"][1]))], "as a list shows it");
    assert_eq!((&list["items"][1]["state"], &list["items"][1]["data"]), (&json!("gone"), &Value::Null));
}

async fn resources_that_are_too_many_bytes_come_with_the_next_page(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "b", "c"]).await;
    let large = "x".repeat(5 << 20);
    for key in ["a", "b", "c", "a"] {
        pond.gets(key, &[], &format!("{key}{large}{}", test.now())).await;
        test.clock.advance(HOUR);
    }
    let (mut since, mut pages) = (String::new(), Vec::new());
    for _ in 0..4 {
        let page = pond.json(&format!("/v1/-/changes?include=data{since}")).await;
        let changes = page["changes"].as_array().unwrap();
        let keys: Vec<_> = changes.iter().map(|change| change["key"].as_str().unwrap().to_owned()).collect();
        assert!(changes.iter().all(|change| change["item"]["data"].as_str().is_none_or(|data| data.len() > 5 << 20)));
        since = format!("&since={}", page["next"].as_str().unwrap());
        pages.push(keys);
    }
    assert_eq!(pages, [vec!["a"], vec!["b"], vec!["c"], vec!["a"]]);
}

async fn whoever_waits_is_answered_as_soon_as_there_is_something(test: &TestStore) {
    let pond = pond(test).await;
    let end = numbers(&pond.json("/v1/-/changes").await).1;
    let path = format!("/v1/-/changes?source=weather&since={end}");
    let other_path = format!("/v1/-/changes?source=users&since={end}");
    of_another_source(test).await;
    let wait = ["Prefer: wait=30"];
    let waiting = async { within(pond.get(&path, &wait)).await };
    let happening = async {
        is_waited_for(&pond, 1).await;
        of_another_source_again(test, &pond).await;
        is_waited_for(&pond, 1).await;
        pond.gets("a", &[], "3").await;
    };
    let (answer, ()) = tokio::join!(waiting, happening);
    assert_eq!(answer.field("preference-applied"), Some("wait=30"));
    assert_eq!(numbers(&serde_json::from_slice(&answer.body).unwrap()).0, ["7"]);
    let at_once = within(pond.get(&other_path, &wait)).await;
    assert_eq!(numbers(&serde_json::from_slice(&at_once.body).unwrap()).0, ["5", "6"]);
    is_waited_for(&pond, 0).await;
}

/// The other source's key changes, which who waits for `weather` must not be answered with.
async fn of_another_source_again(test: &TestStore, pond: &Pond<'_>) {
    let users = test.source("users", UNLIMITED).await;
    let request = ClaimRequest { due_by: Some(test.now() + 2 * HOUR), ..ask(users.upstream, 1) };
    let claimed = test.store.claim(&request).await.unwrap();
    test.settle(&claimed.claims[0], content("\"eve\"", &[JSON])).await;
    pond.announcer.announce(Announcement::LookAround);
}

async fn is_waited_for(pond: &Pond<'_>, by: usize) {
    eventually("readers who wait", HOUR, async || (pond.tail.waiting() == by).then_some(())).await;
}

async fn a_wait_ends_when_its_time_is_over(test: &TestStore) {
    let pond = pond(test).await;
    let end = numbers(&pond.json("/v1/-/changes").await).1;
    let path = format!("/v1/-/changes?since={end}");
    let waiting = async { within(pond.get(&path, &["Prefer: wait=30"])).await };
    let passing = async {
        is_waited_for(&pond, 1).await;
        test.clock.advance(Duration::from_secs(31));
    };
    let (answer, ()) = tokio::join!(waiting, passing);
    assert_eq!(serde_json::from_slice::<Value>(&answer.body).unwrap(), json!({ "changes": [], "next": end }));
    let wrong = within(pond.get("/v1/-/changes?since=99-00000000", &["Prefer: wait=30"])).await;
    wrong.problem("unknown-cursor");
}

async fn a_list_and_what_follows_its_cursor_have_everything(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "b", "c"]).await;
    for key in ["a", "b", "c"] {
        pond.gets(key, &[], "1").await;
    }
    let first = pond.get("/v1/weather?limit=1", &[]).await;
    let cursor = first.field("headpond-cursor").unwrap().to_owned();
    // Between the pages: of what was listed, and of what was not yet.
    pond.gets("a", &[], "2").await;
    pond.gets("c", &[], "2").await;
    let next = first.field("link").unwrap().split_once(">;").unwrap().0.trim_start_matches('<').to_owned();
    let second = pond.json(&format!("/v1/weather{}", next.replace("limit=1", "limit=9"))).await;
    let first: Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(
        (&first["cursor"], &second["cursor"]),
        (&json!(cursor), &json!(cursor)),
        "each page has the first one's"
    );
    let versions = |page: &Value| -> Vec<_> {
        let items = page["items"].as_array().unwrap().iter();
        items.map(|item| (item["key"].as_str().unwrap().to_owned(), item["version"].as_u64().unwrap())).collect()
    };
    assert_eq!([versions(&first), versions(&second)].concat(), [("a".into(), 1), ("b".into(), 1), ("c".into(), 2)]);
    let feed = pond.json(&format!("/v1/-/changes?since={cursor}")).await;
    let changed: Vec<_> =
        feed["changes"].as_array().unwrap().iter().map(|one| (&one["key"], &one["version"])).collect();
    assert_eq!(changed, [(&json!("a"), &json!(2)), (&json!("c"), &json!(2))]);
    let page = pond.get("/v1/weather?after=a", &[]).await;
    assert_eq!(page.field("headpond-cursor"), None, "whoever begins in the middle has no place to follow from");
    let answer = pond.get("/v1/weather?cursor=yesterday", &[]).await;
    assert_eq!(answer.problem("bad-parameter")["parameter"], "cursor");
}
