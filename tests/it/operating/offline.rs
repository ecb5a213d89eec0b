//! An app's tests: fixtures are served, and no upstream is asked.

use headpond::clock::monotonic;

use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, client, files_config};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(fixtures_are_served_in_their_four_states_and_no_upstream_is_asked);

const FIXTURES: &str = r#"{"source":"users","key":"1","json":{"name":"Ada"}}
{"source":"users","key":"two","age":"3h","json":{"name":"Bob"}}
{"source":"users","key":"three","state":"pending"}
{"source":"users","key":"four","state":"gone","json":{"name":"Dan"}}
{"source":"users","key":"five","state":"gone"}
"#;

async fn fixtures_are_served_in_their_four_states_and_no_upstream_is_asked(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=1, "");
    let nginx = Nginx::start(files.path()).await;
    let headpond = Headpond::with_config(&files_config(database, &nginx.url(), 1, "", "refresh_every = \"1h\""));
    std::fs::write(headpond.path("fixtures.ndjson"), FIXTURES).unwrap();

    let began = monotonic();
    let serving = headpond.serve_with(&["--offline", "--import", "fixtures.ndjson"]).await;
    let read = async |key: &str, wait: &str| {
        let request = client().get(serving.url(&format!("/v1/users/{key}"))).header("prefer", wait);
        let answer = request.send().await.unwrap();
        let state = answer.headers().get("headpond-state").map(|state| state.to_str().unwrap().to_owned());
        (answer.status().as_u16(), state, answer.text().await.unwrap())
    };
    assert_eq!(read("1", "wait=30").await, (200, Some("fresh".into()), "{\"name\":\"Ada\"}".into()));
    assert_eq!(read("two", "wait=30").await, (200, Some("stale".into()), "{\"name\":\"Bob\"}".into()));
    let (pending, _, _) = read("three", "wait=30").await;
    let (gone, _, _) = read("four", "wait=30").await;
    let (never, _, _) = read("five", "wait=30").await;
    assert_eq!((pending, gone, never), (503, 410, 404));
    let ready = client().get(serving.url("/readyz")).send().await.unwrap();
    assert_eq!(ready.status(), 200, "what is pending stays so, and keeps nobody waiting");
    assert_eq!(serving.post("/v1/users/1/refresh", None).await.0, 202);
    serving.signal("HUP");
    serving.logged("reloaded").await;
    assert_eq!(read("three", "wait=30").await.0, 503, "a reload asks no upstream either");
    serving.stop().await;
    println!("started, read four states and stopped in {:?}", monotonic() - began);
    assert!(nginx.requests().is_empty());
}

#[tokio::test]
async fn an_archive_is_imported_at_the_start_only_offline_and_a_bad_one_ends_it() {
    let database = Database::sqlite();
    let headpond =
        Headpond::with_config(&files_config(&database, "http://127.0.0.1:9", 1, "", "refresh_every = \"1h\""));
    let online = headpond.run(&["serve", "--import", "fixtures.ndjson"]).await;
    assert!(online.code() == Some(2) && online.stderr.contains("--offline"), "{online:?}");
    std::fs::write(headpond.path("bad.ndjson"), "nonsense").unwrap();
    let bad = headpond.run(&["serve", "--offline", "--import", "bad.ndjson"]).await;
    assert!(bad.code() == Some(2) && bad.stderr.contains("bad.ndjson:1: "), "{bad:?}");
    database.drop().await;
}
