//! Typed tables: what there is of them, and which rows a batch writes.
//!
//! The rows of a table are in a physical table of its own, under a number that is never given again. Apps read a view of the
//! configured name. A changed configuration makes another physical table, which is filled beside the one that is read; applies
//! write both meanwhile, and one transaction turns the view round.

use std::borrow::Cow;
use std::collections::HashMap;

use super::columns::{Cells, Record, micros};
use super::plan::Plan;
use super::{Fate, Settled, StoreError};
use crate::domain::decision::{Outcome, Replacement};
use crate::domain::project::{Misfit, Row, project};
use crate::domain::resource::{Key, ResourceId, SourceId, SourceName};
use crate::domain::table::{Column, Table};

/// Names a physical table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub i64);

/// How far a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableState {
    /// It has no views yet.
    Filling,
    /// Its views are what apps read.
    Live,
    /// Another has taken its place.
    Left,
}

impl TableState {
    const ALL: [(Self, &str); 3] = [(Self::Filling, "filling"), (Self::Live, "live"), (Self::Left, "left")];
}

/// A table that is there.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownTable {
    /// Which.
    pub id: TableId,
    /// Whose.
    pub source: SourceId,
    /// The source's name.
    pub source_name: SourceName,
    /// How far it is.
    pub state: TableState,
    /// What it was made for.
    pub table: Table,
    /// The configured columns of its views, in their order.
    pub columns: Vec<String>,
    /// Where its views are; `None` on SQLite, and before it has some.
    pub schema: Option<String>,
    /// Copies of keys up to this one have their rows.
    pub filled: String,
    /// How many copies among them don't fit.
    pub misfits: u64,
    /// The first of those, and why.
    pub misfit: Option<String>,
}

impl KnownTable {
    /// Of `typed`: `id, source_id, source, state, definition, columns, schema, filled, misfits, misfit`.
    pub(super) fn of<R: Cells>(row: &R) -> Result<Self, StoreError> {
        let record = Record::identified_by(row, "typed", "id")?;
        let state = record.text("state")?;
        let state = TableState::ALL.into_iter().find(|(_, name)| *name == state);
        let json = |column, error: serde_json::Error| record.corrupt(column, error);
        Ok(Self {
            id: TableId(record.id()),
            source: SourceId(record.integer("source_id")?),
            source_name: record.source_name("source")?,
            state: state.ok_or_else(|| record.corrupt("state", "there is no such state"))?.0,
            table: serde_json::from_str(&record.text("definition")?).map_err(|error| json("definition", error))?,
            columns: serde_json::from_str(&record.text("columns")?).map_err(|error| json("columns", error))?,
            schema: record.maybe_text("schema")?,
            filled: record.text("filled")?,
            misfits: record.count("misfits")?,
            misfit: record.maybe_text("misfit")?,
        })
    }

    /// The configured columns of the next views, in their order: what is there keeps its place, so that views can be
    /// replaced and need not be made anew. `None` where that is not enough.
    #[must_use]
    pub fn continued_by(&self, next: &Table) -> Option<Vec<String>> {
        let before = |name: &str| self.table.columns.iter().find(|column| column.name == name);
        let after = |name: &str| next.columns.iter().find(|column| column.name == name);
        let stays = |name: &String| Some(before(name)?.kind == after(name)?.kind);
        let own = |table: &Table| table.rows.as_ref().map(|rows| (rows.key.name.clone(), rows.key.kind));
        if self.table.name != next.name || own(&self.table) != own(next) {
            return None;
        }
        if !self.columns.iter().all(|name| stays(name) == Some(true)) {
            return None;
        }
        let new = next.columns.iter().map(|column| &column.name).filter(|name| !self.columns.contains(name));
        Some(self.columns.iter().chain(new).cloned().collect())
    }
}

/// What [`Store::fill_table`](super::Store::fill_table) did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// How many copies were looked at.
    pub copies: u64,
    /// Whether that were all of them.
    pub is_all: bool,
}

/// A copy, to be made rows of.
struct StoredCopy {
    resource: ResourceId,
    key: Key,
    version: u64,
    changed_at: i64,
    gone_since: Option<i64>,
    body: bytes::Bytes,
}

