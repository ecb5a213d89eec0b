//! Tests against real databases and servers.
fn main() {}
