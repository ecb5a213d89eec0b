//! `keys_from = { file = … }`.

use super::{PATIENCE, config, has, is_well, origin, problem, replace, upstream};
use crate::support::program::{Headpond, eventually, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database! {
    keys_of_a_file_are_polled_and_followed,
    keys_that_move_into_a_file_are_not_asked_for_again,
    what_is_half_written_or_gone_changes_nothing,
    what_was_taken_in_is_not_walked_at_the_next_start,
    only_the_owner_of_the_configuration_takes_keys_in,
    a_refresh_alone_adds_and_removes_nothing,
}

async fn keys_of_a_file_are_polled_and_followed(database: &Database) {
    let upstream = upstream().await;
    let headpond = Headpond::with_config(&config(
        database,
        &upstream.uri(),
        "keys = [\"tirana\"]\nkeys_from = [{ file = \"cities.txt\" }, { file = \"more.csv\" }]",
    ));
    replace(&headpond, "cities.txt", "berlin\n\n  prishtina  \n");
    replace(&headpond, "more.csv", "key,note\nprishtina,capital\n\"new, york\",\n");
    let serving = headpond.serve().await;
    has(&serving, "cities", &["berlin", "new, york", "prishtina", "tirana"]).await;
    assert_eq!(origin(&serving, "cities", "config").await["keys"], 1);
    assert_eq!(origin(&serving, "cities", "file").await["keys"], 2);
    assert_eq!(origin(&serving, "cities", "file:2").await["keys"], 2);

    // The second file has it too.
    replace(&headpond, "cities.txt", "berlin\noslo\n");
    has(&serving, "cities", &["berlin", "new, york", "oslo", "prishtina", "tirana"]).await;
    replace(&headpond, "more.csv", "key\n\"new, york\"\n");
    has(&serving, "cities", &["berlin", "new, york", "oslo", "tirana"]).await;
    // Its data is still there.
    assert_eq!(get_json(&serving.url("/v1/cities/prishtina")).await.0, 200);
    serving.stop().await;
}

async fn keys_that_move_into_a_file_are_not_asked_for_again(database: &Database) {
    let upstream = upstream().await;
    let headpond =
        Headpond::with_config(&config(database, &upstream.uri(), "keys = [\"berlin\", \"oslo\", \"tirana\"]"));
    let serving = headpond.serve().await;
    has(&serving, "cities", &["berlin", "oslo", "tirana"]).await;

    headpond.configure(&config(database, &upstream.uri(), "keys_from = { file = \"cities.txt\" }"));
    serving.signal("HUP");
    serving.logged("reloaded").await;
    problem(&serving, "cities", "file", "there is no such file").await;
    has(&serving, "cities", &["berlin", "oslo", "tirana"]).await;
    replace(&headpond, "cities.txt", "oslo\nberlin\n");
    has(&serving, "cities", &["berlin", "oslo"]).await;
    assert_eq!(origin(&serving, "cities", "config").await["keys"], 0);
    assert_eq!(upstream.received_requests().await.unwrap().len(), 3, "one for each, when it was new");
    serving.stop().await;
}

async fn what_is_half_written_or_gone_changes_nothing(database: &Database) {
    let upstream = upstream().await;
    let headpond = Headpond::with_config(&config(database, &upstream.uri(), "keys_from = { file = \"cities.jsonl\" }"));
    let good = "\"berlin\"\n{ \"key\": \"oslo\", \"lat\": 59.9 }\n7\n";
    replace(&headpond, "cities.jsonl", good);
    let serving = headpond.serve().await;
    let all = ["7", "berlin", "oslo"];
    has(&serving, "cities", &all).await;
    for (written, said) in [
        ("\"tirana\"\n{ \"key\": \"osl", "cities.jsonl: line 2: not JSON"),
        ("\"tirana\"\n{ \"lat\": 1 }", "line 2: there is no \"key\""),
        ("\"tirana\"\n[\"a\"]", "line 2: not a key"),
        ("\"tirana\"\n\"..\"", "line 2: \"..\": with this key"),
        ("\"tirana\"\n\"a\\u0000b\"", "line 2: \"a\\0b\": a key can't have control characters"),
        ("", "there are no keys in it"),
    ] {
        std::fs::write(headpond.path("cities.jsonl"), written).unwrap();
        problem(&serving, "cities", "file", said).await;
        has(&serving, "cities", &all).await;
    }
    std::fs::remove_file(headpond.path("cities.jsonl")).unwrap();
    problem(&serving, "cities", "file", "there is no such file").await;
    has(&serving, "cities", &all).await;

    replace(&headpond, "cities.jsonl", good);
    is_well(&serving, "cities", "file").await;
    replace(&headpond, "cities.jsonl", "\"berlin\"\n\"berlin\"\n");
    has(&serving, "cities", &["berlin"]).await;
    eventually("it is told", PATIENCE, async || {
        let problem = origin(&serving, "cities", "file").await["problem"].as_str()?.to_owned();
        (problem == "1 are there more than once, and the first counts").then_some(())
    })
    .await;
    serving.stop().await;
}

async fn what_was_taken_in_is_not_walked_at_the_next_start(database: &Database) {
    let upstream = upstream().await;
    let more = "keys = [\"tirana\"]\nkeys_from = { file = \"cities.txt\" }";
    let headpond = Headpond::with_config(&config(database, &upstream.uri(), more));
    replace(&headpond, "cities.txt", "berlin\noslo\n");
    let serving = headpond.serve().await;
    has(&serving, "cities", &["berlin", "oslo", "tirana"]).await;
    // Keys are there before their origin is noted as read, and one that is not is read again.
    eventually("all origins read", PATIENCE, async || {
        let unread = database.number("SELECT count(*) FROM {origin} WHERE mark IS NULL").await;
        (unread == 0).then_some(())
    })
    .await;
    serving.stop().await;
    let rounds = async || database.number("SELECT CAST(sum(round) AS bigint) FROM {origin}").await;
    let before = rounds().await;

    let serving = headpond.serve().await;
    replace(&headpond, "cities.txt", "berlin\noslo\nvaduz\n");
    has(&serving, "cities", &["berlin", "oslo", "tirana", "vaduz"]).await;
    assert_eq!(rounds().await, before + 1, "the changed file alone was taken in");
    serving.stop().await;
}

async fn only_the_owner_of_the_configuration_takes_keys_in(database: &Database) {
    let upstream = upstream().await;
    let toml = config(database, &upstream.uri(), "keys_from = { file = \"cities.txt\" }");
    let (first, second) = (Headpond::with_config(&toml), Headpond::with_config(&toml));
    replace(&first, "cities.txt", "berlin\n");
    replace(&second, "cities.txt", "oslo\n");
    let earlier = first.serve().await;
    has(&earlier, "cities", &["berlin"]).await;
    let owner = second.serve().await;
    has(&owner, "cities", &["oslo"]).await;

    replace(&first, "cities.txt", "tirana\n");
    earlier.logged("another process holds the configuration now").await;
    replace(&second, "cities.txt", "oslo\nvaduz\n");
    has(&owner, "cities", &["oslo", "vaduz"]).await;
    // Its own reload takes the configuration back.
    earlier.signal("HUP");
    has(&owner, "cities", &["tirana"]).await;
    earlier.stop().await;
    owner.stop().await;
}

async fn a_refresh_alone_adds_and_removes_nothing(database: &Database) {
    let upstream = upstream().await;
    let toml = config(database, &upstream.uri(), "keys_from = [{ file = \"cities.txt\" }, { file = \"more.txt\" }]");
    let headpond = Headpond::with_config(&toml);
    replace(&headpond, "cities.txt", "berlin\noslo\n");
    let refreshed = headpond.run(&["refresh", "--json"]).await;
    assert_eq!(refreshed.json()["new"], 2, "{refreshed:?}");
    let warning = "warning: sources.cities.keys_from: file:2: more.txt: there is no such file";
    assert!(refreshed.stderr.contains(warning), "{refreshed:?}");
    replace(&headpond, "cities.txt", "tirana\n");
    assert_eq!(headpond.run(&["refresh", "--json"]).await.json()["new"], 1);
    let listed = headpond.run(&["keys", "list", "cities"]).await.stdout;
    assert_eq!(listed, "berlin\tfile\noslo\tfile\ntirana\tfile\n");
}
