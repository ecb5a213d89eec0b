//! Looks after the keys of one source that takes some from elsewhere.
//!
//! What an origin has is added as soon as it was read. What it hasn't any more is taken away when each of the source's
//! origins has been read once: so keys that move from the configuration into a file, or from one file to another, are never
//! without an origin in between, and one that can't be read removes nothing.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;

use super::file::{self, Stamp};
use super::spool::{Spool, mark_of};
use super::sync::{Stored, forget, store_list, store_spool};
use super::{NotGathered, fan_out, query, specs};
use crate::announce::{Announcement, Listener};
use crate::config::{FanOut, KeyFormat, KeyPlace, Source};
use crate::domain::change::Cursor;
use crate::domain::origin::DEMAND;
use crate::domain::resource::SourceId;
use crate::domain::time::later;
use crate::refresh::Refresher;
use crate::refresh::ownership::Ownership;
use crate::store::{Changes, KeyQuery, KnownOrigin, Store, StoreError};

/// How long from one look to the next. A file counts when two looks have seen it the same.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long after a problem, of an origin or of the store, to try again, if nothing else happens before.
const TRY_AGAIN: Duration = Duration::from_secs(30);
const STORE_WAIT: Duration = Duration::from_secs(5);

/// How often the copies of another source are looked through, also if none was seen to change: those that are retired are in
/// no feed.
const LOOK_THROUGH: Duration = Duration::from_secs(10 * 60);

/// How many entries of the feed are read at once.
const CHANGES: u32 = 1000;

/// Keeps a source's keys.
pub struct Keeper {
    refresher: Arc<Refresher>,
    owner: Arc<Ownership>,
    id: SourceId,
    source: Arc<Source>,
    news: Listener,
    /// Known since the first look; the configuration's own list first.
    origins: Option<Vec<Watched>>,
    /// Whether origins that there are no longer have been forgotten.
    is_tidy: bool,
}

/// An origin.
struct Watched {
    known: KnownOrigin,
    name: String,
    look: Look,
    /// Stored, but what it had before is still there.
    stored: Option<Stored>,
    /// What was told last.
    problem: Option<String>,
}

/// How an origin is read.
enum Look {
    /// Once: it can't change.
    Config {
        is_done: bool,
    },
    /// Never: what is in it is the business of its readers.
    Readers,
    File {
        format: KeyFormat,
        path: std::path::PathBuf,
        last: Option<Stamp>,
        done: Option<Stamp>,
        again_at: Option<DateTime<Utc>>,
    },
    Query {
        query: KeyQuery,
        every: Duration,
        next: Option<DateTime<Utc>>,
    },
    Copies {
        fan_out: FanOut,
        place: Option<Cursor>,
        next: Option<DateTime<Utc>>,
    },
}

impl Keeper {
    /// One that has not looked yet.
    #[must_use]
    pub fn new(refresher: Arc<Refresher>, owner: Arc<Ownership>, id: SourceId, source: Arc<Source>) -> Self {
        let news = refresher.announcer.listen();
        Self { refresher, owner, id, source, news, origins: None, is_tidy: false }
    }

    /// Looks again and again.
    pub async fn run(mut self) {
        let mut is_well = true;
        loop {
            let looked = if self.owner.is_held().await { self.look().await } else { Ok(()) };
            let wait = if looked.is_ok() { LOOK_EVERY } else { STORE_WAIT };
            if let Err(error) = &looked {
                // What is in memory may not be what is stored.
                self.origins = None;
                // Once is enough: it is tried for as long as it takes.
                if is_well {
                    tracing::warn!(source = %self.source.name, %error, "could not bring the keys up to date; trying again");
                }
            }
            is_well = looked.is_ok();
            let clock = &self.refresher.clock;
            clock.sleep_until(later(clock.now(), wait)).await;
        }
    }

    /// Looks once at each origin, and stores what differs.
    ///
    /// # Errors
    /// When the store fails. Whoever goes on must begin with a new keeper.
    pub async fn look(&mut self) -> Result<(), StoreError> {
        let store = Arc::clone(&self.refresher.store);
        let mut origins = match self.origins.take() {
            Some(origins) => origins,
            None => self.known(store.as_ref()).await?,
        };
        let mut is_stirred = false;
        while let Some(Some(_)) = self.news.next().now_or_never() {
            is_stirred = true;
        }
        for origin in &mut origins {
            self.look_at(origin, is_stirred).await?;
        }
        if origins.iter().all(|origin| origin.known.synced_at.is_some()) {
            for origin in &mut origins {
                self.finish(origin).await?;
            }
            self.tidy(store.as_ref(), &origins).await?;
        }
        self.origins = Some(origins);
        Ok(())
    }

