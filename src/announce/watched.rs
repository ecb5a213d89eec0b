//! Resources for which someone waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::Announcement;
use crate::domain::resource::ResourceId;

/// A sender for each resource that has listeners. It carries no value: that something happened is all there is to say.
#[derive(Debug, Default)]
pub(super) struct Watched {
    // A std mutex: held for look-ups, never across an await.
    senders: Mutex<HashMap<ResourceId, watch::Sender<()>>>,
    /// For those who hear of every resource.
    of_all: watch::Sender<()>,
}

impl Watched {
    fn senders(&self) -> MutexGuard<'_, HashMap<ResourceId, watch::Sender<()>>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those whom it concerns.
    pub(super) fn tell(&self, news: &Announcement) {
        if *news != Announcement::Wanted {
            self.of_all.send_replace(());
        }
        let senders = self.senders();
        match news {
            Announcement::Settled(settled) if !senders.is_empty() => {
                settled.iter().filter_map(|id| senders.get(id)).for_each(|sender| _ = sender.send(()));
            }
            Announcement::LookAround => senders.values().for_each(|sender| _ = sender.send(())),
            Announcement::Settled(_) | Announcement::Wanted => {}
        }
    }

    pub(super) fn listen(watched: &Arc<Self>, resource: ResourceId) -> ResourceListener {
        let receiver = watched.senders().entry(resource).or_insert_with(|| watch::Sender::new(())).subscribe();
        ResourceListener { resource, receiver, watched: Arc::clone(watched) }
    }

    pub(super) fn listen_to_all(watched: &Arc<Self>) -> AnyListener {
        AnyListener { receiver: watched.of_all.subscribe(), _watched: Arc::clone(watched) }
    }
}

/// Hears when any resource was settled, or may have been.
#[derive(Debug)]
pub struct AnyListener {
    receiver: watch::Receiver<()>,
    /// The sender lives there.
    _watched: Arc<Watched>,
}

impl AnyListener {
    /// Returns when there was news since the listening began, or since this last returned; once, however much there was.
    pub async fn next(&mut self) {
        // The sender stays as long as this, so this is no error.
        _ = self.receiver.changed().await;
    }
}

/// Hears when one resource was settled, or may have been.
#[derive(Debug)]
pub struct ResourceListener {
    resource: ResourceId,
    receiver: watch::Receiver<()>,
    watched: Arc<Watched>,
}

impl ResourceListener {
    /// Returns when there was news since the listening began, or since this last returned.
    pub async fn next(&mut self) {
        // The sender stays as long as it has a listener, so this is no error.
        _ = self.receiver.changed().await;
    }
}

impl Drop for ResourceListener {
    fn drop(&mut self) {
        let mut senders = self.watched.senders();
        // The last one, this, takes the sender with it.
        if senders.get(&self.resource).is_some_and(|sender| sender.receiver_count() == 1) {
            senders.remove(&self.resource);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::announce::Announcer;

    fn has_news(listener: &mut ResourceListener) -> bool {
        listener.next().now_or_never().is_some()
    }

    #[test]
    fn a_listener_hears_of_its_own_resource() {
        let announcer = Announcer::new();
        announcer.announce(Announcement::Settled([ResourceId(7)].into()));
        let mut listener = announcer.listen_to(ResourceId(7));
        assert!(!has_news(&mut listener), "that was before");
        for (news, concerns) in [
            (Announcement::Settled([ResourceId(6), ResourceId(7)].into()), true),
            (Announcement::Settled([ResourceId(6)].into()), false),
            (Announcement::Settled([].into()), false),
            (Announcement::Wanted, false),
            (Announcement::LookAround, true),
        ] {
            announcer.announce(news.clone());
            assert_eq!(has_news(&mut listener), concerns, "{news:?}");
            assert!(!has_news(&mut listener), "{news:?} is told once");
        }
    }

    #[test]
    fn whoever_hears_of_all_is_told_once_of_what_came_meanwhile() {
        let announcer = Announcer::new();
        let mut listener = announcer.listen_to_all();
        let mut has_news = || listener.next().now_or_never().is_some();
        assert!(!has_news());
        announcer.announce(Announcement::Wanted);
        assert!(!has_news(), "nothing was settled");
        for news in [Announcement::Settled([ResourceId(6)].into()), Announcement::LookAround] {
            announcer.announce(news.clone());
            announcer.announce(news);
            assert!(has_news());
            assert!(!has_news());
        }
    }

    #[test]
    fn nothing_is_kept_for_listeners_that_are_gone() {
        let announcer = Announcer::new();
        let (one, mut other) = (announcer.listen_to(ResourceId(7)), announcer.listen_to(ResourceId(7)));
        drop(one);
        announcer.announce(Announcement::LookAround);
        assert!(has_news(&mut other));
        drop(other);
        assert!(announcer.watched.senders().is_empty());
    }
}
