//! Typed tables with 100,000 users: what an app's query costs beside the same on a table made by hand, and what adding a
//! column takes while it reads. Prints what it measures: run with `--nocapture`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use headpond::domain::observation::Via;
use headpond::domain::table::{ColumnType, Table};

use crate::support::outcomes::content;
use crate::support::store::{Database, TestStore, on_each_database};
use crate::support::tables::{column, home, table, users};

on_each_database!(a_leaderboard_costs_what_it_costs_by_hand, a_column_is_added_while_apps_read);

const USERS: usize = 100_000;
const SCORES: usize = 1_000_000;

/// So many users with copies like `{"name":"User 7","age":7,"city":"City 7"}`, and their table.
async fn with_users(test: &TestStore) -> headpond::store::Registered {
    let registered = test.source_with_keys("users", USERS).await;
    test.open_table(registered.source, &users()).await;
    let claims = test.claim(registered.upstream).await;
    assert_eq!(claims.len(), USERS);
    for (chunk, claims) in claims.chunks(1000).enumerate() {
        let settled = claims.iter().enumerate().map(|(n, claim)| {
            let n = chunk * 1000 + n;
            let body = format!(r#"{{"name":"User {n}","age":{},"city":"City {}"}}"#, n % 100, n % 500);
            let seen = content(&body, &[("content-type", "application/json")]);
            test.settled_by(&crate::support::tables::typed(&users()), claim, seen, Via::default())
        });
        test.store.apply(&settled.collect::<Vec<_>>()).await.unwrap();
    }
    registered
}

const LEADERBOARD: &str = "
    SELECT u.name, u.age, best.points
      FROM (SELECT user_key, sum(points) AS points FROM scores GROUP BY user_key ORDER BY sum(points) DESC, user_key LIMIT 20) AS best
      JOIN $users AS u ON u.key = best.user_key ORDER BY best.points DESC, u.key";

const EACH_SCORE: &str = "
    SELECT u.age, count(*), sum(s.points) FROM scores AS s JOIN $users AS u ON u.key = s.user_key
     GROUP BY u.age ORDER BY 3 DESC LIMIT 20";

async fn a_leaderboard_costs_what_it_costs_by_hand(test: &TestStore) {
    with_users(test).await;
    let series = match &test.database {
        Database::Sqlite { .. } => {
            format!(
                "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {SCORES}) SELECT n FROM g"
            )
        }
        Database::Postgres { .. } => format!("SELECT n FROM generate_series(1, {SCORES}::bigint) AS g(n)"),
    };
    test.database
        .run(&format!(
            "CREATE TABLE by_hand (key text PRIMARY KEY, name text NOT NULL, age bigint);
             INSERT INTO by_hand SELECT key, name, age FROM [users];
             CREATE TABLE scores (user_key text NOT NULL, points bigint NOT NULL);
             INSERT INTO scores SELECT 'k' || (n * 7919 % {USERS}), n * 31 % 1000 FROM ({series}) AS n"
        ))
        .await;
    test.database.run("ANALYZE").await;
    let explain = match &test.database {
        Database::Sqlite { .. } => "EXPLAIN QUERY PLAN",
        Database::Postgres { .. } => "EXPLAIN",
    };
    for (what, sql) in [("top 20", LEADERBOARD), ("each of 1,000,000 scores joined", EACH_SCORE)] {
        let plan = test.rows(&format!("{explain} {}", sql.replace("$users", "[users]"))).await.join("\n    ");
        println!("{what}: the plan\n    {plan}");
        assert!(!plan.contains("schedule") && !plan.contains(" s.resource_id"), "the bookkeeping is not touched");
        let (mut view, mut by_hand) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            for (name, times) in [("[users]", &mut view), ("by_hand", &mut by_hand)] {
                let began = Instant::now();
                assert!(!test.rows(&sql.replace("$users", name)).await.is_empty());
                times.push(began.elapsed());
            }
        }
        let best = |times: &[std::time::Duration]| times.iter().min().copied().unwrap_or_default();
        println!(
            "{what}: {:?} by the view, {:?} by a table made by hand (the best of 5 each)",
            best(&view),
            best(&by_hand)
        );
    }
}

fn with_city() -> Arc<Table> {
    let mut columns = users().columns.clone();
    columns.push(column("city", "$.city", ColumnType::Text));
    table("users", columns)
}

async fn a_column_is_added_while_apps_read(test: &TestStore) {
    let registered = with_users(test).await;
    let (done, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let reading = async {
        let mut slowest = std::time::Duration::ZERO;
        while !done.load(Ordering::Relaxed) {
            let began = Instant::now();
            let found = test.rows("SELECT count(*), count(name), sum(age) FROM [users]").await;
            assert_eq!(found, [format!("{USERS}|{USERS}|{}", USERS / 100 * 4950)], "all of them, at any time");
            slowest = slowest.max(began.elapsed());
            reads.fetch_add(1, Ordering::Relaxed);
        }
        slowest
    };
    let changing = async {
        let began = Instant::now();
        let id = test.store.begin_table(registered.source, &with_city()).await.unwrap();
        while !test.store.fill_table(id, 500).await.unwrap().is_all {}
        let filled = began.elapsed();
        test.store.open_table(id, &home()).await.unwrap();
        done.store(true, Ordering::Relaxed);
        (filled, began.elapsed())
    };
    let ((filled, all), slowest) = tokio::join!(changing, reading);
    assert_eq!(test.rows("SELECT count(city) FROM [users]").await, [USERS.to_string()]);
    println!(
        "a column added over {USERS} stored copies: filled in {filled:?}, read by apps after {all:?}; meanwhile {} reads of all \
         rows, the slowest in {slowest:?}; no request, since no upstream was there to ask",
        reads.load(Ordering::Relaxed)
    );
}
