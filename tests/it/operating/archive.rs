//! Export and import, and the move from one database to another.

use std::path::Path;

use serde_json::Value;

use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, files_config};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(
    a_move_keeps_etags_and_versions_so_that_the_next_poll_is_all_304s,
    the_same_archive_twice_changes_nothing
);

/// The other kind of database, empty.
async fn other(database: &Database) -> Database {
    match database {
        Database::Sqlite { .. } => Database::on_test_server().await,
        Database::Postgres { .. } => Database::sqlite(),
    }
}

async fn well(headpond: &Headpond, args: &[&str]) -> String {
    let printed = headpond.run(args).await;
    assert_eq!(printed.code(), Some(0), "{args:?}: {printed:?}");
    printed.stdout
}

pub async fn a_move_keeps_etags_and_versions_so_that_the_next_poll_is_all_304s(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    let count = super::FILES;
    write_json_files(files.path(), "users", 1..=count, "");
    let nginx = Nginx::start(files.path()).await;
    let config = |database: &Database| {
        files_config(database, &nginx.url(), count, "", "refresh_every = \"1h\"\nhistory = { versions = 2 }")
    };
    let old = Headpond::with_config(&config(database));
    well(&old, &["refresh", "--all"]).await;
    write_json_files(files.path(), "users", 1..=7, "changed");
    well(&old, &["refresh", "--all", "--force"]).await;
    let archive = old.path("all.ndjson.zst").display().to_string();
    well(&old, &["export", "--history", "--output", &archive]).await;
    let before = nginx.requests().len();

    let place = other(database).await;
    let new = Headpond::with_config(&config(&place));
    let imported = well(&new, &["import", &archive]).await;
    assert!(imported.starts_with(&format!("{count} stored, 0 confirmed, 0 kept")), "{imported}");
    for args in [&["get", "users", "7", "--meta"], &["get", "users", "9", "--meta"]] {
        let of = async |headpond: &Headpond| serde_json::from_str::<Value>(&well(headpond, args).await).unwrap();
        let (old, new) = (of(&old).await, of(&new).await);
        for field in ["version", "fetched_at", "stale_after", "changed_at", "etag"] {
            assert_eq!(old[field], new[field], "{field}");
        }
    }
    let before_it = ["get", "users", "7", "--version", "1"];
    assert_eq!(well(&old, &before_it).await, well(&new, &before_it).await, "what was replaced has moved too");
    let refreshed = new.run(&["refresh", "--all", "--force", "--json"]).await;
    assert_eq!(refreshed.json()["unchanged"].as_u64(), Some(count.into()), "{refreshed:?}");
    let after = nginx.requests().split_off(before);
    let confirmed = after.iter().filter(|request| request.status == 304).count();
    println!("after the move nginx has logged {} requests, {confirmed} of them 304", after.len());
    assert_eq!((after.len(), confirmed), (count as usize, count as usize));
    place.drop().await;
}

async fn the_same_archive_twice_changes_nothing(database: &Database) {
    let headpond = Headpond::with_config(&config_of(database));
    let archive = "{\"source\":\"users\",\"key\":\"1\",\"age\":\"3h\",\"json\":{\"n\":1}}\n\
                   {\"source\":\"users\",\"key\":\"2\",\"state\":\"gone\"}\n\
                   {\"source\":\"users\",\"key\":\"3\",\"added_by\":[\"cli\"],\"state\":\"pending\"}\n";
    std::fs::write(headpond.path("by-hand.ndjson"), archive).unwrap();
    let first = well(&headpond, &["import", "by-hand.ndjson", "--add-keys", "--json"]).await;
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!((&first["stored"], &first["keys_alone"]), (&2.into(), &1.into()), "{first}");
    well(&headpond, &["export", "--output", "first.ndjson"]).await;
    let second: Value =
        serde_json::from_str(&well(&headpond, &["import", "first.ndjson", "--add-keys", "--json"]).await).unwrap();
    assert_eq!((&second["stored"], &second["kept"]), (&0.into(), &2.into()), "{second}");
    assert_eq!(second["history_left"], 0, "{second}");
    well(&headpond, &["export", "--output", "second.ndjson"]).await;
    let resources = |name: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(headpond.path(name)).unwrap();
        text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(resources("first.ndjson"), resources("second.ndjson"));
    assert_eq!(well(&headpond, &["get", "users", "1"]).await, "{\"n\":1}");
    assert_eq!(well(&headpond, &["keys", "list", "users", "--from", "cli"]).await, "1\tcli\n2\tcli\n3\tcli\n");
}

