//! Typed tables through the whole program: made, changed and refused as the configuration says.

mod lists;

use std::time::Duration;

use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::{Headpond, Serving, eventually};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(
    a_table_is_made_of_stored_copies_and_changed_without_a_request,
    what_apps_would_lose_is_refused_until_it_is_allowed,
    a_refused_body_is_taken_without_a_request_once_it_fits,
    what_is_to_come_is_shown_beforehand,
    a_name_that_is_taken_keeps_serve_from_starting,
);

const PATIENCE: Duration = Duration::from_secs(60);

const NAME: &str = "name = { path = \"$.name\", type = \"text\" }";
const CITY: &str = "city = { path = \"$.city\", type = \"text\" }";

/// Two users, whose source has a table with these columns, if there are any.
fn config(database: &Database, origin: &str, columns: &[&str]) -> String {
    let table = match columns {
        [] => String::new(),
        columns => format!("table = {{ name = \"users\", columns = {{ {} }} }}\n", columns.join(", ")),
    };
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[sources.users]\nurl = \"{origin}/{{key}}\"\n\
         keys = [\"ada\", \"bob\"]\nrefresh_every = \"1h\"\n{table}",
        database.url()
    )
}

async fn upstream() -> MockServer {
    let server = MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await;
    for (key, body) in [("/ada", r#"{"name":"Ada","city":"Prishtina"}"#), ("/bob", r#"{"name":"Bob","city":"Berlin"}"#)]
    {
        let found = ResponseTemplate::new(200).set_body_raw(body, "application/json");
        Mock::given(method("GET")).and(path(key)).respond_with(found).mount(&server).await;
    }
    server
}

async fn asked(server: &MockServer) -> usize {
    server.received_requests().await.unwrap().len()
}

/// Waits until a query answers so; until the view is there, too.
async fn reads(serving: &Serving, database: &Database, sql: &str, expected: &[&str]) {
    serving.logged("the table can be read").await;
    eventually(&format!("{expected:?} from {sql}"), PATIENCE, async || {
        (database.rows(sql).await == expected).then_some(())
    })
    .await;
}

async fn a_table_is_made_of_stored_copies_and_changed_without_a_request(database: &Database) {
    let server = upstream().await;
    let headpond = Headpond::with_config(&config(database, &server.uri(), &[]));
    assert_eq!(headpond.run(&["refresh"]).await.code(), Some(0));
    headpond.configure(&config(database, &server.uri(), &[NAME]));
    let serving = headpond.serve().await;
    reads(&serving, database, "SELECT key, name FROM [users] ORDER BY key", &["ada|Ada", "bob|Bob"]).await;
    headpond.configure(&config(database, &server.uri(), &[NAME, CITY]));
    let (status, answer) = serving.post("/v1/-/reload", None).await;
    assert_eq!(status, 200, "{answer}");
    serving.logged_times("the table can be read", 2).await;
    let rows = database.rows("SELECT key, name, city FROM [users] ORDER BY key").await;
    assert_eq!(rows, ["ada|Ada|Prishtina", "bob|Bob|Berlin"]);
    serving.stop().await;
    // One pass does the same.
    headpond.configure(&config(database, &server.uri(), &[CITY]));
    let refreshed = headpond.run(&["refresh", "--yes"]).await;
    assert_eq!(refreshed.code(), Some(0), "{refreshed:?}");
    assert_eq!(database.rows("SELECT city FROM [users] ORDER BY key").await, ["Prishtina", "Berlin"]);
    assert_eq!(asked(&server).await, 2, "all of it from the stored copies");
}

async fn what_apps_would_lose_is_refused_until_it_is_allowed(database: &Database) {
    let server = upstream().await;
    let headpond = Headpond::with_config(&config(database, &server.uri(), &[NAME, CITY]));
    assert_eq!(headpond.run(&["refresh"]).await.code(), Some(0));
    headpond.configure(&config(database, &server.uri(), &[NAME]));
    let refused = headpond.run(&["serve"]).await;
    assert_eq!(refused.code(), Some(2), "{refused:?}");
    let said = "sources.users.table: column \"city\" is dropped: allow it with --yes or allow_table_changes = true";
    assert!(refused.stderr.contains(said), "{refused:?}");
    assert_eq!(headpond.run(&["refresh"]).await.code(), Some(2));
    assert_eq!(database.rows("SELECT city FROM [users] ORDER BY key").await, ["Prishtina", "Berlin"]);
    // A reload is refused, too.
    headpond.configure(&config(database, &server.uri(), &[NAME, CITY]));
    let serving = headpond.serve().await;
    headpond.configure(&config(database, &server.uri(), &[NAME]));
    let (status, answer) = serving.post("/v1/-/reload", None).await;
    assert!(status >= 400 && answer.to_string().contains("is dropped: allow it"), "{status} {answer}");
    let allowed =
        config(database, &server.uri(), &[NAME]).replace("[database]", "[database]\nallow_table_changes = true");
    headpond.configure(&allowed);
    assert_eq!(serving.post("/v1/-/reload", None).await.0, 200);
    serving.logged("the table can be read").await;
    let row = database.rows("SELECT * FROM [users] WHERE key = 'ada'").await.remove(0);
    assert!(row.ends_with("|fresh|Ada"), "{row}");
    serving.stop().await;
    // What is no longer configured at all stays until it is allowed to go.
    headpond.configure(&config(database, &server.uri(), &[]));
    assert_eq!(headpond.run(&["refresh"]).await.code(), Some(0));
    assert_eq!(database.rows("SELECT name FROM [users] ORDER BY key").await, ["Ada", "Bob"]);
    assert_eq!(headpond.run(&["refresh", "--yes"]).await.code(), Some(0));
    assert_eq!(database.number("SELECT count(*) FROM {typed}").await, 0);
}

async fn a_refused_body_is_taken_without_a_request_once_it_fits(database: &Database) {
    let server = upstream().await;
    let wrong = "name = { path = \"$.display_name\", type = \"text\" }";
    let headpond = Headpond::with_config(&config(database, &server.uri(), &[wrong]));
    assert_eq!(headpond.run(&["refresh"]).await.code(), Some(1));
    let meta = headpond.run(&["get", "users", "ada", "--meta"]).await.json();
    assert_eq!(meta["failing"]["kind"], "misfit", "{meta}");
    let refused = headpond.run(&["get", "users", "ada", "--refused"]).await;
    assert_eq!(refused.stdout, r#"{"name":"Ada","city":"Prishtina"}"#);
    headpond.configure(&config(database, &server.uri(), &[NAME]));
    let refreshed = headpond.run(&["refresh"]).await;
    assert_eq!(refreshed.code(), Some(0), "{refreshed:?}");
    assert_eq!(database.rows("SELECT key, name, version FROM [users] ORDER BY key").await, ["ada|Ada|1", "bob|Bob|1"]);
    assert_eq!(headpond.run(&["get", "users", "bob"]).await.stdout, r#"{"name":"Bob","city":"Berlin"}"#);
    assert_eq!(asked(&server).await, 2);
}

async fn what_is_to_come_is_shown_beforehand(database: &Database) {
    let server = upstream().await;
    let headpond = Headpond::with_config(&config(database, &server.uri(), &[NAME, CITY]));
    let tried = headpond.run(&["try", "users", "ada"]).await;
    assert!(tried.stdout.contains("\n1 rows of table users\n  city = \"Prishtina\", name = \"Ada\"\n"), "{tried:?}");
    assert_eq!(headpond.run(&["migrate"]).await.code(), Some(0));
    let checked = headpond.run(&["check", "--connect"]).await;
    assert!(checked.stdout.contains("table users of source users: new, made of the stored copies"), "{checked:?}");
    assert_eq!(headpond.run(&["refresh"]).await.code(), Some(0));
    let added = "zip = { path = \"$.zip\", type = \"integer\", nullable = true }";
    headpond.configure(&config(database, &server.uri(), &[NAME, added]));
    let checked = headpond.run(&["check", "--connect"]).await;
    assert_eq!(checked.code(), Some(1), "{checked:?}");
    for line in [
        "table users of source users: column \"city\" is dropped (needs --yes or allow_table_changes = true)\n",
        "table users of source users: column \"zip\" is added\n",
    ] {
        assert!(checked.stdout.contains(line), "{line} in {checked:?}");
    }
}

async fn a_name_that_is_taken_keeps_serve_from_starting(database: &Database) {
    let server = upstream().await;
    let headpond = Headpond::with_config(&config(database, &server.uri(), &[NAME]));
    assert_eq!(headpond.run(&["migrate"]).await.code(), Some(0));
    let sql = match database {
        Database::Sqlite { .. } => "CREATE TABLE users (x integer)",
        Database::Postgres { .. } => "CREATE SCHEMA headpond_data; CREATE TABLE headpond_data.users (x integer)",
    };
    database.run(sql).await;
    let refused = headpond.run(&["serve"]).await;
    assert_eq!(refused.code(), Some(2), "{refused:?}");
    assert!(refused.stderr.contains("users already, which Headpond did not make"), "{refused:?}");
    assert_eq!(database.rows("SELECT count(*) FROM [users]").await, ["0"]);
}
