//! Keys that are added and removed by hand: over the API, and by `headpond keys`.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{config, has, origin, replace, upstream};
use crate::support::program::{Headpond, Printed, Serving, client};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database! {
    keys_come_and_go_over_the_api,
    what_can_not_be_a_key_is_refused,
    keys_come_and_go_at_the_command_line,
    a_list_is_imported_or_nothing_of_it,
}

/// Sends a body to a path; the status, and the JSON that came.
async fn send(serving: &Serving, method: &str, path: &str, body: &str) -> (u16, Value) {
    let method = method.parse().unwrap();
    let answer = client().request(method, serving.url(path)).body(body.to_owned()).send().await.unwrap();
    let status = answer.status().as_u16();
    let bytes = answer.bytes().await.unwrap();
    (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
}

async fn keys_come_and_go_over_the_api(database: &Database) {
    let upstream = upstream().await;
    let headpond = Headpond::with_config(&config(database, &upstream.uri(), "keys = [\"berlin\"]"));
    let serving = headpond.serve().await;
    let put = send(&serving, "PUT", "/v1/cities/new%2Fyork", "{ \"lat\": 40.70 }").await;
    let expected = json!({ "source": "cities", "key": "new/york", "params": { "lat": "40.70" } });
    assert_eq!(put, (201, expected.clone()));
    assert_eq!(send(&serving, "PUT", "/v1/cities/new%2Fyork", "{ \"lat\": 40.70 }").await, (200, expected));
    assert_eq!(send(&serving, "PUT", "/v1/cities/berlin", "").await.0, 200);
    has(&serving, "cities", &["berlin", "new/york"]).await;
    assert_eq!(origin(&serving, "cities", "api").await["keys"], 2);

    let (status, left) = send(&serving, "DELETE", "/v1/cities/berlin", "").await;
    assert_eq!((status, &left["origins"]), (200, &json!(["config"])));
    let (status, problem) = send(&serving, "DELETE", "/v1/cities/berlin", "").await;
    assert_eq!((status, &problem["type"]), (409, &json!("/problems/listed-elsewhere")));
    assert_eq!(send(&serving, "DELETE", "/v1/cities/new%2Fyork", "").await, (204, Value::Null));
    assert_eq!(send(&serving, "DELETE", "/v1/cities/new%2Fyork", "").await.0, 404);
    has(&serving, "cities", &["berlin"]).await;
    assert_eq!(send(&serving, "GET", "/v1/cities/new%2Fyork", "").await.0, 200, "its data stays for a while");

    // What was added by hand stays, whatever the configuration says.
    send(&serving, "PUT", "/v1/cities/oslo", "").await;
    headpond.configure(&config(database, &upstream.uri(), "keys = [\"tirana\"]"));
    serving.signal("HUP");
    serving.logged("reloaded").await;
    has(&serving, "cities", &["oslo", "tirana"]).await;
    serving.stop().await;
}

async fn what_can_not_be_a_key_is_refused(database: &Database) {
    let upstream = upstream().await;
    let more = "keys = []\n[sources.places]\nurl = \"http://127.0.0.1:9/{lat}/{key}\"\nrefresh_every = \"1h\"";
    let mut config = config(database, &upstream.uri(), more);
    config = config.replacen("[server]", "[server]\nadmin_tokens = [\"administer-everything\"]", 1);
    let headpond = Headpond::with_config(&config);
    let serving = headpond.serve().await;
    for method in ["PUT", "DELETE"] {
        assert_eq!(send(&serving, method, "/v1/cities/berlin", "").await.0, 401, "{method}");
    }
    for (path, body, status, kind) in [
        ("/v1/places/a", "", 422, "unusable-key"),
        ("/v1/places/a", "{\"lat\":\"..\"}", 422, "unusable-key"),
        ("/v1/places/a", "[1]", 400, "bad-body"),
        ("/v1/places/a", "{\"lat\":", 400, "bad-body"),
        ("/v1/places/%00", "{\"lat\":1}", 400, "impossible-key"),
        ("/v1/places/a?b=c", "{\"lat\":1}", 400, "bad-parameter"),
        ("/v1/nowhere/a", "", 404, "unknown-source"),
    ] {
        let request = client().put(serving.url(path)).bearer_auth("administer-everything").body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{path} {body}");
        let problem: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(problem["type"], format!("/problems/{kind}"), "{path} {body}");
    }
    let large = "{\"lat\":\"".to_owned() + &"1".repeat(100_000) + "\"}";
    let request = client().put(serving.url("/v1/places/a")).bearer_auth("administer-everything").body(large);
    assert_eq!(request.send().await.unwrap().status(), 400);
    serving.stop().await;
}

fn lines(printed: &Printed) -> Vec<Value> {
    assert_eq!(printed.code(), Some(0), "{printed:?}");
    printed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn keys_come_and_go_at_the_command_line(database: &Database) {
    let upstream = upstream().await;
    let headpond = Headpond::with_config(&config(
        database,
        &upstream.uri(),
        "keys = [\"berlin\"]\nkeys_from = { file = \"cities.txt\" }",
    ));
    replace(&headpond, "cities.txt", "berlin\noslo\n");
    let serving = headpond.serve().await;
    has(&serving, "cities", &["berlin", "oslo"]).await;
    let added = headpond.run(&["keys", "add", "cities", "tirana", "oslo", "--param", "lat=1.5"]).await;
    assert_eq!(added.stdout, "1 added, 0 polled again, 1 were polled already, 1 with other parameters now\n");
    has(&serving, "cities", &["berlin", "oslo", "tirana"]).await;

    let listed = lines(&headpond.run(&["keys", "list", "cities", "--json"]).await);
    let expected = [
        json!({ "key": "berlin", "params": {}, "origins": ["config", "file"] }),
        json!({ "key": "oslo", "params": { "lat": "1.5" }, "origins": ["cli", "file"] }),
        json!({ "key": "tirana", "params": { "lat": "1.5" }, "origins": ["cli"] }),
    ];
    assert_eq!(listed, expected);
    let of_file = headpond.run(&["keys", "list", "cities", "--from", "file"]).await;
    assert_eq!(of_file.stdout, "berlin\tconfig,file\noslo\tcli,file\tlat=1.5\n");
    let status = headpond.run(&["status"]).await.stdout;
    assert!(status.contains("KEYS FROM") && status.contains("cities.txt"), "{status}");

    let removed = headpond.run(&["keys", "remove", "cities", "tirana", "oslo"]).await;
    assert_eq!(removed.code(), Some(0), "{removed:?}");
    let said = "tirana: no longer polled\noslo: removed, and still polled, since it comes from file\n";
    assert_eq!(removed.stdout, said);
    let listed = lines(&headpond.run(&["keys", "list", "cities", "--json"]).await);
    assert_eq!(
        listed[1],
        json!({ "key": "oslo", "params": {}, "origins": ["file"] }),
        "the file's parameters hold again"
    );
    let failed = headpond.run(&["keys", "remove", "cities", "berlin", "nowhere"]).await;
    assert_eq!(failed.code(), Some(1), "{failed:?}");
    assert!(failed.stdout.contains("it comes from config, file, take it out there"), "{failed:?}");
    assert!(failed.stdout.contains("nowhere: there is no such key"), "{failed:?}");
    serving.stop().await;
}

async fn a_list_is_imported_or_nothing_of_it(database: &Database) {
    let headpond = Headpond::with_config(&config(database, "http://127.0.0.1:9", "keys = []"));
    let keys: Vec<_> = (0..12_000).map(|n| format!("{n},{n}.5")).collect();
    std::fs::write(headpond.path("keys.csv"), format!("key,lat\n{}", keys.join("\n"))).unwrap();
    let imported = headpond.run(&["keys", "import", "cities", "keys.csv", "--json"]).await;
    assert_eq!(imported.json(), json!({ "keys": 12_000, "added": 12_000, "revived": 0, "updated": 0 }));
    assert_eq!(lines(&headpond.run(&["keys", "list", "cities", "--json"]).await).len(), 12_000);

    std::fs::write(headpond.path("keys.csv"), "key,lat\nberlin,1\noslo,2,3\n").unwrap();
    let refused = headpond.run(&["keys", "import", "cities", "keys.csv"]).await;
    assert_eq!(refused.code(), Some(2), "{refused:?}");
    assert!(refused.stderr.contains("keys.csv: line 3: there are 3 columns, and the head has 2"), "{refused:?}");

    let mut command = headpond.command(&["keys", "import", "cities", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"berlin\n7\n").await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let said = "1 added, 0 polled again, 1 were polled already, 1 with other parameters now\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), said, "{output:?}");
}