#[tokio::test]
async fn an_import_says_of_how_many_the_history_was_left() {
    let database = Database::sqlite();
    let config =
        files_config(&database, "http://127.0.0.1:9", 1, "", "refresh_every = \"1h\"\nhistory = { versions = 2 }");
    let headpond = Headpond::with_config(&config);
    let (since, until) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let past = format!("{{\"version\":1,\"changed_at\":\"{since}\",\"until\":\"{until}\",\"body\":\"0\"}}");
    let line = |history: &str| {
        let times = format!("\"fetched_at\":\"{until}\",\"changed_at\":\"{until}\"");
        format!("{{\"source\":\"users\",\"key\":\"1\",\"version\":2,{times},\"json\":1,\"history\":[{history}]}}\n")
    };
    std::fs::write(headpond.path("without.ndjson"), line("")).unwrap();
    std::fs::write(headpond.path("with.ndjson"), line(&past)).unwrap();
    let first = well(&headpond, &["import", "without.ndjson"]).await;
    assert!(first.starts_with("1 stored") && !first.contains("history"), "{first}");
    let second = well(&headpond, &["import", "with.ndjson"]).await;
    assert!(
        second.contains("1 kept as they are") && second.contains("1 of those with a history that was left"),
        "{second}"
    );
    database.drop().await;
}

fn config_of(database: &Database) -> String {
    files_config(database, "http://127.0.0.1:9", 1, "", "refresh_every = \"1h\"")
}

/// What an import of this text says, which must fail, and what was imported before.
async fn refused(headpond: &Headpond, text: &str) -> (String, usize) {
    std::fs::write(headpond.path("bad.ndjson"), text).unwrap();
    let printed = headpond.run(&["import", "bad.ndjson"]).await;
    assert_eq!(printed.code(), Some(2), "{text}: {printed:?}");
    assert!(!printed.stderr.contains("panicked"), "{printed:?}");
    let exported = well(headpond, &["export"]).await;
    (printed.stderr, exported.lines().count() - 2)
}

#[tokio::test]
async fn a_bad_archive_is_refused_at_its_line_and_what_came_before_stays() {
    let database = Database::sqlite();
    let headpond = Headpond::with_config(&config_of(&database));
    let good = "{\"source\":\"users\",\"key\":\"1\",\"json\":{\"n\":1},\"added_by\":[\"cli\"]}\n";
    let head = "{\"headpond_archive\":1,\"made_at\":\"2026-01-01T00:00:00Z\"}\n";
    let line = |more: &str| format!("{{\"source\":\"users\",\"key\":\"2\",{more}}}\n");
    for (text, said) in [
        (format!("{good}{{\"source\":\"users\",\"ke"), "bad.ndjson:2: EOF while parsing"),
        (format!("{head}{good}"), "bad.ndjson: it was cut short: its last line is missing after 1 resources"),
        (format!("{head}{good}{{\"resources\":2}}\n"), "it has 1 resources, and its last line says 2"),
        (
            format!("{good}{{\"source\":\"nobody\",\"key\":\"1\"}}\n"),
            "bad.ndjson:2: no source \"nobody\" in the configuration, which has: users",
        ),
        (format!("{good}{}", line("\"body_base64\":\"!!\"")), "bad.ndjson:2: body_base64: Invalid"),
        (format!("{good}{}", line("\"bdoy\":\"x\"")), "unknown field `bdoy`"),
        (format!("{good}{}", line("\"age\":\"soon\",\"body\":\"x\"")), "bad.ndjson:2: age \"soon\": "),
        (format!("{good}{}", line("\"age\":\"-3h\",\"body\":\"x\"")), "bad.ndjson:2: age \"-3h\": "),
        (format!("{good}{}", line("\"fetched_at\":\"2999-01-01T00:00:00Z\",\"body\":\"x\"")), "lies in the future"),
        (format!("{good}{}", line("\"state\":\"fresh\"")), "it has no body"),
        (format!("{good}{}", line("\"body\":\"x\",\"json\":1")), "it has several bodies"),
        (
            format!("{good}{}", line("\"headers\":[[\"content-type\",\"application/json\"]],\"body\":\"{\"")),
            "the body is not JSON",
        ),
        (format!("{good}{}", line("\"added_by\":[\"me\"]")), "added_by: \"me\" is neither \"api\" nor \"cli\""),
        (format!("{good}{}", line("\"hash\":\"12\",\"body\":\"x\"")), "hash = \"12\" is no hash"),
        (format!("{good}{}", line("\"etag\":\"\u{20ac}\",\"body\":\"x\"")), "no character of ISO 8859-1"),
    ] {
        let (stderr, resources) = refused(&headpond, &text).await;
        assert!(stderr.contains(said), "{said:?} in {stderr}");
        assert_eq!(resources, 1, "{stderr}");
    }
    let newer = "{\"headpond_archive\":2,\"made_at\":\"2026-01-01T00:00:00Z\"}\n";
    assert!(refused(&headpond, newer).await.0.contains("install a newer headpond"));
    let missing = headpond.run(&["import", "nowhere.ndjson"]).await;
    assert!(missing.code() == Some(2) && missing.stderr.contains("nowhere.ndjson: No such file"), "{missing:?}");
    database.drop().await;
}

