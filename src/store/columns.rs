//! Columns of either database, read into the domain's words. What makes no sense names its table, column and row.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::Row;

use super::{Current, StoreError, StoredContent, WalkOf, readable_due};
use crate::domain::change::{Change, ChangeKind, Cursor};
use crate::domain::decision::{Freshness, Metadata, Previous};
use crate::domain::failure::{Absence, Failing, Failure, FailureKind};
use crate::domain::limit::{Bucket, Limits};
use crate::domain::resource::{Key, Params, ResourceId, SourceName};
use crate::domain::schedule::{Because, Due, Slot};
use crate::domain::snapshot::{ContentHash, decode_headers};
use crate::domain::terms::Terms;
use crate::domain::validators::Validators;

/// The format of the tables that this program knows. A migration that an older program could not work with raises the
/// database's `needs_format` above that program's number.
pub(super) const FORMAT: i64 = 4;

/// Refuses a database that asks for a newer program. `stored` is the value of `needs_format` in `meta`.
pub(super) fn check_format(stored: &str) -> Result<(), StoreError> {
    let needs: i64 = stored.parse().map_err(|_| meta_is_corrupt("needs_format"))?;
    if needs <= FORMAT {
        return Ok(());
    }
    Err(StoreError::Unusable(format!(
        "the database needs a program that knows its format {needs}; this one knows formats up to {FORMAT}: \
         install a newer headpond"
    )))
}

/// Reads the value of `seed` in `meta`.
pub(super) fn parse_seed(stored: &str) -> Result<u64, StoreError> {
    u64::from_str_radix(stored, 16).map_err(|_| meta_is_corrupt("seed"))
}

/// The name in `meta` of who owns the configuration.
pub(super) const CONFIG_OWNER: &str = "config_owner";
/// The value of `config_owner`: until when, and who.
pub(super) fn config_owner(worker: &str, until: DateTime<Utc>) -> String {
    format!("{} {worker}", micros(until))
}

/// Reads the value of `config_owner`: who owns the configuration, if that has not run out.
pub(super) fn parse_config_owner(stored: &str, now: DateTime<Utc>) -> Result<Option<String>, StoreError> {
    let owner = stored.split_once(' ').and_then(|(until, worker)| Some((until.parse::<i64>().ok()?, worker)));
    let (until, worker) = owner.ok_or_else(|| meta_is_corrupt(CONFIG_OWNER))?;
    Ok((until > micros(now)).then(|| worker.to_owned()))
}

fn meta_is_corrupt(name: &str) -> StoreError {
    StoreError::Corrupt { table: "meta", column: "value", row: 0, problem: format!("`{name}` can't be read") }
}

/// A time as it is stored: microseconds since the Unix epoch.
pub(super) fn micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros()
}

/// The tag of the place before the feed's first entry.
pub(super) fn feed_tag(seed: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "its low half")]
    let tag = seed as u32;
    tag
}

/// Parameters as they are stored: a JSON object of texts.
pub(super) fn params_json(params: &Params) -> String {
    params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<serde_json::Value>().to_string()
}

/// A row of either database. Integers of any width are read as `i64`; `None` is NULL.
pub(super) trait Cells {
    /// An integer column.
    fn integer_at(&self, column: &str) -> Result<Option<i64>, sqlx::Error>;
    /// A floating-point column.
    fn real_at(&self, column: &str) -> Result<Option<f64>, sqlx::Error>;
    /// A text column.
    fn text_at(&self, column: &str) -> Result<Option<String>, sqlx::Error>;
    /// A column of bytes.
    fn bytes_at(&self, column: &str) -> Result<Option<Vec<u8>>, sqlx::Error>;
}

impl Cells for sqlx::sqlite::SqliteRow {
    fn integer_at(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn real_at(&self, column: &str) -> Result<Option<f64>, sqlx::Error> {
        self.try_get(column)
    }

    fn text_at(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        self.try_get(column)
    }

    fn bytes_at(&self, column: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
        self.try_get(column)
    }
}

impl Cells for sqlx::postgres::PgRow {
    fn integer_at(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        // Unchecked: the decoder takes smallint, integer and bigint alike, the type check only bigint.
        self.try_get_unchecked(column)
    }

