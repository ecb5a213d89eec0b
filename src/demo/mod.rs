//! The demo: a simulated upstream, and what a newcomer is shown of Headpond polling it.
//!
//! `cli/demo.rs` puts it together: the service itself is the one that `serve` runs, by a real configuration
//! ([`config`]).

pub mod config;
pub mod live;
pub mod reads;
pub mod steps;
pub mod upstream;

use std::net::SocketAddr;

/// The seed of the demo's upstream: each run shows the same cities and users.
pub const SEED: u64 = 2026;

/// Where everything is, as a user writes it.
#[derive(Debug, Clone)]
pub struct Site {
    /// Where the read API listens.
    pub api: SocketAddr,
    /// Where the simulated upstream listens.
    pub upstream: SocketAddr,
    /// The path of the database file.
    pub database: String,
    /// The path of this program.
    pub program: String,
}