#[tokio::test]
async fn of_a_key_that_comes_twice_the_newer_line_counts() {
    let database = Database::sqlite();
    let headpond = Headpond::with_config(&config_of(&database));
    let text = "{\"source\":\"users\",\"key\":\"1\",\"added_by\":[\"cli\"],\"age\":\"1m\",\"json\":2}\n\
                {\"source\":\"users\",\"key\":\"1\",\"age\":\"2m\",\"json\":1}\n";
    std::fs::write(headpond.path("twice.ndjson"), text).unwrap();
    let said = well(&headpond, &["import", "twice.ndjson"]).await;
    assert!(said.starts_with("1 stored, 0 confirmed, 1 kept"), "{said}");
    assert_eq!(well(&headpond, &["get", "users", "1"]).await, "2");
    database.drop().await;
}

#[tokio::test]
async fn a_body_that_was_edited_leaves_its_etag_behind() {
    let database = Database::sqlite();
    let headpond = Headpond::with_config(&config_of(&database));
    let by_hand = "{\"source\":\"users\",\"key\":\"1\",\"added_by\":[\"cli\"],\"age\":\"1h\",\"etag\":\"\\\"v\\\"\",\"body\":\"first\"}\n";
    std::fs::write(headpond.path("a.ndjson"), by_hand).unwrap();
    well(&headpond, &["import", "a.ndjson"]).await;
    let exported = well(&headpond, &["export"]).await;
    assert!(exported.contains("\\\"v\\\"") && exported.contains("\"hash\""), "{exported}");

    let elsewhere = Database::sqlite();
    let second = Headpond::with_config(&config_of(&elsewhere));
    std::fs::write(second.path("b.ndjson"), exported.replace("\"first\"", "\"second\"")).unwrap();
    let said = well(&second, &["import", "b.ndjson"]).await;
    assert!(said.contains("1 edited by hand: they are fetched anew"), "{said}");
    let again = well(&second, &["export"]).await;
    assert!(again.contains("second") && !again.contains("\"etag\""), "{again}");
    database.drop().await;
    elsewhere.drop().await;
}

#[tokio::test]
async fn an_export_that_can_not_be_written_says_where_and_leaves_nothing() {
    let database = Database::sqlite();
    let headpond = Headpond::with_config(&config_of(&database));
    well(&headpond, &["migrate"]).await;
    let nowhere = headpond.run(&["export", "--output", "nowhere/all.ndjson"]).await;
    assert!(nowhere.code() == Some(2) && nowhere.stderr.contains("nowhere/all.ndjson: "), "{nowhere:?}");
    let full = headpond
        .command(&["export"])
        .stdout(std::fs::File::create("/dev/full").unwrap())
        .spawn()
        .unwrap()
        .wait_with_output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&full.stderr);
    assert!(full.status.code() == Some(2) && said.contains("stdout: No space left"), "{said}");
    let unknown = headpond.run(&["export", "nobody"]).await;
    assert!(unknown.code() == Some(2) && unknown.stderr.contains("no source \"nobody\""), "{unknown:?}");
    assert!(!Path::new(&headpond.path("all.ndjson")).exists());
    database.drop().await;
}