    fn real_at(&self, column: &str) -> Result<Option<f64>, sqlx::Error> {
        self.try_get(column)
    }

    fn text_at(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        self.try_get(column)
    }

    fn bytes_at(&self, column: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
        self.try_get(column)
    }
}

/// One row of a table, or that table's part of a joined row.
pub(super) struct Record<'r, R> {
    row: &'r R,
    table: &'static str,
    id: i64,
}

impl<'r, R: Cells> Record<'r, R> {
    /// The part of `row` that comes from `table`; `id` says which row that is in error messages.
    pub(super) fn of(row: &'r R, table: &'static str, id: i64) -> Self {
        Self { row, table, id }
    }

    /// The same, taking the id from a column.
    pub(super) fn identified_by(row: &'r R, table: &'static str, column: &'static str) -> Result<Self, StoreError> {
        let id = Self::of(row, table, 0).integer(column)?;
        Ok(Self::of(row, table, id))
    }

    /// The id given or read at the start.
    pub(super) fn id(&self) -> i64 {
        self.id
    }

    /// The error for a column that makes no sense.
    pub(super) fn corrupt(&self, column: &'static str, problem: impl std::fmt::Display) -> StoreError {
        StoreError::Corrupt { table: self.table, column, row: self.id, problem: problem.to_string() }
    }

    fn read<T>(&self, column: &'static str, value: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        value.map_err(|error| self.corrupt(column, error))
    }

    fn required<T>(&self, column: &'static str, value: Option<T>) -> Result<T, StoreError> {
        value.ok_or_else(|| self.corrupt(column, "it is missing"))
    }

    pub(super) fn maybe_integer(&self, column: &'static str) -> Result<Option<i64>, StoreError> {
        self.read(column, self.row.integer_at(column))
    }

    pub(super) fn integer(&self, column: &'static str) -> Result<i64, StoreError> {
        self.required(column, self.maybe_integer(column)?)
    }

    /// One that fits a narrower type, such as a count.
    pub(super) fn maybe_count<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, StoreError> {
        let Some(integer) = self.maybe_integer(column)? else { return Ok(None) };
        T::try_from(integer).map(Some).map_err(|_| self.corrupt(column, format_args!("{integer} is out of range")))
    }

    pub(super) fn count<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.required(column, self.maybe_count(column)?)
    }

    pub(super) fn maybe_real(&self, column: &'static str) -> Result<Option<f64>, StoreError> {
        self.read(column, self.row.real_at(column))
    }

    pub(super) fn maybe_text(&self, column: &'static str) -> Result<Option<String>, StoreError> {
        self.read(column, self.row.text_at(column))
    }

    pub(super) fn text(&self, column: &'static str) -> Result<String, StoreError> {
        self.required(column, self.read(column, self.row.text_at(column))?)
    }

    pub(super) fn maybe_bytes(&self, column: &'static str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.read(column, self.row.bytes_at(column))?.map(Bytes::from))
    }

    pub(super) fn bytes(&self, column: &'static str) -> Result<Bytes, StoreError> {
        self.required(column, self.maybe_bytes(column)?)
    }

    pub(super) fn maybe_time(&self, column: &'static str) -> Result<Option<DateTime<Utc>>, StoreError> {
        let Some(micros) = self.maybe_integer(column)? else { return Ok(None) };
        let at = DateTime::from_timestamp_micros(micros);
        at.map(Some).ok_or_else(|| self.corrupt(column, format_args!("{micros} µs is no time")))
    }

    pub(super) fn time(&self, column: &'static str) -> Result<DateTime<Utc>, StoreError> {
        self.required(column, self.maybe_time(column)?)
    }

    pub(super) fn maybe_hash(&self, column: &'static str) -> Result<Option<ContentHash>, StoreError> {
        let Some(bytes) = self.maybe_bytes(column)? else { return Ok(None) };
        let hash = bytes.as_ref().try_into().map(ContentHash);
        hash.map(Some).map_err(|_| self.corrupt(column, format_args!("{} bytes are no hash", bytes.len())))
    }

    pub(super) fn key(&self, column: &'static str) -> Result<Key, StoreError> {
        Key::stored(self.text(column)?).map_err(|error| self.corrupt(column, error))
    }

    pub(super) fn source_name(&self, column: &'static str) -> Result<SourceName, StoreError> {
        SourceName::new(self.text(column)?).map_err(|error| self.corrupt(column, error))
    }

    pub(super) fn params(&self, column: &'static str) -> Result<Params, StoreError> {
        serde_json::from_str(&self.text(column)?).map_err(|error| self.corrupt(column, error))
    }
}