    async fn known(&self, store: &dyn Store) -> Result<Vec<Watched>, StoreError> {
        let specs = specs(&self.source);
        let known = store.origins(self.id, &specs).await?;
        let watched = specs.into_iter().zip(known).map(|(spec, known)| {
            let from = self.source.keys_from.iter().find(|from| from.name == spec.name);
            let look = match from.map(|from| &from.what) {
                Some(KeyPlace::File { path, format }) => {
                    Look::File { format: *format, path: path.clone(), last: None, done: None, again_at: None }
                }
                Some(KeyPlace::Query { sql, every, timeout }) => {
                    let query = KeyQuery { sql: sql.clone(), timeout: *timeout };
                    Look::Query { query, every: *every, next: None }
                }
                Some(KeyPlace::Source(fan_out)) => Look::Copies { fan_out: fan_out.clone(), place: None, next: None },
                None if spec.name == DEMAND.0 => Look::Readers,
                None => Look::Config { is_done: false },
            };
            Watched { known, name: spec.name, look, stored: None, problem: None }
        });
        Ok(watched.collect())
    }

    async fn look_at(&self, origin: &mut Watched, is_stirred: bool) -> Result<(), StoreError> {
        if let Look::Config { is_done } = &mut origin.look {
            if !std::mem::replace(is_done, true) {
                self.look_at_list(origin).await?;
            }
            return Ok(());
        }
        let Some(gathered) = self.gather(&mut origin.look, is_stirred).await? else { return Ok(()) };
        match gathered {
            Ok(spool) => self.take_in(origin, spool).await,
            Err(NotGathered::Problem(problem)) => self.tell(origin, Some(problem)).await,
            Err(NotGathered::Store(error)) => Err(error),
        }
    }

    async fn look_at_list(&self, origin: &mut Watched) -> Result<(), StoreError> {
        let mark = mark_of(self.source.keys.iter());
        if origin.known.mark.as_ref() != Some(&mark) && self.owner.renew().await? {
            let store = self.refresher.store.as_ref();
            let tell = |done, of| tracing::info!(source = %self.source.name, done, of, "taking in keys");
            origin.stored = Some(store_list(store, origin.known.id, &self.source.keys, mark, tell).await?);
        }
        Ok(())
    }

    /// What an origin has; `None` when it is not its time, or it is known to be the same.
    async fn gather(
        &self,
        look: &mut Look,
        is_stirred: bool,
    ) -> Result<Option<Result<Spool, NotGathered>>, StoreError> {
        let (store, now) = (self.refresher.store.as_ref(), self.refresher.clock.now());
        match look {
            Look::Config { .. } | Look::Readers => Ok(None),
            Look::File { format, path, last, done, again_at } => {
                let stamp = match Stamp::of(path) {
                    Ok(stamp) => stamp,
                    Err(why) => {
                        (*last, *done) = (None, None);
                        return Ok(Some(Err(NotGathered::Problem(format!("{}: {why}", path.display())))));
                    }
                };
                let is_still = last.replace(stamp) == Some(stamp);
                let is_known = *done == Some(stamp) && again_at.is_none_or(|at| now < at);
                if !is_still || is_known {
                    return Ok(None);
                }
                let read = file::gather(Arc::clone(&self.source), path.clone(), *format).await;
                *done = Some(stamp);
                *again_at = read.is_err().then(|| later(now, TRY_AGAIN));
                Ok(Some(read))
            }
            Look::Query { query, every, next } => {
                if next.is_some_and(|next| now < next) {
                    return Ok(None);
                }
                let found = query::gather(store, &self.source, query).await;
                *next = Some(later(now, *every));
                Ok(Some(found))
            }
            Look::Copies { fan_out, place, next } => {
                let has_changed = match *place {
                    None => true,
                    Some(since) => is_stirred && has_changed(store, &fan_out.source, since, place).await?,
                };
                if !has_changed && next.is_some_and(|next| now < next) {
                    return Ok(None);
                }
                if place.is_none() {
                    // From before what is read now.
                    *place = Some(store.feed_end().await?);
                }
                let found = fan_out::gather(store, &self.source, fan_out).await;
                *next = Some(later(now, if found.is_ok() { LOOK_THROUGH } else { TRY_AGAIN }));
                Ok(Some(found))
            }
        }
    }

