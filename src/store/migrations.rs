//! The steps of the schema, the same for both databases.

/// A step of the schema.
#[derive(Debug)]
pub(super) struct Migration {
    /// Its number.
    pub(super) version: i64,
    /// What it is called.
    pub(super) name: &'static str,
    /// Its statements on SQLite.
    pub(super) sqlite: &'static str,
    /// Its statements on Postgres.
    pub(super) postgres: &'static str,
}

/// In order; a step that was released is never changed.
const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "init",
        sqlite: include_str!("../../migrations/sqlite/0001_init.sql"),
        postgres: include_str!("../../migrations/postgres/0001_init.sql"),
    },
    Migration {
        version: 2,
        name: "census",
        sqlite: include_str!("../../migrations/sqlite/0002_census.sql"),
        postgres: include_str!("../../migrations/postgres/0002_census.sql"),
    },
    Migration {
        version: 3,
        name: "source_fingerprint",
        sqlite: include_str!("../../migrations/sqlite/0003_source_fingerprint.sql"),
        postgres: include_str!("../../migrations/postgres/0003_source_fingerprint.sql"),
    },
    Migration {
        version: 4,
        name: "snapshots",
        sqlite: include_str!("../../migrations/sqlite/0004_snapshots.sql"),
        postgres: include_str!("../../migrations/postgres/0004_snapshots.sql"),
    },
    Migration {
        version: 5,
        name: "hastened",
        sqlite: include_str!("../../migrations/sqlite/0005_hastened.sql"),
        postgres: include_str!("../../migrations/postgres/0005_hastened.sql"),
    },
    Migration {
        version: 6,
        name: "letter",
        sqlite: include_str!("../../migrations/sqlite/0006_letter.sql"),
        postgres: include_str!("../../migrations/postgres/0006_letter.sql"),
    },
    Migration {
        version: 8,
        name: "key_origins",
        sqlite: include_str!("../../migrations/sqlite/0008_key_origins.sql"),
        postgres: include_str!("../../migrations/postgres/0008_key_origins.sql"),
    },
    Migration {
        version: 9,
        name: "governor",
        sqlite: include_str!("../../migrations/sqlite/0009_governor.sql"),
        postgres: include_str!("../../migrations/postgres/0009_governor.sql"),
    },
    Migration {
        version: 10,
        name: "on_demand",
        sqlite: include_str!("../../migrations/sqlite/0010_on_demand.sql"),
        postgres: include_str!("../../migrations/postgres/0010_on_demand.sql"),
    },
    Migration {
        version: 11,
        name: "collections",
        sqlite: include_str!("../../migrations/sqlite/0011_collections.sql"),
        postgres: include_str!("../../migrations/postgres/0011_collections.sql"),
    },
    Migration {
        version: 13,
        name: "tables",
        sqlite: include_str!("../../migrations/sqlite/0013_tables.sql"),
        postgres: include_str!("../../migrations/postgres/0013_tables.sql"),
    },
    Migration {
        version: 14,
        name: "batch",
        sqlite: include_str!("../../migrations/sqlite/0014_batch.sql"),
        postgres: include_str!("../../migrations/postgres/0014_batch.sql"),
    },
    Migration {
        version: 15,
        name: "history",
        sqlite: include_str!("../../migrations/sqlite/0015_history.sql"),
        postgres: include_str!("../../migrations/postgres/0015_history.sql"),
    },
    Migration {
        version: 16,
        name: "erase",
        sqlite: include_str!("../../migrations/sqlite/0016_erase.sql"),
        postgres: include_str!("../../migrations/postgres/0016_erase.sql"),
    },
    Migration {
        version: 17,
        name: "webhooks",
        sqlite: include_str!("../../migrations/sqlite/0017_webhooks.sql"),
        postgres: include_str!("../../migrations/postgres/0017_webhooks.sql"),
    },
    Migration {
        version: 18,
        name: "budgets",
        sqlite: include_str!("../../migrations/sqlite/0018_budgets.sql"),
        postgres: include_str!("../../migrations/postgres/0018_budgets.sql"),
    },
    Migration {
        version: 19,
        name: "kept_until",
        sqlite: include_str!("../../migrations/sqlite/0019_kept_until.sql"),
        postgres: include_str!("../../migrations/postgres/0019_kept_until.sql"),
    },
];

/// The steps that this program has and a database, in which these were made, hasn't. Those of a newer program are its own
/// affair: `needs_format` says whether we can work with them.
pub(super) fn missing(made: &[i64]) -> impl Iterator<Item = &'static Migration> {
    MIGRATIONS.iter().filter(|migration| !made.contains(&migration.version))
}
