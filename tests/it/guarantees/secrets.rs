//! Secrets stay secret: canaries in every place where a configuration takes a secret, and a look at everything that comes
//! out.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::{Headpond, eventually, get};
use crate::support::store::Database;

/// What all canaries have in common: this must never be seen.
const CANARY: &str = "canary-";
const TOKEN: &str = "canary-token-7f3a";
const KEY: &str = "canary-key-91bc";
const ADMIN: &str = "canary-admin-c04e";
const PASSWORD: &str = "canary-password-55de";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed_answered_or_stored_on_sqlite() {
    Database::sqlite()
        .check(async |database: &Database| {
            everything_with(&database.url()).await;
            let directory = database.path().parent().unwrap().to_owned();
            let mut seen = 0;
            for file in std::fs::read_dir(directory).unwrap() {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
                seen += usize::from(bytes.windows(4).any(|window| window == b"good"));
            }
            assert_eq!(seen, 1, "the content that was stored, in one file");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed_answered_or_stored_on_postgres() {
    let database = Database::on_test_server().await;
    let Database::Postgres { server, name } = &database else { unreachable!("it is one") };
    let (mut server, role) = (PgConnection::connect(server).await.unwrap(), name.replace("test", "role"));
    let own = format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; ALTER DATABASE {name} OWNER TO {role}");
    sqlx::raw_sql(AssertSqlSafe(own)).execute(&mut server).await.unwrap();
    let checked = AssertUnwindSafe(database.check(async |database: &Database| {
        let mut url: url::Url = database.url().parse().unwrap();
        url.set_username(&role).unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        everything_with(url.as_str()).await;
        assert_no_column_has_it(database).await;
        url.set_port(Some(9)).unwrap();
        let without = Headpond::with_config(&config("http://127.0.0.1:9")).with_variable("DATABASE", url.as_str());
        assert_silent(&with_secrets(without).run(&["--log", "trace", "refresh"]).await);
    }))
    .catch_unwind()
    .await;
    let drop = format!("DROP ROLE {role}");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut server).await.unwrap();
    if let Err(panic) = checked {
        resume_unwind(panic);
    }
}

/// Runs all commands against an origin that works and one that fails.
async fn everything_with(database_url: &str) {
    let upstream = upstream().await;
    let headpond =
        with_secrets(Headpond::with_config(&config(&upstream.uri()))).with_variable("DATABASE", database_url);
    for command in [
        &["check"][..],
        &["migrate"],
        &["refresh", "--all"],
        &["refresh", "--all", "--force", "--json"],
        &["try", "users", "good"],
        &["try", "users", "bad"],
        &["try", "users", "elsewhere"],
        &["try", "users", "moved"],
        &["try", "down", "k"],
        &["get", "users", "good"],
        &["get", "users", "good", "--meta"],
        &["get", "users", "bad", "--meta"],
        &["get", "users", "elsewhere", "--meta"],
        &["get", "down", "k", "--meta"],
        // Mistakes, for which an error may quote too much.
        &["get", "users", "unknown"],
        &["refresh", "unknown"],
        &["check", "--config", "broken.toml"],
    ] {
        let args = [&["--log", "trace"], command].concat();
        let broken = config(&upstream.uri())
            .replace("refresh_every", "refresh_evry")
            .replace(ADMIN, &format!("{ADMIN}\", \"{ADMIN}\", \"{}", &ADMIN[..10]))
            .replace("${env:DATABASE}", "x${env:DATABASE}");
        std::fs::write(headpond.path("broken.toml"), broken).unwrap();
        assert_silent(&headpond.run(&args).await);
    }

    let serving = headpond.serve_with(&["--log", "trace"]).await;
    eventually("ready", std::time::Duration::from_secs(30), async || {
        get(&serving.url("/readyz")).await.ok()?.status().is_success().then_some(())
    })
    .await;
    for path in ["users/good", "users/good/meta", "users/bad/meta", "users/elsewhere/meta", "down/k/meta", "-/changes"]
    {
        let answer = get(&serving.url(&format!("/v1/{path}"))).await.unwrap();
        assert_silent(&(answer.headers().clone(), answer.text().await.unwrap()));
    }
    serving.signal("TERM");
    assert_silent(&serving.ended().await);

    // Else nothing would have been shown.
    let requests = upstream.received_requests().await.unwrap();
    let sent = |request: &wiremock::Request| {
        request.headers["authorization"] == format!("Bearer {TOKEN}")
            && request.url.query() == Some(&format!("api_key={KEY}"))
    };
    assert!(requests.len() >= 8 && requests.iter().all(sent), "{requests:?}");
}

async fn upstream() -> MockServer {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = MockServer::builder().listener(listener).start().await;
    let moved_to = |url: String| ResponseTemplate::new(302).insert_header("location", url);
    for (key, answer) in [
        ("good", ResponseTemplate::new(200).set_body_string("good").insert_header("etag", "\"1\"")),
        ("bad", ResponseTemplate::new(500).insert_header("link", format!("<?api_key={KEY}&page=2>; rel=\"next\""))),
        ("moved", moved_to(format!("/users/good?api_key={KEY}"))),
        ("elsewhere", moved_to(format!("http://127.0.0.1:9/users/good?api_key={KEY}"))),
    ] {
        Mock::given(method("GET")).and(path(format!("/users/{key}"))).respond_with(answer).mount(&server).await;
    }
    server
}

fn config(origin: &str) -> String {
    let headers = "headers = { authorization = \"Bearer ${env:TOKEN}\" }\nrefresh_every = \"1h\"";
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_tokens = [\"{ADMIN}\"]\n[database]\nurl = \"${{env:DATABASE}}\"\n\
         [sources.users]\nurl = \"{origin}/users/{{key}}?api_key=${{env:KEY}}\"\nkeys = [\"good\", \"bad\", \"moved\", \"elsewhere\"]\n{headers}\n\
         [sources.down]\nurl = \"http://127.0.0.1:9/{{key}}?api_key=${{env:KEY}}\"\nkeys = [\"k\"]\n{headers}\n"
    )
}

fn with_secrets(headpond: Headpond) -> Headpond {
    headpond.with_variable("TOKEN", TOKEN).with_variable("KEY", KEY)
}

/// No canary is in what was printed or answered.
fn assert_silent(said: &impl std::fmt::Debug) {
    let said = format!("{said:?}");
    if let Some(at) = said.find(CANARY) {
        let around = said.get(at.saturating_sub(300)..(at + 100).min(said.len())).unwrap_or(&said);
        panic!("a secret was shown: … {around} …");
    }
}

/// No row of any table has a canary in any column, as text or as bytes.
async fn assert_no_column_has_it(database: &Database) {
    // `canary-`, as Postgres writes bytes.
    let hex = "63616e6172792d";
    let count = format!(
        "SELECT coalesce(sum(found), 0)::bigint FROM (
             SELECT (xpath('/row/n/text()', query_to_xml(format(
                 'SELECT count(*) AS n FROM %I.%I AS t WHERE t::text LIKE ''%%{CANARY}%%'' OR t::text LIKE ''%%{hex}%%''',
                 schemaname, tablename), false, true, '')))[1]::text::bigint AS found
               FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')) AS tables"
    );
    assert_eq!(database.number(&count).await, 0);
    let good = "SELECT count(*) FROM {content} AS t WHERE t::text LIKE '%676f6f64%'";
    assert!(database.number(good).await > 0, "what is stored would be found");
}
