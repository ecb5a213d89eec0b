//! What a refresh costs, beside what the same requests cost without one.
//!
//! `tests/run -- cargo bench --bench refresh` prints, from one run on one machine: requests per second of a bare
//! loop that stores nothing and of Headpond on both databases, against the same nginx, cold and all-304; rows per second
//! of claim + apply; and bytes written for each 304. Ratios are what to look at: the rates are the machine's. With
//! `-- requests` or `-- rows` after it, one half of this.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench ends where it can't go on"
)]

#[path = "../../tests/it/support/nginx.rs"]
#[allow(dead_code, unreachable_pub, reason = "a bench needs less of it than the tests")]
mod nginx;

mod databases;
mod requests;
mod rows;

fn main() {
    // `cargo test --benches` passes --test: there is nothing to test in here.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let is_wanted = |part: &str| {
        let mut parts = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).peekable();
        parts.peek().is_none() || parts.any(|arg| arg == part)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if is_wanted("requests") {
            requests::run().await;
        }
        if is_wanted("rows") {
            rows::run().await;
        }
    });
}
