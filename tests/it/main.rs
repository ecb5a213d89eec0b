//! Tests against real databases and servers. `tests/run` starts what they need.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "these are tests")]
#![allow(unreachable_pub, reason = "in here `pub` is for the other modules of this one binary")]

mod house;
mod layering;
mod support;
mod upstream;
//! Tests against real databases and servers.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

/// Makes a test of each rule on each database.
macro_rules! on_each_database {
    ($($rule:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $rule() {
                    super::$rule($crate::api::pond::Database::Sqlite).await;
                }
            )*
        }
    };
}

mod api;

mod config;

mod api;
mod store_contract;
mod support;
