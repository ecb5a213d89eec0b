//! What tests stand on.

pub mod nginx;