/// Columns of `resource`.
impl<R: Cells> Record<'_, R> {
    /// `version, content_hash, etag, last_modified, max_age, terms, transformed, moved_to, failures, failing_since, absences,
    /// absent_since, gone_since`; what the schedule knows is an argument.
    pub(super) fn previous(
        &self,
        keys_of_source: u64,
        seed: u64,
        because: Because,
        stale_after: Option<DateTime<Utc>>,
    ) -> Result<Previous, StoreError> {
        Ok(Previous {
            slot: Slot::of(ResourceId(self.id), keys_of_source, seed),
            because,
            version: self.count("version")?,
            content_hash: self.maybe_hash("content_hash")?,
            metadata: Metadata {
                validators: self.validators()?,
                max_age: self.maybe_count("max_age")?,
                terms: self.terms()?,
                transformed: self.integer("transformed")? != 0,
                moved_to: self.maybe_text("moved_to")?,
            },
            failures: self.count("failures")?,
            failing_since: self.maybe_time("failing_since")?,
            absence: self.absence()?,
            gone_since: self.maybe_time("gone_since")?,
            stale_after,
        })
    }

    /// `terms`.
    pub(super) fn terms(&self) -> Result<Option<Terms>, StoreError> {
        let Some(json) = self.maybe_text("terms")? else { return Ok(None) };
        serde_json::from_str(&json).map(Some).map_err(|error| self.corrupt("terms", error))
    }

    /// `etag, last_modified`.
    pub(super) fn validators(&self) -> Result<Validators, StoreError> {
        Ok(Validators { etag: self.maybe_bytes("etag")?, last_modified: self.maybe_bytes("last_modified")? })
    }

    /// `absences, absent_since`.
    fn absence(&self) -> Result<Option<Absence>, StoreError> {
        match self.count("absences")? {
            0 => Ok(None),
            count => Ok(Some(Absence { count, since: self.time("absent_since")? })),
        }
    }

    /// `failures, failing_since, failed_at, failure_kind, failure_status, failure_detail`.
    pub(super) fn failing(&self) -> Result<Option<Failing>, StoreError> {
        let count = self.count("failures")?;
        if count == 0 {
            return Ok(None);
        }
        let kind = self.text("failure_kind")?;
        let kind = FailureKind::parse(&kind)
            .ok_or_else(|| self.corrupt("failure_kind", format_args!("`{kind}` is no kind of failure")))?;
        let status = self.maybe_count("failure_status")?;
        Ok(Some(Failing {
            last: Failure { kind, status, detail: self.text("failure_detail")? },
            at: self.time("failed_at")?,
            since: self.time("failing_since")?,
            count,
        }))
    }
}

