//! Soaks and chaos, run by hand: `tests/run -- cargo test --test slow`, or a part of it, as `tests/slow/httpbin.sh` does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]
#![allow(unreachable_pub, reason = "in here `pub` is for the other modules of this one binary")]
#![allow(dead_code, unused_imports, unused_macros, reason = "`support` is made for `tests/it`, which uses all of it")]

#[path = "../it/operating/archive.rs"]
mod archive;
mod collections;
#[path = "../it/main_job/crash.rs"]
mod crash;
#[path = "../it/api/followers.rs"]
mod followers;
mod httpbin;
mod idle;
mod key_query;
mod metrics;
mod ndjson;
mod openapi;
#[path = "../it/main_job/poll.rs"]
mod poll;
#[path = "../it/api/pond.rs"]
mod pond;
#[path = "../it/main_job/refused.rs"]
mod refused;
#[path = "../it/main_job/reloads.rs"]
mod reloads;
#[path = "../it/api/serving.rs"]
mod serving;
#[path = "../it/support/mod.rs"]
mod support;
mod tables;

use std::time::Duration;

/// How many files are polled, and moved to another database.
const FILES: u32 = 10_000;
/// How many files the program is killed over.
const CRASH_FILES: u32 = 10_000;
/// How often, half of the times while it changes what it has.
const KILLS: usize = 20;

/// Histories that followers of the feed are tried on, on each database.
const SEEDS: u64 = 2_000;

/// How much is read while the configuration changes: for a minute.
const RELOADS: reloads::Reloads = reloads::Reloads {
    files: 10_000,
    every: Duration::from_secs(15),
    times: 10,
    // Four readers, each a hundred times a second: five seconds.
    reads: 2000,
    read_every: Duration::from_millis(10),
};

/// 5,000 keys, half of them of an upstream that refuses for a minute.
const REFUSED: refused::Refused =
    refused::Refused { keys: 2_500, retry_after: Duration::from_secs(30), lasts: Duration::from_secs(60) };
