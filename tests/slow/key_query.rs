//! A key query that grows from ten rows to a million, and shrinks again, while readers are served.

use std::time::{Duration, Instant};

use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::{Headpond, Serving, eventually, get, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(a_key_query_grows_to_a_million_rows_and_shrinks_again);

const PATIENCE: Duration = Duration::from_secs(1800);
const MANY: u64 = 1_000_000;

async fn a_key_query_grows_to_a_million_rows_and_shrinks_again(database: &Database) {
    let upstream = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200).set_body_string("well")).mount(&upstream).await;
    // Ten requests a second: what is measured is how keys come and go.
    let headpond = Headpond::with_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[defaults]\nrequests_per_second_limit = 10\n\
         [sources.users]\nurl = \"{}/{{key}}\"\nrefresh_every = \"30d\"\n\
         keys_from = {{ query = \"SELECT id FROM participants\", every = \"1s\" }}\n",
        database.url(),
        upstream.uri()
    ));
    headpond.run(&["migrate"]).await;
    database.execute_as_it_is("CREATE TABLE participants (id bigint PRIMARY KEY)".into()).await.unwrap();
    fill(database, 10).await;
    let serving = headpond.serve().await;
    has(&serving, 10).await;
    eventually("fetched", PATIENCE, async || {
        get(&serving.url("/v1/users/1")).await.ok().filter(|answer| answer.status() == 200)
    })
    .await;
    println!("10 keys: {} MiB at the most so far", peak_mib(serving.pid()));

    fill(database, MANY).await;
    let (took, slowest) = has(&serving, MANY).await;
    println!(
        "1,000,000 keys after {took:.0?}: {} MiB at the most so far; the slowest read meanwhile took {slowest:.0?}",
        peak_mib(serving.pid())
    );
    // All of it is read again each second, and nothing of it is written.
    let problem = get_json(&serving.url("/v1/-/status")).await.1["sources"][0]["origins"][0]["problem"].clone();
    assert!(problem.is_null(), "{problem}");

    database.execute_as_it_is("DELETE FROM participants WHERE id > 10".into()).await.unwrap();
    let (took, slowest) = has(&serving, 10).await;
    let peak = peak_mib(serving.pid());
    println!("10 keys again after {took:.0?}: {peak} MiB at the most; the slowest read meanwhile took {slowest:.0?}");
    assert!(peak < 300, "{peak} MiB");
    serving.stop().await;
}

async fn fill(database: &Database, rows: u64) {
    let sql = format!(
        "INSERT INTO participants WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {rows})
         SELECT n FROM n WHERE n > (SELECT count(*) FROM participants)"
    );
    database.execute_as_it_is(sql).await.unwrap();
}

/// Waits until the source has so many keys; how long that took, and the slowest read of one that it has all the time.
async fn has(serving: &Serving, keys: u64) -> (Duration, Duration) {
    let (began, slowest) = (Instant::now(), std::sync::Mutex::new(Duration::ZERO));
    eventually("the keys", PATIENCE, async || {
        let asked = Instant::now();
        let answer = get(&serving.url("/v1/users/1")).await.unwrap();
        let took = asked.elapsed();
        let mut longest = slowest.lock().unwrap();
        *longest = took.max(*longest);
        drop(longest);
        assert!([200, 404, 503].contains(&answer.status().as_u16()), "{answer:?}");
        let (_, status) = get_json(&serving.url("/v1/-/status")).await;
        (status["sources"][0]["keys"] == keys).then_some(())
    })
    .await;
    (began.elapsed(), slowest.into_inner().unwrap())
}

/// MiB of memory that a process had at the most.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
