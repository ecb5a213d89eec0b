//! Keys that live somewhere else: in files, in the app's own tables, in the copies of another source.
//!
//! Whatever they come from, they are gathered first, all of them, into a temporary file ([`spool`]); so one that breaks off in
//! the middle changes nothing. What was gathered is compared by its mark with what is stored, and only where it differs it
//! is stored, in parts ([`mod@sync`]). Each source that takes keys from elsewhere has a task of its own that looks again
//! and again ([`keeper`]), in the one `serve` whose configuration holds.

pub mod fan_out;
pub mod file;
pub mod keeper;
pub mod plan;
pub mod query;
pub mod spool;
pub mod sync;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::keeper::Keeper;
use self::spool::Spool;
use super::Refresher;
use super::ownership::Ownership;
use crate::config::{KeyPlace, KeysFrom, Source};
use crate::domain::origin::{CONFIG, DEMAND, FIRST_OF_OTHERS, WALK};
use crate::domain::resource::SourceId;
use crate::store::{KeyQuery, OriginSpec, Store, StoreError};

/// Why an origin could not be read.
#[derive(Debug)]
pub enum NotGathered {
    /// There is something wrong with it, in words for people. It is told in the status, and nothing changes.
    Problem(String),
    /// The database could not do something that has nothing to do with it.
    Store(StoreError),
}

impl From<StoreError> for NotGathered {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl NotGathered {
    /// A temporary file that can't be written or read.
    #[must_use]
    pub fn spool(error: &std::io::Error) -> Self {
        Self::Problem(format!("no temporary file could be used ({error}); is there room in TMPDIR?"))
    }
}

impl std::fmt::Display for NotGathered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Problem(problem) => f.write_str(problem),
            Self::Store(error) => error.fmt(f),
        }
    }
}

/// The origins of a source by its configuration, its own list first. What readers ask for is one of them.
#[must_use]
pub fn specs(source: &Source) -> Vec<OriginSpec> {
    let own = OriginSpec { name: CONFIG.into(), place: 0, about: String::new() };
    let readers = source.on_demand.map(|_| OriginSpec { name: DEMAND.0.into(), place: DEMAND.1, about: String::new() });
    let members = OriginSpec { name: WALK.into(), place: FIRST_OF_OTHERS, about: String::new() };
    let members = source.collection.as_ref().map(|_| members);
    [own].into_iter().chain(readers).chain(members).chain(source.keys_from.iter().map(spec)).collect()
}

fn spec(from: &KeysFrom) -> OriginSpec {
    OriginSpec { name: from.name.clone(), place: from.place, about: from.about.clone() }
}

/// Adds what a source's origins have now, and removes nothing: for one that looks once. Returns what is wrong with them.
///
/// # Errors
/// When the store fails.
pub async fn add_all(store: &dyn Store, source: &Source, id: SourceId) -> Result<Vec<String>, StoreError> {
    let specs: Vec<_> = source.keys_from.iter().map(spec).collect();
    let known = store.origins(id, &specs).await?;
    let mut problems = Vec::new();
    for (from, known) in source.keys_from.iter().zip(known) {
        let stored = match gather(store, source, &from.what).await {
            Ok(spool) => sync::store_spool(store, known.id, spool, |_, _| {}).await.map(drop),
            Err(error) => Err(error),
        };
        match stored {
            Ok(()) => {}
            Err(NotGathered::Problem(problem)) => problems.push(format!("{}: {problem}", from.name)),
            Err(NotGathered::Store(error)) => return Err(error),
        }
    }
    Ok(problems)
}

async fn gather(store: &dyn Store, source: &Source, from: &KeyPlace) -> Result<Spool, NotGathered> {
    match from {
        KeyPlace::File { path, format } => file::gather(Arc::new(source.clone()), path.clone(), *format).await,
        KeyPlace::Query { sql, timeout, .. } => {
            query::gather(store, source, &KeyQuery { sql: sql.clone(), timeout: *timeout }).await
        }
        KeyPlace::Source(fan_out) => fan_out::gather(store, source, fan_out).await,
    }
}

/// Keeps the keys of all sources as their origins say, until `stop` is cancelled. After a reload it begins anew.
///
/// # Errors
/// When one of its tasks panicked.
pub async fn keep(
    mut refreshers: watch::Receiver<Arc<Refresher>>,
    owner: Arc<Ownership>,
    stop: CancellationToken,
) -> Result<(), JoinError> {
    loop {
        let refresher = Arc::clone(&refreshers.borrow_and_update());
        let mut keepers = JoinSet::new();
        for (id, source) in refresher.roster.sources().filter(|(_, source)| !source.keys_from.is_empty()) {
            let keeper = Keeper::new(Arc::clone(&refresher), Arc::clone(&owner), id, Arc::clone(source));
            keepers.spawn(keeper.run());
        }
        // Broken off between two transactions, the next ones go on: a round that has not ended is read again.
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = refreshers.changed() => if changed.is_err() { return Ok(()) },
            Some(ended) = keepers.join_next() => ended?,
        }
    }
}