/// The rows of one copy, ready to be written.
pub(super) struct CopyRows<'a> {
    pub(super) resource: ResourceId,
    pub(super) version: u64,
    /// In microseconds.
    pub(super) changed_at: i64,
    /// In microseconds.
    pub(super) gone_since: Option<i64>,
    pub(super) rows: Cow<'a, [Row]>,
}

/// A page of copies on its way into a table.
pub(super) struct Page {
    pub(super) table: Table,
    /// Up to which key the table is filled after it.
    pub(super) filled: String,
    /// Whether no more follow.
    pub(super) is_all: bool,
    copies: Vec<StoredCopy>,
    at_most: u32,
    met: u32,
    bytes: usize,
}

/// How many bytes of bodies a page has, unless a single one is larger.
const PAGE_BYTES: usize = 32 << 20;

impl Page {
    pub(super) fn new(id: TableId, definition: &str, filled: String, at_most: u32) -> Result<Self, StoreError> {
        let table = serde_json::from_str(definition).map_err(|error| StoreError::Corrupt {
            table: "typed",
            column: "definition",
            row: id.0,
            problem: error.to_string(),
        })?;
        Ok(Self { table, filled, is_all: true, copies: Vec::new(), at_most, met: 0, bytes: 0 })
    }

    /// Takes a row of `id, key, version, gone_since, changed_at, body`, and says whether there is room for more.
    pub(super) fn take<R: Cells>(&mut self, row: &R) -> Result<bool, StoreError> {
        let record = Record::identified_by(row, "resource", "id")?;
        let key = record.key("key")?;
        key.as_str().clone_into(&mut self.filled);
        if let Some(body) = record.maybe_bytes("body")? {
            self.bytes += body.len();
            self.copies.push(StoredCopy {
                resource: ResourceId(record.id()),
                key,
                version: record.count("version")?,
                changed_at: record.integer("changed_at")?,
                gone_since: record.maybe_integer("gone_since")?,
                body,
            });
        }
        self.met += 1;
        self.is_all = self.met < self.at_most && self.bytes < PAGE_BYTES;
        Ok(self.is_all)
    }

    /// Makes rows of the copies, on a thread for long work.
    pub(super) async fn look_at(self) -> Result<Projected, StoreError> {
        let looked_at = tokio::task::spawn_blocking(move || self.projected()).await;
        looked_at.map_err(|error| StoreError::Rejected(format!("looking at stored copies ended: {error}")))
    }

    fn projected(self) -> Projected {
        let Self { table, filled, is_all, copies, .. } = self;
        let looked_at = copies.len() as u64;
        let (mut fits, mut misfits) = (Vec::with_capacity(copies.len()), Vec::new());
        for copy in copies {
            let StoredCopy { resource, key, version, changed_at, gone_since, body } = copy;
            match project(&table, &body) {
                Ok(rows) => fits.push(CopyRows { resource, version, changed_at, gone_since, rows: rows.into() }),
                Err(misfit) => misfits.push(format!("{key}: {misfit}")),
            }
        }
        Projected { table, filled, is_all, looked_at, fits, misfits }
    }
}

/// The rows of a page of copies.
pub(super) struct Projected {
    pub(super) table: Table,
    pub(super) filled: String,
    pub(super) is_all: bool,
    /// How many copies there were.
    pub(super) looked_at: u64,
    pub(super) fits: Vec<CopyRows<'static>>,
    /// Key and reason of those that don't fit.
    pub(super) misfits: Vec<String>,
}

impl Projected {
    /// Takes those out that are still as they were read: `now` has id, version and the time since which they are gone.
    pub(super) fn unchanged(&mut self, now: &[(i64, i64, Option<i64>)]) -> Vec<CopyRows<'static>> {
        let now: HashMap<i64, _> = now.iter().map(|(id, version, gone)| (*id, (*version, *gone))).collect();
        let is_as_read = |copy: &CopyRows<'_>| {
            let version = i64::try_from(copy.version).unwrap_or(i64::MAX);
            now.get(&copy.resource.0) == Some(&(version, copy.gone_since))
        };
        self.fits.extract_if(.., |copy| is_as_read(copy)).collect()
    }
}

