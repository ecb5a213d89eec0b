//! One page of a walk.

use std::collections::{BTreeSet, HashMap};

use sqlx::Row;

use super::{held, ids, maybe_integer, maybe_text};
use crate::domain::collection::Item;
use crate::domain::resource::ResourceId;
use crate::domain::schedule::NEVER;
use crate::store::columns::micros;
use crate::store::sqlite::apply::leases;
use crate::store::sqlite::error::failed;
use crate::store::sqlite::script::Argument::Text;
use crate::store::sqlite::script::Script;
use crate::store::sqlite::work::Work;
use crate::store::sqlite::writer::Durability;
use crate::store::sqlite::{SqliteStore, json, keys, write};
use crate::store::walks::{Draft, KnownMember, UnderWayRow};
use crate::store::{PageContent, PageFate, StoreError, WalkPage};

pub(in crate::store::sqlite) const KNOWN: &str = "
    SELECT r.id, r.key, r.version, r.content_hash, r.gone_since, r.retired_at, r.erased_at, r.absences, s.because
    FROM json_each(?2) AS j
    CROSS JOIN headpond_resource AS r ON r.source_id = ?1 AND r.key = j.value
    CROSS JOIN headpond_schedule AS s ON s.resource_id = r.id";

/// A row for each member, also where that is not there any more; of a page without members one without.
pub(in crate::store::sqlite) const SAME: &str = "
    SELECT j.value AS member, r.id, r.key, r.version, r.content_hash, r.gone_since, r.retired_at, r.erased_at, r.absences, s.because
    FROM headpond_walk_page AS p
    LEFT JOIN json_each(p.members) AS j ON true
    LEFT JOIN headpond_resource AS r ON r.id = j.value
    LEFT JOIN headpond_schedule AS s ON s.resource_id = r.id
    WHERE p.source_id = ?1 AND p.place = ?2";

const FORGET_PAGE: &str = "DELETE FROM headpond_walk_page WHERE source_id = ?1 AND place = ?2";

/// Ids are given in the array's order, so neighbours stay neighbours.
const NEW: &str = "
    INSERT INTO headpond_resource (source_id, key, params) SELECT ?1, value, '{}' FROM json_each(?2) ORDER BY key";

/// Because 11: it comes with the walks.
const NEW_SCHEDULES: &str = "
    INSERT INTO headpond_schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT r.id, s.upstream_id, s.id, ?3, 11
    FROM json_each(?2) AS j
    CROSS JOIN headpond_resource AS r ON r.source_id = ?1 AND r.key = j.value
    CROSS JOIN headpond_source AS s ON s.id = ?1 ORDER BY r.id";

pub(in crate::store::sqlite) const JOIN: &str = "
    UPDATE headpond_schedule SET due_at = ?2, because = 11, wanted_at = NULL
    WHERE resource_id IN (SELECT value FROM json_each(?1))";

const ATTACH: &str = "
    INSERT INTO headpond_key_origin (origin_id, resource_id, params)
    SELECT o.id, j.value, '{}' FROM json_each(?2) AS j CROSS JOIN headpond_origin AS o
    WHERE o.source_id = ?1 AND o.name = 'walk'
    ON CONFLICT (origin_id, resource_id) DO NOTHING";

/// How many the statement before has attached.
const COUNT_ATTACHED: &str = "
    UPDATE headpond_origin SET keys = keys + changes() WHERE source_id = ?1 AND name = 'walk'";

const COUNT_KEYS: &str = "UPDATE headpond_source SET keys = keys + ?2 WHERE id = ?1";

pub(in crate::store::sqlite) const SEEN: &str = "
    UPDATE headpond_schedule SET walk = ?2 WHERE resource_id IN (SELECT value FROM json_each(?1))";

const REMEMBER: &str = "
    INSERT INTO headpond_walk_page (source_id, place, walk, step, next, etag, last_modified, hash, members)
    VALUES (?1, ?2, ?3, ?4, ?5, unhex(?6), unhex(?7), unhex(?8), ?9)
    ON CONFLICT (source_id, place) DO UPDATE SET
        walk = excluded.walk, step = excluded.step, next = excluded.next, etag = excluded.etag,
        last_modified = excluded.last_modified, hash = excluded.hash, members = excluded.members";

/// Pages of something else that was asked for say nothing.
const FORGET_OTHERS: &str = "
    DELETE FROM headpond_walk_page WHERE source_id = ?1
        AND EXISTS (SELECT 1 FROM headpond_walk AS w WHERE w.source_id = ?1 AND w.fingerprint IS NOT ?2)";

const CONFIRM_PAGE: &str = "UPDATE headpond_walk_page SET walk = ?3 WHERE source_id = ?1 AND place = ?2";

/// What was stored of something else that was asked for is void.
const PROGRESS: &str = "
    UPDATE headpond_walk SET
        since = iif(fingerprint IS ?2, since, NULL), swept_at = iif(fingerprint IS ?2, swept_at, NULL),
        held = iif(fingerprint IS ?2, held, 0), fingerprint = ?2,
        number = ?3, kind = ?4, began_at = ?5, pages = ?6, next = ?7, newest = ?8, left_out = ?9
    WHERE source_id = ?1";

const RENEW: &str = "UPDATE headpond_lease SET expires_at = max(expires_at, ?2) WHERE token = ?1";

