//! What upstreams have just asked for, before the database knows of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::domain::governor::Covers;
use crate::domain::resource::{SourceId, UpstreamId};

/// The pauses that answers to this process asked for, from the moment at which their header was read. What already holds a
/// token looks here once more before it is sent; everyone else learns of a pause from the database.
#[derive(Debug, Clone, Default)]
pub struct Quiet {
    // A std mutex: held for a look, never across an await.
    until: Arc<Mutex<Until>>,
}

type Until = HashMap<(UpstreamId, Covers), DateTime<Utc>>;

impl Quiet {
    /// Nothing of this is to be asked for before then.
    pub fn note(&self, upstream: UpstreamId, covers: Covers, until: DateTime<Utc>) {
        let mut all = self.lock();
        let known = all.entry((upstream, covers)).or_insert(until);
        *known = until.max(*known);
    }

    /// Until when a source of an upstream is to be left alone; without a source, all of the upstream.
    #[must_use]
    pub fn until(&self, upstream: UpstreamId, source: Option<SourceId>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut all = self.lock();
        all.retain(|_, until| now < *until);
        let covers = [Some(Covers::Upstream), source.map(Covers::Source)];
        covers.into_iter().flatten().filter_map(|covers| all.get(&(upstream, covers)).copied()).max()
    }

    fn lock(&self) -> MutexGuard<'_, Until> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_word_holds_until_it_has_passed() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let (quiet, upstream, source) = (Quiet::default(), UpstreamId(1), SourceId(1));
        quiet.note(upstream, Covers::Source(source), at(20));
        assert_eq!(quiet.until(upstream, None, at(0)), None);
        quiet.note(upstream, Covers::Upstream, at(10));
        quiet.note(upstream, Covers::Upstream, at(5));
        assert_eq!(quiet.until(upstream, None, at(0)), Some(at(10)));
        assert_eq!(quiet.until(upstream, Some(source), at(0)), Some(at(20)));
        assert_eq!(quiet.until(upstream, Some(SourceId(2)), at(9)), Some(at(10)));
        assert_eq!(quiet.until(UpstreamId(2), Some(source), at(9)), None);
        assert_eq!(quiet.until(upstream, Some(source), at(20)), None);
    }
}
