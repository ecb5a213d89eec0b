//! What tests stand on.

pub mod raw_server;
