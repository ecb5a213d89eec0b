//! Headpond in front of servers that others wrote: httpbin, from PyPI, and nginx. Each of their answers is asked for twice, on
//! each database, and a table shows what became of it: `tests/slow/httpbin.sh`.

mod cases;
mod server;
mod stage;
mod table;

use std::fs;

use crate::support::store::Database;
use cases::CASES;
use server::Httpbin;
use stage::Stage;
use table::{Row, print};

#[tokio::test(flavor = "multi_thread")]
async fn httpbin_and_nginx_are_refreshed_twice_and_a_table_tells_what_happened() {
    let httpbin = Httpbin::start().await;
    Database::sqlite().check(async |database: &Database| show("SQLite", database, &httpbin).await).await;
    let postgres = Database::on_test_server().await;
    postgres.check(async |database: &Database| show("PostgreSQL", database, &httpbin).await).await;
}

/// Refreshes all cases, and again once nginx is in trouble. The table is printed before it is judged.
async fn show(name: &str, database: &Database, httpbin: &Httpbin) {
    let stage = Stage::set(database, httpbin).await;
    let mut rows = Vec::new();
    for case in CASES {
        rows.push(Row { case, first: stage.refresh(case, &case.first).await, second: None });
    }
    fs::write(stage.trouble(), "").unwrap();
    for row in &mut rows {
        row.second = Some(stage.refresh(row.case, &row.case.second).await);
    }
    print(name, &rows);
    let wrong: Vec<String> = rows.iter().flat_map(Row::is_wrong).collect();
    assert!(wrong.is_empty(), "on {name}:\n{}", wrong.join("\n"));
    let shown = httpbin.requests().into_iter().filter(|request| request.user_agent == "allowed");
    assert!(
        shown.map(|request| request.authorization).all(|shown| shown == "Bearer s3cret"),
        "httpbin itself is shown the credentials"
    );
}
