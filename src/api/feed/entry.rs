//! Entries of the feed as they are shown.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::follower::Look;
use crate::api::ApiState;
use crate::api::error::ApiError;
use crate::api::item::Item;
use crate::domain::change::{Change, Cursor};
use crate::domain::resource::{Key, SourceName};
use crate::store::{Bodies, Listed};

/// A change, and its resource where that was asked for.
#[derive(Debug, Serialize)]
#[expect(clippy::option_option, reason = "not shown and not there are two things")]
pub(super) struct Entry<'a> {
    #[serde(flatten)]
    change: &'a Change,
    /// The resource as a list shows it now, which can be newer than the change; `null` when there is none any more. Of
    /// several changes of one resource the last has it: the others would show the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<Option<Item<'a>>>,
}

impl<'a> Entry<'a> {
    /// Where a reader that has seen it goes on.
    pub(super) fn cursor(&self) -> Cursor {
        self.change.cursor
    }

    /// These changes, with their resources if there are some.
    pub(super) fn all(
        changes: &'a [Change],
        items: Option<&'a Items>,
        bodies: Bodies,
        now: DateTime<Utc>,
    ) -> Vec<Self> {
        let Some(Items(items)) = items else {
            return changes.iter().map(|change| Self { change, item: None }).collect();
        };
        let mut later = HashSet::new();
        let mut entries: Vec<_> = changes
            .iter()
            .rev()
            .map(|change| {
                let is_last = later.insert((&change.source, &change.key));
                let listed = items.get(&change.source).and_then(|of_source| of_source.get(&change.key));
                Self { change, item: is_last.then(|| listed.map(|listed| Item::of(listed, bodies, now))) }
            })
            .collect();
        entries.reverse();
        entries
    }
}

/// Resources, by source and key.
pub(super) struct Items(BTreeMap<SourceName, HashMap<Key, Listed>>);

impl Items {
    /// The resources of what was found, with about so many bytes of bodies. What would be more is cut off from `look`, and
    /// has to be looked for again.
    pub(super) async fn of(api: &ApiState, look: &mut Look, bytes: u64) -> Result<Self, ApiError> {
        let named = named(&look.changes);
        let bodies = Bodies::UpTo(bytes / u64::try_from(named.len().max(1)).unwrap_or(u64::MAX));
        let (mut items, mut rest) = (BTreeMap::new(), HashSet::new());
        for (source, keys) in named {
            let Some(batch) = api.store.batch(&source, &keys, bodies).await? else { continue };
            rest.extend(batch.rest.into_iter().map(|key| (source.clone(), key)));
            items.insert(source, batch.items.into_iter().map(|listed| (listed.key.clone(), listed)).collect());
        }
        // The first key of each source comes in any case, so the first change stays.
        let fitting =
            look.changes.iter().position(|change| rest.contains(&(change.source.clone(), change.key.clone())));
        if let Some(fitting) = fitting {
            look.cut_at(fitting);
        }
        Ok(Self(items))
    }
}

/// The keys that changed, by source, each once and in the order in which they did.
fn named(changes: &[Change]) -> BTreeMap<SourceName, Vec<Key>> {
    let (mut named, mut seen) = (BTreeMap::<_, Vec<_>>::new(), HashSet::new());
    for change in changes {
        if seen.insert((&change.source, &change.key)) {
            named.entry(change.source.clone()).or_default().push(change.key.clone());
        }
    }
    named
}
