//! Headpond keeps a local, eventually consistent copy of upstream HTTP resources in your SQLite or Postgres.
//!
//! The data goes one way:
//!
//! ```text
//! wake → store.claim                 → Vec<Claim>     resource, what was known of it, lease
//!      → upstream.fetch              → Observation    infallible: a failure of the network is data
//!      → domain::decision::decide    → Outcome        pure
//!      → store.apply                 → Applied        one transaction for many outcomes, fenced by the lease
//!      → announce                    → waiters, the due loops, other processes
//! reader → store.current             → a conditional HTTP response
//! ```
//!
//! # Rooms, and which of the others each may import
//!
//! | room | may import |
//! |---|---|
//! | `domain` | nothing of the crate |
//! | `clock`, `config` | `domain` |
//! | `store`, `announce` | `domain`, `clock`, `config`, `telemetry` |
//! | `upstream` | `domain`, `clock`, `config`, `telemetry`, `store` |
//! | `refresh` | `domain`, `clock`, `config`, `telemetry`, `store`, `upstream`, `announce` |
//! | `api` | `domain`, `clock`, `config`, `telemetry`, `store`, `announce` |
//! | `telemetry` | nothing of the crate |
//! | `demo` | `domain`, `clock`, `config`, `store`, `api` |
//! | `cli` | everything |
//!
//! `tests/it/layering.rs` holds the code against this table. This crate is a program: nothing in here is a stable API.

pub mod announce;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod domain;
pub mod refresh;
pub mod store;
pub mod telemetry;
pub mod upstream;
