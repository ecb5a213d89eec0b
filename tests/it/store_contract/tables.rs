//! Typed tables: their rows go with the copies, and apps read them by views.

use std::sync::Arc;

use headpond::domain::archive::Line;
use headpond::domain::failure::FailureKind;
use headpond::domain::observation::Via;
use headpond::domain::resource::SourceName;
use headpond::domain::table::{ColumnType, Table};
use headpond::store::{Authority, Fate, PruneRules, Selection, TableState};

use crate::support::outcomes::{HOUR, content, not_modified, policy, status};
use crate::support::store::{TestStore, key, on_each_database};
use crate::support::tables::{column, hours, table, typed, users};

on_each_database! {
    a_copy_and_its_row_are_stored_together,
    a_body_that_does_not_fit_is_refused_whole,
    a_confirmation_writes_no_row,
    what_is_gone_is_in_one_view_alone_until_it_is_back,
    the_rows_of_a_copy_are_replaced_as_a_set,
    rows_go_with_their_resource,
    each_type_is_stored_as_it_came,
    words_of_sql_are_names_of_columns,
    stored_copies_become_rows_and_newer_ones_stay,
    both_tables_are_written_while_one_is_filled,
    what_is_imported_becomes_rows_too,
    what_another_configuration_decided_is_not_stored_if_it_does_not_fit,
    a_name_that_is_taken_is_left_alone,
    rights_on_views_are_there_again_after_a_change,
    an_added_column_leaves_the_view_and_what_reads_it,
    what_depends_on_a_view_stops_that_it_is_made_anew,
    a_table_is_begun_again_where_it_was_left,
    a_dropped_table_takes_its_views_along,
    only_who_asks_for_freshness_reads_the_bookkeeping,
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// A source `users` with so many keys and this table, which is open.
async fn with_table(test: &TestStore, table: &Table, keys: usize) -> headpond::store::Registered {
    let users = test.source_with_keys("users", keys).await;
    test.open_table(users.source, table).await;
    users
}

/// This comes for whatever is due first.
async fn comes(test: &TestStore, table: &Arc<Table>, body: &str) -> Fate {
    let users = test.store.upstream("users").await.unwrap().unwrap();
    let claim = test.claim_one(users).await;
    test.settle_typed(table, &claim, content(body, &[JSON, ("etag", "\"a\"")])).await
}

/// Two hours later, someone wants `k0`, and it is the first that is due.
async fn k0_is_wanted_later(test: &TestStore) {
    test.clock.advance(2 * HOUR);
    let users = test.store.source(&SourceName::new("users").unwrap()).await.unwrap().unwrap();
    let first = test.store.find(users, &[key("k0")]).await.unwrap().remove(0).unwrap();
    assert_eq!(test.store.want(&Selection::Resources(vec![first]), test.now()).await.unwrap(), 1);
}

async fn a_copy_and_its_row_are_stored_together(test: &TestStore) {
    with_table(test, &users(), 2).await;
    assert_eq!(test.rows("SELECT * FROM [users]").await, [""; 0]);
    assert_eq!(comes(test, &users(), r#"{"name":"Ada","age":36}"#).await, Fate::Committed);
    assert_eq!(comes(test, &users(), r#"{"name":"Bob"}"#).await, Fate::Committed);
    assert_eq!(
        test.rows("SELECT key, name, age, version, state FROM [users] ORDER BY key").await,
        ["k0|Ada|36|1|fresh", "k1|Bob|-|1|fresh"]
    );
    k0_is_wanted_later(test).await;
    comes(test, &users(), r#"{"name":"Ada","age":37}"#).await;
    assert_eq!(test.rows("SELECT key, age, version FROM [users] ORDER BY key").await, ["k0|37|2", "k1|-|1"]);
    let same_times = "SELECT count(*) FROM [users] WHERE changed_at >= '2027-01-15' AND fetched_at < stale_after";
    assert_eq!(test.rows(same_times).await, ["2"]);
}

async fn a_body_that_does_not_fit_is_refused_whole(test: &TestStore) {
    with_table(test, &users(), 1).await;
    comes(test, &users(), r#"{"name":"Ada","age":36}"#).await;
    let before = test.current("users", "k0").await;
    test.clock.advance(2 * HOUR);
    comes(test, &users(), r#"{"display_name":"Ada","age":36}"#).await;
    let after = test.current("users", "k0").await;
    assert_eq!((&after.content, &after.validators, after.version), (&before.content, &before.validators, 1));
    let failure = after.failing.unwrap().last;
    assert_eq!(failure.kind, FailureKind::Misfit);
    assert_eq!(failure.detail, r#"column "name" of table "users" ($.name): expected text, found nothing"#);
    let refused = test.store.refusal(&SourceName::new("users").unwrap(), &key("k0")).await.unwrap().unwrap();
    assert_eq!(refused.refused.body.unwrap(), r#"{"display_name":"Ada","age":36}"#);
    assert_eq!(test.rows("SELECT name, version FROM [users]").await, ["Ada|1"]);
}

async fn a_confirmation_writes_no_row(test: &TestStore) {
    let registered = test.source_with_keys("users", 1).await;
    let id = test.open_table(registered.source, &users()).await;
    comes(test, &users(), r#"{"name":"Ada"}"#).await;
    test.refuse(&format!("typed_{}", id.0), "NEW.key = 'k0'").await;
    for seen in [not_modified(), content(r#"{"name":"Ada"}"#, &[JSON])] {
        test.clock.advance(2 * HOUR);
        let claim = test.claim_one(registered.upstream).await;
        assert_eq!(test.settle_typed(&users(), &claim, seen).await, Fate::Committed);
    }
    test.clock.advance(2 * HOUR);
    let claim = test.claim_one(registered.upstream).await;
    let changed = test.settled_by(&typed(&users()), &claim, content(r#"{"name":"Eve"}"#, &[JSON]), Via::default());
    assert!(test.store.apply(&[changed]).await.is_err(), "and nothing is stored without its row");
    assert_eq!(test.current("users", "k0").await.version, 1);
}

async fn what_is_gone_is_in_one_view_alone_until_it_is_back(test: &TestStore) {
    let registered = with_table(test, &users(), 1).await;
    comes(test, &users(), r#"{"name":"Ada"}"#).await;
    test.clock.advance(2 * HOUR);
    let claim = test.claim_one(registered.upstream).await;
    test.settle_typed(&users(), &claim, status(410)).await;
    assert_eq!(test.rows("SELECT name FROM [users]").await, [""; 0]);
    assert_eq!(test.rows("SELECT name, state FROM [users_all] WHERE gone_at IS NOT NULL").await, ["Ada|gone"]);
    test.clock.advance(48 * HOUR);
    comes(test, &users(), r#"{"name":"Ada"}"#).await;
    assert_eq!(test.rows("SELECT name, version, state FROM [users]").await, ["Ada|2|fresh"]);
    assert_eq!(test.rows("SELECT name FROM [users_all] WHERE gone_at IS NULL").await, ["Ada"]);
}

async fn the_rows_of_a_copy_are_replaced_as_a_set(test: &TestStore) {
    with_table(test, &hours(), 2).await;
    let body = |hours: &[u32]| {
        let hours: Vec<_> =
            hours.iter().map(|n| format!(r#"{{"at":"2026-05-01T{n:02}:00:00+02:00","celsius":{n}.5}}"#)).collect();
        format!(r#"{{"hours":[{}]}}"#, hours.join(","))
    };
    let many: Vec<u32> = (2..20).collect();
    comes(test, &hours(), &body(&many)).await;
    comes(test, &hours(), &body(&[7])).await;
    assert_eq!(test.rows("SELECT key, count(*) FROM [hours] GROUP BY key ORDER BY key").await, ["k0|18", "k1|1"]);
    k0_is_wanted_later(test).await;
    comes(test, &hours(), &body(&[3, 4])).await;
    assert_eq!(
        test.rows("SELECT key, celsius, version FROM [hours] ORDER BY key, at").await,
        ["k0|3.5|2", "k0|4.5|2", "k1|7.5|1"]
    );
    comes(test, &hours(), &body(&[])).await;
    assert_eq!(test.rows("SELECT key FROM [hours]").await, ["k0", "k0"]);
}

async fn rows_go_with_their_resource(test: &TestStore) {
    let registered = with_table(test, &users(), 2).await;
    comes(test, &users(), r#"{"name":"Ada"}"#).await;
    comes(test, &users(), r#"{"name":"Bob"}"#).await;
    let keep = std::collections::BTreeSet::from([key("k1")]);
    test.retire_keys_except(registered.source, &keep).await.unwrap();
    assert_eq!(
        test.rows("SELECT key FROM [users] ORDER BY key").await,
        ["k0", "k1"],
        "they are kept as long as the copy"
    );
    test.clock.advance(2 * HOUR);
    let rules = PruneRules { now: test.now(), retired: HOUR, changes: HOUR, applied: HOUR };
    test.store.prune(&rules).await.unwrap();
    assert_eq!(test.rows("SELECT key FROM [users]").await, ["k1"]);
}

async fn each_type_is_stored_as_it_came(test: &TestStore) {
    let columns = ColumnType::ALL.map(|kind| column(&format!("a_{kind}"), &format!("$.{kind}"), kind));
    let all = table("types", columns.to_vec());
    with_table(test, &all, 1).await;
    let body = r#"{"text":"it's \"ünï\" ?1 $1","integer":9223372036854775807,"real":0.1,"boolean":true,
        "timestamp":"2026-05-01T12:00:00.123456+02:00","date":"2026-05-01","numeric":"19.90","json":{"a":[1.10,null]}}"#;
    assert_eq!(comes(test, &all, body).await, Fate::Committed);
    assert_eq!(
        test.rows("SELECT a_text, a_date FROM [types] WHERE a_integer = 9223372036854775807 AND a_real = 0.1").await,
        [r#"it's "ünï" ?1 $1|2026-05-01"#]
    );
    let compared = "SELECT count(*) FROM [types] WHERE a_boolean AND a_numeric > 9 AND a_numeric < 19.95
        AND a_timestamp = '2026-05-01T10:00:00.123456Z' AND a_json IS NOT NULL AND a_date < '2026-05-02'";
    assert_eq!(test.rows(compared).await, ["1"]);
}

async fn words_of_sql_are_names_of_columns(test: &TestStore) {
    let columns = ["order", "select", "Group", "limit", "table", "t", "s", "r", "n", "excluded", "c0", "column1"];
    let columns = columns.map(|name| column(name, "$.a", ColumnType::Integer));
    let words = table("user", columns.to_vec());
    with_table(test, &words, 1).await;
    assert_eq!(comes(test, &words, r#"{"a":7}"#).await, Fate::Committed);
    assert_eq!(
        test.rows("SELECT \"order\", \"Group\", \"select\", \"column1\", \"excluded\" FROM [user_all]").await,
        ["7|7|7|7|7"]
    );
}

async fn stored_copies_become_rows_and_newer_ones_stay(test: &TestStore) {
    let registered = test.source_with_keys("users", 5).await;
    for (n, body) in [r#"{"name":"a"}"#, r#"{"name":"b"}"#, r#"{"name":1}"#, "<html>"].into_iter().enumerate() {
        let claim = test.claim_one(registered.upstream).await;
        assert_eq!(claim.key.as_str(), format!("k{n}"));
        test.settle(&claim, content(body, &[])).await;
    }
    let id = test.store.begin_table(registered.source, &users()).await.unwrap();
    let mut copies = 0;
    loop {
        let filled = test.store.fill_table(id, 2).await.unwrap();
        copies += filled.copies;
        test.clock.advance(2 * HOUR);
        // What comes meanwhile is written by who brings it, and stays.
        if copies == 2 {
            comes(test, &users(), r#"{"name":"later"}"#).await;
            k0_is_wanted_later(test).await;
            comes(test, &users(), r#"{"name":"newer"}"#).await;
        }
        if filled.is_all {
            break;
        }
    }
    assert_eq!(copies, 5, "four that were there, and one that came in time");
    let known = test.store.tables().await.unwrap().remove(0);
    assert_eq!((known.state, known.misfits), (TableState::Filling, 2));
    assert_eq!(
        known.misfit.as_deref(),
        Some(r#"k2: column "name" of table "users" ($.name): expected text, found a number"#)
    );
    test.store.open_table(id, &crate::support::tables::home()).await.unwrap();
    let rows = test.rows("SELECT key, name, version FROM [users] ORDER BY key").await;
    assert_eq!(rows, ["k0|newer|2", "k1|b|1", "k4|later|1"]);
}

async fn both_tables_are_written_while_one_is_filled(test: &TestStore) {
    let registered = with_table(test, &users(), 1).await;
    comes(test, &users(), r#"{"name":"Ada","city":"Prishtina"}"#).await;
    let more = table(
        "users",
        vec![
            column("name", "$.name", ColumnType::Text),
            column("age?", "$.age", ColumnType::Integer),
            column("city", "$.city", ColumnType::Text),
        ],
    );
    let id = test.store.begin_table(registered.source, &more).await.unwrap();
    test.clock.advance(2 * HOUR);
    assert_eq!(comes(test, &more, r#"{"name":"Eve","city":"Berlin"}"#).await, Fate::Committed);
    assert_eq!(test.rows("SELECT name, version FROM [users]").await, ["Eve|2"]);
    assert!(test.store.fill_table(id, 10).await.unwrap().is_all);
    test.store.open_table(id, &crate::support::tables::home()).await.unwrap();
    assert_eq!(test.rows("SELECT name, city, version FROM [users]").await, ["Eve|Berlin|2"]);
    let states: Vec<_> = test.store.tables().await.unwrap().iter().map(|known| known.state).collect();
    assert_eq!(states, [TableState::Left, TableState::Live]);
}

async fn what_is_imported_becomes_rows_too(test: &TestStore) {
    let registered = with_table(test, &users(), 2).await;
    comes(test, &users(), r#"{"name":"Ada"}"#).await;
    comes(test, &users(), r#"{"name":"Bob"}"#).await;
    test.clock.advance(HOUR);
    let line = |key: &str, more: &str| -> Line {
        serde_json::from_str(&format!(r#"{{"source":"users","key":"{key}",{more}}}"#)).unwrap()
    };
    let restored = |key, more: &str| line(key, more).restore(&typed(&users()), test.now());
    let batch = [
        restored("k0", r#""json":{"name":"Eve"}"#).unwrap(),
        // As another configuration would read it, which has no table.
        line("k1", r#""json":{"nom":"Bob"}"#).restore(&policy(), test.now()).unwrap(),
    ];
    test.store.import(registered.source, &batch).await.unwrap();
    assert_eq!(test.rows("SELECT key, name, version FROM [users]").await, ["k0|Eve|2"], "what does not fit has no row");
    let error = restored("k1", r#""json":{"nom":"Bob"}"#).unwrap_err();
    assert!(error.contains("expected text, found nothing"), "{error}");
    test.clock.advance(HOUR);
    test.store.import(registered.source, &[restored("k0", r#""state":"gone""#).unwrap()]).await.unwrap();
    assert_eq!(test.rows("SELECT name, state FROM [users_all]").await, ["Eve|gone"]);
}

async fn what_another_configuration_decided_is_not_stored_if_it_does_not_fit(test: &TestStore) {
    let strict = table("users", vec![column("city", "$.city", ColumnType::Text)]);
    let registered = with_table(test, &strict, 1).await;
    let claim = test.claim_one(registered.upstream).await;
    let seen = content(r#"{"name":"Ada"}"#, &[JSON]);
    assert_eq!(test.settle_typed(&users(), &claim, seen).await, Fate::LeaseLost);
    assert_eq!(test.current("users", "k0").await.version, 0);
}

async fn a_name_that_is_taken_is_left_alone(test: &TestStore) {
    let registered = test.source_with_keys("users", 1).await;
    match &test.database {
        crate::support::store::Database::Sqlite { .. } => test.database.run("CREATE TABLE USERS_all (x integer)").await,
        crate::support::store::Database::Postgres { .. } => {
            test.database.run("CREATE SCHEMA headpond_data; CREATE TABLE [users_all] (x integer)").await;
        }
    }
    let name = SourceName::new("users").unwrap();
    let obstacles = test.store.table_obstacles(&name, &users(), &crate::support::tables::home(), None).await.unwrap();
    assert_eq!(obstacles.len(), 1, "{obstacles:?}");
    assert!(obstacles[0].contains("users_all already, which Headpond did not make"), "{obstacles:?}");
    let id = test.store.begin_table(registered.source, &users()).await.unwrap();
    test.store.fill_table(id, 10).await.unwrap();
    assert!(test.store.open_table(id, &crate::support::tables::home()).await.is_err());
    test.store.drop_table(id).await.unwrap();
    assert_eq!(test.rows("SELECT count(*) FROM [users_all]").await, ["0"], "it is still there");
}

/// `users` with another column, which is before the others by its name.
fn with_address() -> Arc<Table> {
    let mut columns = users().columns.clone();
    columns.push(column("address?", "$.address", ColumnType::Text));
    table("users", columns)
}

async fn rights_on_views_are_there_again_after_a_change(test: &TestStore) {
    // SQLite has none.
    if matches!(test.database, crate::support::store::Database::Sqlite { .. }) {
        return;
    }
    let role = format!("headpond_test_{:08x}", fastrand::u32(..));
    let other = format!("{role}_other");
    test.database.run(&format!("CREATE ROLE {role}; CREATE ROLE {other}")).await;
    let registered = test.source_with_keys("users", 1).await;
    let home = headpond::config::TableHome { grant_select_to: vec![role.clone()], ..crate::support::tables::home() };
    let open = async |table: &Table| {
        let id = test.store.begin_table(registered.source, table).await.unwrap();
        test.store.fill_table(id, 10).await.unwrap();
        test.store.open_table(id, &home).await.unwrap();
    };
    open(&users()).await;
    test.database.run(&format!("GRANT SELECT ON [users] TO {other}")).await;
    open(&table("users", vec![column("name", "$.name", ColumnType::Text)])).await;
    for (role, view, may) in
        [(&role, "users", "t"), (&role, "users_all", "t"), (&other, "users", "t"), (&other, "users_all", "f")]
    {
        let sql = format!("SELECT has_table_privilege('{role}', '[{view}]', 'SELECT')");
        assert_eq!(test.rows(&sql).await, [may], "{role} {view}");
    }
    let missing = headpond::config::TableHome { grant_select_to: vec!["nobody".into()], ..home.clone() };
    let name = SourceName::new("users").unwrap();
    let obstacles = test.store.table_obstacles(&name, &users(), &missing, None).await.unwrap();
    assert_eq!(obstacles, ["grant_select_to: the database has no role \"nobody\""]);
    test.database.run(&format!("DROP OWNED BY {role}, {other}; DROP ROLE {role}, {other}")).await;
}

async fn an_added_column_leaves_the_view_and_what_reads_it(test: &TestStore) {
    let registered = with_table(test, &users(), 1).await;
    comes(test, &users(), r#"{"name":"Ada","address":"Main Street"}"#).await;
    test.database.run("CREATE VIEW names AS SELECT name FROM [users]").await;
    let live = test.store.tables().await.unwrap().remove(0);
    let name = SourceName::new("users").unwrap();
    let home = crate::support::tables::home();
    let obstacles = test.store.table_obstacles(&name, &with_address(), &home, Some(&live)).await.unwrap();
    assert_eq!(obstacles, [""; 0]);
    test.open_table(registered.source, &with_address()).await;
    assert_eq!(test.rows("SELECT name FROM names").await, ["Ada"]);
    let row = test.rows("SELECT * FROM [users]").await.remove(0);
    assert!(row.ends_with("|fresh|-|Ada|Main Street"), "it comes behind those that were there: {row}");
    test.store.drop_table(live.id).await.unwrap();
    assert_eq!(test.rows("SELECT name FROM names").await, ["Ada"]);
}

async fn what_depends_on_a_view_stops_that_it_is_made_anew(test: &TestStore) {
    let registered = with_table(test, &users(), 1).await;
    comes(test, &users(), r#"{"name":"Ada","age":36}"#).await;
    test.database.run("CREATE VIEW ages AS SELECT age FROM [users_all]").await;
    let live = test.store.tables().await.unwrap().remove(0);
    let less = table("users", vec![column("name", "$.name", ColumnType::Text)]);
    let (name, home) = (SourceName::new("users").unwrap(), crate::support::tables::home());
    let obstacles = test.store.table_obstacles(&name, &less, &home, Some(&live)).await.unwrap();
    assert_eq!(obstacles.len(), 1);
    assert!(obstacles[0].contains("ages depends on users"), "{obstacles:?}");
    let error = test.store.drop_table(live.id).await.unwrap_err().to_string();
    assert!(error.contains("ages depends on users"), "{error}");
    test.database.run("DROP VIEW ages").await;
    test.open_table(registered.source, &less).await;
    let row = test.rows("SELECT * FROM [users]").await.remove(0);
    assert!(row.ends_with("|fresh|Ada"), "{row}");
}

async fn a_table_is_begun_again_where_it_was_left(test: &TestStore) {
    let registered = test.source_with_keys("users", 4).await;
    test.settle_all(registered.upstream, |_| content(r#"{"name":"Ada"}"#, &[])).await;
    let id = test.store.begin_table(registered.source, &users()).await.unwrap();
    assert_eq!(test.store.fill_table(id, 3).await.unwrap().copies, 3);
    let another = test.another().await;
    assert_eq!(another.begin_table(registered.source, &users()).await.unwrap(), id);
    let rest = another.fill_table(id, 3).await.unwrap();
    assert_eq!((rest.copies, rest.is_all), (1, true));
    // For another table, what was begun is dropped.
    let other = another.begin_table(registered.source, &hours()).await.unwrap();
    assert_ne!(other, id);
    assert!(test.store.fill_table(id, 3).await.is_err());
    assert_eq!(test.store.tables().await.unwrap().len(), 1);
    another.close().await;
}

async fn a_dropped_table_takes_its_views_along(test: &TestStore) {
    let registered = with_table(test, &users(), 1).await;
    comes(test, &users(), r#"{"name":"Ada"}"#).await;
    let id = test.store.tables().await.unwrap()[0].id;
    test.store.drop_table(id).await.unwrap();
    assert_eq!(test.store.tables().await.unwrap(), []);
    test.database.run("CREATE VIEW [users] AS SELECT 1 AS mine").await;
    assert!(test.store.current(&SourceName::new("users").unwrap(), &key("k0")).await.unwrap().is_some());
    test.store.drop_table(id).await.unwrap();
    test.store
        .register(&[crate::support::store::spec("users", "users", crate::support::store::UNLIMITED)], Authority::Owns)
        .await
        .unwrap();
    assert_eq!(test.rows("SELECT mine FROM [users]").await, ["1"]);
    assert_ne!(test.store.begin_table(registered.source, &users()).await.unwrap(), id, "numbers are never given again");
}

async fn only_who_asks_for_freshness_reads_the_bookkeeping(test: &TestStore) {
    with_table(test, &users(), 1).await;
    comes(test, &users(), r#"{"name":"Ada"}"#).await;
    test.database.run("CREATE TABLE scores (user_key text, points integer)").await;
    let explain = match &test.database {
        crate::support::store::Database::Sqlite { .. } => "EXPLAIN QUERY PLAN",
        crate::support::store::Database::Postgres { .. } => "EXPLAIN",
    };
    for (sql, reads) in [
        ("SELECT name FROM [users]", false),
        ("SELECT count(*), max(name) FROM [users_all]", false),
        ("SELECT u.name, sum(points) FROM scores JOIN [users] u ON u.key = user_key GROUP BY u.key, u.name", false),
        ("SELECT u.name, points FROM scores LEFT JOIN [users] u ON u.key = user_key", false),
        ("SELECT name FROM [users] WHERE state = 'fresh'", true),
        ("SELECT fetched_at FROM [users]", true),
    ] {
        let plan = test.rows(&format!("{explain} {sql}")).await.join("\n");
        let touches = plan.contains("schedule") || plan.contains(" s ") || plan.ends_with(" s");
        assert_eq!(touches, reads, "{sql}\n{plan}");
    }
}
