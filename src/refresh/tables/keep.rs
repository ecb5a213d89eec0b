//! Makes, fills, opens and drops tables until they are as the configuration says.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::adopt::adopt;
use crate::domain::resource::SourceId;
use crate::domain::table::Table;
use crate::refresh::Refresher;
use crate::refresh::TableRules;
use crate::store::{KnownTable, Store, StoreError, TableId, TableState};

/// How many keys are looked at with one transaction.
const PAGE: u32 = 500;

/// How long to wait before what could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// After how many copies the progress is told.
const TELL_EACH: u64 = 10_000;

/// Why a table is not as the configuration says yet.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    /// The database.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// So many refused bodies that fit now can't be taken yet.
    #[error("{0} refused bodies fit it now, and are taken as soon as their upstream's limits allow")]
    Waiting(usize),
    /// Copies would lose their rows.
    #[error(
        "{misfits} stored copies don't fit the new table, which would lose their rows ({example}); apps read the old one \
         until they do, or until that is allowed with --yes or allow_table_changes = true"
    )]
    Misfits {
        /// How many.
        misfits: u64,
        /// Key and reason of one.
        example: String,
    },
}

/// Keeps the tables of the present configuration, until `stop` is cancelled. After a reload it begins anew.
pub async fn keep(mut refreshers: watch::Receiver<Arc<Refresher>>, stop: CancellationToken) {
    loop {
        let refresher = Arc::clone(&refreshers.borrow_and_update());
        tokio::select! {
            () = stop.cancelled() => return,
            () = settle_patiently(&refresher) => {}
            changed = refreshers.changed() => if changed.is_err() { return },
        }
    }
}

/// Settles all tables, again and again until that succeeds; then waits for ever.
async fn settle_patiently(refresher: &Refresher) {
    let mut told = None;
    loop {
        let unsettled = settle_all(refresher, |source, done| tracing::info!(source, done, "filling its table")).await;
        if unsettled.is_empty() {
            return std::future::pending().await;
        }
        let lines: Vec<_> = unsettled.iter().map(|(source, why)| format!("{source}: {why}")).collect();
        if told.as_ref() != Some(&lines) {
            for line in &lines {
                tracing::warn!("a table is not as configured yet: {line}");
            }
            told = Some(lines);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Makes all tables as the configuration says, and tells how far each is. Returns those that are not, by their sources.
pub async fn settle_all(refresher: &Refresher, tell: impl Fn(&str, u64)) -> Vec<(String, Unsettled)> {
    let (store, rules) = (refresher.store.as_ref(), &refresher.roster.tables);
    let mut unsettled = Vec::new();
    if let Err(error) = drop_unknown(refresher).await {
        unsettled.push(("tables that are no longer configured".into(), error.into()));
    }
    for (id, source) in refresher.roster.sources() {
        let Some(table) = &source.policy.body.table else { continue };
        let name = source.name.as_str();
        let settled = async {
            settle(store, (id, table), rules, |done| tell(name, done)).await?;
            let (adopted, waiting) = adopt(refresher, id, source).await?;
            if adopted > 0 {
                tracing::info!(source = name, adopted, "bodies that were refused fit the table now, and are taken");
            }
            if waiting > 0 { Err(Unsettled::Waiting(waiting)) } else { Ok(()) }
        };
        if let Err(why) = settled.await {
            unsettled.push((name.to_owned(), why));
        }
    }
    unsettled
}

/// Makes one table as the configuration says.
async fn settle(
    store: &dyn Store,
    (source, table): (SourceId, &Table),
    rules: &TableRules,
    tell: impl Fn(u64),
) -> Result<(), Unsettled> {
    let live = find(store, source, TableState::Live).await?;
    let id = match &live {
        Some(live) if live.table == *table => live.id,
        _ => {
            let id = store.begin_table(source, table).await?;
            fill(store, id, tell).await?;
            let filled = find(store, source, TableState::Filling).await?;
            let misfits = filled.filter(|filled| filled.id == id && filled.misfits > 0);
            if let Some(KnownTable { misfits, misfit, .. }) = misfits {
                let example = misfit.unwrap_or_default();
                if live.is_some() && !rules.may_lose {
                    return Err(Unsettled::Misfits { misfits, example });
                }
                tracing::warn!(
                    table = table.name,
                    misfits,
                    example,
                    "stored copies don't fit a table, and have no rows in it"
                );
            }
            id
        }
    };
    store.open_table(id, &rules.home).await?;
    if live.is_none_or(|live| live.id != id) {
        tracing::info!(table = table.name, "the table can be read");
    }
    for left in store.tables().await?.iter().filter(|known| known.source == source && is_over(known, id)) {
        store.drop_table(left.id).await?;
    }
    Ok(())
}

/// Whether it is neither what apps read nor on its way to be, now that they read `open`.
fn is_over(known: &KnownTable, open: TableId) -> bool {
    known.id != open && known.state != TableState::Live
}

async fn fill(store: &dyn Store, id: TableId, tell: impl Fn(u64)) -> Result<(), StoreError> {
    let (mut done, mut told) = (0, 0);
    loop {
        let filled = store.fill_table(id, PAGE).await?;
        done += filled.copies;
        if done >= told + TELL_EACH {
            tell(done);
            told = done;
        }
        if filled.is_all {
            return Ok(());
        }
    }
}

async fn find(store: &dyn Store, source: SourceId, state: TableState) -> Result<Option<KnownTable>, StoreError> {
    let known = store.tables().await?;
    Ok(known.into_iter().find(|table| table.source == source && table.state == state))
}

/// Drops tables that no source is configured to have, if apps may lose them.
async fn drop_unknown(refresher: &Refresher) -> Result<(), StoreError> {
    let has_table = |table: &KnownTable| {
        refresher.roster.source(table.source).is_some_and(|source| source.policy.body.table.is_some())
    };
    for table in refresher.store.tables().await?.iter().filter(|table| !has_table(table)) {
        if table.state != TableState::Live || refresher.roster.tables.may_lose {
            refresher.store.drop_table(table.id).await?;
            tracing::info!(table = table.table.name, source = %table.source_name, "dropped a table that is no longer configured");
        }
    }
    Ok(())
}
