//! Last good is never lost, whatever an upstream answers: through the whole program.

use std::fmt::Write;
use std::sync::Arc;

use crate::support::gzip::gzip_bomb;
use crate::support::program::Headpond;
use crate::support::raw_server::RawServer;
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(the_last_good_copy_outlives_every_bad_answer_and_the_failure_is_named);

const GOOD: &str = r#"{"good":true}"#;

async fn the_last_good_copy_outlives_every_bad_answer_and_the_failure_is_named(database: &Database) {
    let bad_answers = [
        ("empty", with_body("200 OK", "", b"")),
        ("truncated", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"good\":".to_vec()),
        ("too_large", with_body("200 OK", "", &[b'x'; 2000])),
        ("too_large", with_body("200 OK", "Content-Encoding: gzip\r\n", &gzip_bomb(100_000))),
        ("unparsable", with_body("200 OK", "Content-Type: application/json\r\n", b"<html>Back soon</html>")),
        // The good answer has neither ETag nor Last-Modified, so that nobody asked for this.
        ("unusable_not_modified", b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n".to_vec()),
        ("server_error", with_body("500 Internal Server Error", "", b"{}")),
        ("not_found", with_body("404 Not Found", "", b"{}")),
        ("broken", b"not HTTP at all\r\n\r\n".to_vec()),
        ("redirect", with_body("302 Found", "Location: /k\r\n", b"")),
        ("redirect", with_body("302 Found", "Location: file:///etc/passwd\r\n", b"")),
        ("redirect", with_body("302 Found", "Location: http://169.254.169.254/latest/meta-data/\r\n", b"")),
        ("redirect", with_body("301 Moved Permanently", "", b"")),
    ];
    let mut config = format!("[database]\nurl = \"{}\"\n[defaults]\nmax_body = \"1KiB\"\n", database.url());
    let mut servers = Vec::new();
    for (number, (_, bad)) in bad_answers.iter().enumerate() {
        let server = good_and_then(bad).await;
        let url = server.url("/{key}").as_str().replace("%7B", "{").replace("%7D", "}");
        write!(config, "[sources.s{number}]\nurl = \"{url}\"\nkeys = [\"k\"]\nrefresh_every = \"1h\"\n").unwrap();
        servers.push(server);
    }
    let headpond = Headpond::with_config(&config);
    let first = headpond.run(&["refresh", "--all", "--json"]).await;
    assert_eq!((first.code(), first.json()["new"].as_u64()), (Some(0), Some(bad_answers.len() as u64)), "{first:?}");
    let second = headpond.run(&["refresh", "--all", "--force", "--json"]).await;
    assert_eq!(
        (second.code(), second.json()["failed"].as_u64()),
        (Some(1), Some(bad_answers.len() as u64)),
        "{second:?}"
    );

    for (number, (kind, _)) in bad_answers.iter().enumerate() {
        let source = format!("s{number}");
        let meta = headpond.run(&["get", &source, "k", "--meta"]).await.json();
        assert_eq!((&meta["failing"]["kind"], &meta["version"]), (&(*kind).into(), &1.into()), "{meta}");
        let got = headpond.run(&["get", &source, "k"]).await;
        assert_eq!((got.code(), got.stdout.as_str()), (Some(0), GOOD), "after {kind}: {got:?}");
        assert_eq!(servers[number].requests().len(), 2, "{kind}: once for each refresh");
        let refused = headpond.run(&["get", &source, "k", "--refused"]).await;
        match *kind {
            "unparsable" => {
                let came = ["200, application/json, 22 bytes", "s4/k was refused at "];
                assert_eq!((refused.code(), refused.stdout.as_str()), (Some(0), "<html>Back soon</html>"));
                assert!(came.iter().all(|part| refused.stderr.contains(part)), "{refused:?}");
            }
            _ => assert_eq!((refused.code(), refused.stdout.as_str()), (Some(1), ""), "{kind}: {refused:?}"),
        }
    }
}

/// Neither of the two answers has its e-mail address anywhere on disk: one loses it, the other can't be told apart.
#[tokio::test]
async fn what_a_source_drops_is_nowhere_on_disk() {
    let good = with_body("200 OK", "", br#"{"id":1,"email":"canary@x.example"}"#);
    let bad = with_body("200 OK", "", br#"{"id":1,"email":"canary@x.example"#);
    let mut config = String::new();
    let mut servers = Vec::new();
    for (name, answer) in [("good", good), ("bad", bad)] {
        let server = RawServer::saying(&answer).await;
        let url = server.url("/{key}").as_str().replace("%7B", "{").replace("%7D", "}");
        let rules = "drop = [\"$.email\"]\nkeys = [\"k\"]\nrefresh_every = \"1h\"";
        write!(config, "[sources.{name}]\nurl = \"{url}\"\n{rules}\n").unwrap();
        servers.push(server);
    }
    let headpond = Headpond::with_config(&config);
    let refreshed = headpond.run(&["refresh", "--all", "--json"]).await;
    assert_eq!(
        (refreshed.json()["new"].as_u64(), refreshed.json()["failed"].as_u64()),
        (Some(1), Some(1)),
        "{refreshed:?}"
    );
    assert_eq!(headpond.run(&["get", "good", "k"]).await.stdout, r#"{"id":1}"#);
    let refused = headpond.run(&["get", "bad", "k", "--refused"]).await;
    assert!(refused.code() == Some(1) && refused.stderr.contains("of which none are kept"), "{refused:?}");
    let files = std::fs::read_dir(headpond.path("")).unwrap().map(|entry| entry.unwrap().path());
    let mut searched = 0;
    for file in files.filter(|path| path.is_file()) {
        searched += 1;
        let bytes = std::fs::read(&file).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"canary"), "{}", file.display());
    }
    assert!(searched >= 2, "the configuration and the database");
    for printed in [&refreshed.stdout, &refreshed.stderr, &refused.stderr] {
        assert!(!printed.contains("canary"), "{printed}");
    }
}

/// A server whose first answer is good and whose others are these bytes.
async fn good_and_then(bad: &[u8]) -> RawServer {
    let (good, bad): (Arc<[u8]>, Arc<[u8]>) = (with_body("200 OK", "", GOOD.as_bytes()).into(), bad.into());
    RawServer::start(move |mut connection| {
        let answer = if connection.number == 0 { good.clone() } else { bad.clone() };
        async move {
            connection.request().await;
            connection.say(&answer).await;
        }
    })
    .await
}

/// A whole answer; `more` are further header lines.
fn with_body(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
