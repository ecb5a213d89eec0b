//! Tests against real databases and servers.

mod support;
mod upstream;
