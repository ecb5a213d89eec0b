//! What a committed apply sets off in this process: whoever waits for a resource, or for work, is woken.

mod watched;

use std::sync::Arc;

use tokio::sync::broadcast;

use watched::Watched;
pub use watched::{AnyListener, ResourceListener};

use crate::domain::resource::ResourceId;

/// How many announcements a slow listener may fall behind before it is told to look for itself.
const BACKLOG: usize = 1024;

/// News for listeners in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// These resources were settled: replaced, confirmed, deferred or gone.
    Settled(Arc<[ResourceId]>),
    /// Something may be due earlier than it was: it was wanted, added or given back. Nothing was settled.
    Wanted,
    /// Anything may have happened: news was missed.
    LookAround,
}

/// Tells every listener what was committed.
#[derive(Debug, Clone)]
pub struct Announcer {
    sender: broadcast::Sender<Announcement>,
    watched: Arc<Watched>,
}

impl Announcer {
    /// An announcer without listeners.
    #[must_use]
    pub fn new() -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG), watched: Arc::default() }
    }

    /// Tells all who listen now.
    pub fn announce(&self, news: Announcement) {
        self.watched.tell(&news);
        // An error means that nobody listens, which is fine.
        _ = self.sender.send(news);
    }

    /// Listens from now on. Subscribe first, then look at the store, so that nothing is missed between the two.
    #[must_use]
    pub fn listen(&self) -> Listener {
        Listener { receiver: self.sender.subscribe() }
    }

    /// Listens from now on to what concerns one resource. What is settled of others costs such a listener nothing.
    #[must_use]
    pub fn listen_to(&self, resource: ResourceId) -> ResourceListener {
        Watched::listen(&self.watched, resource)
    }

    /// Listens from now on to whatever is settled. However much is settled meanwhile, such a listener is woken once.
    #[must_use]
    pub fn listen_to_all(&self) -> AnyListener {
        Watched::listen_to_all(&self.watched)
    }
}

impl Default for Announcer {
    fn default() -> Self {
        Self::new()
    }
}

/// One listener's place in the news.
#[derive(Debug)]
pub struct Listener {
    receiver: broadcast::Receiver<Announcement>,
}

impl Listener {
    /// The next news; [`Announcement::LookAround`] for a listener that fell too far behind. `None` when the announcer is
    /// gone.
    pub async fn next(&mut self) -> Option<Announcement> {
        match self.receiver.recv().await {
            Ok(news) => Some(news),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Announcement::LookAround),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
