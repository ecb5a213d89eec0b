//! The plans of the statements that every refresh runs: whatever the planner knows, they find rows by index.

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

use super::{PostgresStore, apply, claim, keys, read, want, write};
use crate::clock::ManualClock;
use crate::domain::resource::{ResourceId, SourceId};
use crate::store::{Selection, StoreOptions};

/// 100,000 resources of two sources on one upstream, nearly all of them due later, with content.
const LOAD: &str = "
    INSERT INTO headpond.upstream (name, burst, max_concurrent, tokens, tokens_at) VALUES ('u', 1, 1000, 1, 0);
    INSERT INTO headpond.source (name, upstream_id, keys) VALUES ('a', 1, 50000), ('b', 1, 50000);
    INSERT INTO headpond.resource (source_id, key, params)
         SELECT 1 + n % 2, 'key ' || n, '{}' FROM generate_series(1, 100000) AS n;
    INSERT INTO headpond.schedule (resource_id, upstream_id, source_id, due_at, because)
         SELECT id, 1, source_id, hashint8(id)::bigint + 3000000000, 2 FROM headpond.resource;
    INSERT INTO headpond.content (resource_id, etag, changed_at, headers, body)
         SELECT id, '\\x00', 0, '', '\\x7b7d' FROM headpond.resource;
    INSERT INTO headpond.lease (token, upstream_id, worker, granted_at, expires_at, resources)
         SELECT n, 1, 'w', 0, 9000000000000000, ARRAY[n] FROM generate_series(1, 20) AS n;
    ANALYZE";

/// Tables that are too large to be read as a whole.
const LARGE: [&str; 3] = ["schedule", "resource", "content"];

/// What to explain: a name, the statement, and arguments as SQL.
type Case = (&'static str, String, String);

/// An argument for each of 256 ids that lie far apart.
fn spread(of: impl Fn(i64) -> String) -> String {
    let all: Vec<_> = (1..=256).map(|n| of(n * 390)).collect();
    format!("'{{{}}}'", all.join(","))
}

fn cases() -> Vec<Case> {
    let ids = spread(|id| id.to_string());
    let zeros = spread(|_| "0".into());
    let bytes = spread(|_| "00".into());
    let texts = spread(|_| "x".into());
    let candidates = |which| claim::candidates_sql(&which);
    let sources = Selection::Sources(vec![SourceId(1)]);
    let resources = Selection::Resources(vec![ResourceId(1)]);
    vec![
        ("candidates", candidates(Selection::All), "1, 300, 5, '{}'".into()),
        ("candidates of sources", candidates(sources), "1, 300, 1000000000, '{1}'".into()),
        ("candidates of resources", candidates(resources), format!("1, 300, 5, {ids}")),
        ("lease", claim::LEASE.into(), format!("1, 1, 'w', 0, 0, {ids}, 1, 0")),
        ("schedule", write::SCHEDULE.into(), format!("{ids}, {zeros}, {zeros}, {zeros}, {zeros}, {zeros}, 0, 8")),
        ("confirmed", write::CONFIRMED.into(), format!("{ids}, {bytes}, {bytes}, {zeros}")),
        ("replaced", write::REPLACED.into(), format!("{ids}, {zeros}, {bytes}, {bytes}, {bytes}, {zeros}")),
        ("reset", write::RESET.into(), ids.clone()),
        (
            "deferred",
            write::DEFERRED.into(),
            format!("{ids}, {zeros}, {zeros}, {zeros}, {texts}, {zeros}, {texts}, {zeros}, {zeros}"),
        ),
        ("gone", write::GONE.into(), format!("{ids}, {zeros}")),
        ("content", write::CONTENT.into(), format!("{ids}, {bytes}, {zeros}, {bytes}, {bytes}")),
        ("number", write::NUMBER.into(), format!("0, {ids}, {ids}, {zeros}, {texts}, {zeros}, 'c', true")),
        ("sources of", apply::SOURCES_OF.into(), ids.clone()),
        ("retry now", apply::RETRY_NOW.into(), "'{1}', 5, 10".into()),
        ("current", read::CURRENT.into(), "'a', 'key 7', 5".into()),
        ("want", want::want_sql(&Selection::Resources(Vec::new())), format!("{ids}, 0, 8, 5, 1, 20000")),
        ("known keys", keys::KNOWN.into(), format!("1, {texts}")),
    ]
}

#[tokio::test]
async fn every_statement_of_a_refresh_finds_its_rows_by_index() {
    let server = std::env::var("HEADPOND_TEST_POSTGRES").expect(
        "no Postgres to test on: run `tests/run`, or set HEADPOND_TEST_POSTGRES to the postgres:// URL of a server \
         where databases may be created",
    );
    let name = format!("headpond_test_{:016x}", fastrand::u64(..));
    let mut server_connection = PgConnection::connect(&server).await.unwrap();
    run(&mut server_connection, format!("CREATE DATABASE {name}")).await;
    let url = server.parse::<PgConnectOptions>().unwrap().database(&name).to_url_lossy();
    let clock = Arc::new(ManualClock::at(chrono::DateTime::UNIX_EPOCH));
    let options = StoreOptions { readers: 1, migrate: true, create: true };
    let store = PostgresStore::connect(url.as_str(), &options, clock).await.unwrap();

    let problems = problems(&store).await;
    store.writers.close().await;
    run(&mut server_connection, format!("DROP DATABASE {name} WITH (FORCE)")).await;
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// Explains each case in a session of the store's own, both for its arguments and, as Postgres does after some runs, for
/// any.
async fn problems(store: &PostgresStore) -> Vec<String> {
    let mut session = store.writers.acquire().await.unwrap();
    run(&mut session, LOAD.into()).await;
    let mut problems = Vec::new();
    for (name, sql, arguments) in cases() {
        for mode in ["force_custom_plan", "force_generic_plan"] {
            run(&mut session, format!("SET plan_cache_mode = {mode}; PREPARE explained AS {sql}")).await;
            let explain = AssertSqlSafe(format!("EXPLAIN EXECUTE explained ({arguments})"));
            let lines = sqlx::raw_sql(explain).fetch_all(&mut *session).await.unwrap();
            let lines: Vec<String> = lines.iter().map(|line| line.get(0)).collect();
            let plan = lines.join("\n");
            if LARGE.iter().any(|table| plan.contains(&format!("Seq Scan on {table}"))) {
                problems.push(format!("{name}, {mode}:\n{plan}"));
            }
            run(&mut session, "DEALLOCATE explained".into()).await;
        }
    }
    problems
}

async fn run(connection: &mut PgConnection, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}
