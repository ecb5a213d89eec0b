//! The main job, as a user does it: the real binary, a real nginx with files that nobody here serves, and both databases.

mod concurrent;
mod crash;
mod metrics;
mod outage;
mod poll;
mod waiting;

/// How many files stand behind nginx.
const FILES: u32 = 10_000;
/// How many of them the program is killed over; `tests/slow` takes more.
const CRASH_FILES: u32 = 2_000;
