//! An upstream that stops, and comes back.

use std::time::Duration;

use headpond::clock::{Clock, SystemClock, monotonic};
use serde_json::Value;

use super::config;
use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, eventually, get, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(reads_go_on_while_the_upstream_is_down_and_all_is_fresh_again_after);

const KEYS: u32 = 300;
const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_secs(2);
/// Half of it or more passes between two tries: all of that is far beyond the bound.
const BACKOFF_INITIAL: Duration = Duration::from_secs(600);
const BACKOFF_CAP: Duration = Duration::from_secs(1200);

async fn reads_go_on_while_the_upstream_is_down_and_all_is_fresh_again_after(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=KEYS, "");
    let mut nginx = Nginx::start(files.path()).await;
    let source = "refresh_every = \"2s\"\nstale_after = \"4s\"\nbackoff_initial = \"1s\"";
    let headpond = Headpond::with_config(&config(database, &nginx.url(), KEYS, "", source));
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
    eventually("all fresh again within the backoff cap", PATIENCE, || async {
        for key in 1..=KEYS {
            let (_, meta) = get_json(&serving.url(&format!("/v1/users/{key}/meta"))).await;
            if meta["state"] != "fresh" || !meta["failing"].is_null() {
                return None;
            }
        }
        Some(())
    })
    .await;
    serving.stop().await;
}
