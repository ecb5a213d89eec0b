//! The rows of a batch, written by one statement for each kind of write and never by one for each row.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres};

use super::CHANNEL;
use super::error::Result;
use crate::domain::decision::{Deferral, Metadata, Replacement};
use crate::domain::resource::ResourceId;
use crate::domain::schedule::Because;
use crate::domain::snapshot::encode_headers;
use crate::domain::terms::Terms;
use crate::store::columns::micros;
use crate::store::erase::{self, GoneErased};
use crate::store::plan::{Plan, ScheduleRow};
use crate::store::{AT_ONCE, describe};

/// A retired resource stays without a due time. What was wanted after its request began stays due since then; before all
/// others ($8), if it was wanted by itself.
pub(super) const SCHEDULE: &str = "
    UPDATE headpond.schedule s
       SET due_at = CASE WHEN s.due_at IS NULL THEN NULL
                         WHEN s.wanted_at > n.requested_at THEN CASE s.due_at WHEN $8 THEN $8 ELSE s.wanted_at END
                         ELSE n.due_at END,
           because = CASE WHEN s.wanted_at > n.requested_at THEN $9 ELSE n.because END,
           wanted_at = CASE WHEN s.wanted_at > n.requested_at THEN s.wanted_at END,
           fetched_at = coalesce(n.fetched_at, s.fetched_at),
           stale_after = coalesce(n.stale_after, s.stale_after),
           kept_until = CASE WHEN n.fetched_at IS NULL THEN s.kept_until ELSE n.kept_until END
      FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
           AS n (id, due_at, because, requested_at, fetched_at, stale_after, kept_until)
     WHERE s.resource_id = n.id";

/// By id, as a wish takes them, so that the two wait for each other and not for ever.
pub(super) async fn schedule(tx: &mut PgConnection, mut rows: Vec<ScheduleRow>) -> Result<()> {
    rows.sort_unstable_by_key(|row| row.resource);
    let rows = &rows;
    sqlx::query(SCHEDULE)
        .bind(column(rows, |row| row.resource.0))
        .bind(column(rows, |row| row.due_at))
        .bind(column(rows, |row| row.because))
        .bind(column(rows, |row| row.requested_at))
        .bind(column(rows, |row| row.fetched_at))
        .bind(column(rows, |row| row.stale_after))
        .bind(column(rows, |row| row.kept_until))
        .bind(AT_ONCE)
        .bind(Because::Manual.code())
        .execute(tx)
        .await?;
    Ok(())
}

/// Rewrites `resource` where an outcome says more than that the content is as it was.
pub(super) async fn resources(tx: &mut PgConnection, plan: &Plan<'_>) -> Result<()> {
    if !plan.confirmed.is_empty() {
        confirmed(&mut *tx, &plan.confirmed).await?;
    }
    if !plan.replaced.is_empty() {
        replaced(&mut *tx, &plan.replaced).await?;
    }
    if !plan.reset.is_empty() {
        sqlx::query(RESET).bind(column(&plan.reset, |id| id.0)).execute(&mut *tx).await?;
    }
    if !plan.deferred.is_empty() {
        deferred(&mut *tx, &plan.deferred).await?;
    }
    if !plan.gone.is_empty() {
        let ids = column(&plan.gone, |(id, _)| id.0);
        let since = column(&plan.gone, |(_, since)| micros(*since));
        sqlx::query(GONE).bind(ids).bind(since).execute(tx).await?;
    }
    Ok(())
}

/// A success ends the run of failures and of 404s.
///
/// Validators that came to a request older than the present wish are not kept: its URL may be another by now, and a 304 to
/// the old one's validators would hide the new one's content. SCHEDULE, which has run before, leaves just those wishes.
pub(super) const CONFIRMED: &str = "
    UPDATE headpond.resource r
       SET etag = CASE WHEN s.wanted_at IS NULL THEN n.etag END,
           last_modified = CASE WHEN s.wanted_at IS NULL THEN n.last_modified END, max_age = n.max_age,
           terms = n.terms, transformed = n.transformed, moved_to = n.moved_to,
           failures = 0, failing_since = NULL, failed_at = NULL,
           failure_kind = NULL, failure_status = NULL, failure_detail = NULL, absences = 0, absent_since = NULL
      FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::text[], $6::smallint[], $7::text[])
           AS n (id, etag, last_modified, max_age, terms, transformed, moved_to)
      JOIN headpond.schedule s ON s.resource_id = n.id
     WHERE r.id = n.id";

async fn confirmed(tx: &mut PgConnection, rows: &[(ResourceId, &Metadata)]) -> Result<()> {
    with_metadata(CONFIRMED, rows).execute(tx).await?;
    Ok(())
}

