//! Keys from a query on the database.

use tokio::sync::mpsc;

use super::NotGathered;
use super::spool::{Spool, Spooler};
use crate::config::Source;
use crate::domain::resource::Params;
use crate::store::{KeyQuery, SelectedRow, Store, StoreError};

/// How many parts may wait to be written.
const WAITING: usize = 4;

/// Runs the query. Rows without a usable key are left out.
///
/// # Errors
/// What is wrong with it, or with the database. Then nothing of it counts.
pub async fn gather(store: &dyn Store, source: &Source, query: &KeyQuery) -> Result<Spool, NotGathered> {
    let (rows, found) = mpsc::channel(WAITING);
    let (selected, spooled) = tokio::join!(store.select_keys(query, rows), spool(source, found));
    match selected {
        Ok(()) => spooled,
        Err(StoreError::Rejected(said)) => Err(NotGathered::Problem(format!("the query failed: {said}"))),
        Err(error) => Err(error.into()),
    }
}

async fn spool(source: &Source, mut found: mpsc::Receiver<Vec<SelectedRow>>) -> Result<Spool, NotGathered> {
    let mut spooler = Spooler::new().map_err(|error| NotGathered::spool(&error))?;
    while let Some(rows) = found.recv().await {
        for SelectedRow { key, params } in rows {
            // A parameter that is NULL isn't there.
            let params: Params = params.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            spooler.add(source, key.as_deref(), &params).map_err(|error| NotGathered::spool(&error))?;
        }
    }
    spooler.done().map_err(|error| NotGathered::spool(&error))?.unless_useless()
}
