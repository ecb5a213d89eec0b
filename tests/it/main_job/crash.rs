//! `kill -9` in the middle of the work.

use std::collections::HashSet;
use std::time::Duration;

use super::{FILES, config};
use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, eventually, get, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(twenty_kills_lose_nothing_and_announce_nothing_twice);

const KILLS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

async fn twenty_kills_lose_nothing_and_announce_nothing_twice(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=FILES, "");
    let nginx = Nginx::start(files.path()).await;
    // What the killed had in hand counts as under way until its lease expires: each process gets room of its own.
    let with_room = |processes: usize| {
        let defaults = format!("timeout = \"1s\"\nmax_concurrent_requests = {}", 32 * processes);
        config(database, &nginx.url(), FILES, &defaults, "refresh_every = \"1h\"")
    };
    let headpond = Headpond::with_config(&with_room(1));
    let mut done = 0;
    for kill in 1..=KILLS {
        headpond.configure(&with_room(kill));
        let mut child = headpond.start(&["refresh", "--all"]);
        // Killed when some hundreds more have been asked for, wherever that is within a fetch, a claim or a commit.
        let enough = (done + FILES as usize / (KILLS + 5)).min(FILES as usize - 1);
        eventually("progress", PATIENCE, || async {
            let asked = nginx.requests().len();
            (asked >= enough || asked >= FILES as usize - 1).then_some(())
        })
        .await;
        child.start_kill().unwrap();
        child.wait().await.unwrap();
        done = nginx.requests().len();
        assert!(database.is_sound().await, "after kill {kill}");
    }
    headpond.configure(&with_room(KILLS + 1));
    // Work resumes: what was leased by the killed comes back by the expiry of its lease.
    let rest = headpond.run(&["refresh", "--all", "--wait", "--json"]).await;
    assert_eq!((rest.code(), rest.json()["failed"].as_u64()), (Some(0), Some(0)), "{rest:?}");

    let serving = headpond.serve().await;
    let (mut seen, mut since, mut last) = (HashSet::new(), String::new(), 0_i64);
    loop {
        let (_, page) = get_json(&serving.url(&format!("/v1/-/changes?limit=1000{since}"))).await;
        let entries = page["changes"].as_array().unwrap();
        for entry in entries {
            assert_eq!(entry["kind"], "created");
            assert!(seen.insert(entry["key"].as_str().unwrap().to_owned()), "announced twice: {entry}");
            let number: i64 = entry["cursor"].as_str().unwrap().split('-').next().unwrap().parse().unwrap();
            assert_eq!(number, last + 1, "no gap and no disorder");
            last = number;
        }
        since = format!("&since={}", page["next"].as_str().unwrap());
        if entries.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), FILES as usize, "each file was announced");
    for key in (1..=FILES).step_by(97) {
        let stored = get(&serving.url(&format!("/v1/users/{key}"))).await.unwrap().bytes().await.unwrap();
        assert_eq!(stored, std::fs::read(files.path().join(format!("users/{key}.json"))).unwrap(), "not torn");
    }
    serving.stop().await;
}
