//! Commits a batch of outcomes: who may, what it means, and the order in which it is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::{Sqlite, Transaction};

use super::error::failed;
use super::lease::parse_ids;
use super::write::{self, Outages};
use super::writer::Durability;
use super::{SqliteStore, json};
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::store::columns::{Record, micros};
use crate::store::plan::{self, GonePeriod, Held, Leases, Plan};
use crate::store::{Applied, Fate, LeaseToken, Settled, StoreError};

pub(super) const LEASES: &str = "
    SELECT l.token, l.upstream_id, l.resources, u.outages
    FROM json_each(?1) AS j
    CROSS JOIN headpond_lease AS l ON l.token = j.value
    CROSS JOIN headpond_upstream AS u ON u.id = l.upstream_id";

/// The sources of what would become gone.
pub(super) const SOURCES_OF: &str = "
    SELECT r.id, source.id AS source_id, source.keys, source.gone_period_began, source.gone_in_period
    FROM json_each(?1) AS j
    CROSS JOIN headpond_resource AS r ON r.id = j.value
    CROSS JOIN headpond_source AS source ON source.id = r.source_id";

pub(super) const KEEP_GONE_PERIODS: &str = "
    UPDATE headpond_source AS source SET gone_period_began = j.value ->> 1, gone_in_period = j.value ->> 2
    FROM jsonb_each(?1) AS j WHERE source.id = j.value ->> 0";

impl SqliteStore {
    pub(super) async fn apply_batch(&self, batch: &[Settled]) -> Result<Applied, StoreError> {
        let durability = if plan::may_be_lost(batch) { Durability::Relaxed } else { Durability::Full };
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(durability).await?;
        let (leases, outages) = leases(&mut transaction, batch).await?;
        let mut fates = plan::admit(batch, &leases);
        keep_gone_budgets(&mut transaction, batch, &mut fates).await?;
        let plan = Plan::of(batch, &fates, &leases);
        if plan.settled.is_empty() {
            transaction.rollback().await.map_err(failed)?;
            return Ok(Applied { number: None, fates });
        }
        let now = micros(self.clock.now());
        let number = write::write(&mut transaction, &plan, &leases, &outages, now).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(Applied { number: Some(number), fates })
    }
}

/// The leases that the batch names, as far as they are still there, and the outages of their upstreams. A lease that has
/// expired holds on until a claim ends it.
async fn leases(transaction: &mut Transaction<'_, Sqlite>, batch: &[Settled]) -> Result<(Leases, Outages), StoreError> {
    let tokens: BTreeSet<i64> = batch.iter().map(|one| one.token.0).collect();
    let rows = sqlx::query(LEASES).bind(json(&tokens)?).fetch_all(&mut **transaction).await.map_err(failed)?;
    let (mut leases, mut outages) = (HashMap::new(), Outages::new());
    for row in &rows {
        let record = Record::identified_by(row, "lease", "token")?;
        let resources = parse_ids(record.id(), &record.text("resources")?)?;
        let upstream = UpstreamId(record.integer("upstream_id")?);
        outages.insert(upstream, record.count("outages")?);
        leases.insert(LeaseToken(record.id()), Held { upstream, resources });
    }
    Ok((leases, outages))
}

/// Holds back what is beyond the sources' gone budgets, and writes down what goes.
async fn keep_gone_budgets(
    transaction: &mut Transaction<'_, Sqlite>,
    batch: &[Settled],
    fates: &mut [Fate],
) -> Result<(), StoreError> {
    let going = plan::going(batch, fates);
    if going.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(SOURCES_OF).bind(json(&going)?).fetch_all(&mut **transaction).await.map_err(failed)?;
    let (mut source_of, mut periods) = (HashMap::new(), BTreeMap::new());
    for row in &rows {
        let source = Record::identified_by(row, "source", "source_id")?;
        source_of.insert(ResourceId(source.integer("id")?), SourceId(source.id()));
        let period = GonePeriod {
            began: source.time("gone_period_began")?,
            gone: source.count("gone_in_period")?,
            keys: source.count("keys")?,
        };
        periods.insert(SourceId(source.id()), period);
    }
    plan::hold_back(batch, fates, &source_of, &mut periods);
    let periods: Vec<_> = periods.iter().map(|(id, period)| (id.0, micros(period.began), period.gone)).collect();
    let keep = sqlx::query(KEEP_GONE_PERIODS).bind(json(&periods)?);
    keep.execute(&mut **transaction).await.map_err(failed)?;
    Ok(())
}