/// The statement with the first seven columns, which both have.
fn with_metadata(sql: &'static str, rows: &[(ResourceId, &Metadata)]) -> Query<'static, Postgres, PgArguments> {
    sqlx::query(sql)
        .bind(column(rows, |(id, _)| id.0))
        .bind(column(rows, |(_, metadata)| metadata.validators.etag.as_deref().map(<[u8]>::to_vec)))
        .bind(column(rows, |(_, metadata)| metadata.validators.last_modified.as_deref().map(<[u8]>::to_vec)))
        .bind(column(rows, |(_, metadata)| metadata.max_age.map(i64::from)))
        .bind(column(rows, |(_, metadata)| metadata.terms.map(Terms::json)))
        .bind(column(rows, |(_, metadata)| i16::from(metadata.transformed)))
        .bind(column(rows, |(_, metadata)| metadata.moved_to.clone()))
}

/// As above, with a new version, and what was gone is back.
pub(super) const REPLACED: &str = "
    UPDATE headpond.resource r
       SET version = n.version, content_hash = n.content_hash,
           etag = CASE WHEN s.wanted_at IS NULL THEN n.etag END,
           last_modified = CASE WHEN s.wanted_at IS NULL THEN n.last_modified END, max_age = n.max_age,
           terms = n.terms, transformed = n.transformed, moved_to = n.moved_to,
           failures = 0, failing_since = NULL, failed_at = NULL,
           failure_kind = NULL, failure_status = NULL, failure_detail = NULL, absences = 0, absent_since = NULL,
           gone_since = NULL
      FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[], $5::text[], $6::smallint[], $7::text[],
                  $8::bigint[], $9::bytea[])
           AS n (id, etag, last_modified, max_age, terms, transformed, moved_to, version, content_hash)
      JOIN headpond.schedule s ON s.resource_id = n.id
     WHERE r.id = n.id";

type Replaced<'a> = (ResourceId, DateTime<Utc>, &'a Replacement);

async fn replaced(tx: &mut PgConnection, rows: &[Replaced<'_>]) -> Result<()> {
    with_metadata(REPLACED, &column(rows, |(id, _, new)| (*id, &new.metadata)))
        .bind(column(rows, |(.., new)| i64::try_from(new.version).unwrap_or(i64::MAX)))
        .bind(column(rows, |(.., new)| new.snapshot.content_hash.0.to_vec()))
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) const RESET: &str = "UPDATE headpond.resource SET etag = NULL, last_modified = NULL WHERE id = ANY($1)";

pub(super) const DEFERRED: &str = "
    UPDATE headpond.resource r
       SET failures = n.failures, failing_since = n.failing_since, failed_at = n.failed_at,
           failure_kind = n.kind, failure_status = n.status, failure_detail = n.detail,
           absences = n.absences, absent_since = n.absent_since
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::integer[], $7::text[],
                  $8::bigint[], $9::bigint[])
           AS n (id, failures, failing_since, failed_at, kind, status, detail, absences, absent_since)
     WHERE r.id = n.id";

async fn deferred(tx: &mut PgConnection, rows: &[(ResourceId, &Deferral)]) -> Result<()> {
    let failing = |f: fn(&Deferral) -> i64| column(rows, move |(_, deferral)| f(deferral));
    sqlx::query(DEFERRED)
        .bind(column(rows, |(id, _)| id.0))
        .bind(failing(|deferral| deferral.failing.count.into()))
        .bind(failing(|deferral| micros(deferral.failing.since)))
        .bind(failing(|deferral| micros(deferral.failing.at)))
        .bind(column(rows, |(_, deferral)| deferral.failing.last.kind.as_str()))
        .bind(column(rows, |(_, deferral)| deferral.failing.last.status.map(i32::from)))
        // Postgres can't store NUL in text, and that is no reason to lose what failed.
        .bind(column(rows, |(_, deferral)| deferral.failing.last.detail.replace('\0', "␀")))
        .bind(failing(|deferral| deferral.absence.map_or(0, |absence| absence.count.into())))
        .bind(column(rows, |(_, deferral)| deferral.absence.map(|absence| micros(absence.since))))
        .execute(tx)
        .await?;
    Ok(())
}

/// Content and version stay: readers are told what was there last.
pub(super) const GONE: &str = "
    UPDATE headpond.resource r
       SET gone_since = n.since, etag = NULL, last_modified = NULL, max_age = NULL,
           terms = NULL, transformed = 0, moved_to = NULL,
           failures = 0, failing_since = NULL, failed_at = NULL,
           failure_kind = NULL, failure_status = NULL, failure_detail = NULL, absences = 0, absent_since = NULL
      FROM unnest($1::bigint[], $2::bigint[]) AS n (id, since)
     WHERE r.id = n.id";

/// Only for resources that are still there: one can be pruned while it is fetched.
pub(super) const CONTENT: &str = "
    INSERT INTO headpond.content (resource_id, etag, changed_at, headers, body)
    SELECT n.id, n.etag, n.changed_at, n.headers, n.body
      FROM unnest($1::bigint[], $2::bytea[], $3::bigint[], $4::bytea[], $5::bytea[])
           AS n (id, etag, changed_at, headers, body)
      JOIN headpond.resource r ON r.id = n.id
        ON CONFLICT (resource_id) DO UPDATE
       SET etag = excluded.etag, changed_at = excluded.changed_at, headers = excluded.headers, body = excluded.body";

