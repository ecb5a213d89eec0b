//! What tests stand on.

pub mod nginx;
pub mod raw_server;
pub mod outcomes;
pub mod store;
