//! `status` and `health`, by the binary.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::{Headpond, Printed, eventually, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database! {
    a_refresh_is_told_by_source_and_upstream,
    nothing_registered_is_told_as_such,
    beside_a_running_serve_both_tell_the_same,
    the_health_of_a_running_serve_is_its_answer,
}

/// Users at an origin that has these four: one copy, one that fails, one that is gone, and one that is never asked for.
fn config(database: &Database, origin: &str, listen: &str) -> String {
    format!(
        "[server]\nlisten = \"{listen}\"\n[database]\nurl = \"{}\"\n\
         [upstreams.origin]\nrequests_per_second_limit = 20\nburst = 4\nmax_concurrent_requests = 3\n\
         [sources.users]\nupstream = \"origin\"\nurl = \"{origin}/users/{{key}}\"\nrefresh_every = \"1h\"\n\
         keys = [\"copy\", \"failing\", \"gone\", \"pending\"]\n",
        database.url()
    )
}

async fn origin() -> MockServer {
    let origin = MockServer::start().await;
    for (key, answer) in [
        ("copy", ResponseTemplate::new(200).set_body_string("hello")),
        ("failing", ResponseTemplate::new(500)),
        ("gone", ResponseTemplate::new(410)),
        ("pending", ResponseTemplate::new(200).set_body_string("later")),
    ] {
        Mock::given(path(format!("/users/{key}"))).respond_with(answer).mount(&origin).await;
    }
    origin
}

fn assert_well(printed: &Printed) {
    assert_eq!((printed.code(), printed.stderr.as_str()), (Some(0), ""), "{printed:?}");
}

/// Takes a member out of an object that has it.
fn take(object: &mut Value, name: &str) -> Value {
    object.as_object_mut().unwrap().remove(name).unwrap_or_else(|| panic!("no {name} in {object}"))
}

/// Takes a time out of an object; how many seconds after `at` it is.
fn take_time(object: &mut Value, name: &str, at: chrono::DateTime<chrono::Utc>) -> i64 {
    let time: chrono::DateTime<chrono::Utc> = take(object, name).as_str().unwrap().parse().unwrap();
    (time - at).num_seconds()
}

async fn a_refresh_is_told_by_source_and_upstream(database: &Database) {
    let origin = origin().await;
    let headpond = Headpond::with_config(&config(database, &origin.uri(), "127.0.0.1:0"));
    let refreshed = headpond.run(&["refresh", "users", "copy", "failing", "gone"]).await;
    assert_eq!(refreshed.code(), Some(1), "{refreshed:?}");

    let printed = headpond.run(&["status", "--json"]).await;
    assert_well(&printed);
    let mut told = printed.json();
    let at = take(&mut told, "at").as_str().unwrap().parse().unwrap();
    assert!(take(&mut told, "disk")["bytes"].as_u64().unwrap() > 0);
    let source = &mut told["sources"][0];
    // Times are what differs from run to run.
    assert!((-60..=0).contains(&take_time(source, "oldest_fetched_at", at)));
    assert!((-60..=0).contains(&take_time(source, "next_due_at", at)), "`pending` was due at once");
    assert!((-60..=0).contains(&take_time(&mut source["origins"][0], "synced_at", at)));
    assert!((-60..=0).contains(&take_time(&mut source["last_failure"], "at", at)));
    let upstream = &mut told["upstreams"][0];
    assert!((-60..=0).contains(&take_time(upstream, "oldest_due_at", at)));
    assert!(take(upstream, "tokens").as_f64().unwrap() <= 4.0);
    let expected = json!({
        "serve": null,
        "sources": [{
            "name": "users", "upstream": "origin", "ready": false,
            "keys": 4, "fresh": 1, "stale": 0, "pending": 2, "gone": 1, "failing": 1,
            "origins": [{ "name": "config", "about": null, "keys": 4, "problem": null, "problem_at": null }],
            "because": { "new": 1, "interval": 1, "backoff": 1, "gone_recheck": 1 },
            "next_due_not_before": null,
            "last_failure": {
                "key": "failing", "kind": "server_error", "status": 500,
                "detail": told["sources"][0]["last_failure"]["detail"],
            },
            "history": { "versions": 0, "bytes": 0 },
        }],
        "upstreams": [{
            "name": "origin",
            "requests_per_second_limit": 20.0, "burst": 4, "max_concurrent_requests": 3,
            "budgets": [], "pace": 1.0,
            "in_flight": 0, "due": 1, "due_is_more": false, "pauses": [],
        }],
        "webhooks": [],
    });
    assert_eq!(told, expected);

    let printed = headpond.run(&["status"]).await;
    assert_well(&printed);
    let lines: Vec<&str> = printed.stdout.lines().collect();
    let [head, users, "", upstreams, origin, "", last] = lines[..] else { panic!("{}", printed.stdout) };
    for (name, value) in [("KEYS", "4"), ("FRESH", "1"), ("PENDING", "2"), ("GONE", "1"), ("FAILING", "1")] {
        let end = head.find(name).unwrap() + name.len();
        assert_eq!(users[..end].split(' ').next_back(), Some(value), "{name} in\n{}", printed.stdout);
    }
    assert!(users.starts_with("users ") && users.contains("s ago, failing: server_error: "), "{users}");
    let limit = upstreams.find("LIMIT").unwrap();
    assert!(origin.starts_with("origin ") && origin[limit..].starts_with("20 requests/s, 3 at once "), "{origin}");
    assert!(last.starts_with("no serve runs; ") && last.contains("iB"), "{last}");
}