/// How many bytes of bodies go into one statement: a message to the server can't be longer than 1 GiB.
const BODIES: usize = 32 << 20;

pub(super) async fn content(tx: &mut PgConnection, rows: &[Replaced<'_>]) -> Result<()> {
    let mut rest = rows;
    while !rest.is_empty() {
        let (part, more) = rest.split_at(fitting(rest, |(.., new)| new.snapshot.body.len()));
        sqlx::query(CONTENT)
            .bind(column(part, |(id, ..)| id.0))
            .bind(column(part, |(.., new)| new.snapshot.etag.0.as_slice()))
            .bind(column(part, |(_, at, _)| micros(*at)))
            .bind(column(part, |(.., new)| encode_headers(&new.snapshot.headers)))
            .bind(column(part, |(.., new)| new.snapshot.body.as_ref()))
            .execute(&mut *tx)
            .await?;
        rest = more;
    }
    Ok(())
}

pub(super) const DESCRIBED: &str = "SELECT resource_id, headers FROM headpond.content WHERE resource_id = ANY($1)";

pub(super) const DESCRIBE: &str = "
    UPDATE headpond.content c SET headers = n.headers
      FROM unnest($1::bigint[], $2::bytea[]) AS n (id, headers)
     WHERE c.resource_id = n.id";

/// Replaces fields of contents that stay.
pub(super) async fn describe(tx: &mut PgConnection, plan: &Plan<'_>) -> Result<()> {
    if plan.described.is_empty() {
        return Ok(());
    }
    let stored = sqlx::query(DESCRIBED).bind(column(&plan.described, |(id, _)| id.0)).fetch_all(&mut *tx).await?;
    let replaced = describe::replaced(&stored, &plan.described)?;
    if !replaced.is_empty() {
        let (ids, blocks) = (column(&replaced, |(id, _)| id.0), column(&replaced, |(_, block)| block.as_slice()));
        sqlx::query(DESCRIBE).bind(ids).bind(blocks).execute(tx).await?;
    }
    Ok(())
}

/// How many of the first rows fit into one statement: at least one.
pub(super) fn fitting<R>(rows: &[R], size: impl Fn(&R) -> usize) -> usize {
    let mut bytes = 0;
    let fits = |row: &&R| {
        bytes += size(row);
        bytes <= BODIES
    };
    rows.iter().take_while(fits).count().max(1)
}

/// The last statement of a batch, since from here to the commit no other batch can have a number: so numbers are visible
/// in their order, and nobody who has seen one misses a lower one.
///
/// With `$8` the commit does not wait for the disk. A power failure may then take back that a copy was confirmed, which
/// costs a repeated request; the number may be given again, and followers, whose connections are lost too, start anew.
pub(super) const NUMBER: &str = "
      WITH news AS MATERIALIZED (
               SELECT row_number() OVER (ORDER BY n.place) AS place,
                      n.tag, r.id, s.name, r.key, n.kind, r.version, n.at
                 FROM unnest($3::bigint[], $4::bigint[], $5::text[], $6::bigint[])
                      WITH ORDINALITY AS n (id, tag, kind, at, place)
                 JOIN headpond.resource r ON r.id = n.id
                 JOIN headpond.source s ON s.id = r.source_id),
           counted AS (
               UPDATE headpond.counter
                  SET applied = applied + 1, changes = changes + (SELECT count(*) FROM news)
            RETURNING applied, changes - (SELECT count(*) FROM news) AS before),
           noted AS (
               INSERT INTO headpond.applied (number, at, resources) SELECT applied, $1, $2 FROM counted),
           changed AS (
               INSERT INTO headpond.change (number, tag, resource_id, source, key, kind, version, at)
               SELECT before + place, tag, id, name, key, kind, version, at FROM news, counted)
    SELECT applied, pg_notify($7, applied::text),
           CASE WHEN $8 THEN set_config('synchronous_commit', 'off', true) END
      FROM counted";

/// Gives the batch its number and its changes theirs, and tells whoever follows.
pub(super) async fn number(
    tx: &mut PgConnection,
    (plan, erased): (&Plan<'_>, &GoneErased),
    now: DateTime<Utc>,
    may_be_lost: bool,
) -> Result<i64> {
    let changes = &plan.changes;
    let number = sqlx::query_scalar(NUMBER)
        .bind(micros(now))
        .bind(plan.touched().map(|id| id.0).collect::<Vec<_>>())
        .bind(column(changes, |change| change.resource.0))
        .bind(column(changes, |change| i64::from(change.tag)))
        .bind(column(changes, |change| erase::kind(change, erased).as_str()))
        .bind(column(changes, |change| change.at))
        .bind(CHANNEL)
        .bind(may_be_lost)
        .fetch_one(tx)
        .await?;
    Ok(number)
}

/// One column of the rows, to unnest.
pub(super) fn column<'a, R, T>(rows: &'a [R], of: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(of).collect()
}
