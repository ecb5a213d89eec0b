//! The beginning of transactions.

use sqlx::{PgPool, Postgres, Transaction};

use super::error::Result;

/// All statements see one moment, and none writes.
const ONE_MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Begins a transaction that may write.
pub(super) async fn begin(pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    whole(async move { pool.begin().await }).await
}

/// Begins a transaction that only reads, as of one moment.
pub(super) async fn begin_reading(pool: &PgPool) -> Result<Transaction<'static, Postgres>> {
    let pool = pool.clone();
    whole(async move { pool.begin_with(ONE_MOMENT).await }).await
}

/// Ends what was begun, whoever waits for it: that is a reader's request, which may be dropped at any moment. sqlx 0.9 counts
/// a transaction from the server's answer on, and rolls back only what it has counted: a connection that is let go before would
/// stay in its transaction, and show whoever gets it next what was there then.
async fn whole(
    begin: impl Future<Output = sqlx::Result<Transaction<'static, Postgres>>> + Send + 'static,
) -> Result<Transaction<'static, Postgres>> {
    Ok(tokio::spawn(begin).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))?)
}
