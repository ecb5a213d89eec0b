//! One page of a walk.

use std::collections::{BTreeSet, HashMap};

use sqlx::{PgConnection, Row};

use super::{RENEW, held};
use crate::domain::collection::Item;
use crate::domain::resource::SourceId;
use crate::domain::schedule::NEVER;
use crate::store::columns::micros;
use crate::store::plan;
use crate::store::postgres::apply::write_plan;
use crate::store::postgres::error::Result;
use crate::store::postgres::{PostgresStore, keys, lease};
use crate::store::walks::{Draft, KnownMember, UnderWayRow};
use crate::store::{PageContent, PageFate, StoreError, WalkPage};

const FORGET_PAGE: &str = "DELETE FROM headpond.walk_page WHERE source_id = $1 AND place = $2";

/// The order of locks is that of an apply: the lease, the source, its upstream, schedule and resources, the counter.
pub(in crate::store::postgres) async fn store_page(store: &PostgresStore, page: &WalkPage) -> Result<PageFate> {
    let mut tx = store.begin().await?;
    let leases = lease::lock(&mut tx, &BTreeSet::from([page.lease.token])).await?;
    let Some(upstream) = held(&leases, &page.lease) else { return Ok(PageFate::LeaseLost) };
    keys::lock_source(&mut tx, page.lease.source).await?;
    let draft = match &page.content {
        PageContent::Items(items, _) => members(&mut tx, page, items).await?,
        PageContent::Same => {
            let Some(members) = same(&mut tx, page).await? else {
                let forget = sqlx::query(FORGET_PAGE).bind(page.lease.source.0).bind(i64::from(page.place));
                forget.execute(&mut *tx).await?;
                tx.commit().await?;
                return Ok(PageFate::Forgotten);
            };
            Draft::of_same(&members)
        }
    };
    progress(&mut tx, page, &draft).await?;
    if page.is_of_all {
        let mut members: Vec<i64> = draft.members().iter().map(|id| id.0).collect();
        members.sort_unstable();
        sqlx::query(SEEN).bind(members).bind(page.number).execute(&mut *tx).await?;
    }
    let plan_of_page = draft.plan(page, upstream);
    let may_be_lost = draft.may_be_lost() && !plan::begins_a_pause(page.signal.said);
    let (_, turns) = write_plan(store, &mut tx, &plan_of_page, &leases, may_be_lost).await?;
    tx.commit().await?;
    let turns = turns.into_iter().map(|(_, turn)| turn).collect();
    Ok(PageFate::Stored(draft.brought, plan_of_page.touched().collect(), turns))
}

pub(in crate::store::postgres) const KNOWN: &str = "
    SELECT r.id, r.key, r.version, r.content_hash, r.gone_since, r.retired_at, r.erased_at, r.absences, s.because
      FROM headpond.resource r JOIN headpond.schedule s ON s.resource_id = r.id
     WHERE r.source_id = $1 AND r.key = ANY($2)";

/// A row for each member, also where that is not there any more; of a page without members one without.
pub(in crate::store::postgres) const SAME: &str = "
    SELECT m.id AS member, r.id, r.key, r.version, r.content_hash, r.gone_since, r.retired_at, r.erased_at, r.absences, s.because
      FROM headpond.walk_page p
      LEFT JOIN unnest(p.members) AS m (id) ON true
      LEFT JOIN headpond.resource r ON r.id = m.id
      LEFT JOIN headpond.schedule s ON s.resource_id = m.id
     WHERE p.source_id = $1 AND p.place = $2";

/// Ids are given in the order of the keys. Because 11: it comes with the walks.
const NEW: &str = "
      WITH added AS (
               INSERT INTO headpond.resource (source_id, key, params)
               SELECT $1, n.key, '{}' FROM unnest($2::text[]) WITH ORDINALITY AS n (key, place) ORDER BY n.place
            RETURNING id)
    INSERT INTO headpond.schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT added.id, s.upstream_id, s.id, $3, 11 FROM added, headpond.source s WHERE s.id = $1 ORDER BY added.id";

pub(in crate::store::postgres) const JOIN: &str = "
    UPDATE headpond.schedule SET due_at = $2, because = 11, wanted_at = NULL WHERE resource_id = ANY($1)";

const ATTACH: &str = "
      WITH attached AS (
               INSERT INTO headpond.key_origin (origin_id, resource_id, params)
               SELECT o.id, n.id, '{}' FROM unnest($2::bigint[]) AS n (id), headpond.origin o
                WHERE o.source_id = $1 AND o.name = 'walk'
                   ON CONFLICT (origin_id, resource_id) DO NOTHING
            RETURNING 1)
    UPDATE headpond.origin SET keys = keys + (SELECT count(*) FROM attached) WHERE source_id = $1 AND name = 'walk'";

