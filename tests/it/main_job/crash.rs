//! `kill -9` in the middle of the work.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::{CRASH_FILES as FILES, KILLS};
use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, Serving, client, eventually, files_config, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(kills_lose_nothing_and_announce_nothing_twice);

const PATIENCE: Duration = Duration::from_secs(60);

async fn kills_lose_nothing_and_announce_nothing_twice(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=FILES, "");
    let nginx = Nginx::start(files.path()).await;
    let killed = Killed { database, nginx: &nginx, headpond: Headpond::with_config("") };
    killed.often(1..=KILLS / 2, "--due", "new").await;
    write_json_files(files.path(), "users", 1..=FILES, "changed");
    killed.often(KILLS / 2 + 1..=KILLS, "--force", "changed").await;

    assert_books_balance(database).await;
    let serving = killed.headpond.serve().await;
    assert_feed_is_whole(&serving).await;
    assert_bodies_are_the_files(&serving, files.path()).await;
    serving.stop().await;
}

/// A program that is killed again and again.
struct Killed<'a> {
    database: &'a Database,
    nginx: &'a Nginx,
    headpond: Headpond,
}

impl Killed<'_> {
    /// Kills `refresh` in the midst of its work, again and again, and then lets it end: all must be as if nothing had been.
    /// `manner` is for the first run; what that made due stays due for those after it.
    async fn often(&self, kills: RangeInclusive<usize>, manner: &str, kind: &str) {
        let (first, runs) = (*kills.start(), kills.clone().count());
        let round = self.nginx.requests().len();
        for kill in kills.clone() {
            self.give_room(kill);
            let mut child = self.headpond.start(&["refresh", "--all", if kill == first { manner } else { "--due" }]);
            // When some hundreds more have been asked for, wherever that is within a fetch, a claim or a commit.
            let enough = round + (kill - first + 1) * FILES as usize / (runs + 2);
            eventually("progress", PATIENCE, async || (self.nginx.requests().len() >= enough).then_some(())).await;
            child.start_kill().unwrap();
            assert_eq!(child.wait().await.unwrap().code(), None, "it ended before kill {kill}");
            assert!(self.database.is_sound().await, "after kill {kill}");
        }
        // Work resumes: what was leased by the killed comes back by the expiry of its lease, 21 seconds after it.
        self.give_room(kills.end() + 1);
        let rest = self.headpond.run(&["refresh", "--all", "--wait", "--json"]).await;
        assert_eq!((rest.code(), rest.json()["failed"].as_u64()), (Some(0), Some(0)), "{rest:?}");
        assert!(rest.json()[kind].as_u64() > Some(0), "something was left to do: {rest:?}");
    }

    /// What the killed had in hand counts as under way until its lease expires: each process gets room of its own.
    fn give_room(&self, processes: usize) {
        let defaults = format!("timeout = \"1s\"\nmax_concurrent_requests = {}", 32 * processes);
        let source = "refresh_every = \"1h\"";
        self.headpond.configure(&files_config(self.database, &self.nginx.url(), FILES, &defaults, source));
    }
}

/// Each version has its one change, and whatever has a version has content.
async fn assert_books_balance(database: &Database) {
    let of_each = "(SELECT count(*) FROM {change} AS c WHERE c.resource_id = r.id)";
    for (sql, expected, what) in [
        ("SELECT count(*) FROM {resource}".to_owned(), i64::from(FILES), "resources"),
        ("SELECT count(*) FROM {resource} WHERE version <> 2".to_owned(), 0, "resources without two versions"),
        (
            format!("SELECT count(*) FROM {{resource}} AS r WHERE version <> {of_each}"),
            0,
            "resources with more or fewer changes than versions",
        ),
        (
            "SELECT count(*) FROM (SELECT DISTINCT resource_id, version FROM {change}) AS c".to_owned(),
            2 * i64::from(FILES),
            "versions announced",
        ),
        (
            "SELECT count(*) FROM {resource} AS r WHERE version > 0
             AND NOT EXISTS (SELECT 1 FROM {content} AS c WHERE c.resource_id = r.id)"
                .to_owned(),
            0,
            "resources whose content is missing",
        ),
    ] {
        assert_eq!(database.number(&sql).await, expected, "{what}");
    }
}

/// The feed lists each file once as created and once as changed, in this order and without a gap.
async fn assert_feed_is_whole(serving: &Serving) {
    let (mut created, mut changed, mut since, mut last) = (HashSet::new(), HashSet::new(), String::new(), 0_i64);
    loop {
        let (_, page) = get_json(&serving.url(&format!("/v1/-/changes?limit=1000{since}"))).await;
        let entries = page["changes"].as_array().unwrap();
        for entry in entries {
            let key = entry["key"].as_str().unwrap().to_owned();
            let is_first = match entry["kind"].as_str() {
                Some("created") => created.insert(key),
                Some("changed") => created.contains(&key) && changed.insert(key),
                _ => false,
            };
            assert!(is_first, "announced twice, or before its time: {entry}");
            let number: i64 = entry["cursor"].as_str().unwrap().split('-').next().unwrap().parse().unwrap();
            assert_eq!(number, last + 1, "no gap and no disorder");
            last = number;
        }
        since = format!("&since={}", page["next"].as_str().unwrap());
        if entries.is_empty() {
            break;
        }
    }
    assert_eq!((created.len(), changed.len()), (FILES as usize, FILES as usize), "each file was announced");
}

async fn assert_bodies_are_the_files(serving: &Serving, files: &Path) {
    let client = client();
    let compared = stream::iter(1..=FILES).map(async |key| {
        let answer = client.get(serving.url(&format!("/v1/users/{key}"))).send().await.unwrap();
        let stored = answer.bytes().await.unwrap();
        assert_eq!(stored, std::fs::read(files.join(format!("users/{key}.json"))).unwrap(), "{key} is torn or old");
    });
    assert_eq!(compared.buffer_unordered(4).count().await, FILES as usize);
}
