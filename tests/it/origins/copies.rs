//! `keys_from = { source = … }`: keys within the copies of another source.

use serde_json::json;
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{has, origin, problem, upstream};
use crate::support::program::{Headpond, Serving};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database! {
    items_of_another_source_are_keys_and_followed,
    what_is_no_json_removes_nothing,
}

/// From now on the upstream answers with this index.
async fn index(upstream: &MockServer, body: impl Into<Vec<u8>>) {
    let answer = ResponseTemplate::new(200).set_body_bytes(body.into());
    Mock::given(path("/index")).respond_with(answer).with_priority(1).up_to_n_times(1).mount(upstream).await;
}

fn config(database: &Database, origin: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[defaults]\nrefresh_every = \"1h\"\n\
         [sources.index]\nurl = \"{origin}/index\"\nkeys = [\"all\"]\n\
         [sources.cities]\nurl = \"{origin}/cities/{{key}}?at={{lat}}\"\n\
         keys_from = {{ source = \"index\", items = \"$.data[*]\", key = \"$.id\", params = {{ lat = \"$.at.lat\" }} }}\n",
        database.url()
    )
}

async fn refresh(serving: &Serving) {
    assert_eq!(serving.post("/v1/index/all/refresh", None).await.0, 202);
}

async fn items_of_another_source_are_keys_and_followed(database: &Database) {
    let upstream = upstream().await;
    let items = json!({ "data": [{ "id": "berlin", "at": { "lat": 52.50 } }, { "id": 7, "at": { "lat": "x y" } }] });
    index(&upstream, items.to_string()).await;
    let headpond = Headpond::with_config(&config(database, &upstream.uri()));
    let serving = headpond.serve().await;
    has(&serving, "cities", &["7", "berlin"]).await;
    let asked = upstream.received_requests().await.unwrap();
    let asked: Vec<_> = asked.iter().filter_map(|request| request.url.query()).collect();
    assert!(asked.contains(&"at=x%20y") && asked.contains(&"at=52.5"), "{asked:?}");

    let items = json!({ "data": [
        { "id": "berlin", "at": { "lat": 52.5 } }, { "at": { "lat": 1 } }, { "id": "oslo" }, { "id": null },
        { "id": "tirana", "at": { "lat": 41 } }, { "id": "tirana", "at": { "lat": 42 } },
    ] });
    index(&upstream, items.to_string()).await;
    refresh(&serving).await;
    has(&serving, "cities", &["berlin", "tirana"]).await;
    let said = problem(&serving, "cities", "source", "left out").await;
    assert_eq!(
        said,
        "3 were left out, the first because: an item of index/all has no key; 1 are there more than once, and the first counts"
    );
    assert_eq!(origin(&serving, "cities", "source").await["about"], "index $.data[*]");
    serving.stop().await;
}

async fn what_is_no_json_removes_nothing(database: &Database) {
    let upstream = upstream().await;
    index(&upstream, json!({ "data": [{ "id": "berlin", "at": { "lat": 1 } }] }).to_string()).await;
    let headpond = Headpond::with_config(&config(database, &upstream.uri()));
    let serving = headpond.serve().await;
    has(&serving, "cities", &["berlin"]).await;
    index(&upstream, "<html>maintenance</html>").await;
    refresh(&serving).await;
    problem(&serving, "cities", "source", "the copy of index/all is no JSON").await;
    has(&serving, "cities", &["berlin"]).await;
    serving.stop().await;
}
