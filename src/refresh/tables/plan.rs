//! What the configuration says of tables, against what there is.

use std::sync::Arc;

use crate::config::Config;
use crate::domain::resource::SourceName;
use crate::domain::table::Table;
use crate::domain::table_change::{Difference, differences};
use crate::store::{KnownTable, Store, StoreError, TableState};

/// What is to become of all tables.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Tables of sources in the configuration that are not as it says.
    pub changes: Vec<Change>,
    /// Tables that apps read, and that the configuration does not have.
    pub unknown: Vec<KnownTable>,
}

/// What is to become of one.
#[derive(Debug, Clone)]
pub struct Change {
    /// Whose it is.
    pub source: SourceName,
    /// What it is to be.
    pub table: Arc<Table>,
    /// How that differs from what apps read; `None` when they read nothing yet.
    pub differences: Option<Vec<Difference>>,
    /// What is in its way.
    pub obstacles: Vec<String>,
}

/// Compares the tables of the configuration with those of the database.
///
/// # Errors
/// When the store fails.
pub async fn plan(store: &dyn Store, config: &Config) -> Result<Plan, StoreError> {
    let known = store.tables().await?;
    let live_of = |source: &SourceName| {
        known.iter().find(|table| table.source_name == *source && table.state == TableState::Live)
    };
    let mut changes = Vec::new();
    for source in &config.sources {
        let Some(table) = &source.policy.body.table else { continue };
        let live = live_of(&source.name);
        let home = &config.database.tables;
        let obstacles = store.table_obstacles(&source.name, table, home, live).await?;
        let mut differences = live.map(|live| differences(&live.table, table));
        let moved = live.and_then(|live| live.schema.as_ref()).filter(|schema| **schema != home.schema);
        if let (Some(schema), Some(differences)) = (moved, &mut differences) {
            let what = format!("its views are in schema {:?}, and were in {schema:?}", home.schema);
            differences.push(Difference { what, is_loss: true });
        }
        if !obstacles.is_empty() || differences.as_ref().is_none_or(|all| !all.is_empty()) {
            let (source, table) = (source.name.clone(), Arc::clone(table));
            changes.push(Change { source, table, differences, obstacles });
        }
    }
    let has_table = |name: &SourceName| {
        config.sources.iter().any(|source| source.name == *name && source.policy.body.table.is_some())
    };
    let unknown = known.iter().filter(|table| table.state == TableState::Live && !has_table(&table.source_name));
    Ok(Plan { changes, unknown: unknown.cloned().collect() })
}

impl Plan {
    /// What keeps it from being carried out, in lines for people. `may_lose`: whether apps may lose what they read.
    #[must_use]
    pub fn refusals(&self, may_lose: bool) -> Vec<String> {
        let mut refusals = Vec::new();
        for Change { source, differences, obstacles, .. } in &self.changes {
            let at = |problem: &dyn std::fmt::Display| format!("sources.{source}.table: {problem}");
            refusals.extend(obstacles.iter().map(|obstacle| at(obstacle)));
            let losses = differences.iter().flatten().filter(|one| one.is_loss && !may_lose);
            refusals
                .extend(losses.map(|loss| at(&format!("{loss}: allow it with --yes or allow_table_changes = true"))));
        }
        refusals
    }

    /// What it does, in lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for Change { source, table, differences, obstacles } in &self.changes {
            let named = format!("table {} of source {source}", table.name);
            match differences {
                None => lines.push(format!("{named}: new, made of the stored copies")),
                Some(all) => lines.extend(all.iter().map(|one| {
                    let loss = if one.is_loss { " (needs --yes or allow_table_changes = true)" } else { "" };
                    format!("{named}: {one}{loss}")
                })),
            }
            lines.extend(obstacles.iter().map(|obstacle| format!("{named}: not possible: {obstacle}")));
        }
        let unknown = self.unknown.iter().map(|table| {
            format!(
                "table {} of source {}: no longer configured; it stays, and is dropped with --yes or \
                 allow_table_changes = true",
                table.table.name, table.source_name
            )
        });
        lines.extend(unknown);
        lines
    }
}
