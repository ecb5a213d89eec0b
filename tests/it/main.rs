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
