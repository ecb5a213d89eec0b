//! Databases that are new, old, of the future, or someone else's.

use headpond::domain::change::Cursor;
use headpond::store::{Authority, Changes, SchemaState, Store, StoreError, StoreOptions, inspect};
use tokio::task::JoinSet;

use crate::support::outcomes::content;
use crate::support::store::{TestStore, UNLIMITED, on_each_database, options, spec};

on_each_database! {
    an_empty_database_is_made_ready,
    without_leave_to_migrate_an_empty_database_is_refused,
    a_database_that_is_ready_needs_no_leave_to_migrate,
    processes_that_start_together_all_get_in,
    a_database_of_a_newer_program_is_refused,
    a_look_says_what_is_there_and_changes_nothing,
    an_older_database_is_seen_as_one_and_brought_up_to_date,
    the_apps_own_migrations_are_left_alone,
    what_is_stored_is_there_after_a_restart,
    a_store_that_is_closed_says_so,
}

fn no_leave() -> StoreOptions {
    StoreOptions { migrate: false, ..options() }
}

/// Why a database can't be used.
pub fn refusal<T>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Unusable(problem)) => problem,
        Err(other) => panic!("not Unusable: {other}"),
        Ok(_) => panic!("not refused"),
    }
}

/// The place before the feed's first entry: its tag is made of the random number that the first migration makes.
async fn beginning(store: &dyn Store) -> Cursor {
    match store.changes(None, 1).await.unwrap() {
        Changes::Page { next, .. } => next,
        Changes::Unknown => panic!("a feed has a beginning"),
    }
}

async fn an_empty_database_is_made_ready(test: &TestStore) {
    let empty = test.database.empty().await;
    let store = test.connect(&empty, &options()).await.unwrap();
    assert!(store.is_ready().await.unwrap());
    assert_ne!(beginning(&*store).await, beginning(&*test.store).await, "each has a random number of its own");
    store.close().await;
    empty.drop().await;
}

async fn without_leave_to_migrate_an_empty_database_is_refused(test: &TestStore) {
    let empty = test.database.empty().await;
    let problem = refusal(test.connect(&empty, &no_leave()).await);
    assert!(problem.contains("headpond migrate"), "{problem}");
    let problem = refusal(test.connect(&empty, &no_leave()).await);
    assert!(problem.contains("headpond migrate"), "and nothing was made the first time: {problem}");
    empty.drop().await;
}

async fn a_database_that_is_ready_needs_no_leave_to_migrate(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    let store = test.connect(&test.database, &no_leave()).await.unwrap();
    assert_eq!(beginning(&*store).await, beginning(&*test.store).await);
}

async fn processes_that_start_together_all_get_in(test: &TestStore) {
    let empty = test.database.empty().await;
    let mut starting = JoinSet::new();
    for _ in 0..6 {
        let (url, clock) = (empty.url(), std::sync::Arc::clone(&test.clock));
        starting.spawn(async move {
            let store = headpond::store::connect(&url, &options(), clock).await.unwrap();
            let seed = beginning(&*store).await;
            store.close().await;
            seed
        });
    }
    let seeds = starting.join_all().await;
    assert!(seeds.iter().all(|seed| *seed == seeds[0]), "{seeds:?}");
    empty.drop().await;
}

async fn a_database_of_a_newer_program_is_refused(test: &TestStore) {
    test.execute("UPDATE {meta} SET value = '99' WHERE name = 'needs_format'").await.unwrap();
    for options in [options(), no_leave()] {
        let problem = refusal(test.connect(&test.database, &options).await);
        assert!(problem.contains("99") && problem.contains("newer headpond"), "{problem}");
    }
    test.execute("UPDATE {meta} SET value = '2' WHERE name = 'needs_format'").await.unwrap();
    test.connect(&test.database, &no_leave()).await.unwrap();
}

async fn schema(url: &str) -> SchemaState {
    let inspected = inspect(url).await.unwrap();
    assert!(!inspected.description.is_empty());
    inspected.schema
}

async fn a_look_says_what_is_there_and_changes_nothing(test: &TestStore) {
    let empty = test.database.empty().await;
    for _ in 0..2 {
        assert_eq!(schema(&empty.url()).await, SchemaState::Absent);
    }
    empty.drop().await;
    assert_eq!(schema(&test.database.url()).await, SchemaState::UpToDate);
    test.execute("UPDATE {meta} SET value = '99' WHERE name = 'needs_format'").await.unwrap();
    let problem = refusal(inspect(&test.database.url()).await);
    assert!(problem.contains("newer headpond"), "{problem}");
}

/// As the first version made it.
async fn an_older_database_is_seen_as_one_and_brought_up_to_date(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.store.close().await;
    for sql in [
        "ALTER TABLE {source} DROP COLUMN fingerprint",
        "ALTER TABLE {source} DROP COLUMN cadence",
        "DELETE FROM {migration} WHERE version = 3",
    ] {
        test.execute(sql).await.unwrap();
    }
    assert_eq!(schema(&test.database.url()).await, SchemaState::Outdated);
    assert!(refusal(test.connect(&test.database, &no_leave()).await).contains("headpond migrate"));
    let store = test.another().await;
    assert_eq!(schema(&test.database.url()).await, SchemaState::UpToDate);
    let specs = [spec("weather", "weather", UNLIMITED)];
    assert_eq!(store.register(&specs, Authority::Owns).await.unwrap(), [weather]);
}

async fn the_apps_own_migrations_are_left_alone(test: &TestStore) {
    let empty = test.database.empty().await;
    empty
        .execute(
            "CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, checksum text);
             INSERT INTO _sqlx_migrations VALUES (1, 'of the app');
             CREATE TABLE weather (id bigint PRIMARY KEY)",
        )
        .await
        .unwrap();
    let store = test.connect(&empty, &options()).await.unwrap();
    store.close().await;
    let untouched = "SELECT count(*) FROM _sqlx_migrations WHERE version = 1 AND checksum = 'of the app'";
    assert_eq!(empty.number(untouched).await, 1);
    assert_eq!(empty.number("SELECT count(*) FROM _sqlx_migrations").await, 1);
    empty.drop().await;
}

async fn what_is_stored_is_there_after_a_restart(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let claims = test.claim(weather.upstream).await;
    test.settle(&claims[0], content("A", &[])).await;
    let before = test.current("weather", "k0").await;
    test.store.close().await;
    let store = test.another().await;
    let name = headpond::domain::resource::SourceName::new("weather").unwrap();
    assert_eq!(store.current(&name, &claims[0].key).await.unwrap().unwrap(), before);
    // The lease outlives the process that it was given to: what it asked for may still be answered.
    let applied = store.apply(&[test.settled(&claims[1], content("B", &[]))]).await.unwrap();
    assert_eq!(applied.number, Some(2));
}

async fn a_store_that_is_closed_says_so(test: &TestStore) {
    let other = test.another().await;
    other.close().await;
    other.close().await;
    assert!(matches!(other.is_ready().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(other.register(&[], Authority::Owns).await, Err(StoreError::Unavailable(_))));
    assert!(test.store.is_ready().await.unwrap());
}
