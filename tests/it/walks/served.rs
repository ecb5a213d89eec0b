//! A collection as its users see it: the whole program.

use std::time::Duration;

use serde_json::{Value, json};

use super::upstream::{Upstream, Way};
use crate::support::program::{Headpond, Serving, client, eventually, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(
    a_reader_who_wants_a_member_anew_gets_it_by_a_walk,
    members_are_rows_of_a_table,
    a_source_that_becomes_a_collection_keeps_what_it_has_and_so_the_other_way,
);

const PATIENCE: Duration = Duration::from_secs(60);

fn config(database: &Database, source: &str) -> String {
    format!("[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n{source}", database.url())
}

/// Once all ten are there.
async fn serving(headpond: &Headpond) -> Serving {
    let serving = headpond.serve().await;
    eventually("ten members", PATIENCE, async || {
        let (_, page) = get_json(&serving.url("/v1/users?limit=100")).await;
        (page["items"].as_array().is_some_and(|data| data.len() == 10)).then_some(())
    })
    .await;
    serving
}

async fn json_of(answer: reqwest::Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

async fn a_reader_who_wants_a_member_anew_gets_it_by_a_walk(database: &Database) {
    let upstream = Upstream::start(Way::Cursor, 10, 4).await;
    let headpond = Headpond::with_config(&config(database, &upstream.config("")));
    let serving = serving(&headpond).await;
    let member = serving.url("/v1/users/9");
    let first = get_json(&member).await;
    assert_eq!((first.0, &first.1["content"]), (200, &json!("user 9")));

    upstream.state().change(9, "new");
    let anew = client().get(&member).header("cache-control", "no-cache").send().await.unwrap();
    let way = anew.headers()["cache-status"].to_str().unwrap().to_owned();
    assert!(way.starts_with("headpond;fwd=request"), "{way}");
    assert_eq!(json_of(anew).await["content"], "new");

    upstream.state().change(9, "newer");
    let refreshed = client().post(serving.url("/v1/users/9/refresh")).header("prefer", "wait=30").send().await.unwrap();
    assert_eq!(refreshed.status(), 200);
    assert_eq!(json_of(refreshed).await["version"], 3);
    assert_eq!(get_json(&member).await.1["content"], "newer");
    serving.stop().await;
}

async fn members_are_rows_of_a_table(database: &Database) {
    let upstream = Upstream::start(Way::LinkHeader, 10, 4).await;
    let table = |more: &str| {
        format!(
            "table = {{ name = \"people\", columns = {{ id = {{ path = \"$.id\", type = \"integer\" }}, \
             content = {{ path = \"$.content\", type = \"text\" }}{more} }} }}"
        )
    };
    let headpond = Headpond::with_config(&config(database, &upstream.config(&table(""))));
    assert_eq!(headpond.run(&["refresh"]).await.code(), Some(0));
    let rows = database.rows("SELECT id, content, state FROM [people] ORDER BY id").await;
    assert_eq!((rows.len(), rows[8].as_str()), (10, "9|user 9|fresh"));

    upstream.state().users.remove(&3);
    upstream.state().change(9, "new");
    assert_eq!(headpond.run(&["refresh", "--force"]).await.code(), Some(0));
    let rows = database.rows("SELECT id, content FROM [people] ORDER BY id").await;
    assert_eq!((rows.len(), rows[7].as_str()), (9, "9|new"));

    // A column more comes from what is stored.
    let asked = upstream.state().take_asked().0.len();
    assert!(asked > 0);
    headpond.configure(&config(database, &upstream.config(&table(", at = { path = \"$.at\", type = \"integer\" }"))));
    let serving = headpond.serve().await;
    serving.logged("the table can be read").await;
    let now = upstream.state().now;
    assert_eq!(database.rows("SELECT at FROM [people] WHERE id = 9").await, [now.to_string()]);
    let (status, page) = get_json(&serving.url("/v1/users?id=eq.9&select=content")).await;
    assert_eq!((status, &page["items"][0]["content"]), (200, &json!("new")), "{page}");
    serving.stop().await;

    // One member that does not fit keeps its copy, and the others come all the same.
    let fits =
        upstream.config(&table("").replace("\"$.content\", type = \"text\"", "\"$.content\", type = \"integer\""));
    upstream.state().users.values_mut().for_each(|(content, _)| *content = "text".into());
    headpond.configure(&config(database, &fits));
    let refused = headpond.run(&["refresh", "--force", "--yes"]).await;
    assert_eq!(refused.code(), Some(1), "{refused:?}");
}

/// What was polled by keys is walked from then on, and the copies stay; so the other way.
async fn a_source_that_becomes_a_collection_keeps_what_it_has_and_so_the_other_way(database: &Database) {
    let upstream = Upstream::start(Way::Cursor, 10, 4).await;
    upstream.before(|_, state, request| {
        let id: u32 = request.url.path().strip_prefix("/users/")?.parse().ok()?;
        let body = state.users.get(&id).map(|(content, at)| json!({ "id": id, "content": content, "at": at }));
        Some(super::upstream::respond(request, &body.unwrap(), None))
    });
    let origin = upstream.origin();
    let keys: Vec<_> = (1..=10).map(|id| id.to_string()).collect();
    let by_keys =
        format!("[sources.users]\nurl = \"{origin}/users/{{key}}\"\nkeys = {keys:?}\nrefresh_every = \"1h\"\n");
    let headpond = Headpond::with_config(&config(database, &by_keys));
    assert_eq!(headpond.run(&["refresh"]).await.code(), Some(0));

    headpond.configure(&config(database, &upstream.config("")));
    let walked = headpond.run(&["refresh", "--json"]).await;
    assert_eq!(walked.code(), Some(0), "{walked:?}");
    assert_eq!(walked.json()["failed"], 0, "{walked:?}");
    let meta = headpond.run(&["get", "users", "9", "--meta"]).await.json();
    assert_eq!((&meta["state"], &meta["version"]), (&json!("fresh"), &json!(1)), "{meta}");
    upstream.state().take_asked();
    assert_eq!(headpond.run(&["refresh", "--force"]).await.code(), Some(0));
    let asked = upstream.state().take_asked().0;
    assert_eq!(asked.len(), 3, "no key is asked for by itself: {asked:?}");

    headpond.configure(&config(database, &by_keys));
    upstream.state().change(9, "new");
    assert_eq!(headpond.run(&["refresh", "--force"]).await.code(), Some(0));
    let asked = upstream.state().take_asked().0;
    assert_eq!(asked.len(), 10, "no list is walked: {asked:?}");
    let got = headpond.run(&["get", "users", "9"]).await.json();
    assert_eq!(got["content"], "new");
    assert_eq!(database.number("SELECT count(*) FROM {resource} WHERE retired_at IS NULL AND key <> ''").await, 10);
}
