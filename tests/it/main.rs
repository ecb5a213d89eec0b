//! Tests against real databases and servers. `tests/run` starts what they need.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]
#![allow(unreachable_pub, reason = "in here `pub` is for the other modules of this one binary")]

mod api;
mod cli;
mod config;
mod demo;
mod docs;
mod examples;
mod guarantees;
mod house;
mod layering;
mod main_job;
mod on_demand;
mod operating;
mod origins;
mod refresh;
mod reload;
mod status;
mod store_contract;
mod support;
mod tables;
mod upstream;
mod walks;
mod webhooks;
