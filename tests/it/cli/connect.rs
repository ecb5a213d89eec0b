//! What `check --connect` and `try` find outside of the configuration.

use headpond::clock::{Clock, SystemClock};
use wiremock::matchers::{any, body_string, header, method};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::assert_says;
use crate::support::program::Headpond;
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(
    the_database_and_one_request_for_each_upstream_are_checked,
    a_request_takes_a_token_of_its_upstream,
);

/// Two upstreams, `good` with two sources, and `bad`.
fn config(database: &Database, good: &str, bad: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[defaults]\nrefresh_every = \"1h\"\n\
         [upstreams.good]\nrequests_per_second_limit = 0.01\nburst = 3\n[upstreams.bad]\n\
         [sources.a]\nupstream = \"good\"\nurl = \"{good}/a/{{key}}?token=canary-secret\"\nkeys = [\"first\", \"second\"]\n\
         [sources.b]\nupstream = \"good\"\nurl = \"{good}/b/{{key}}\"\nkeys = [\"first\"]\n\
         [sources.c]\nupstream = \"bad\"\nurl = \"{bad}/c/{{key}}\"\nkeys = [\"first\"]\n",
        database.url()
    )
}

/// Answers everything with this, so many times.
async fn upstream(answer: ResponseTemplate, times: u64) -> MockServer {
    let server = MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await;
    Mock::given(any()).respond_with(answer).expect(times).mount(&server).await;
    server
}

async fn the_database_and_one_request_for_each_upstream_are_checked(database: &Database) {
    let good = upstream(ResponseTemplate::new(200).set_body_string("hello"), 2).await;
    let bad = upstream(ResponseTemplate::new(503), 1).await;
    let toml = config(database, &good.uri(), &bad.uri());
    let headpond = Headpond::with_config(&toml);
    let checked = headpond.run(&["check", "--connect"]).await;
    assert_eq!(checked.code(), Some(1), "{checked:?}");
    for part in [
        "not there yet: `serve`, `refresh` or `migrate` will make it".to_owned(),
        format!("upstream good: GET {}/a/first → 200 OK, would be stored, 5 bytes; next due ", good.uri()),
        "(not counted against its limits: there is no database yet)".to_owned(),
        format!("upstream bad: GET {}/c/first → 503 Service Unavailable, failed: server_error: ", bad.uri()),
    ] {
        assert!(checked.stdout.contains(&part), "{part:?} in {}", checked.stdout);
    }
    assert!(!format!("{checked:?}").contains("canary-secret"), "{checked:?}");

    // Without the bad one all is well; offline, nothing is asked.
    let alone = toml.replace(
        &format!("url = \"{}/c/{{key}}\"\nkeys = [\"first\"]", bad.uri()),
        "url = \"http://127.0.0.1:9/{key}\"",
    );
    headpond.configure(&alone);
    assert_eq!(headpond.run(&["migrate"]).await.code(), Some(0));
    let checked = headpond.run(&["check", "--connect"]).await;
    assert_eq!(checked.code(), Some(0), "{checked:?}");
    for part in [", up to date\n", "upstream bad: no source of it has keys", "upstream good: GET "] {
        assert!(checked.stdout.contains(part), "{part:?} in {}", checked.stdout);
    }
    assert_eq!(headpond.run(&["check"]).await.code(), Some(0));
    for table in ["resource", "source", "upstream"] {
        assert_eq!(database.number(&format!("SELECT count(*) FROM {{{table}}}")).await, 0, "nothing is stored");
    }
}

