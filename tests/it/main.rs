//! Tests against real databases and servers.

mod api;
