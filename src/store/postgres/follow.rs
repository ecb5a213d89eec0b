//! News from other processes by LISTEN.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Executor;
use sqlx::postgres::{PgListener, PgPool, PgPoolOptions};

use super::error::Result;
use super::{CHANNEL, bounded};
use crate::store::{Follower, News, StoreError};

/// How long nothing may be heard before the connection is tried: one that a firewall forgot fails only when it is used.
const SILENCE: Duration = Duration::from_secs(30);

/// How long to wait before connecting again.
const PAUSE: Duration = Duration::from_millis(500);

/// A connection of its own that listens.
#[derive(Debug)]
pub(super) struct Listener {
    /// One connection at a time, apart from the readers', which a listener would use up.
    pool: PgPool,
    /// `None` after it failed.
    listening: Option<PgListener>,
}

impl Listener {
    /// Listens from when this returns; `like` is connected to the same server.
    pub(super) async fn connect(like: &PgPool) -> Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(like.connect_options().as_ref().clone());
        let listening = Some(listen(&pool).await?);
        Ok(Self { pool, listening })
    }
}

async fn listen(pool: &PgPool) -> Result<PgListener> {
    let mut listener = PgListener::connect_with(pool).await?;
    // A lost connection is told as such, not mended in silence: what was said meanwhile is lost with it.
    listener.eager_reconnect(false);
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Waits for a notification; an error is any reason for connecting anew.
async fn heard(listener: &mut PgListener) -> Result<()> {
    loop {
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => break,
            Ok(Ok(None)) => return Err(StoreError::Unavailable("the connection was lost".into()).into()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => _ = bounded(async { Ok(listener.execute("SELECT 1").await?) }).await?,
        }
    }
    // One look around serves all that has been heard.
    while listener.next_buffered().is_some() {}
    Ok(())
}

#[async_trait]
impl Follower for Listener {
    async fn news(&mut self) -> Result<News, StoreError> {
        if let Some(listener) = &mut self.listening {
            match heard(listener).await {
                Ok(()) => return Ok(News::Something),
                Err(error) => {
                    let error = StoreError::from(error);
                    tracing::warn!(%error, "no longer hearing from the database; connecting again");
                    self.listening = None;
                }
            }
        }
        loop {
            match bounded(listen(&self.pool)).await {
                Ok(listener) => {
                    self.listening = Some(listener);
                    return Ok(News::Resync);
                }
                Err(error) => tracing::debug!(%error, "can't listen to the database yet"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
