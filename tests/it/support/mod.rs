//! What tests stand on.

pub mod catalog;
pub mod events;
pub mod gzip;
pub mod nginx;
pub mod outcomes;
pub mod postgres;
pub mod program;
pub mod proxy;
pub mod raw_server;
pub mod store;
pub mod tables;
