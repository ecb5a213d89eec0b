//! Soaks and chaos, run by hand: `tests/run -- cargo test --test slow`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]
#![allow(unreachable_pub, reason = "in here `pub` is for the other modules of this one binary")]
#![allow(dead_code, unused_imports, unused_macros, reason = "`support` is made for `tests/it`, which uses all of it")]

#[path = "../it/main_job/crash.rs"]
mod crash;
mod idle;
mod metrics;
#[path = "../it/support/mod.rs"]
mod support;

/// How many files the program is killed over.
const CRASH_FILES: u32 = 10_000;
