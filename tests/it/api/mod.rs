//! The read API over real sockets.

mod access;
mod bad_input;
mod bounds;
mod connection;
mod cors;
mod encoding;
mod erase;
mod errors;
mod events;
mod feed;
mod followers;
mod history;
mod keys;
mod listing;
mod openapi;
mod pond;
mod reading;
mod refreshing;
mod serving;
mod status;
mod terms;
mod validation;
mod waiting;

/// Histories that followers of the feed are tried on; `tests/slow` tries more.
const SEEDS: u64 = 24;
