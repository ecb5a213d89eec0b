//! Backups under load, and what is restored from them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use crate::support::nginx::{Nginx, write_json_files};
use crate::support::postgres::dump_and_restore;
use crate::support::program::{Headpond, Serving, eventually, files_config, get_json};
use crate::support::store::{Database, on_each_empty_database};

const FILES: u32 = 500;

on_each_empty_database!(
    what_is_restored_asks_by_the_etags_of_the_backup_that_was_made_under_load,
    a_follower_who_read_beyond_the_backup_is_told_to_start_from_the_list,
);

/// Backs up what is at `from` to where nothing is yet.
async fn back_up(headpond: &Headpond, from: &Database, to: &Database) {
    match from {
        Database::Sqlite { .. } => {
            let path = to.path().display().to_string();
            let printed = headpond.run(&["backup", "--replace", &path]).await;
            assert_eq!(printed.code(), Some(0), "{printed:?}");
            assert!(printed.stdout.contains(&path), "{printed:?}");
        }
        Database::Postgres { .. } => dump_and_restore(&from.url(), &to.url()),
    }
}

async fn what_is_restored_asks_by_the_etags_of_the_backup_that_was_made_under_load(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=FILES, "");
    let nginx = Nginx::start(files.path()).await;
    let config = |database: &Database| files_config(database, &nginx.url(), FILES, "", "refresh_every = \"1s\"");
    let headpond = Headpond::with_config(&config(database));
    let first = headpond.run(&["refresh", "--all"]).await;
    assert_eq!(first.code(), Some(0), "{first:?}");
    let serving = headpond.serve().await;
    serving_again(&nginx, nginx.requests().len()).await;

    let restored = database.empty().await;
    back_up(&headpond, database, &restored).await;
    serving.stop().await;
    assert!(restored.is_sound().await);
    assert_eq!(restored.number("SELECT count(*) FROM {content}").await, i64::from(FILES));

    let before = nginx.requests().len();
    let headpond = Headpond::with_config(&config(&restored));
    let serving = headpond.serve().await;
    serving_again(&nginx, before).await;
    assert!(reads_well(&serving).await);
    serving.stop().await;
    let after = nginx.requests().split_off(before);
    assert!(after.iter().all(|request| request.status == 304), "every first request is conditional");
    restored.drop().await;
}

async fn a_follower_who_read_beyond_the_backup_is_told_to_start_from_the_list(database: &Database) {
    const FEW: u32 = 20;
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=FEW, "");
    let nginx = Nginx::start(files.path()).await;
    let config = |database: &Database| files_config(database, &nginx.url(), FEW, "", "refresh_every = \"1h\"");
    let refreshed = async |headpond: &Headpond| {
        let printed = headpond.run(&["refresh", "--all", "--force"]).await;
        assert_eq!(printed.code(), Some(0), "{printed:?}");
    };
    let old = Headpond::with_config(&config(database));
    refreshed(&old).await;
    let restored = database.empty().await;
    back_up(&old, database, &restored).await;

    // Both go on from there, and give their changes the same numbers.
    write_json_files(files.path(), "users", 1..=FEW, "changed");
    refreshed(&old).await;
    let new = Headpond::with_config(&config(&restored));
    refreshed(&new).await;
    let serving = old.serve_with(&["--offline"]).await;
    let (_, page) = get_json(&serving.url("/v1/-/changes?limit=1000")).await;
    serving.stop().await;
    let cursor = |index: u32| page["changes"][index as usize]["cursor"].as_str().unwrap().to_owned();
    let (within, beyond) = (cursor(FEW - 1), cursor(FEW));

    let serving = new.serve_with(&["--offline"]).await;
    let (status, rest) = get_json(&serving.url(&format!("/v1/-/changes?since={within}"))).await;
    assert_eq!((status, rest["changes"].as_array().unwrap().len()), (200, FEW as usize), "nothing is skipped");
    let (status, problem) = get_json(&serving.url(&format!("/v1/-/changes?since={beyond}"))).await;
    assert_eq!(status, 410, "{problem}");
    let (_, list) = get_json(&serving.url("/v1/users?limit=1000")).await;
    let items = list["items"].as_array().unwrap();
    assert!(items.len() == FEW as usize && items.iter().all(|item| item["version"] == 2), "{list}");
    let since = list["cursor"].as_str().unwrap();
    let (status, rest) = get_json(&serving.url(&format!("/v1/-/changes?since={since}"))).await;
    assert_eq!((status, rest["changes"].as_array().unwrap().len()), (200, 0), "list and feed fit together");
    serving.stop().await;
    restored.drop().await;
}