/// The error for a table that is not being filled any more: another process has opened or dropped it.
pub(super) fn not_filling(TableId(id): TableId) -> StoreError {
    StoreError::Rejected(format!("table number {id} is not there any more, or is not being filled"))
}

/// What to do about a view that reads one of ours which must be made anew.
pub(super) fn depends(view: &str, name: &str) -> String {
    format!("{view} depends on {name}, which must be made anew: drop it, and make it again afterwards")
}

/// What a batch writes into one table.
pub(super) struct TableRows<'a> {
    pub(super) table: &'a KnownTable,
    pub(super) copies: Vec<CopyRows<'a>>,
}

/// Of a batch, the resources whose new content must fit a table.
pub(super) fn replaced(batch: &[Settled]) -> Vec<i64> {
    let replaced = batch.iter().filter(|one| matches!(one.outcome, Outcome::Replaced(_)));
    replaced.map(|one| one.resource.0).collect()
}

/// The resources of a plan that tables have to do with.
pub(super) fn concerned(plan: &Plan<'_>) -> Vec<i64> {
    plan.replaced.iter().map(|(id, ..)| id.0).chain(plan.gone.iter().map(|(id, _)| id.0)).collect()
}

/// The sources of resources.
pub(super) type SourceOf = HashMap<ResourceId, SourceId>;

/// Refuses what was decided by another process, whose configuration has another table, and does not fit the one that holds: as
/// if its lease were lost, so that it will be asked for again.
pub(super) fn refuse_misfits(batch: &[Settled], fates: &mut [Fate], tables: &[KnownTable], source_of: &SourceOf) {
    for (one, fate) in batch.iter().zip(fates) {
        let Outcome::Replaced(new) = &one.outcome else { continue };
        let source = source_of.get(&one.resource);
        let mut held = tables.iter().filter(|table| Some(&table.source) == source && holds(tables, table));
        if *fate == Fate::Committed && held.any(|table| rows(&table.table, new).is_err()) {
            *fate = Fate::LeaseLost;
        }
    }
}

/// The rows of a plan for each table that its sources have.
///
/// What is stored although it does not fit, such as an import, has no rows. A table that is about to be left keeps those that
/// it has.
pub(super) fn rows_of<'a>(plan: &Plan<'a>, tables: &'a [KnownTable], source_of: &SourceOf) -> Vec<TableRows<'a>> {
    let written = tables.iter().map(|table| {
        let of_source = plan.replaced.iter().filter(|(id, ..)| source_of.get(id) == Some(&table.source));
        let copies = of_source.filter_map(|(id, at, new)| {
            let rows = match rows(&table.table, new) {
                Ok(rows) => rows,
                Err(_) if holds(tables, table) => Cow::default(),
                Err(_) => return None,
            };
            Some(CopyRows { resource: *id, version: new.version, changed_at: micros(*at), gone_since: None, rows })
        });
        TableRows { table, copies: copies.collect() }
    });
    written.collect()
}

/// Whether it is the table that its source is configured to have.
fn holds(tables: &[KnownTable], table: &KnownTable) -> bool {
    let is_followed = |other: &KnownTable| other.source == table.source && other.state == TableState::Filling;
    table.state == TableState::Filling || (table.state == TableState::Live && !tables.iter().any(is_followed))
}

fn rows<'a>(table: &Table, replacement: &'a Replacement) -> Result<Cow<'a, [Row]>, Box<Misfit>> {
    match &replacement.typed {
        Some(typed) if *typed.table == *table => Ok(Cow::Borrowed(&typed.rows)),
        _ => project(table, &replacement.snapshot.body).map(Cow::Owned),
    }
}

/// A name as SQL has it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Parts of a statement, one behind the other.
pub(super) fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().concat()
}

/// The columns of a table that are configured, the row's key first.
pub(super) fn names(table: &Table) -> impl Iterator<Item = String> {
    table.row().map(|column| quoted(&column.name))
}

/// The columns that are to be looked up by an index.
pub(super) fn indexed(table: &Table) -> impl Iterator<Item = (usize, &Column)> {
    table.columns.iter().enumerate().filter(|(_, column)| column.index)
}

/// What says of a view that it is ours, and whose.
pub(super) fn mark(source: &SourceName) -> String {
    format!("Made by Headpond for source {source}.")
}
