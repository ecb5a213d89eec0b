//! Keys that exist because someone reads them.

use sqlx::{Sqlite, Transaction};

use super::error::failed;
use super::writer::Durability;
use super::{SqliteStore, json};
use crate::domain::origin::DEMAND;
use crate::domain::resource::{Key, Params, ResourceId, SourceId};
use crate::domain::schedule::Because;
use crate::store::columns::micros;
use crate::store::origins::{MOST_EVICTED, OriginId, Seen, excess};
use crate::store::{AT_ONCE, Authority, StoreError};

/// How many keys go in one transaction, so that nobody waits long for the write lock.
const CHUNK: i64 = 5000;

/// Before all others, and not as never fetched: that would count against readiness.
pub(super) const FIRST_IN_LINE: &str = "
    UPDATE headpond_schedule SET due_at = ?2, because = ?3, wanted_at = ?4, hastened_at = ?4 WHERE resource_id = ?1";

pub(super) const READ_NOW: &str = "
    UPDATE headpond_key_origin SET read_at = ?3 WHERE origin_id = ?1 AND resource_id = ?2";

/// Those of readers alone have a time there.
pub(super) const READ: &str = "
    UPDATE headpond_key_origin SET read_at = ?2
    WHERE resource_id IN (SELECT value FROM json_each(?1)) AND read_at < ?2";

const COUNTED: &str = "SELECT keys FROM headpond_origin WHERE id = ?1";

const ORIGIN: &str = "SELECT id FROM headpond_origin WHERE source_id = ?1 AND name = ?2";

/// What was not read for the longest time, if not since ?2.
pub(super) const UNREAD: &str = "
    SELECT resource_id FROM headpond_key_origin
    WHERE origin_id = ?1 AND read_at < ?2 ORDER BY read_at LIMIT ?3";

/// What was evicted has no retention: the next prune deletes it.
pub(super) const EVICTED: &str = "
    UPDATE headpond_resource SET retired_at = 0
    WHERE id IN (SELECT value FROM json_each(?1)) AND retired_at IS NOT NULL";

impl SqliteStore {
    /// If a power failure takes it back, so it does the reader.
    pub(super) async fn demand_key(&self, source: SourceId, key: &Key, most: u32) -> Result<bool, StoreError> {
        let mut writer = self.writer().await;
        let mut transaction = writer.begin(Durability::Relaxed).await?;
        let now = micros(self.clock.now());
        let into = self.named_origin(&mut transaction, source, DEMAND).await?;
        let keys = [(key.clone(), Params::new())];
        let (put, has_written) = self.put(&mut transaction, into, &Seen::default(), &keys, Authority::Adds).await?;
        let Some(ResourceId(resource)) = put.resources.first().copied().filter(|_| has_written) else {
            transaction.rollback().await.map_err(failed)?;
            return Ok(false);
        };
        let first = sqlx::query(FIRST_IN_LINE).bind(resource).bind(AT_ONCE).bind(Because::Manual.code()).bind(now);
        first.execute(&mut *transaction).await.map_err(failed)?;
        let read = sqlx::query(READ_NOW).bind(into.origin).bind(resource).bind(now);
        read.execute(&mut *transaction).await.map_err(failed)?;
        self.evict(&mut transaction, source, OriginId(into.origin), most).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(true)
    }

    /// Takes out what is too much.
    async fn evict(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        source: SourceId,
        origin: OriginId,
        most: u32,
    ) -> Result<(), StoreError> {
        let keys = sqlx::query_scalar(COUNTED).bind(origin.0).fetch_one(&mut **transaction).await.map_err(failed)?;
        let excess = excess(keys, most);
        if excess == 0 {
            return Ok(());
        }
        let longest = sqlx::query_scalar(UNREAD).bind(origin.0).bind(i64::MAX).bind(excess.min(MOST_EVICTED));
        let longest: Vec<i64> = longest.fetch_all(&mut **transaction).await.map_err(failed)?;
        self.detach(transaction, source, origin, &longest).await?;
        sqlx::query(EVICTED).bind(json(&longest)?).execute(&mut **transaction).await.map_err(failed)?;
        Ok(())
    }

    pub(super) async fn write_reads(&self, resources: &[ResourceId], at: i64) -> Result<(), StoreError> {
        for chunk in resources.chunks(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
            let mut writer = self.writer().await;
            let mut transaction = writer.begin(Durability::Relaxed).await?;
            let read = sqlx::query(READ).bind(json(chunk)?).bind(at);
            read.execute(&mut *transaction).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
        }
        Ok(())
    }

    pub(super) async fn retire_unread_since(&self, source: SourceId, since: i64) -> Result<u64, StoreError> {
        let origin = sqlx::query_scalar(ORIGIN).bind(source.0).bind(DEMAND.0).fetch_optional(&self.readers).await;
        let origin: Option<i64> = origin.map_err(failed)?;
        let Some(origin) = origin else { return Ok(0) };
        let mut retired = 0;
        loop {
            let mut writer = self.writer().await;
            let mut transaction = writer.begin(Durability::Full).await?;
            let unread = sqlx::query_scalar(UNREAD).bind(origin).bind(since).bind(CHUNK);
            let unread: Vec<i64> = unread.fetch_all(&mut *transaction).await.map_err(failed)?;
            if unread.is_empty() {
                transaction.rollback().await.map_err(failed)?;
                return Ok(retired);
            }
            retired += self.detach(&mut transaction, source, OriginId(origin), &unread).await?;
            transaction.commit().await.map_err(failed)?;
        }
    }
}
