//! Keys that nobody listed, and that exist because someone reads them (`on_demand`).
//!
//! The first reader of a key makes it known and waits for it, and so do all who come before it is there: in this process they
//! share one call to the store, across processes the store sees to it that they cause one request. What may not become a key
//! is refused before anything is written: a text that no URL can be made of, and keys beyond what the source allows in a
//! minute, whoever asks for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::ApiState;
use super::error::ApiError;
use super::resource_path::ResourcePath;
use crate::announce::Announcement;
use crate::clock::monotonic;
use crate::config::{OnDemand, Source};
use crate::domain::resource::{Params, SourceName};
use crate::telemetry::metrics;

/// In which span new keys are counted.
const MINUTE: Duration = Duration::from_secs(60);

/// What is remembered of first reads in this process.
#[derive(Debug, Clone, Default)]
pub struct Demands {
    // Std mutexes: held for look-ups, never across an await.
    /// Keys that are being made known, each by one of its readers.
    joining: Arc<Mutex<HashMap<ResourcePath, Arc<OnceCell<()>>>>>,
    counted: Arc<Mutex<HashMap<SourceName, Window>>>,
}

/// A minute, and how many keys were new in it.
#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    new: u32,
}

impl Window {
    /// Counts one more.
    ///
    /// # Errors
    /// How long it takes until there is room for one.
    fn count(&mut self, most: u32, now: Instant) -> Result<(), Duration> {
        let passed = now - self.began;
        if passed >= MINUTE {
            *self = Self { began: now, new: 0 };
        } else if self.new >= most {
            return Err(MINUTE.saturating_sub(passed));
        }
        self.new += 1;
        Ok(())
    }
}

impl Demands {
    fn count(&self, source: &SourceName, most: u32, now: Instant) -> Result<(), Duration> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.entry(source.clone()).or_insert(Window { began: now, new: 0 }).count(most, now)
    }

    fn joining(&self) -> MutexGuard<'_, HashMap<ResourcePath, Arc<OnceCell<()>>>> {
        self.joining.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApiState {
    /// Makes a key known that is read for the first time, or again after it was forgotten.
    ///
    /// # Errors
    /// [`ApiError::UnusableKey`], [`ApiError::TooManyNewKeys`], or what the store says.
    pub(super) async fn demand(&self, path: &ResourcePath, source: &Source, rules: &OnDemand) -> Result<(), ApiError> {
        if let Err(error) = source.ask(&path.key, &Params::new()) {
            return Err(ApiError::UnusableKey { path: path.clone(), why: error.to_string() });
        }
        let cell = Arc::clone(self.demands.joining().entry(path.clone()).or_default());
        let made = cell.get_or_try_init(|| self.make_known(path, rules)).await.copied();
        // Whoever comes later finds it in the store, or tries again.
        self.demands.joining().remove(path);
        made
    }

    async fn make_known(&self, path: &ResourcePath, rules: &OnDemand) -> Result<(), ApiError> {
        if let Err(wait) = self.demands.count(&path.source, rules.new_keys_per_minute, monotonic()) {
            metrics::demanded(path.source.as_str(), "refused");
            let retry_after = wait.as_secs().saturating_add(1);
            return Err(ApiError::TooManyNewKeys { source: path.source.clone(), retry_after });
        }
        let unknown = || ApiError::UnknownSource { source: path.source.to_string() };
        let id = self.store.source(&path.source).await?.ok_or_else(unknown)?;
        if self.store.demand(id, &path.key, rules.max_keys).await? {
            metrics::demanded(path.source.as_str(), "added");
            self.announcer.announce(Announcement::Wanted);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_has_more_new_keys_than_are_allowed() {
        let start = monotonic();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut window = Window { began: start, new: 0 };
        for (second, expected) in [
            (0, Ok(())),
            (10, Ok(())),
            (20, Err(40)),
            (59, Err(1)),
            (60, Ok(())),
            (60, Ok(())),
            (61, Err(59)),
            (1000, Ok(())),
        ] {
            assert_eq!(window.count(2, at(second)), expected.map_err(Duration::from_secs), "{second}");
        }
    }

    #[test]
    fn sources_are_counted_apart() {
        let (demands, now) = (Demands::default(), monotonic());
        let [users, cities] = ["users", "cities"].map(|name| SourceName::new(name).unwrap());
        assert_eq!(demands.count(&users, 1, now), Ok(()));
        assert_eq!(demands.count(&users, 1, now), Err(MINUTE));
        assert_eq!(demands.count(&cities, 1, now), Ok(()));
    }
}
