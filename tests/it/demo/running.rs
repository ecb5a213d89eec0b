//! The command: what it refuses, and that it goes on where it ended.

use tokio::io::{AsyncBufReadExt, BufReader};

use super::{Demo, PATIENCE, interrupt};
use crate::support::program::{Headpond, Printed, eventually, get_json};

fn assert_refused(printed: &Printed, parts: &[&str]) {
    assert_eq!(printed.code(), Some(2), "{printed:?}");
    for part in parts {
        assert!(printed.stderr.contains(part), "{part:?} in {printed:?}");
    }
}

#[tokio::test]
async fn it_goes_on_with_its_file_when_it_is_started_again() {
    let headpond = Headpond::with_config("");
    let first = Demo::start(&headpond).await;
    let version = |demo: &Demo| {
        let url = format!("{}/v1/users/u7/meta", demo.api);
        async move { get_json(&url).await.1["version"].as_u64().unwrap() }
    };
    let before = version(&first).await;
    let stats = first.stats().await;
    assert!(stats["contents"].as_u64() >= Some(2000), "all is fetched: {stats}");
    // On the same port as before: what is on another may be something else, and is fetched anew.
    let port = first.upstream.rsplit(':').next().unwrap().to_owned();
    first.stop().await;

    let again = Demo::start_with_upstream(&headpond, &port).await;
    assert!(version(&again).await >= before);
    let stats = eventually("a whole round", PATIENCE, || async {
        let stats = again.stats().await;
        (stats["requests"].as_u64() >= Some(2200)).then_some(stats)
    })
    .await;
    assert!(stats["not_modified"].as_u64() > stats["contents"].as_u64(), "only what has changed comes again: {stats}");
    again.stop().await;
}

#[tokio::test]
async fn the_upstream_runs_alone_too() {
    let headpond = Headpond::with_config("");
    let mut child = headpond.command(&["demo", "--upstream-only", "--port", "0"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let origin = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().trim_end_matches(':');
    let stats = get_json(&format!("{origin}/stats")).await;
    assert_eq!((stats.0, &stats.1["requests"]), (200, &0.into()));
    interrupt(child).await;
    assert!(!headpond.path("headpond-demo.db").exists());
    assert_refused(&headpond.run(&["demo", "--upstream-only", "--database", "x.db"]).await, &["--database"]);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_option_before_anything_is_touched() {
    let headpond = Headpond::with_config("");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    for (args, option) in [
        (&["--port", &taken, "--upstream-port", "0"][..], "--port"),
        (&["--port", "0", "--upstream-port", &taken], "--upstream-port"),
        (&["--upstream-only", "--port", &taken], "--port"),
    ] {
        let printed = headpond.run(&[&["demo"], args].concat()).await;
        assert_refused(&printed, &[&format!("headpond: {option} {taken}: can't listen"), "name another port"]);
    }
    assert!(!headpond.path("headpond-demo.db").exists());
}

#[tokio::test]
async fn a_database_that_can_not_be_the_demos_is_refused_and_left_as_it_was() {
    let config = "[sources.users]\nurl = \"http://127.0.0.1:9/{key}\"\nkeys = [\"a\"]\nrefresh_every = \"1h\"\n";
    let headpond = Headpond::with_config(config);
    let demo = async |database: &str| {
        headpond.run(&["demo", "--port", "0", "--upstream-port", "0", "--database", database]).await
    };
    std::fs::write(headpond.path("notes.txt"), "not a database, but something dear to someone").unwrap();
    assert_refused(&demo("notes.txt").await, &["--database notes.txt: it is not a SQLite database"]);
    assert!(std::fs::read_to_string(headpond.path("notes.txt")).unwrap().starts_with("not a database"));
    assert_refused(&demo("nowhere/demo.db").await, &["--database nowhere/demo.db: the directory nowhere"]);
    assert_refused(&demo(".").await, &["--database .: it is a directory"]);

    headpond.run(&["refresh"]).await;
    assert_refused(&demo("headpond.db").await, &["--database headpond.db: it holds copies of users", "another file"]);
    let meta = headpond.run(&["get", "users", "a", "--meta"]).await;
    assert_ne!(meta.json()["due"], serde_json::Value::Null, "it is polled as before: {meta:?}");
}

#[tokio::test]
async fn its_configuration_can_be_had_for_other_commands() {
    let headpond = Headpond::with_config("");
    let printed = headpond.run(&["demo", "--print-config", "--upstream-port", "8099", "--database", "a?%.db"]).await;
    assert_eq!(printed.code(), Some(0), "{printed:?}");
    headpond.configure(&printed.stdout);
    let checked = headpond.run(&["check"]).await;
    assert_eq!((checked.code(), checked.stderr.as_str()), (Some(0), ""), "{checked:?}");
    for part in ["weather: 200 keys, every 10s, from http://127.0.0.1:8099", "users: 2000 keys, every 30s"] {
        assert!(checked.stdout.contains(part), "{part:?} in {checked:?}");
    }
    assert_eq!(headpond.run(&["migrate"]).await.code(), Some(0));
    assert!(headpond.path("a?%.db").exists());
    let known = headpond.run(&["get", "--database", "a?%.db", "users", "u1"]).await;
    assert_eq!((known.code(), known.stderr.as_str()), (Some(1), "headpond: users/u1 is not known\n"));
    let absent = headpond.run(&["get", "--database", "absent.db", "users", "u1"]).await;
    assert_refused(&absent, &["--database absent.db: there is no such file"]);
}
