//! What tests stand on.

pub mod nginx;
pub mod raw_server;
