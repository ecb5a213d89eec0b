//! What is sent to webhooks; see [`crate::store::webhooks`].

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sqlx::Row;

use super::PostgresStore;
use super::error::Result;
use crate::domain::change::Cursor;
use crate::domain::resource::{Key, SourceName};
use crate::store::StoreError;
use crate::store::columns::{Record, micros};
use crate::store::webhooks::{Outbox, Queued, Sent, ToSend, WebhookState, nothing, row};

const REGISTER: &str = "
    INSERT INTO headpond.webhook (name, number, tag) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING";

const NAMES: &str = "SELECT name FROM headpond.webhook";

const FORGET: [&str; 2] =
    ["DELETE FROM headpond.webhook_queue WHERE webhook = $1", "DELETE FROM headpond.webhook WHERE name = $1"];

pub(super) async fn register(store: &PostgresStore, names: &[String], place: Cursor) -> Result<()> {
    let mut tx = store.begin().await?;
    let known: Vec<String> = sqlx::query_scalar(NAMES).fetch_all(&mut *tx).await?;
    for name in known.iter().filter(|name| !names.contains(name)) {
        for statement in FORGET {
            sqlx::query(statement).bind(name).execute(&mut *tx).await?;
        }
    }
    for name in names.iter().filter(|name| !known.contains(name)) {
        let register = sqlx::query(REGISTER).bind(name).bind(place.number).bind(i64::from(place.tag));
        register.execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// That there is nothing to send, and until when; no row when there is, or when it is dead.
pub(super) const NOTHING: &str = "
    SELECT CASE WHEN w.paused_until > $2 THEN w.paused_until ELSE w.next_at END AS until
      FROM (SELECT number, paused_until, (
                       SELECT min(next_at) FROM headpond.webhook_queue WHERE webhook = $1 AND next_at IS NOT NULL) AS next_at
              FROM headpond.webhook WHERE name = $1 AND dead_since IS NULL) AS w
     CROSS JOIN headpond.counter AS c
     WHERE w.paused_until > $2 OR (w.number = c.changes AND (w.next_at > $2) IS NOT FALSE)";

pub(super) const LEASE: &str = "
    UPDATE headpond.webhook SET worker = $2, lease_until = $3
     WHERE name = $1 AND dead_since IS NULL AND (worker = $2 OR worker IS NULL OR lease_until <= $4)
 RETURNING number, tag, failures";

pub(super) const DUE: &str = "
    SELECT id, source, key, number, tag, kind, version, at, attempts, failing_since
      FROM headpond.webhook_queue WHERE webhook = $1 AND next_at <= $2 ORDER BY next_at, id LIMIT 1";

pub(super) const FAILING: &str = "
    SELECT source, key FROM headpond.webhook_queue WHERE webhook = $1 AND next_at IS NOT NULL AND source <> ''";

pub(super) async fn lease(store: &PostgresStore, name: &str, worker: &str, until: DateTime<Utc>) -> Result<ToSend> {
    let now = micros(store.clock.now());
    if let Some(row) = sqlx::query(NOTHING).bind(name).bind(now).fetch_optional(&store.readers).await? {
        return Ok(nothing(&row)?);
    }
    let mut tx = store.begin().await?;
    let lease = sqlx::query(LEASE).bind(name).bind(worker).bind(micros(until)).bind(now);
    let Some(leased) = lease.fetch_optional(&mut *tx).await? else { return Ok(ToSend::NotOurs) };
    let record = Record::identified_by(&leased, "webhook", "number")?;
    let due = sqlx::query(DUE).bind(name).bind(now).fetch_optional(&mut *tx).await?;
    let failing = sqlx::query(FAILING).bind(name).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let pair = |row| -> std::result::Result<(SourceName, Key), StoreError> {
        let record = Record::of(row, "webhook_queue", 0);
        Ok((record.source_name("source")?, record.key("key")?))
    };
    Ok(ToSend::Outbox(Outbox {
        cursor: Cursor { number: record.id(), tag: record.count("tag")? },
        failures: record.count("failures")?,
        due: due.map(|row| Queued::of(&row)).transpose()?,
        failing: failing.iter().map(pair).collect::<std::result::Result<HashSet<_>, _>>()?,
    }))
}

pub(super) const STATE: &str = "
    UPDATE headpond.webhook
       SET number = coalesce($3, number), tag = coalesce($4, tag), failures = $5, paused_until = $6,
           error = coalesce($7, error), error_at = CASE WHEN $7 IS NULL THEN error_at ELSE $8 END,
           dead_since = CASE WHEN $9 <> 0 THEN $8 END, delivered = delivered + $10
     WHERE name = $1 AND worker = $2 AND dead_since IS NULL";

const TAKE: &str = "DELETE FROM headpond.webhook_queue WHERE id = $1 RETURNING source, key";

/// What is behind it of its resource.
pub(super) const PROMOTE: &str = "
    UPDATE headpond.webhook_queue SET next_at = $4
     WHERE id = (SELECT min(id) FROM headpond.webhook_queue WHERE webhook = $1 AND source = $2 AND key = $3)";

const PUT_OFF: &str = "
    UPDATE headpond.webhook_queue SET attempts = $2, failing_since = $3, next_at = $4 WHERE id = $1";

const ENQUEUE: &str = "
    INSERT INTO headpond.webhook_queue
           (webhook, source, key, number, tag, kind, version, at, attempts, failing_since, next_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

pub(super) async fn sent(store: &PostgresStore, name: &str, worker: &str, sent: &Sent) -> Result<bool> {
    let now = micros(store.clock.now());
    let mut tx = store.begin().await?;
    let state = sqlx::query(STATE)
        .bind(name)
        .bind(worker)
        .bind(sent.cursor.map(|cursor| cursor.number))
        .bind(sent.cursor.map(|cursor| i64::from(cursor.tag)))
        .bind(i64::from(sent.failures))
        .bind(sent.paused_until.map(micros))
        .bind(sent.error.as_ref().map(|error| error.replace('\0', "␀")))
        .bind(now)
        .bind(i64::from(sent.is_dead))
        .bind(i64::from(sent.delivered));
    if state.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(false);
    }
    if let Some(id) = sent.taken
        && let Some(taken) = sqlx::query(TAKE).bind(id).fetch_optional(&mut *tx).await?
    {
        let (source, key): (String, String) = (taken.try_get("source")?, taken.try_get("key")?);
        sqlx::query(PROMOTE).bind(name).bind(source).bind(key).bind(now).execute(&mut *tx).await?;
    }
    if let Some((id, attempts, at)) = sent.put_off {
        let put_off = sqlx::query(PUT_OFF).bind(id).bind(i64::from(attempts.count)).bind(micros(attempts.since));
        put_off.bind(micros(at)).execute(&mut *tx).await?;
    }
    for enqueued in &sent.enqueued {
        let (source, key, number, tag, kind, version, at) = row(enqueued.change.as_ref());
        let (attempts, next_at) = enqueued.due.unzip();
        let attempts = attempts.flatten();
        sqlx::query(ENQUEUE)
            .bind(name)
            .bind(source)
            .bind(key)
            .bind(number)
            .bind(tag)
            .bind(kind)
            .bind(version)
            .bind(at)
            .bind(attempts.map_or(0, |attempts| i64::from(attempts.count)))
            .bind(attempts.map(|attempts| micros(attempts.since)))
            .bind(next_at.map(micros))
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(true)
}

pub(super) const STATES: &str = "
    SELECT w.name, w.delivered, w.failures, w.paused_until, w.dead_since, w.error, w.error_at,
           greatest((SELECT changes FROM headpond.counter) - w.number, 0) AS behind,
           (SELECT count(*) FROM headpond.webhook_queue q WHERE q.webhook = w.name) AS queued
      FROM headpond.webhook w ORDER BY w.name";

const RESUME: [&str; 2] = [
    "UPDATE headpond.webhook_queue SET attempts = 0, failing_since = NULL, next_at = $2
      WHERE webhook = $1 AND next_at IS NOT NULL",
    "UPDATE headpond.webhook SET dead_since = NULL, failures = 0, paused_until = NULL, lease_until = least(lease_until, $2)
      WHERE name = $1",
];

pub(super) async fn states(store: &PostgresStore) -> Result<Vec<WebhookState>> {
    let rows = sqlx::query(STATES).fetch_all(&store.readers).await?;
    Ok(rows.iter().map(WebhookState::of).collect::<std::result::Result<_, StoreError>>()?)
}

pub(super) async fn resume(store: &PostgresStore, name: &str) -> Result<bool> {
    let now = micros(store.clock.now());
    let mut tx = store.begin().await?;
    let mut is_there = false;
    for statement in RESUME {
        is_there = sqlx::query(statement).bind(name).bind(now).execute(&mut *tx).await?.rows_affected() > 0;
    }
    tx.commit().await?;
    Ok(is_there)
}
