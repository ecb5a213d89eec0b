//! Leases: one row for each claim, with the ids that it still holds.

use std::collections::{BTreeMap, BTreeSet};

use super::script::Argument::Text;
use super::script::Script;
use super::writer::Durability;
use super::{SqliteStore, WISH, json};
use crate::domain::resource::ResourceId;
use crate::store::columns::Record;
use crate::store::{LeaseToken, StoreError};
use serde::Serialize;

pub(super) const READ: &str = "
    SELECT l.token, l.resources FROM json_each(?1) AS j CROSS JOIN headpond_lease AS l ON l.token = j.value";

pub(super) const END: &str = "DELETE FROM headpond_lease WHERE token IN (SELECT value FROM json_each(?1))";

pub(super) const SHRINK: &str = "
    UPDATE headpond_lease AS l SET resources = j.value ->> 1 FROM jsonb_each(?1) AS j WHERE l.token = j.value ->> 0";

/// Ids as a lease's row lists them.
pub(super) fn parse_ids(token: i64, resources: &str) -> Result<BTreeSet<ResourceId>, StoreError> {
    serde_json::from_str(resources).map_err(|error| StoreError::Corrupt {
        table: "lease",
        column: "resources",
        row: token,
        problem: error.to_string(),
    })
}

/// Takes settled ids out of their leases, and ends those that are left with none. `held` is what the rows list now.
pub(super) fn take_out(
    script: &mut Script,
    held: impl Fn(LeaseToken) -> Option<BTreeSet<ResourceId>>,
    settled: &BTreeMap<LeaseToken, BTreeSet<ResourceId>>,
) -> Result<(), StoreError> {
    #[derive(Serialize)]
    struct Shrunk(i64, Vec<ResourceId>);

    let (mut ended, mut shrunk) = (Vec::new(), Vec::new());
    for (token, settled) in settled {
        let Some(held) = held(*token) else { continue };
        let left: Vec<ResourceId> = held.difference(settled).copied().collect();
        if left.is_empty() {
            ended.push(token.0);
        } else {
            shrunk.push(Shrunk(token.0, left));
        }
    }
    if !ended.is_empty() {
        script.add(END, &[Text(json(&ended)?)])?;
    }
    if !shrunk.is_empty() {
        script.add(SHRINK, &[Text(json(&shrunk)?)])?;
    }
    Ok(())
}

impl SqliteStore {
    pub(super) async fn give_back(&self, leased: &[(LeaseToken, ResourceId)]) -> Result<(), StoreError> {
        let mut given: BTreeMap<LeaseToken, BTreeSet<ResourceId>> = BTreeMap::new();
        for (token, resource) in leased {
            given.entry(*token).or_default().insert(*resource);
        }
        let mut work = self.work(Durability::Relaxed).await?;
        let tokens = json(&given.keys().map(|token| token.0).collect::<Vec<_>>())?;
        let mut held = BTreeMap::new();
        for row in work.add(READ, &[Text(tokens)])?.run().await?.iter().flatten() {
            let record = Record::identified_by(row, "lease", "token")?;
            held.insert(LeaseToken(record.id()), parse_ids(record.id(), &record.text("resources")?)?);
        }
        if held.is_empty() {
            work.roll_back().await;
            return Ok(());
        }
        take_out(work.script(), |token| held.get(&token).cloned(), &given)?;
        work.add(WISH, &[])?;
        work.commit().await?;
        Ok(())
    }
}
