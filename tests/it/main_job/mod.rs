//! The main job, as a user does it: the real binary, a real nginx with files that nobody here serves, and both databases.

mod budget;
mod concurrent;
mod crash;
mod locked;
mod metrics;
mod outage;
mod poll;
mod refused;
mod reloads;
mod standby;
mod waiting;

use std::time::Duration;

/// How many files stand behind nginx; `tests/slow` takes more.
const FILES: u32 = 1_000;
/// How many of them the program is killed over; more there, too.
const CRASH_FILES: u32 = 1_000;
/// How often, half of the times while it changes what it has; more often there.
const KILLS: usize = 10;

/// How much is read while the configuration changes; `tests/slow` reads for a minute.
const RELOADS: reloads::Reloads = reloads::Reloads {
    files: 300,
    every: Duration::from_secs(2),
    times: 6,
    reads: 100,
    read_every: Duration::from_millis(5),
};

/// How much is asked for of an upstream that refuses; `tests/slow` asks for more, and is refused for a minute.
const REFUSED: refused::Refused =
    refused::Refused { keys: 60, retry_after: Duration::from_secs(6), lasts: Duration::from_secs(7) };