/// Waits until the upstream was asked for as much again as there is.
async fn serving_again(nginx: &Nginx, since: usize) {
    eventually("as many requests as there are files", Duration::from_secs(60), || async {
        (nginx.requests().len() >= since + FILES as usize).then_some(())
    })
    .await;
}

async fn reads_well(serving: &Serving) -> bool {
    get_json(&serving.url(&format!("/v1/users/{FILES}"))).await.0 == 200
}

fn config_of(database: &Database) -> String {
    files_config(database, "http://127.0.0.1:9", 1, "", "refresh_every = \"1h\"")
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn a_backup_replaces_a_file_only_when_told_to_and_never_the_database() {
    let database = Database::sqlite();
    let headpond = Headpond::with_config(&config_of(&database));
    assert_eq!(headpond.run(&["migrate"]).await.code(), Some(0));
    let taken = headpond.path("taken");
    std::fs::write(&taken, "a letter").unwrap();
    let refused = headpond.run(&["backup", "taken"]).await;
    assert_eq!(refused.code(), Some(2), "{refused:?}");
    assert!(refused.stderr.contains("taken is there already") && refused.stderr.contains("--replace"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "a letter");

    let replaced = headpond.run(&["backup", "--replace", "taken"]).await;
    assert_eq!(replaced.code(), Some(0), "{replaced:?}");
    assert!(std::fs::read(&taken).unwrap().starts_with(b"SQLite format 3\0"));
    assert_eq!(taken.metadata().unwrap().permissions().mode() & 0o077, 0, "others may not read what it holds");

    let itself = headpond.run(&["backup", "--replace", &database.path().display().to_string()]).await;
    assert_eq!(itself.code(), Some(2), "{itself:?}");
    assert!(itself.stderr.contains("it is the database itself"), "{itself:?}");
    assert!(database.is_sound().await);
    database.drop().await;
}

#[tokio::test]
async fn a_backup_that_can_not_be_written_says_where_and_leaves_nothing() {
    let database = Database::sqlite();
    let headpond = Headpond::with_config(&config_of(&database));
    assert_eq!(headpond.run(&["migrate"]).await.code(), Some(0));
    let nowhere = headpond.run(&["backup", "nowhere/backup.db"]).await;
    assert_eq!(nowhere.code(), Some(2), "{nowhere:?}");
    assert!(nowhere.stderr.contains("nowhere/backup.db: "), "{nowhere:?}");

    // A limit to the size of files is what a full disk is, for whoever writes beyond it.
    let before = names_in(&headpond.path(""));
    let mut limited = Command::new("bash");
    limited.args([
        "-c",
        "trap '' XFSZ; ulimit -f 40; exec \"$@\"",
        "bash",
        env!("CARGO_BIN_EXE_headpond"),
        "backup",
        "full.db",
    ]);
    let output = limited.current_dir(headpond.path("")).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("full.db: "), "{said}");
    assert_eq!(names_in(&headpond.path("")), before, "nothing is left of it");
    database.drop().await;
}

#[tokio::test]
async fn postgres_is_backed_up_by_its_own_tools() {
    let database = Database::on_test_server().await;
    let headpond = Headpond::with_config(&config_of(&database));
    assert_eq!(headpond.run(&["migrate"]).await.code(), Some(0));
    let refused = headpond.run(&["backup", "backup.db"]).await;
    assert_eq!(refused.code(), Some(2), "{refused:?}");
    assert!(refused.stderr.contains("pg_dump"), "{refused:?}");
    assert!(!headpond.path("backup.db").exists());
    database.drop().await;
}
