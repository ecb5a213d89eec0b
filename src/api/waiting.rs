//! Readers who wait for a resource's next outcome, whichever process brings it.
//!
//! Those of one resource wait together, in a round: it wishes for the resource once, looks at the store once after each
//! announcement that concerns the resource, and hands what it finds to all of them. So thousands of readers cost as much as
//! one, in this process; across processes the store sees to it that they cause one request ([`Store::hasten`]).
//!
//! [`Store::hasten`]: crate::store::Store::hasten

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::ApiState;
use super::resource_path::ResourcePath;
use crate::announce::Announcement;
use crate::domain::resource::ResourceId;
use crate::domain::schedule::{Because, Due};
use crate::domain::time::later;
use crate::store::{Current, Hastened, Wish};

/// For how long what came counts for those who come late ([`Wish::echo`]).
const ECHO: Duration = Duration::from_secs(2);

/// The rounds of this process.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    // A std mutex: held for look-ups, never across an await.
    rounds: Arc<Mutex<HashMap<ResourceId, Entry>>>,
}

/// What is remembered of a resource.
#[derive(Debug)]
enum Entry {
    /// A round that goes on.
    Round(Arc<Round>),
    /// When a round ended with something, for a moment. What it ended with is with its readers: it may be large.
    Echo(DateTime<Utc>),
}

/// One resource's readers. They listen to `progress`.
#[derive(Debug)]
struct Round {
    progress: watch::Sender<Progress>,
}

impl Round {
    fn is_going_on(&self) -> bool {
        matches!(&*self.progress.borrow(), Progress::Waiting | Progress::PutOff(_))
    }
}

#[derive(Debug, Clone)]
enum Progress {
    Waiting,
    /// Nothing is asked of the upstream until then.
    PutOff(DateTime<Utc>),
    Came(Arc<Came>),
    /// Nothing comes, because it was fetched just before, for the readers of another process; then.
    Served(DateTime<Utc>),
    /// Nothing will come, or nothing can be seen.
    Over,
}

/// How a round ends for one of its readers.
enum End {
    Came(Arc<Came>),
    Served,
    /// With nothing, in the time that there is.
    InVain,
}

/// An outcome.
#[derive(Debug)]
pub(super) struct Came {
    /// What the store holds since.
    pub(super) current: Current,
    /// Whether the upstream confirmed or replaced the copy; otherwise it failed, or the resource is gone.
    pub(super) is_confirmed: bool,
    at: DateTime<Utc>,
    /// Whether the request was made for this round, and not for someone else's reasons.
    is_own: bool,
}

impl Came {
    /// The status that the upstream answered with, where the store can tell: that of new content, or of a failure.
    pub(super) fn status(&self, before: &Current) -> Option<u16> {
        if self.current.version > before.version {
            return Some(if self.current.transformed { 203 } else { 200 });
        }
        self.current.failing.as_ref().and_then(|failing| failing.last.status)
    }
}

/// What a reader is content with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content {
    /// Whether what came just before he did will do.
    pub(super) with_echo: bool,
    /// See [`Wish::gone_for`].
    pub(super) gone_for: Option<Duration>,
}

/// What came of waiting.
#[derive(Debug)]
pub(super) enum Waited {
    /// An outcome.
    Came {
        came: Arc<Came>,
        /// Whether other readers wait for the same request, or it was under way already.
        is_shared: bool,
    },
    /// An outcome that others waited for came a moment ago.
    JustCame,
    /// None, within the time, or none is to be expected within it.
    InVain,
}

/// What an outcome changes. (A 304 that can't be used changes nothing: its resource is asked for again at once.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    fetched_at: Option<DateTime<Utc>>,
    /// What comes with a collection's walks is not always touched by one that is complete.
    walked_at: Option<DateTime<Utc>>,
    failed: Option<(DateTime<Utc>, u32)>,
    gone_since: Option<DateTime<Utc>>,
}

impl Mark {
    pub(super) fn of(current: &Current) -> Self {
        Self {
            fetched_at: current.freshness.map(|freshness| freshness.fetched_at),
            walked_at: current.walk.and_then(|walk| walk.ended_at),
            failed: current.failing.as_ref().map(|failing| (failing.at, failing.count)),
            gone_since: current.gone_since,
        }
    }
}

