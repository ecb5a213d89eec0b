//! What only a file can be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use headpond::clock::ManualClock;
use headpond::domain::change::Cursor;
use headpond::store::{Changes, Store, StoreError, StoreOptions, connect};
use tempfile::TempDir;

use super::databases::refusal;
use crate::support::outcomes::{HOUR, content};
use crate::support::store::{TestStore, options, start};

async fn open(path: &Path, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    connect(&format!("sqlite://{}", path.display()), options, Arc::new(ManualClock::at(start()))).await
}

/// It is refused in words that name the path, and stays as it was.
async fn assert_refused(path: &Path, options: &StoreOptions, because: &str) {
    let problem = refusal(open(path, options).await);
    assert!(problem.contains(because) && problem.contains(&path.display().to_string()), "{problem}");
}

#[tokio::test]
async fn a_file_that_is_something_else_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("letter.txt");
    let letter = "Dear Sir or Madam, ".repeat(500);
    fs::write(&path, &letter).unwrap();
    assert_refused(&path, &options(), "not a SQLite database").await;
    assert_eq!(fs::read_to_string(&path).unwrap(), letter);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn a_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    assert_refused(directory.path(), &options(), "it is a directory").await;
}

#[tokio::test]
async fn a_missing_file_is_made_only_when_asked_for() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("new.db");
    assert_refused(&path, &StoreOptions { create: false, ..options() }, "no such file").await;
    assert!(!path.exists());
    open(&path, &options()).await.unwrap();
    assert!(path.exists());
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let directory = TempDir::new().unwrap();
    assert_refused(&directory.path().join("nowhere/x.db"), &options(), "the directory").await;
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert_refused(&file.join("x.db"), &options(), "is not a directory").await;
}

#[tokio::test]
async fn what_is_read_only_is_refused() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x.db");
    open(&path, &options()).await.unwrap().close().await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    assert_refused(&path, &options(), "read-only").await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    assert_refused(&path, &options(), "read-only").await;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    open(&path, &options()).await.unwrap();
}

#[tokio::test]
async fn a_url_must_name_a_file_and_nothing_more() {
    for (url, because) in [
        ("sqlite::memory:", "must name a file"),
        ("sqlite://", "must name a file"),
        ("sqlite://x.db?mode=ro", "a path alone"),
        ("mysql://root:secret@localhost/x", "must begin with sqlite:// or postgres://"),
        ("headpond.db", "must begin with sqlite:// or postgres://"),
    ] {
        let problem = refusal(connect(url, &options(), Arc::new(ManualClock::at(start()))).await);
        assert!(problem.contains(because) && !problem.contains("secret"), "{url}: {problem}");
    }
}

#[tokio::test]
async fn names_that_are_taken_are_refused_before_anything_is_touched() {
    let test = TestStore::sqlite().await;
    for taken in [
        "CREATE TABLE headpond_meta (mine text)",
        "CREATE TABLE headpond_migration (mine text)",
        "CREATE VIEW headpond_change AS SELECT 1 AS x",
        "CREATE TABLE mine (x); CREATE INDEX headpond_schedule_due ON mine (x)",
    ] {
        let database = test.database.empty().await;
        database.execute(taken).await.unwrap();
        assert_refused(&database.path(), &options(), "did not make").await;
        let objects = database.number("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%headpond%'").await;
        assert_eq!(objects, 1, "{taken}");
    }
}

#[tokio::test]
async fn migrations_of_a_newer_program_that_we_can_live_with_are_its_own_affair() {
    let test = TestStore::sqlite().await;
    let ours = test.number("SELECT count(*) FROM {migration}").await;
    test.execute("INSERT INTO {migration} VALUES (9999, 'of the future', 0)").await.unwrap();
    test.another().await;
    test.connect(&test.database, &StoreOptions { migrate: false, ..options() }).await.unwrap();
    assert_eq!(test.number("SELECT count(*) FROM {migration}").await, ours + 1);
}

#[tokio::test]
async fn what_is_stored_is_in_the_file_after_closing() {
    let test = TestStore::sqlite().await;
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.store.close().await;
    assert!(!test.database.path().with_extension("db-wal").exists());
    let copy = test.database.path().with_file_name("copy.db");
    fs::copy(test.database.path(), &copy).unwrap();
    let name = headpond::domain::resource::SourceName::new("weather").unwrap();
    let current = open(&copy, &options()).await.unwrap().current(&name, &crate::support::store::key("k0")).await;
    assert_eq!(current.unwrap().unwrap().content.unwrap().body.as_ref(), b"A");
}

#[tokio::test]
async fn a_place_that_a_restored_backup_never_reached_is_unknown() {
    let test = TestStore::sqlite().await;
    let weather = test.source_with_keys("weather", 1).await;
    let backup = test.database.path().with_file_name("backup.db");
    let place = async |store: &dyn Store, since: Option<Cursor>| match store.changes(since, 10).await.unwrap() {
        Changes::Page { next, .. } => Some(next),
        Changes::Unknown => None,
    };
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.execute(&format!("VACUUM INTO '{}'", backup.display())).await.unwrap();
    let in_both = place(&*test.store, None).await;
    test.clock.advance(HOUR);
    test.settle_all(weather.upstream, |_| content("B", &[])).await;
    let lost = place(&*test.store, in_both).await;

    let restored =
        connect(&format!("sqlite://{}", backup.display()), &options(), Arc::clone(&test.clock) as _).await.unwrap();
    assert_eq!(place(&*restored, in_both).await, in_both);
    assert_eq!(place(&*restored, lost).await, None);
    // And when another change has taken that number.
    let claim = restored.claim(&crate::support::store::ask(weather.upstream, 1)).await.unwrap().claims.remove(0);
    restored.apply(&[test.settled(&claim, content("C", &[]))]).await.unwrap();
    assert_eq!(place(&*restored, lost).await, None);
    assert_eq!(place(&*restored, in_both).await.unwrap().number, 2);
}
