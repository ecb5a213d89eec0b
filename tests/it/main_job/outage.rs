//! An upstream that stops, and comes back.

use std::time::Duration;

use headpond::clock::{Clock, SystemClock};
use serde_json::Value;

use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, eventually, files_config, get, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(reads_go_on_while_the_upstream_is_down_and_all_is_fresh_again_after);

const KEYS: u32 = 300;
const PATIENCE: Duration = Duration::from_secs(60);
/// The interval, and with it the longest wait after a failure.
const INTERVAL: Duration = Duration::from_secs(2);
/// What fetching the backlog may take on a machine that is busy with other tests: 300 files take it less than a second.
const BACKLOG: Duration = Duration::from_secs(10);

async fn reads_go_on_while_the_upstream_is_down_and_all_is_fresh_again_after(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=KEYS, "");
    let mut nginx = Nginx::start(files.path()).await;
    let interval = INTERVAL.as_secs();
    let source =
        format!("refresh_every = \"{interval}s\"\nstale_after = \"{}s\"\nbackoff_initial = \"1s\"", interval * 2);
    let headpond = Headpond::with_config(&files_config(database, &nginx.url(), KEYS, "", &source));
    let serving = headpond.serve().await;
    let url = |key: u32| serving.url(&format!("/v1/users/{key}"));
    eventually("ready", PATIENCE, || async {
        let answer = get(&serving.url("/readyz")).await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    let before = get(&url(7)).await.unwrap();
    assert_eq!(before.headers()["headpond-state"], "fresh");
    let body = before.bytes().await.unwrap();

    nginx.stop();
    eventually("stale", PATIENCE, || async {
        let answer = get(&url(7)).await.unwrap();
        assert_eq!(answer.status(), 200, "reads go on");
        let is_stale = answer.headers()["headpond-state"] == "stale";
        assert_eq!(answer.bytes().await.unwrap(), body, "with the last good content");
        is_stale.then_some(())
    })
    .await;
    let (status, meta) = get_json(&serving.url("/v1/users/7/meta")).await;
    assert_eq!(
        (status, &meta["state"], &meta["failing"]["kind"]),
        (200, &Value::from("stale"), &Value::from("connect"))
    );

    nginx.start_again().await;
    let back = SystemClock::new().now().timestamp_micros();
    let not_yet = format!(
        "SELECT count(*) FROM {{schedule}} AS s JOIN {{resource}} AS r ON r.id = s.resource_id
         WHERE r.failures > 0 OR s.fetched_at < {back}"
    );
    eventually("all fetched again", INTERVAL + BACKLOG, async || (database.number(&not_yet).await == 0).then_some(()))
        .await;
    let (_, meta) = get_json(&serving.url("/v1/users/7/meta")).await;
    assert_eq!((&meta["state"], &meta["failing"]), (&Value::from("fresh"), &Value::Null), "{meta}");
    serving.stop().await;
}