impl ApiState {
    /// Makes a resource due and waits for its outcome until `deadline`, but not beyond this process's end. `seen` is what the
    /// reader has seen of it.
    pub(super) async fn wait_for_outcome(
        &self,
        path: &ResourcePath,
        seen: &Current,
        deadline: DateTime<Utc>,
        content: Content,
    ) -> Waited {
        loop {
            let Some((mut progress, is_joined)) = self.join_round(path, seen, content) else {
                return Waited::JustCame;
            };
            let end = tokio::select! {
                biased;
                end = end_of_round(&mut progress, deadline) => end,
                () = self.no_longer(deadline) => End::InVain,
            };
            match end {
                End::Came(came) => return Waited::Came { is_shared: is_joined || !came.is_own, came },
                End::Served if content.with_echo => return Waited::JustCame,
                // Whoever began the round was content with less.
                End::Served => {}
                End::InVain => return Waited::InVain,
            }
        }
    }

    /// Makes a resource due, and leaves its outcome to others.
    pub(super) fn ask_again(&self, path: &ResourcePath, seen: &Current) {
        // A round that nobody waits for ends once it has wished.
        drop(self.join_round(path, seen, Content { with_echo: true, gone_for: None }));
    }

    /// Returns when `deadline` has come, or this process should end.
    pub(super) async fn no_longer(&self, deadline: DateTime<Utc>) {
        let deadline = async {
            while self.clock.now() < deadline {
                self.clock.sleep_until(deadline).await;
            }
        };
        self.stopping.run_until_cancelled(deadline).await;
    }

    /// The resource's round, which begins now unless it has begun before; and whether it had. `None` when one has just ended
    /// and that will do.
    fn join_round(
        &self,
        path: &ResourcePath,
        seen: &Current,
        content: Content,
    ) -> Option<(watch::Receiver<Progress>, bool)> {
        let mut rounds = self.waiting.rounds();
        match rounds.get(&seen.resource) {
            Some(Entry::Round(round)) if round.is_going_on() => return Some((round.progress.subscribe(), true)),
            Some(Entry::Echo(at)) if content.with_echo && self.clock.now() < later(*at, ECHO) => return None,
            _ => {}
        }
        let (progress, receiver) = watch::channel(Progress::Waiting);
        let round = Arc::new(Round { progress });
        rounds.insert(seen.resource, Entry::Round(Arc::clone(&round)));
        let (waiting, comes_with) = (self.waiting.clone(), seen.comes_with());
        let registered = Registered { waiting, resource: seen.resource, comes_with, round };
        tokio::spawn(registered.run(self.clone(), path.clone(), Mark::of(seen), content));
        Some((receiver, false))
    }
}

/// How the round ends; in vain also when it can't end before `deadline`.
async fn end_of_round(progress: &mut watch::Receiver<Progress>, deadline: DateTime<Utc>) -> End {
    loop {
        match &*progress.borrow_and_update() {
            Progress::Came(came) => return End::Came(Arc::clone(came)),
            Progress::Served(_) => return End::Served,
            Progress::Over => return End::InVain,
            Progress::PutOff(until) if *until > deadline => return End::InVain,
            Progress::Waiting | Progress::PutOff(_) => {}
        }
        if progress.changed().await.is_err() {
            return End::InVain;
        }
    }
}

impl Waiting {
    /// How many readers wait now.
    #[must_use]
    pub fn readers(&self) -> usize {
        let readers = |entry: &Entry| match entry {
            Entry::Round(round) => round.progress.receiver_count(),
            Entry::Echo(_) => 0,
        };
        self.rounds().values().map(readers).sum()
    }

