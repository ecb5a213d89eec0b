//! Readers who wait.

use std::time::Duration;

use futures_util::future::join_all;

use crate::refresh::HeldServer;
use crate::support::nginx::{Nginx, PIECE, write_json_files};
use crate::support::program::{Headpond, Serving, eventually, files_config, get};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(
    five_hundred_readers_of_two_processes_wait_for_one_request,
    who_waits_is_answered_when_the_program_is_told_to_stop,
);

const PATIENCE: Duration = Duration::from_secs(60);
/// Stale at once, and due no sooner than a test could wait.
const STALE: &str = "refresh_every = \"1h\"\nstale_after = \"1s\"";

fn client() -> reqwest::Client {
    // An error means that another test has installed it.
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Status, state and body of an answer that is waited for.
async fn read(client: &reqwest::Client, url: String) -> (u16, String, String) {
    let answer = client.get(url).header("prefer", "wait=5").send().await.unwrap();
    let status = answer.status().as_u16();
    let state = answer.headers()["headpond-state"].to_str().unwrap().to_owned();
    (status, state, answer.text().await.unwrap())
}

async fn is_stale(serving: &Serving, path: &str) {
    eventually("a stale copy", PATIENCE, async || {
        let answer = get(&serving.url(path)).await.ok()?;
        (answer.headers()["headpond-state"] == "stale").then_some(())
    })
    .await;
}

async fn five_hundred_readers_of_two_processes_wait_for_one_request(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    // A body of 40 pieces takes nginx two seconds.
    let note = "x".repeat(usize::try_from(PIECE).unwrap() * 40);
    write_json_files(files.path(), "users", 1..=1, &note);
    let nginx = Nginx::start_slow(files.path()).await;
    let headpond = Headpond::with_config(&files_config(database, &nginx.url(), 1, "", STALE));
    let serving = [headpond.serve().await, headpond.serve().await];
    is_stale(&serving[0], "/v1/users/1").await;
    let before = nginx.requests().len();
    write_json_files(files.path(), "users", 1..=1, &format!("{note}, changed"));

    let client = client();
    let answers = join_all((0..500).map(|n| read(&client, serving[n % 2].url("/v1/users/1")))).await;
    let requests = nginx.requests();
    assert_eq!(requests.len() - before, 1, "{:?}", &requests[before..]);
    let good = answers.iter().filter(|(status, _, body)| *status == 200 && body.contains("changed"));
    assert_eq!(good.count(), 500, "all have what that request brought");
    for serving in serving {
        serving.stop().await;
    }
}

async fn who_waits_is_answered_when_the_program_is_told_to_stop(database: &Database) {
    let mut upstream = HeldServer::start().await;
    let headpond = Headpond::with_config(&files_config(database, &upstream.origin(), 1, "", STALE));
    upstream.answer(1);
    let serving = headpond.serve().await;
    upstream.arrival().await;
    is_stale(&serving, "/v1/users/1").await;

    let client = client();
    let stopping = async {
        upstream.arrival().await;
        serving.signal("TERM");
    };
    let (answer, ()) = tokio::join!(read(&client, serving.url("/v1/users/1")), stopping);
    assert_eq!(answer, (200, "stale".into(), "answer 1".into()), "what there is, before the upstream answers");
    upstream.answer(2);
    let (status, log) = serving.ended().await;
    assert!(status.success(), "{status}: {log:#?}");
}