/// Makes the page's items members, and works out what becomes of them.
async fn members(tx: &mut PgConnection, page: &WalkPage, items: &[Item]) -> Result<Draft> {
    let source = page.lease.source;
    let names: Vec<&str> = items.iter().map(|item| item.key.as_str()).collect();
    let mut known = known(tx, source, &names).await?;
    let new: Vec<&str> = names.into_iter().filter(|key| !known.contains_key(*key)).collect();
    if !new.is_empty() {
        sqlx::query(NEW).bind(source.0).bind(&new).bind(micros(NEVER)).execute(&mut *tx).await?;
    }
    let mut joining: Vec<i64> = known.values().filter(|one| one.joins()).map(|one| one.id.0).collect();
    joining.sort_unstable();
    let revived = known.values().filter(|one| one.is_retired()).count() as u64;
    if !joining.is_empty() {
        sqlx::query(JOIN).bind(&joining).bind(micros(NEVER)).execute(&mut *tx).await?;
        sqlx::query(keys::REVIVE).bind(&joining).execute(&mut *tx).await?;
    }
    if !new.is_empty() || !joining.is_empty() {
        let added = self::known(tx, source, &new).await?;
        let attached: Vec<i64> = joining.into_iter().chain(added.values().map(|one| one.id.0)).collect();
        sqlx::query(ATTACH).bind(source.0).bind(attached).execute(&mut *tx).await?;
        keys::count(tx, source, keys::signed(revived + new.len() as u64)).await?;
        known.extend(added);
    }
    Ok(Draft::of_items(page, items, &known))
}

async fn known(tx: &mut PgConnection, source: SourceId, keys: &[&str]) -> Result<HashMap<String, KnownMember>> {
    let rows = sqlx::query(KNOWN).bind(source.0).bind(keys).fetch_all(tx).await?;
    Ok(rows.iter().map(KnownMember::read).collect::<Result<_, StoreError>>()?)
}

/// The members of a page that is as it was; `None` when not all of them are there.
async fn same(tx: &mut PgConnection, page: &WalkPage) -> Result<Option<Vec<KnownMember>>> {
    let rows = sqlx::query(SAME).bind(page.lease.source.0).bind(i64::from(page.place)).fetch_all(tx).await?;
    let mut members = Vec::with_capacity(rows.len());
    if rows.is_empty() {
        return Ok(None);
    }
    for row in &rows {
        if row.try_get::<Option<i64>, _>("member")?.is_none() {
            continue;
        }
        if row.try_get::<Option<i64>, _>("id")?.is_none() {
            return Ok(None);
        }
        members.push(KnownMember::read(row)?.1);
    }
    Ok(members.iter().all(KnownMember::can_be_confirmed).then_some(members))
}

pub(in crate::store::postgres) const SEEN: &str = "UPDATE headpond.schedule SET walk = $2 WHERE resource_id = ANY($1)";

const REMEMBER: &str = "
    INSERT INTO headpond.walk_page (source_id, place, walk, step, next, etag, last_modified, hash, members)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (source_id, place) DO UPDATE
       SET walk = excluded.walk, step = excluded.step, next = excluded.next, etag = excluded.etag,
           last_modified = excluded.last_modified, hash = excluded.hash, members = excluded.members";

/// Pages of something else that was asked for say nothing.
const FORGET_OTHERS: &str = "
    DELETE FROM headpond.walk_page WHERE source_id = $1
       AND EXISTS (SELECT FROM headpond.walk w WHERE w.source_id = $1 AND w.fingerprint IS DISTINCT FROM $2)";

const CONFIRM_PAGE: &str = "UPDATE headpond.walk_page SET walk = $3 WHERE source_id = $1 AND place = $2";

/// What was stored of something else that was asked for is void.
const PROGRESS: &str = "
    UPDATE headpond.walk
       SET since = CASE WHEN fingerprint = $2 THEN since END, swept_at = CASE WHEN fingerprint = $2 THEN swept_at END,
           held = CASE WHEN fingerprint = $2 THEN held ELSE 0 END, fingerprint = $2,
           number = $3, kind = $4, began_at = $5, pages = $6, next = $7, newest = $8, left_out = $9
     WHERE source_id = $1";

/// Writes how far the walk has come, and what is to be remembered of the page.
async fn progress(tx: &mut PgConnection, page: &WalkPage, draft: &Draft) -> Result<()> {
    let (source, place) = (page.lease.source.0, i64::from(page.place));
    sqlx::query(FORGET_OTHERS).bind(source).bind(page.lease.fingerprint.0).execute(&mut *tx).await?;
    match &page.content {
        PageContent::Items(_, Some(remembered)) => {
            let validators = &remembered.validators;
            sqlx::query(REMEMBER)
                .bind(source)
                .bind(place)
                .bind(page.number)
                .bind(remembered.step.as_ref().map(|step| step.0.as_str()))
                .bind(remembered.next.as_ref().map(|step| step.0.as_str()))
                .bind(validators.etag.as_deref())
                .bind(validators.last_modified.as_deref())
                .bind(remembered.hash.0.as_slice())
                .bind(draft.members().iter().map(|id| id.0).collect::<Vec<_>>())
                .execute(&mut *tx)
                .await?;
        }
        PageContent::Items(_, None) => {}
        PageContent::Same => {
            sqlx::query(CONFIRM_PAGE).bind(source).bind(place).bind(page.number).execute(&mut *tx).await?;
        }
    }
    let UnderWayRow { kind, began_at, pages, next, newest, left_out } = UnderWayRow::of(page.under_way.as_ref());
    sqlx::query(PROGRESS)
        .bind(source)
        .bind(page.lease.fingerprint.0)
        .bind(page.number)
        .bind(kind.and_then(|kind| i16::try_from(kind).ok()))
        .bind(began_at)
        .bind(pages)
        .bind(next)
        .bind(newest)
        .bind(left_out)
        .execute(&mut *tx)
        .await?;
    sqlx::query(RENEW).bind(page.lease.token.0).bind(micros(page.lease_until)).execute(tx).await?;
    Ok(())
}