impl SqliteStore {
    pub(in crate::store::sqlite) async fn store_walk_page(&self, page: &WalkPage) -> Result<PageFate, StoreError> {
        let mut work = self.work(Durability::Full).await?;
        let now = self.clock.now();
        let (leases, upstreams) = leases(&mut work, &BTreeSet::from([page.lease.token]), now).await?;
        let Some(held) = held(&leases, &page.lease) else {
            work.roll_back().await;
            return Ok(PageFate::LeaseLost);
        };
        let draft = match &page.content {
            PageContent::Items(items, _) => Self::members(&mut work, page, items).await?,
            PageContent::Same => {
                let Some(members) = same(&mut work, page).await? else {
                    work.add(FORGET_PAGE, &[page.lease.source.0.into(), page.place.into()])?;
                    work.commit().await?;
                    return Ok(PageFate::Forgotten);
                };
                Draft::of_same(&members)
            }
        };
        add_progress(work.script(), page, &draft)?;
        let brought = draft.brought;
        let plan = draft.plan(page, held);
        let touched = plan.touched().collect();
        let (_, turns) = write::write(work, &plan, &leases, &upstreams, now).await?;
        Ok(PageFate::Stored(brought, touched, turns.into_iter().map(|(_, turn)| turn).collect()))
    }

    /// Makes the page's items members, and works out what becomes of them.
    async fn members(work: &mut Work, page: &WalkPage, items: &[Item]) -> Result<Draft, StoreError> {
        let source = page.lease.source.0;
        let mut known = known(work, source, items.iter().map(|item| item.key.as_str())).await?;
        let new: Vec<&str> =
            items.iter().map(|item| item.key.as_str()).filter(|key| !known.contains_key(*key)).collect();
        if !new.is_empty() {
            let keys = json(&new)?;
            work.add(NEW, &[source.into(), Text(keys.clone())])?;
            work.add(NEW_SCHEDULES, &[source.into(), Text(keys), micros(NEVER).into()])?;
        }
        let joining: Vec<ResourceId> = known.values().filter(|one| one.joins()).map(|one| one.id).collect();
        let revived = known.values().filter(|one| one.is_retired()).count() as u64;
        if !joining.is_empty() {
            work.add(keys::REVIVE, &[ids(&joining)?])?;
            work.add(JOIN, &[ids(&joining)?, micros(NEVER).into()])?;
        }
        if !new.is_empty() || !joining.is_empty() {
            let added = self::known(work, source, new.iter().copied()).await?;
            let attached: Vec<ResourceId> = joining.into_iter().chain(added.values().map(|one| one.id)).collect();
            work.add(ATTACH, &[source.into(), ids(&attached)?])?.add(COUNT_ATTACHED, &[source.into()])?;
            let more = keys::signed(revived + new.len() as u64);
            work.add(COUNT_KEYS, &[source.into(), more.into()])?;
            known.extend(added);
        }
        Ok(Draft::of_items(page, items, &known))
    }
}

async fn known(
    work: &mut Work,
    source: i64,
    keys: impl Iterator<Item = &str>,
) -> Result<HashMap<String, KnownMember>, StoreError> {
    let keys = json(&keys.collect::<Vec<_>>())?;
    let rows = work.add(KNOWN, &[source.into(), Text(keys)])?.run().await?;
    // What was added before has run with it.
    rows.last().into_iter().flatten().map(KnownMember::read).collect()
}

/// The members of a page that is as it was; `None` when not all of them are there.
async fn same(work: &mut Work, page: &WalkPage) -> Result<Option<Vec<KnownMember>>, StoreError> {
    let rows = work.add(SAME, &[page.lease.source.0.into(), page.place.into()])?.run().await?;
    let mut members = Vec::new();
    if rows.iter().flatten().next().is_none() {
        return Ok(None);
    }
    for row in rows.iter().flatten() {
        if row.try_get::<Option<i64>, _>("member").map_err(failed)?.is_none() {
            continue;
        }
        if row.try_get::<Option<i64>, _>("id").map_err(failed)?.is_none() {
            return Ok(None);
        }
        members.push(KnownMember::read(row)?.1);
    }
    Ok(members.iter().all(KnownMember::can_be_confirmed).then_some(members))
}

/// Writes how far the walk has come, and what is to be remembered of the page.
fn add_progress(script: &mut Script, page: &WalkPage, draft: &Draft) -> Result<(), StoreError> {
    let (source, place) = (page.lease.source.0, i64::from(page.place));
    let members = draft.members();
    script.add(FORGET_OTHERS, &[source.into(), page.lease.fingerprint.0.into()])?;
    if page.is_of_all {
        script.add(SEEN, &[ids(&members)?, page.number.into()])?;
    }
    match &page.content {
        PageContent::Items(_, Some(remembered)) => {
            let (etag, last_modified) = write::validators(&remembered.validators);
            let row = [
                source.into(),
                place.into(),
                page.number.into(),
                maybe_text(remembered.step.as_ref().map(|step| step.0.clone())),
                maybe_text(remembered.next.as_ref().map(|step| step.0.clone())),
                maybe_text(etag),
                maybe_text(last_modified),
                Text(write::hex(&remembered.hash.0)),
                ids(&members)?,
            ];
            script.add(REMEMBER, &row)?;
        }
        PageContent::Items(_, None) => {}
        PageContent::Same => _ = script.add(CONFIRM_PAGE, &[source.into(), place.into(), page.number.into()])?,
    }
    let UnderWayRow { kind, began_at, pages, next, newest, left_out } = UnderWayRow::of(page.under_way.as_ref());
    let row = [
        source.into(),
        page.lease.fingerprint.0.into(),
        page.number.into(),
        maybe_integer(kind),
        maybe_integer(began_at),
        pages.into(),
        maybe_text(next),
        maybe_text(newest),
        maybe_text(left_out),
    ];
    script.add(PROGRESS, &row)?;
    script.add(RENEW, &[page.lease.token.0.into(), micros(page.lease_until).into()])?;
    Ok(())
}
