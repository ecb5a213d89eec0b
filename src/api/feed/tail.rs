//! Wakes those who wait at the feed's end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::api::ApiState;
use crate::domain::change::Cursor;

/// The feed's end as this process last saw it. While someone waits there, one look after each announcement serves all of
/// them; announcements come with every refresh, changes of content seldom do.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    // A std mutex: held to come and go, never across an await. `None` while nobody waits.
    end: Arc<Mutex<Option<End>>>,
}

/// Where the feed ends; `None` before the first look.
type End = watch::Sender<Option<Cursor>>;

/// Hears when the feed has grown.
#[derive(Debug)]
pub(super) struct Growth(watch::Receiver<Option<Cursor>>);

impl Growth {
    /// Returns when the feed has grown since the listening began, or since this last returned. It may return without that:
    /// when the feed's end is seen for the first time, or can't be seen.
    pub(super) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Whoever looked for us is gone, which is never meant: the deadlines of those who wait see to the rest.
            std::future::pending::<()>().await;
        }
    }
}

impl Tail {
    /// How many wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.end().as_ref().map_or(0, watch::Sender::receiver_count)
    }

    fn end(&self) -> MutexGuard<'_, Option<End>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApiState {
    /// Listens from now on. Listen first, then look at the feed, so that nothing is missed between the two.
    pub(super) fn growth(&self) -> Growth {
        let mut end = self.tail.end();
        let end = end.get_or_insert_with(|| {
            let end = watch::Sender::new(None);
            tokio::spawn(look_on(self.clone(), end.clone()));
            end
        });
        Growth(end.subscribe())
    }
}

/// Looks at the feed's end after each announcement, until nobody waits any more.
async fn look_on(api: ApiState, end: End) {
    let mut news = api.announcer.listen_to_all();
    loop {
        match api.store.feed_end().await {
            Ok(now) => _ = end.send_if_modified(|known| known.replace(now) != Some(now)),
            // Those who wait find out for themselves, and know whom to tell.
            Err(_) => end.send_modify(|_| {}),
        }
        tokio::select! {
            () = news.next() => {}
            () = end.closed() => {
                let mut shared = api.tail.end();
                // Under the lock: someone may have come since.
                if end.receiver_count() == 0 {
                    *shared = None;
                    return;
                }
            }
        }
    }
}