    /// Stores what was gathered, unless it is the same as before.
    async fn take_in(&self, origin: &mut Watched, spool: Spool) -> Result<(), StoreError> {
        let mut notes: Vec<String> = spool.left_out.told().into_iter().collect();
        let is_stored = origin.known.mark.as_ref() == Some(&spool.mark)
            || origin.stored.as_ref().is_some_and(|stored| stored.mark == spool.mark);
        if !is_stored {
            if !self.owner.renew().await? {
                return Ok(());
            }
            let (source, name) = (&self.source.name, &origin.name);
            let store = self.refresher.store.as_ref();
            let stored = store_spool(store, origin.known.id, spool, |done, of| {
                tracing::info!(%source, origin = name, done, of, "taking in keys");
            });
            let stored = stored.await.map_err(|error| match error {
                NotGathered::Store(error) => error,
                NotGathered::Problem(problem) => StoreError::Unavailable(problem),
            })?;
            self.refresher.announcer.announce(Announcement::Wanted);
            let changed = stored.changed;
            tracing::info!(
                %source, origin = name, keys = stored.seen.count(), added = changed.added, revived = changed.revived,
                updated = changed.updated, "took in keys"
            );
            if stored.duplicates > 0 {
                notes.push(format!("{} are there more than once, and the first counts", stored.duplicates));
            }
            origin.stored = Some(stored);
            origin.known.mark = None;
            // There is nothing yet that could be taken away.
            if origin.known.synced_at.is_none() {
                self.finish(origin).await?;
            }
        }
        self.tell(origin, (!notes.is_empty()).then(|| notes.join("; "))).await
    }

    /// Takes away what an origin hasn't any more.
    async fn finish(&self, origin: &mut Watched) -> Result<(), StoreError> {
        let Some(stored) = &origin.stored else { return Ok(()) };
        let retired = stored.finish(self.refresher.store.as_ref()).await?;
        if retired > 0 {
            tracing::info!(source = %self.source.name, origin = origin.name, retired, "keys that it hasn't any more are no longer polled");
        }
        origin.known.mark = Some(stored.mark.clone());
        origin.known.synced_at = Some(self.refresher.clock.now());
        origin.stored = None;
        // What was noted went with it.
        if origin.problem.is_some() {
            self.refresher.store.note_problem(origin.known.id, origin.problem.as_deref()).await?;
        }
        Ok(())
    }

    /// Notes what is wrong, and logs it once.
    async fn tell(&self, origin: &mut Watched, problem: Option<String>) -> Result<(), StoreError> {
        if origin.problem == problem {
            return Ok(());
        }
        self.refresher.store.note_problem(origin.known.id, problem.as_deref()).await?;
        let (source, name) = (&self.source.name, &origin.name);
        if let Some(problem) = &problem {
            tracing::warn!(%source, origin = name, "keys: {problem}");
        } else {
            tracing::info!(%source, origin = name, "keys: nothing is wrong with them any more");
        }
        origin.problem = problem;
        Ok(())
    }

    /// Forgets origins that the configuration has no longer, once.
    async fn tidy(&mut self, store: &dyn Store, origins: &[Watched]) -> Result<(), StoreError> {
        if self.is_tidy || !self.owner.renew().await? {
            return Ok(());
        }
        let keep: Vec<_> = origins.iter().map(|origin| origin.known.id).collect();
        for other in store.other_origins(self.id, &keep).await? {
            forget(store, other).await?;
        }
        self.is_tidy = true;
        Ok(())
    }
}

/// Whether the feed has news of a source after this place, which moves to its end.
async fn has_changed(
    store: &dyn Store,
    source: &str,
    mut since: Cursor,
    place: &mut Option<Cursor>,
) -> Result<bool, StoreError> {
    let mut has_changed = false;
    loop {
        match store.changes(Some(since), CHANGES).await? {
            Changes::Page { changes, next } => {
                has_changed |= changes.iter().any(|change| change.source.as_str() == source);
                since = next;
                *place = Some(next);
                if changes.len() < CHANGES as usize {
                    return Ok(has_changed);
                }
            }
            Changes::Unknown => {
                *place = None;
                return Ok(true);
            }
        }
    }
}