async fn nothing_registered_is_told_as_such(database: &Database) {
    let headpond = Headpond::with_config(&config(database, "http://127.0.0.1:9", "127.0.0.1:0"));
    let unready = headpond.run(&["status"]).await;
    assert_eq!(unready.code(), Some(2), "it makes nothing and changes nothing: {unready:?}");
    assert!(unready.stderr.contains("headpond migrate"), "{unready:?}");
    assert_eq!(headpond.run(&["migrate"]).await.code(), Some(0));
    let printed = headpond.run(&["status"]).await;
    assert_well(&printed);
    assert!(printed.stdout.starts_with("nothing was ever registered"), "{printed:?}");
    let told = headpond.run(&["status", "--json"]).await.json();
    assert_eq!((&told["sources"], &told["upstreams"]), (&json!([]), &json!([])));

    headpond.run(&["refresh", "users", "copy"]).await;
    let more = config(database, "http://127.0.0.1:9", "127.0.0.1:0")
        + "[sources.more]\nurl = \"http://127.0.0.1:9/{key}\"\nkeys = []\nrefresh_every = \"1h\"\n";
    headpond.configure(&more);
    let printed = headpond.run(&["status"]).await;
    assert!(printed.stdout.contains("\nmore: in the configuration, and not registered yet\n"), "{printed:?}");
}

async fn beside_a_running_serve_both_tell_the_same(database: &Database) {
    let origin = origin().await;
    let headpond = Headpond::with_config(&config(database, &origin.uri(), "127.0.0.1:0"));
    let serving = headpond.serve().await;
    let counts = |told: &Value| {
        let source = &told["sources"][0];
        ["keys", "fresh", "stale", "pending", "gone", "failing"].map(|name| source[name].as_u64().unwrap())
    };
    let by_api = eventually("all four were tried", Duration::from_secs(30), || async {
        let (status, told) = get_json(&serving.url("/v1/-/status")).await;
        assert_eq!(status, 200);
        (counts(&told) == [4, 2, 0, 1, 1, 1]).then_some(told)
    });
    let by_api = by_api.await;
    let by_command = headpond.run(&["status", "--json"]).await;
    assert_well(&by_command);
    assert_eq!(counts(&by_command.json()), counts(&by_api));
    assert!(by_api["serve"].is_string() && by_command.json()["serve"] == by_api["serve"], "{by_api}");
    serving.stop().await;
    assert_eq!(headpond.run(&["status", "--json"]).await.json()["serve"], Value::Null);
}

async fn the_health_of_a_running_serve_is_its_answer(database: &Database) {
    // A port that was free a moment ago, on all addresses of this machine.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("0.0.0.0:{port}");
    // An origin that takes requests and never answers: nothing gets ready.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let with = |origin: &str| {
        config(database, origin, &listen)
            .replace("[server]", "[server]\nallow_anonymous_reads = true\nshutdown_grace = \"1s\"")
    };
    let headpond = Headpond::with_config(&with(&silent));
    let said = |printed: Printed, code: i32, part: &str| {
        let all = format!("{}{}", printed.stdout, printed.stderr);
        assert_eq!(printed.code(), Some(code), "{printed:?}");
        assert!(all.contains(part) && all.lines().count() == 1, "{part:?} in {printed:?}");
    };
    said(headpond.run(&["health"]).await, 1, &format!("not healthy: http://127.0.0.1:{port}/healthz: "));

    let serving = headpond.serve().await;
    said(headpond.run(&["health"]).await, 0, &format!("healthy: http://127.0.0.1:{port}/healthz"));
    said(headpond.run(&["health", "--ready"]).await, 1, "503 Service Unavailable: Not every source has tried");
    serving.stop().await;

    let origin = origin().await;
    headpond.configure(&with(&origin.uri()));
    let serving = headpond.serve().await;
    let ready = eventually("it is ready", Duration::from_secs(30), || async {
        let printed = headpond.run(&["health", "--ready"]).await;
        (printed.code() == Some(0)).then_some(printed)
    });
    said(ready.await, 0, &format!("ready: http://127.0.0.1:{port}/readyz"));
    serving.stop().await;
}

#[tokio::test]
async fn a_process_that_does_not_answer_is_not_healthy() {
    // Connections are made, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let headpond = Headpond::with_config(&format!("[server]\nlisten = \"{}\"\n", silent.local_addr().unwrap()));
    let printed = headpond.run(&["health"]).await;
    assert_eq!(printed.code(), Some(1), "{printed:?}");
    assert!(printed.stderr.contains("no answer within 5 seconds"), "{printed:?}");

    headpond.configure("[server]\nlsten = \"127.0.0.1:1\"\n");
    let printed = headpond.run(&["health"]).await;
    assert_eq!(printed.code(), Some(1), "a check knows two outcomes: {printed:?}");
    assert!(printed.stderr.contains("headpond.toml:2:1"), "{printed:?}");
}