/// Columns of the other tables.
impl<R: Cells> Record<'_, R> {
    /// Of `schedule`: `due_at, because, wanted_at`, as a reader sees them.
    /// A reason that we don't know is a newer program's: `due_at` decides, and the reason is only told.
    pub(super) fn due(&self) -> Result<Option<Due>, StoreError> {
        let Some(due_at) = self.maybe_time("due_at")? else { return Ok(None) };
        let because = i16::try_from(self.integer("because")?).ok().and_then(Because::from_code);
        let because = because.unwrap_or(Because::Interval);
        Ok(Some(readable_due(due_at, self.maybe_time("wanted_at")?, because)))
    }

    /// Of `schedule`: `fetched_at, stale_after`.
    pub(super) fn freshness(&self) -> Result<Option<Freshness>, StoreError> {
        let Some(fetched_at) = self.maybe_time("fetched_at")? else { return Ok(None) };
        Ok(Some(Freshness { fetched_at, stale_after: self.time("stale_after")? }))
    }

    /// Of `content`: `own_etag` (its column `etag`), `changed_at, headers, body`.
    pub(super) fn content(&self) -> Result<Option<StoredContent>, StoreError> {
        let Some(etag) = self.maybe_hash("own_etag")? else { return Ok(None) };
        let headers = decode_headers(&self.bytes("headers")?)
            .ok_or_else(|| self.corrupt("headers", "these are no header fields"))?;
        Ok(Some(StoredContent { etag, changed_at: self.time("changed_at")?, headers, body: self.bytes("body")? }))
    }

    /// Of `upstream`: `requests_per_second, burst, max_concurrent, budgets`.
    pub(super) fn limits(&self) -> Result<Limits, StoreError> {
        Ok(Limits {
            requests_per_second: self.maybe_real("requests_per_second")?,
            burst: self.count("burst")?,
            max_concurrent: self.count("max_concurrent")?,
            budgets: self.budgets()?,
        })
    }

    /// Of `upstream`: `tokens, tokens_at`.
    pub(super) fn bucket(&self) -> Result<Bucket, StoreError> {
        let tokens = self.required("tokens", self.maybe_real("tokens")?)?;
        Ok(Bucket { tokens, at: self.time("tokens_at")? })
    }

    /// Of `change`: `tag, source, key, kind, version, at`; the record's id is its number.
    pub(super) fn change(&self) -> Result<Change, StoreError> {
        let kind = self.text("kind")?;
        let kind = ChangeKind::parse(&kind)
            .ok_or_else(|| self.corrupt("kind", format_args!("`{kind}` is no kind of change")))?;
        Ok(Change {
            cursor: Cursor { number: self.id, tag: self.count("tag")? },
            source: self.source_name("source")?,
            key: self.key("key")?,
            kind,
            version: self.count("version")?,
            at: self.time("at")?,
        })
    }
}

/// What a reader sees of a resource, from one row of all its tables: `id`, `leased_until`, and what is named above.
pub(super) fn current<R: Cells>(row: &R) -> Result<Current, StoreError> {
    let resource = Record::identified_by(row, "resource", "id")?;
    let schedule = Record::of(row, "schedule", resource.id());
    Ok(Current {
        resource: ResourceId(resource.id()),
        version: resource.count("version")?,
        content: Record::of(row, "content", resource.id()).content()?,
        freshness: schedule.freshness()?,
        validators: resource.validators()?,
        gone_since: resource.maybe_time("gone_since")?,
        erased_at: resource.maybe_time("erased_at")?,
        failing: resource.failing()?,
        due: schedule.due()?,
        wanted_at: schedule.maybe_time("wanted_at")?,
        hastened_at: schedule.maybe_time("hastened_at")?,
        leased_until: Record::of(row, "lease", resource.id()).maybe_time("leased_until")?,
        walk: WalkOf::read(row)?,
        terms: resource.terms()?,
        transformed: resource.integer("transformed")? != 0,
        moved_to: resource.maybe_text("moved_to")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::{Connection, SqliteConnection};

    #[tokio::test]
    async fn what_makes_no_sense_names_table_column_and_row() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let row = sqlx::query("SELECT 7 AS id, 'x' AS because, 1 AS due_at, -1 AS failures, x'00' AS content_hash")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let record = Record::identified_by(&row, "schedule", "id").unwrap();
        for (error, column) in [
            (record.due().unwrap_err(), "because"),
            (record.failing().unwrap_err(), "failures"),
            (record.maybe_hash("content_hash").unwrap_err(), "content_hash"),
            (record.time("nowhere").unwrap_err(), "nowhere"),
        ] {
            let expected = format!("corrupt data in table schedule, column {column}, row 7: ");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}
