//! `keys_from = { query = … }`.

use super::{config, has, is_well, origin, problem, upstream};
use crate::support::program::{Headpond, Serving};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database! {
    what_a_query_finds_is_polled_and_followed,
    a_query_that_fails_or_hangs_changes_nothing,
    a_query_can_only_read,
}

const QUERY: &str = "SELECT user_id, lat FROM participants";

/// A `serve` whose source `cities` takes its keys from this query, each second, on a table of the app's.
async fn serve(database: &Database, origin: &str, query: &str) -> (Headpond, Serving) {
    let headpond = Headpond::with_config(&asking(database, origin, query));
    headpond.run(&["migrate"]).await;
    let table = "CREATE TABLE participants (user_id text, lat double precision)";
    database.execute_as_it_is(table.into()).await.unwrap();
    insert(database, "('ada', 1.5), ('grace', -2)").await;
    let serving = headpond.serve().await;
    (headpond, serving)
}

fn asking(database: &Database, origin: &str, query: &str) -> String {
    let more = format!("keys_from = {{ query = \"\"\"{query}\"\"\", every = \"1s\", timeout = \"500ms\" }}");
    config(database, origin, &more)
}

async fn insert(database: &Database, rows: &str) {
    database.execute_as_it_is(format!("INSERT INTO participants VALUES {rows}")).await.unwrap();
}

async fn what_a_query_finds_is_polled_and_followed(database: &Database) {
    let upstream = upstream().await;
    let (_headpond, serving) = serve(database, &upstream.uri(), QUERY).await;
    has(&serving, "cities", &["ada", "grace"]).await;
    assert_eq!(origin(&serving, "cities", "query").await["about"], QUERY);

    insert(database, "('lise', 3), (NULL, 4), ('', 5), ('grace', 6), ('..', 7)").await;
    let said = problem(&serving, "cities", "query", "left out").await;
    assert!(said.starts_with("3 were left out, the first because: "), "{said}");
    assert!(said.ends_with("; 1 are there more than once, and the first counts"), "{said}");
    has(&serving, "cities", &["ada", "grace", "lise"]).await;

    database
        .execute_as_it_is("DELETE FROM participants WHERE user_id <> 'lise' OR user_id IS NULL".into())
        .await
        .unwrap();
    has(&serving, "cities", &["lise"]).await;
    is_well(&serving, "cities", "query").await;
    database.execute_as_it_is("DELETE FROM participants".into()).await.unwrap();
    has(&serving, "cities", &[]).await;
    serving.stop().await;
}

async fn a_query_that_fails_or_hangs_changes_nothing(database: &Database) {
    let upstream = upstream().await;
    let (headpond, serving) = serve(database, &upstream.uri(), QUERY).await;
    has(&serving, "cities", &["ada", "grace"]).await;
    let hangs = match database {
        Database::Sqlite { .. } => {
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT max(n) FROM n"
        }
        Database::Postgres { .. } => "SELECT 'a' FROM (SELECT pg_sleep(60)) AS s",
    };
    let breaks_off = match database {
        Database::Sqlite { .. } => "SELECT 'tirana' UNION ALL SELECT abs(-9223372036854775807 - 1)",
        Database::Postgres { .. } => {
            "SELECT 'tirana' UNION ALL SELECT (1 / (n - n))::text FROM generate_series(1, 2) AS n"
        }
    };
    for (reloads, (query, said)) in [
        ("SELECT user_id FROM particpants", "particpants"),
        (hangs, "it took longer than its timeout of 500ms"),
        (breaks_off, "the query failed: "),
        (
            "SELECT NULL FROM participants",
            "nothing that it has can be a key, so its keys stay as they were; 2 were left out",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        headpond.configure(&asking(database, &upstream.uri(), query));
        serving.signal("HUP");
        serving.logged_times("reloaded", reloads + 1).await;
        problem(&serving, "cities", "query", said).await;
        has(&serving, "cities", &["ada", "grace"]).await;
    }
    serving.stop().await;
}

async fn a_query_can_only_read(database: &Database) {
    let upstream = upstream().await;
    let deletes = "WITH gone AS (DELETE FROM participants RETURNING user_id) SELECT user_id FROM gone";
    let (headpond, serving) = serve(database, &upstream.uri(), deletes).await;
    problem(&serving, "cities", "query", "the query failed: ").await;
    let writes = match database {
        Database::Sqlite { .. } => "SELECT 1) UNION SELECT 2; DELETE FROM participants; SELECT (1".to_owned(),
        Database::Postgres { .. } => {
            let function = "CREATE FUNCTION clear() RETURNS text LANGUAGE sql AS \
                            'DELETE FROM participants RETURNING user_id'";
            database.execute_as_it_is(function.into()).await.unwrap();
            "SELECT clear()".to_owned()
        }
    };
    headpond.configure(&asking(database, &upstream.uri(), &writes));
    serving.signal("HUP");
    serving.logged("reloaded").await;
    problem(&serving, "cities", "query", "read").await;
    assert_eq!(database.number("SELECT count(*) FROM participants").await, 2);
    serving.stop().await;
}
