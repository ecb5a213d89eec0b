//! Commits a batch of outcomes: who may, what it means, and the order in which it is written.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::lease::parse_ids;
use super::script::Argument::Text;
use super::work::Work;
use super::write::{self, Upstreams};
use super::writer::Durability;
use super::{SqliteStore, json, typed};
use crate::domain::resource::{ResourceId, SourceId, UpstreamId};
use crate::store::columns::{Record, micros};
use crate::store::heed::Known;
use crate::store::plan::{self, GonePeriod, Held, Leases, Plan};
use crate::store::{Applied, Fate, LeaseToken, Settled, StoreError, tables};

pub(super) const LEASES: &str = "
    SELECT l.token, l.upstream_id, l.resources,
        u.requests_per_second, u.burst, u.max_concurrent, u.outages, u.standing, u.budgets
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
        let mut work = self.work(durability).await?;
        let now = self.clock.now();
        let (leases, upstreams) = leases(&mut work, &batch.iter().map(|one| one.token).collect(), now).await?;
        let mut fates = plan::admit(batch, &leases);
        keep_gone_budgets(&mut work, batch, &mut fates).await?;
        let (tables, source_of) = typed::open(work.connection()?, tables::replaced(batch)).await?;
        tables::refuse_misfits(batch, &mut fates, &tables, &source_of);
        let plan = Plan::of(batch, &fates, &leases);
        if plan.settled.is_empty() {
            work.roll_back().await;
            return Ok(Applied { number: None, fates, turns: Vec::new() });
        }
        let (number, turns) = write::write(work, &plan, &leases, &upstreams, now).await?;
        Ok(Applied { number: Some(number), fates, turns })
    }
}

/// These leases, as far as they are still there, and their upstreams. A lease that has expired holds on until a claim ends it.
pub(super) async fn leases(
    work: &mut Work,
    tokens: &BTreeSet<LeaseToken>,
    now: DateTime<Utc>,
) -> Result<(Leases, Upstreams), StoreError> {
    let tokens: Vec<i64> = tokens.iter().map(|token| token.0).collect();
    let rows = work.add(LEASES, &[Text(json(&tokens)?)])?.run().await?;
    let (mut leases, mut upstreams) = (HashMap::new(), Upstreams::new());
    for row in rows.iter().flatten() {
        let record = Record::identified_by(row, "lease", "token")?;
        let resources = parse_ids(record.id(), &record.text("resources")?)?;
        let upstream = UpstreamId(record.integer("upstream_id")?);
        if let Entry::Vacant(new) = upstreams.entry(upstream) {
            new.insert(Known::read(&Record::of(row, "upstream", upstream.0), now)?);
        }
        leases.insert(LeaseToken(record.id()), Held { upstream, resources });
    }
    Ok((leases, upstreams))
}

/// Holds back what is beyond the sources' gone budgets, and writes down what goes.
async fn keep_gone_budgets(work: &mut Work, batch: &[Settled], fates: &mut [Fate]) -> Result<(), StoreError> {
    let going = plan::going(batch, fates);
    if going.is_empty() {
        return Ok(());
    }
    let rows = work.add(SOURCES_OF, &[Text(json(&going)?)])?.run().await?;
    let (mut source_of, mut periods) = (HashMap::new(), BTreeMap::new());
    for row in rows.iter().flatten() {
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
    work.add(KEEP_GONE_PERIODS, &[Text(json(&periods)?)])?;
    Ok(())
}
