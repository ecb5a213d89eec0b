//! Polling, and polling again.

use std::collections::HashMap;

use super::FILES;
use crate::support::nginx::{LoggedRequest, Nginx, write_json_files};
use crate::support::program::{Headpond, files_config};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(files_are_fetched_once_and_then_asked_after_by_etag);

async fn files_are_fetched_once_and_then_asked_after_by_etag(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=FILES, "");
    let nginx = Nginx::start(files.path()).await;
    let headpond = Headpond::with_config(&files_config(database, &nginx.url(), FILES, "", "refresh_every = \"1h\""));

    let first = headpond.run(&["refresh", "--all", "--json"]).await;
    assert_eq!(first.code(), Some(0), "{first:?}");
    assert_eq!((first.json()["new"].as_u64(), first.json()["failed"].as_u64()), (Some(FILES.into()), Some(0)));
    assert_eq!(statuses(&nginx.requests()), HashMap::from([(200, FILES as usize)]));

    let nothing_due = headpond.run(&["refresh", "--all", "--json"]).await;
    assert_eq!(nothing_due.json()["unchanged"].as_u64(), Some(0), "nothing is due yet");

    let second = headpond.run(&["refresh", "--all", "--force", "--json"]).await;
    assert_eq!((second.code(), second.json()["unchanged"].as_u64()), (Some(0), Some(FILES.into())), "{second:?}");
    let requests = nginx.requests();
    assert_eq!(
        statuses(&requests),
        HashMap::from([(200, FILES as usize), (304, FILES as usize)]),
        "one request each, all 304"
    );
    let by_path = requests.iter().fold(HashMap::new(), |mut counts: HashMap<&str, usize>, request| {
        *counts.entry(request.uri.as_str()).or_default() += 1;
        counts
    });
    assert!(by_path.values().all(|count| *count == 2), "each file was asked for once in each round");

    write_json_files(files.path(), "users", 1..=10, "changed");
    let third = headpond.run(&["refresh", "--all", "--force", "--json"]).await;
    let counts = third.json();
    assert_eq!(
        (counts["changed"].as_u64(), counts["unchanged"].as_u64()),
        (Some(10), Some(u64::from(FILES) - 10)),
        "{third:?}"
    );
    assert_eq!(changes_in_feed(&headpond).await, (FILES as usize, 10), "created and changed");

    let got = headpond.run(&["get", "users", "7"]).await;
    assert_eq!(got.stdout, std::fs::read_to_string(files.path().join("users/7.json")).unwrap());
}

fn statuses(requests: &[LoggedRequest]) -> HashMap<u16, usize> {
    requests.iter().fold(HashMap::new(), |mut counts, request| {
        *counts.entry(request.status).or_default() += 1;
        counts
    })
}

/// Follows the feed from its beginning: how many entries say created, and how many changed.
async fn changes_in_feed(headpond: &Headpond) -> (usize, usize) {
    let serving = headpond.serve().await;
    let (mut created, mut changed, mut since) = (0, 0, String::new());
    loop {
        let query = if since.is_empty() { String::new() } else { format!("&since={since}") };
        let (status, page) =
            crate::support::program::get_json(&serving.url(&format!("/v1/-/changes?limit=1000{query}"))).await;
        assert_eq!(status, 200, "{page}");
        let entries = page["changes"].as_array().unwrap();
        created += entries.iter().filter(|entry| entry["kind"] == "created").count();
        changed += entries.iter().filter(|entry| entry["kind"] == "changed").count();
        page["next"].as_str().unwrap().clone_into(&mut since);
        if entries.is_empty() {
            break;
        }
    }
    serving.stop().await;
    (created, changed)
}
