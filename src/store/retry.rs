//! Trying again when another writer was in the way.

use std::time::Duration;

use super::StoreError;

/// How often a call is tried in all.
const ATTEMPTS: u64 = 4;

/// Runs a whole transaction again when it had to give way to another ([`StoreError::Busy`]), a few times.
pub(super) async fn retrying<T, F>(mut attempt: impl FnMut() -> F + Send) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>> + Send,
{
    let mut tried = 1;
    loop {
        match attempt().await {
            Err(StoreError::Busy(_)) if tried < ATTEMPTS => {
                // Two that collided must not meet again.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=10 * tried))).await;
                tried += 1;
            }
            result => return result,
        }
    }
}
