//! A million resources in one answer.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::program::{Headpond, client, eventually, get};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(a_million_resources_are_streamed_in_flat_memory);

/// How many there are; `HEADPOND_TEST_ROWS` says otherwise.
const RESOURCES: usize = 1_000_000;

/// MiB that the process may need besides, for all of it.
const MOST_GROWTH: u64 = 48;

async fn a_million_resources_are_streamed_in_flat_memory(database: &Database) {
    let headpond = Headpond::with_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[sources.users]\n\
         url = \"http://127.0.0.1:9/{{key}}\"\nkeys = [\"first\"]\nrefresh_every = \"30d\"\n",
        database.url()
    ));
    let serving = headpond.serve().await;
    let (began, resources) = (Instant::now(), resources());
    database.execute(&fill(database, resources)).await.unwrap();
    println!("{resources} resources are there after {:?}", began.elapsed());
    // Whatever a process needs anyway: connections, caches, the first pages.
    let ask = async || {
        client()
            .get(serving.url("/v1/users"))
            .header("accept", "application/x-ndjson")
            .header("accept-encoding", "identity")
            .send()
            .await
            .unwrap()
    };
    assert!(ask().await.chunk().await.unwrap().is_some());
    let page = get(&serving.url("/v1/users?limit=1000")).await.unwrap();
    assert_eq!(page.status(), 200, "{:#?}", serving.log());
    let before = resident_mib(serving.pid());
    let (mut answer, began) = (ask().await, Instant::now());
    let (mut lines, mut bytes, mut peaks) = (0, 0, Vec::new());
    while let Some(chunk) = answer.chunk().await.unwrap_or_else(|error| panic!("{error}: {:#?}", serving.log())) {
        bytes += chunk.len();
        let so_far = lines;
        lines += chunk.iter().filter(|byte| **byte == b'\n').count();
        if so_far * 10 / resources < lines * 10 / resources {
            peaks.push(resident_mib(serving.pid()));
        }
    }
    println!(
        "{lines} lines, {} MiB in {:?}; resident memory {before} MiB before, then after each tenth: {peaks:?} MiB",
        bytes >> 20,
        began.elapsed(),
    );
    assert_eq!(lines, resources + 1);
    assert!(peaks.iter().all(|peak| *peak <= before + MOST_GROWTH), "{before} MiB before, {peaks:?}");
    eventually("the place is free", Duration::from_secs(10), async || {
        let metrics = get(&serving.url("/metrics")).await.ok()?.text().await.ok()?;
        metrics.contains("headpond_streams{kind=\"list\"} 0").then_some(())
    })
    .await;
    serving.stop().await;
}

fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn resources() -> usize {
    std::env::var("HEADPOND_TEST_ROWS").map_or(RESOURCES, |rows| rows.parse().unwrap())
}

/// Resources with 200 bytes of content each, of which none is due before long.
fn fill(database: &Database, resources: usize) -> String {
    match database {
        Database::Sqlite { .. } => format!(
            "BEGIN;
             CREATE TEMP TABLE n AS WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {resources})
                SELECT n FROM n;
             INSERT INTO {{resource}} (source_id, key, params, version)
                SELECT (SELECT id FROM {{source}}), printf('k%07d', n), json_object(), 1 FROM n;
             INSERT INTO {{schedule}} (resource_id, upstream_id, source_id, due_at, because, fetched_at, stale_after)
                SELECT r.id, (SELECT id FROM {{upstream}}), r.source_id, 4000000000000000, 2, 1700000000000000, 4000000000000000
                FROM {{resource}} AS r WHERE r.version = 1;
             INSERT INTO {{content}} (resource_id, etag, changed_at, headers, body)
                SELECT id, randomblob(16), 1700000000000000, x'', CAST(printf('%0200d', id) AS blob)
                FROM {{resource}} WHERE version = 1;
             COMMIT;"
        ),
        Database::Postgres { .. } => format!(
            "INSERT INTO {{resource}} (source_id, key, params, version)
                SELECT (SELECT id FROM {{source}}), 'k' || lpad(n::text, 7, '0'), json_build_object()::text, 1
                FROM generate_series(1, {resources}) AS n;
             INSERT INTO {{schedule}} (resource_id, upstream_id, source_id, due_at, because, fetched_at, stale_after)
                SELECT r.id, (SELECT id FROM {{upstream}}), r.source_id, 4000000000000000, 2, 1700000000000000, 4000000000000000
                FROM {{resource}} AS r WHERE r.version = 1;
             INSERT INTO {{content}} (resource_id, etag, changed_at, headers, body)
                SELECT id, decode(md5(id::text), 'hex'), 1700000000000000, '', convert_to(lpad(id::text, 200, '0'), 'UTF8')
                FROM {{resource}} WHERE version = 1;
             ANALYZE {{resource}}, {{schedule}}, {{content}};"
        ),
    }
}
