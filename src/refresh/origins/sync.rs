//! Stores what an origin has, in parts, and takes away what it hasn't any more.

use crate::domain::resource::{Key, Params};
use crate::store::{KeysChanged, OriginId, Round, Seen, Store, StoreError};

use super::NotGathered;
use super::spool::Spool;

/// How many keys are written in one transaction: enough to make it cheap, few enough to keep nobody waiting.
pub const AT_ONCE: usize = 5000;

/// After so many keys the log tells how far it is.
const TELL_EVERY: u64 = 100_000;

/// An origin all of whose keys are stored, while what it had before is still there.
#[derive(Debug)]
pub struct Stored {
    /// The reading.
    pub round: Round,
    /// What it had.
    pub seen: Seen,
    /// Its mark.
    pub mark: String,
    /// What became of the source's keys.
    pub changed: KeysChanged,
    /// How many keys it had more than once.
    pub duplicates: u64,
}

impl Stored {
    /// Begins to store an origin.
    async fn begin(store: &dyn Store, origin: OriginId, mark: String) -> Result<Self, StoreError> {
        let round = store.begin_round(origin).await?;
        Ok(Self { round, seen: Seen::default(), mark, changed: KeysChanged::default(), duplicates: 0 })
    }

    async fn put(&mut self, store: &dyn Store, keys: &[(Key, Params)]) -> Result<(), StoreError> {
        let put = store.put_keys(self.round, &self.seen, keys).await?;
        self.seen.note(&put.resources);
        self.changed.added += put.changed.added;
        self.changed.revived += put.changed.revived;
        self.changed.updated += put.changed.updated;
        self.duplicates += put.duplicates;
        Ok(())
    }

    /// Takes away what it hasn't any more, and notes that it is stored. Returns how many keys are polled no longer.
    ///
    /// # Errors
    /// When the store fails, or it was begun anew since.
    pub async fn finish(&self, store: &dyn Store) -> Result<u64, StoreError> {
        let retired = drop_unseen(store, self.round, &self.seen).await?;
        store.end_round(self.round, &self.mark).await?;
        Ok(retired)
    }
}

/// Stores the keys of a list, and tells how far it is.
///
/// # Errors
/// When the store fails, or it was begun anew since.
pub async fn store_list(
    store: &dyn Store,
    origin: OriginId,
    keys: &[(Key, Params)],
    mark: String,
    mut tell: impl FnMut(u64, u64) + Send,
) -> Result<Stored, StoreError> {
    let mut stored = Stored::begin(store, origin, mark).await?;
    let mut done = 0;
    for chunk in keys.chunks(AT_ONCE) {
        stored.put(store, chunk).await?;
        done = told(done, chunk, keys.len() as u64, &mut tell);
    }
    Ok(stored)
}

/// Stores what was gathered, and tells how far it is.
///
/// # Errors
/// When the store fails, it was begun anew since, or the temporary file can't be read.
pub async fn store_spool(
    store: &dyn Store,
    origin: OriginId,
    mut spool: Spool,
    mut tell: impl FnMut(u64, u64) + Send,
) -> Result<Stored, NotGathered> {
    let mut stored = Stored::begin(store, origin, spool.mark.clone()).await?;
    let mut done = 0;
    loop {
        let keys = spool.next(AT_ONCE).map_err(|error| NotGathered::spool(&error))?;
        if keys.is_empty() {
            return Ok(stored);
        }
        stored.put(store, &keys).await?;
        done = told(done, &keys, spool.keys, &mut tell);
    }
}

/// How many are done now; every so often it is told.
fn told(before: u64, more: &[(Key, Params)], of: u64, tell: &mut impl FnMut(u64, u64)) -> u64 {
    let done = before + more.len() as u64;
    if before / TELL_EVERY != done / TELL_EVERY {
        tell(done, of);
    }
    done
}

async fn drop_unseen(store: &dyn Store, round: Round, seen: &Seen) -> Result<u64, StoreError> {
    let (mut after, mut retired) = (None, 0);
    loop {
        let listed = store.listed(round.origin, after, u32::try_from(AT_ONCE).unwrap_or(u32::MAX)).await?;
        let Some(last) = listed.last().copied() else { return Ok(retired) };
        after = Some(last);
        let gone: Vec<_> = listed.into_iter().filter(|resource| !seen.has(*resource)).collect();
        if !gone.is_empty() {
            retired += store.drop_keys(round, &gone).await?;
        }
    }
}

/// Takes all keys out of an origin that there is no longer, and forgets it. Returns how many keys are polled no longer.
///
/// # Errors
/// When the store fails.
pub async fn forget(store: &dyn Store, origin: OriginId) -> Result<u64, StoreError> {
    let round = store.begin_round(origin).await?;
    let retired = drop_unseen(store, round, &Seen::default()).await?;
    store.forget_origin(round).await?;
    Ok(retired)
}
