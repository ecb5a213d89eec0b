//! Several processes on one database.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::nginx::{LoggedRequest, Nginx, PIECE, write_json_files};
use crate::support::program::{Headpond, files_config};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(three_processes_ask_for_nothing_twice_at_once_and_keep_the_limit);

const KEYS: u32 = 300;
const LIMIT: usize = 100;
const BURST: usize = 20;

async fn three_processes_ask_for_nothing_twice_at_once_and_keep_the_limit(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    // Each body takes long enough that whoever asked for it a second time meanwhile would be seen.
    let note = "x".repeat(usize::try_from(PIECE).unwrap() * 2);
    write_json_files(files.path(), "users", 1..=KEYS, &note);
    let nginx = Nginx::start_slow(files.path()).await;
    let limits = format!("requests_per_second_limit = {LIMIT}\nburst = {BURST}\nmax_concurrent_requests = 32");
    let headpond =
        Headpond::with_config(&files_config(database, &nginx.url(), KEYS, &limits, "refresh_every = \"1h\""));
    let serving = headpond.serve().await;
    let args = ["refresh", "--all", "--wait", "--json"];
    let (one, other) = tokio::join!(headpond.run(&args), headpond.run(&args));
    for printed in [&one, &other] {
        assert_eq!((printed.code(), printed.json()["failed"].as_u64()), (Some(0), Some(0)), "{printed:?}");
    }
    let bodies = |requests: &[LoggedRequest]| requests.iter().filter(|request| request.status == 200).count();
    assert_no_overlap(&nginx.requests());
    assert_eq!(bodies(&nginx.requests()), KEYS as usize, "each was fetched once by someone");
    // And once more by hand, from two sides at once. All have changed, so that each body is sent again.
    write_json_files(files.path(), "users", 1..=KEYS, &format!("{note}, changed"));
    let args = ["refresh", "--all", "--force", "--wait", "--json"];
    let (one, other) = tokio::join!(headpond.run(&args), headpond.run(&args));
    for printed in [&one, &other] {
        assert_eq!(printed.code(), Some(0), "{printed:?}");
    }
    serving.stop().await;

    let requests = nginx.requests();
    assert_no_overlap(&requests);
    // A wish during a fetch makes one more request, without validators: what came may be older than the wish.
    let changed = bodies(&requests) - KEYS as usize;
    assert!(
        (KEYS as usize..=2 * KEYS as usize).contains(&changed),
        "{changed} bodies for {KEYS} changes, wished for twice"
    );
    assert!(busiest_second(&requests) <= LIMIT + BURST, "{} in one second", busiest_second(&requests));
}

/// No file was being asked for twice at the same time.
fn assert_no_overlap(requests: &[LoggedRequest]) {
    let mut by_uri: HashMap<&str, Vec<(Duration, Duration)>> = HashMap::new();
    for request in requests {
        by_uri.entry(&request.uri).or_default().push((request.began(), request.ended));
    }
    for (uri, mut spans) in by_uri {
        spans.sort();
        for pair in spans.windows(2) {
            // The log tells milliseconds.
            assert!(pair[0].1 <= pair[1].0 + Duration::from_millis(1), "{uri} was asked for twice at once: {pair:?}");
        }
    }
}

/// The most requests that began within any one second.
fn busiest_second(requests: &[LoggedRequest]) -> usize {
    let mut starts: Vec<Duration> = requests.iter().map(LoggedRequest::began).collect();
    starts.sort();
    let within =
        |from: usize| starts[from..].iter().take_while(|start| **start < starts[from] + Duration::from_secs(1)).count();
    (0..starts.len()).map(within).max().unwrap_or_default()
}
