//! Leases as an apply or a release finds and leaves them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, Row};

use super::error::Result;
use super::{PostgresStore, wish};
use crate::domain::resource::{ResourceId, UpstreamId};
use crate::store::LeaseToken;
use crate::store::columns::Record;
use crate::store::plan::{Held, Leases};

/// In token order, so that two batches with leases in common wait for each other and never for ever.
pub(super) const LOCK: &str = "
    SELECT token, upstream_id, resources
      FROM headpond.lease WHERE token = ANY($1) ORDER BY token FOR UPDATE";

/// Locks leases, so that no claim ends them while something is committed under them.
pub(super) async fn lock(tx: &mut PgConnection, tokens: &BTreeSet<LeaseToken>) -> Result<Leases> {
    let tokens: Vec<i64> = tokens.iter().map(|token| token.0).collect();
    let rows = sqlx::query(LOCK).bind(tokens).fetch_all(tx).await?;
    let mut leases = Leases::new();
    for row in &rows {
        let record = Record::identified_by(row, "lease", "token")?;
        let resources: Vec<i64> = row.try_get("resources")?;
        leases.insert(
            LeaseToken(record.id()),
            Held {
                upstream: UpstreamId(record.integer("upstream_id")?),
                resources: resources.into_iter().map(ResourceId).collect(),
            },
        );
    }
    Ok(leases)
}

pub(super) const DELETE: &str = "DELETE FROM headpond.lease WHERE token = ANY($1)";

pub(super) const SHRINK: &str = "
    UPDATE headpond.lease SET resources = ARRAY(SELECT unnest(resources) EXCEPT ALL SELECT unnest($2::bigint[]))
     WHERE token = $1";

/// Takes what is settled out of its locked leases; a lease that holds nothing more goes.
pub(super) async fn shrink(
    tx: &mut PgConnection,
    leases: &Leases,
    settled: &BTreeMap<LeaseToken, BTreeSet<ResourceId>>,
) -> Result<()> {
    let (emptied, shrunk): (Vec<_>, Vec<_>) = settled.iter().partition(|(token, ids)| {
        leases.get(token).is_none_or(|lease| lease.resources.iter().all(|id| ids.contains(id)))
    });
    if !emptied.is_empty() {
        let tokens: Vec<i64> = emptied.iter().map(|(token, _)| token.0).collect();
        sqlx::query(DELETE).bind(tokens).execute(&mut *tx).await?;
    }
    // One statement for each lease, of which a batch has a few: arrays of arrays can't be unnested.
    for (token, ids) in shrunk {
        let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
        sqlx::query(SHRINK).bind(token.0).bind(ids).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Gives leased resources back. The due loops of all processes hear of it.
pub(super) async fn release(store: &PostgresStore, given_back: &[(LeaseToken, ResourceId)]) -> Result<()> {
    let mut settled = BTreeMap::<_, BTreeSet<_>>::new();
    for (token, id) in given_back {
        settled.entry(*token).or_default().insert(*id);
    }
    let mut tx = store.begin().await?;
    let leases = lock(&mut tx, &settled.keys().copied().collect()).await?;
    settled.retain(|token, _| leases.contains_key(token));
    if settled.is_empty() {
        return Ok(());
    }
    shrink(&mut tx, &leases, &settled).await?;
    wish(&mut tx).await?;
    tx.commit().await?;
    Ok(())
}
