//! Which keys a configuration would add, and which it would take away.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::sync::AT_ONCE;
use super::{NotGathered, file, specs};
use crate::config::{KeyPlace, Source};
use crate::domain::origin::{CONFIG, Hand};
use crate::domain::resource::{Key, SourceId};
use crate::store::{Store, StoreError};

/// How many keys are named.
const NAMED: usize = 5;

/// What would become of a source's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyChanges {
    /// Those that would be polled from then on. What is erased stays so, whoever lists it.
    pub added: Few,
    /// Those that would be polled no more.
    pub removed: Few,
    /// Whose keys can't be told before they are read, and what is wrong with what can't be read.
    pub unread: Vec<String>,
}

/// How many keys, and the first ones of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Few {
    /// All of them.
    pub count: u64,
    first: Vec<Key>,
}

impl Few {
    fn add(&mut self, key: Key) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(key);
        }
    }
}

impl fmt::Display for Few {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<_> = self.first.iter().map(Key::as_str).collect();
        let more = if self.count > named.len() as u64 { ", …" } else { "" };
        write!(f, "{} ({}{more})", self.count, named.join(", "))
    }
}

/// Compares what the configuration and its files list with the keys that are polled now: those of this source in that store, if
/// it is in one. What queries and other sources list stays as it was read last.
///
/// # Errors
/// When the store fails.
pub async fn changes(known: Option<(&dyn Store, SourceId)>, source: &Source) -> Result<KeyChanges, StoreError> {
    let mut changes = KeyChanges::default();
    let listed = listed(source, &mut changes.unread).await?;
    let specs = specs(source);
    let stay: HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).chain(Hand::ALL.map(Hand::as_str)).collect();
    let has = |origin: &str, key: &Key| match listed.get(origin) {
        Some(keys) => keys.contains(key),
        None => stay.contains(origin),
    };
    let mut new: BTreeSet<&Key> = listed.values().flatten().collect();
    let mut after = None;
    while let Some((store, id)) = known {
        let page = store.keys(id, after.as_ref(), u32::try_from(AT_ONCE).unwrap_or(u32::MAX)).await?;
        for polled in &page {
            new.remove(&polled.key);
            let is_listed = listed.values().any(|keys| keys.contains(&polled.key));
            if !is_listed && !polled.origins.iter().any(|origin| has(origin, &polled.key)) {
                changes.removed.add(polled.key.clone());
            }
        }
        let Some(last) = page.into_iter().last() else { break };
        after = Some(last.key);
    }
    let new: Vec<Key> = new.into_iter().cloned().collect();
    for some in new.chunks(AT_ONCE) {
        let erased: HashSet<Key> = match known {
            Some((store, id)) => store.erased(id, some).await?.into_iter().collect(),
            None => HashSet::new(),
        };
        for key in some.iter().filter(|key| !erased.contains(key)) {
            changes.added.add(key.clone());
        }
    }
    Ok(changes)
}

/// The keys of each origin that can be read without asking anyone.
async fn listed(source: &Source, unread: &mut Vec<String>) -> Result<HashMap<String, HashSet<Key>>, StoreError> {
    let own = source.keys.iter().map(|(key, _)| key.clone()).collect();
    let mut listed = HashMap::from([(CONFIG.to_owned(), own)]);
    for from in &source.keys_from {
        let KeyPlace::File { path, format } = &from.what else {
            unread.push(format!("those of {} {} count as it was read last", from.name, from.about));
            continue;
        };
        let keys = async {
            let mut spool = file::gather(Arc::new(source.clone()), path.clone(), *format).await?;
            let mut keys = HashSet::new();
            loop {
                let some = spool.next(AT_ONCE).map_err(|error| NotGathered::spool(&error))?;
                if some.is_empty() {
                    return Ok(keys);
                }
                keys.extend(some.into_iter().map(|(key, _)| key));
            }
        };
        match keys.await {
            Ok(keys) => _ = listed.insert(from.name.clone(), keys),
            Err(NotGathered::Problem(problem)) => unread.push(format!("{}: {problem}", from.name)),
            Err(NotGathered::Store(error)) => return Err(error),
        }
    }
    Ok(listed)
}
