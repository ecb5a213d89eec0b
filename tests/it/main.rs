//! Tests against real databases and servers.

mod config;