    fn rounds(&self) -> MutexGuard<'_, HashMap<ResourceId, Entry>> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether it was looked at again and is gone as before, which changes nothing but when it is due.
fn is_still_gone(current: &Current, now: DateTime<Utc>) -> bool {
    let is_put_off = |due: Due| due.because == Because::GoneRecheck && due.at > now;
    current.gone_since.is_some() && current.due.is_some_and(is_put_off)
}

/// A round as long as it can be found.
struct Registered {
    waiting: Waiting,
    resource: ResourceId,
    /// What brings the outcome, and when that was last fetched; see [`Current::comes_with`].
    comes_with: (ResourceId, Option<DateTime<Utc>>),
    round: Arc<Round>,
}

impl Registered {
    /// Runs the round until an outcome comes or nobody waits any more, and remembers for a moment that one came.
    async fn run(self, api: ApiState, path: ResourcePath, seen: Mark, content: Content) {
        let end = self.end(&api, &path, seen, content).await.unwrap_or(Progress::Over);
        let came_at = match &end {
            Progress::Came(came) => Some(came.at),
            Progress::Served(at) => Some(*at),
            _ => None,
        };
        self.round.progress.send_replace(end);
        let Some(at) = came_at else { return };
        let (waiting, resource) = (self.waiting.clone(), self.resource);
        self.replace_by(Entry::Echo(at));
        api.clock.sleep_until(later(api.clock.now(), ECHO)).await;
        let mut rounds = waiting.rounds();
        if matches!(rounds.get(&resource), Some(Entry::Echo(remembered)) if *remembered == at) {
            rounds.remove(&resource);
        }
    }

    /// Ends with this in its place.
    fn replace_by(self, entry: Entry) {
        let mut rounds = self.waiting.rounds();
        if self.is_in(&rounds) {
            rounds.insert(self.resource, entry);
        }
    }

    /// Whether it can be found: another round of the resource may have begun when this one had ended.
    fn is_in(&self, rounds: &HashMap<ResourceId, Entry>) -> bool {
        matches!(rounds.get(&self.resource), Some(Entry::Round(round)) if Arc::ptr_eq(round, &self.round))
    }

    /// What the round ends with; `None` when that is nothing.
    async fn end(&self, api: &ApiState, path: &ResourcePath, seen: Mark, content: Content) -> Option<Progress> {
        // Listening begins before the wish and the first look, so that nothing that comes of it is missed.
        let mut news = api.announcer.listen_to(self.comes_with.0);
        let is_own = match self.wish(api, content).await? {
            Hastened::Never => return None,
            // Someone has looked just before.
            Hastened::PutOff(_) if seen.gone_since.is_some() => return None,
            Hastened::Served => return self.comes_with.1.map(Progress::Served),
            hastened => hastened == Hastened::Due,
        };
        loop {
            let current = api.store.current(&path.source, &path.key).await.ok()??;
            let now = Mark::of(&current);
            if now != seen || is_still_gone(&current, api.clock.now()) {
                let is_confirmed = now.fetched_at != seen.fetched_at || now.walked_at != seen.walked_at;
                return Some(Progress::Came(Arc::new(Came { current, at: api.clock.now(), is_confirmed, is_own })));
            }
            // Retired meanwhile.
            current.due?;
            tokio::select! {
                () = news.next() => {}
                () = self.round.progress.closed() => if self.is_deserted() { return None },
            }
        }
    }

    /// Makes the resource due. `None` when the store fails.
    async fn wish(&self, api: &ApiState, content: Content) -> Option<Hastened> {
        let (resource, seen) = self.comes_with;
        let echo = if content.with_echo { ECHO } else { Duration::ZERO };
        let wish = Wish { seen, at: api.clock.now(), echo, gone_for: content.gone_for };
        let hastened = api.store.hasten(resource, wish).await;
        match &hastened {
            Ok(Hastened::Due) => api.announcer.announce(Announcement::Wanted),
            Ok(Hastened::PutOff(until)) => _ = self.round.progress.send_replace(Progress::PutOff(*until)),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "readers who wait are answered with what there is"),
        }
        hastened.ok()
    }

    /// Whether nobody waits; then nobody will, since the round can no longer be found.
    fn is_deserted(&self) -> bool {
        let mut rounds = self.waiting.rounds();
        let is_deserted = self.round.progress.receiver_count() == 0;
        if is_deserted {
            self.take_out(&mut rounds);
        }
        is_deserted
    }

    fn take_out(&self, rounds: &mut HashMap<ResourceId, Entry>) {
        if self.is_in(rounds) {
            rounds.remove(&self.resource);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.take_out(&mut self.waiting.rounds());
    }
}