async fn a_request_takes_a_token_of_its_upstream(database: &Database) {
    let good = upstream(ResponseTemplate::new(200).set_body_string("hello"), 2).await;
    let toml = config(database, &good.uri(), "http://127.0.0.1:9");
    let headpond = Headpond::with_config(&toml);
    // The upstream becomes known with all of its three tokens; nothing of it is due.
    headpond.run(&["refresh", "c"]).await;
    let now = SystemClock::new().now().timestamp_micros();
    let tokens = format!("UPDATE {{upstream}} SET tokens = 2, tokens_at = {now} WHERE name = 'good'");
    database.execute(&tokens).await.unwrap();
    let left = "SELECT CAST(round(tokens) AS bigint) FROM {upstream} WHERE name = 'good'";
    let tried = headpond.run(&["try", "a"]).await;
    assert_eq!((tried.code(), tried.stderr.as_str()), (Some(0), ""), "{tried:?}");
    assert_eq!(database.number(left).await, 1);
    let checked = headpond.run(&["check", "--connect"]).await;
    assert!(checked.stdout.contains("upstream good: GET"), "{checked:?}");
    assert!(!checked.stdout.contains("not counted"), "{checked:?}");
    assert_eq!(database.number(left).await, 0);
    // The next token comes in a minute or more, which nobody waits for.
    let tried = headpond.run(&["try", "b"]).await;
    assert_eq!(tried.code(), Some(1), "{tried:?}");
    assert!(tried.stdout.contains("failed: limited: "), "{tried:?}");
    good.verify().await;
}

#[tokio::test]
async fn a_database_that_can_not_be_used_fails_the_check_and_is_not_touched() {
    let good = upstream(ResponseTemplate::new(200).set_body_string("hello"), 4).await;
    let nowhere = Database::sqlite();
    let toml = config(&nowhere, &good.uri(), &good.uri());
    let headpond = Headpond::with_config(&toml);
    std::fs::write(nowhere.path(), "this is a shopping list, not a database").unwrap();
    let checked = headpond.run(&["check", "--connect"]).await;
    assert_eq!(checked.code(), Some(1), "{checked:?}");
    assert!(checked.stdout.contains("it is not a SQLite database"), "{checked:?}");
    assert!(checked.stdout.contains("upstream good: GET"), "the upstreams are asked all the same: {checked:?}");
    assert_eq!(std::fs::read_to_string(nowhere.path()).unwrap().len(), 39);

    headpond.configure(&toml.replace(&nowhere.url(), "postgres://someone:canary-secret@127.0.0.1:9/db"));
    let checked = headpond.run(&["check", "--connect"]).await;
    assert_eq!(checked.code(), Some(1), "{checked:?}");
    assert!(checked.stdout.contains("can't connect to 127.0.0.1:9/db"), "{checked:?}");
    assert!(!format!("{checked:?}").contains("canary-secret"), "{checked:?}");
}

#[tokio::test]
async fn try_says_that_nobody_counts_its_request() {
    let good = upstream(ResponseTemplate::new(200).set_body_string("hello"), 1).await;
    let database = Database::sqlite();
    let headpond = Headpond::with_config(&config(&database, &good.uri(), &good.uri()));
    let tried = headpond.run(&["try", "a"]).await;
    let note = "not counted against the limits of upstream good: there is no database yet";
    assert_says(&tried, 0, &[note]);
    assert!(!database.path().exists());
}

#[tokio::test]
async fn one_request_has_the_method_the_body_and_the_credentials_of_its_source() {
    let upstream = upstream_for_posts().await;
    let headpond = Headpond::with_config(&format!(
        "[database]\nurl = \"sqlite://headpond.db\"\n[defaults]\nrefresh_every = \"1h\"\n\
         [upstreams.up]\nauth = {{ bearer = \"canary-secret\" }}\n\
         [sources.s]\nupstream = \"up\"\nurl = \"{}/search\"\nbody = '{{\"id\":\"{{key}}\"}}'\nkeys = [\"k\"]\n",
        upstream.uri()
    ));
    for command in [&["try", "s"][..], &["check", "--connect"]] {
        let asked = headpond.run(command).await;
        assert_eq!(asked.code(), Some(0), "{asked:?}");
        assert!(asked.stdout.contains(&format!("POST {}/search", upstream.uri())), "{asked:?}");
        assert!(!format!("{asked:?}").contains("canary-secret"), "{asked:?}");
    }
}

/// Answers twice to who sends the body and shows the token.
async fn upstream_for_posts() -> MockServer {
    let server = MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await;
    Mock::given(method("POST"))
        .and(header("authorization", "Bearer canary-secret"))
        .and(body_string(r#"{"id":"k"}"#))
        .respond_with(ResponseTemplate::new(200).set_body_string("found"))
        .expect(2)
        .mount(&server)
        .await;
    server
}
