//! What an operator does with it after the first day.

mod archive;
mod backup;
mod deploy;
mod erase;
mod explain;
mod offline;
mod plan;
mod systemd;

/// How many files are moved; `tests/slow` moves more.
const FILES: u32 = 300;
