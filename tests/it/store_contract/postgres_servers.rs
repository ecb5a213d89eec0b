//! What only a server can be.

use std::sync::Arc;
use std::time::Duration;

use headpond::clock::{ManualClock, monotonic};
use headpond::domain::decision::Outcome;
use headpond::domain::resource::ResourceId;
use headpond::store::{Authority, Fate, News, PruneRules, Selection, Store, StoreError, StoreOptions, connect};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::databases::refusal;
use crate::support::outcomes::{HOUR, content, status};
use crate::support::store::{
    Database, LEASE, TestStore, UNLIMITED, ask, ids_of, nothing_until, on_database, options, spec, start,
};

on_database!(
    on_postgres,
    crate::support::store::TestStore::postgres().await,
    a_schema_that_is_not_ours_is_refused_and_left_alone,
    a_schema_that_was_made_for_us_is_used,
    a_role_that_may_not_make_the_schema_is_told,
    a_role_that_may_not_write_is_told_at_the_start,
    a_read_only_role_is_told_at_the_start,
    commits_wait_for_the_disk_whatever_the_role_says,
    claims_and_confirmations_do_not_wait_for_the_disk,
    claims_see_each_other_whatever_the_isolation_of_the_role,
    the_time_is_the_servers,
    a_listener_that_was_cut_off_says_so_once,
    connections_that_were_cut_off_are_made_anew,
    a_wish_that_meets_a_deadlock_is_tried_again,
    a_claim_leaves_an_expired_lease_alone_that_is_being_applied,
    a_claim_does_not_wait_for_a_source_that_is_being_added,
    a_table_is_not_filled_before_batches_that_did_not_see_it_are_committed,
    a_key_that_is_revived_meanwhile_is_not_pruned,
    registering_takes_locks_in_the_order_of_ids,
    a_failure_with_a_nul_in_it_is_kept,
    bodies_larger_than_one_statement_are_stored
);

/// A session past the store.
async fn session(database: &Database) -> PgConnection {
    PgConnection::connect(&database.url()).await.unwrap()
}

async fn run(session: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(session).await.unwrap();
}

async fn open(url: &str, options: &StoreOptions) -> Result<Arc<dyn Store>, StoreError> {
    connect(url, options, Arc::new(ManualClock::at(start()))).await
}

/// A role that may log in and no more, and what it connects with.
async fn role(database: &Database) -> (String, String) {
    let name = format!("headpond_test_{:016x}", fastrand::u64(..));
    database.execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'secret'")).await.unwrap();
    let options: PgConnectOptions = database.url().parse().unwrap();
    let url = options.username(&name).password("secret").to_url_lossy().to_string();
    (name, url)
}

async fn drop_role(database: &Database, name: &str) {
    database.execute(&format!("DROP OWNED BY {name}; DROP ROLE {name}")).await.unwrap();
}

async fn a_schema_that_is_not_ours_is_refused_and_left_alone(test: &TestStore) {
    let theirs = test.database.empty().await;
    theirs.execute("CREATE SCHEMA headpond; CREATE TABLE headpond.meta (name text, value text)").await.unwrap();
    for migrate in [true, false] {
        let problem = refusal(test.connect(&theirs, &StoreOptions { migrate, ..options() }).await);
        assert!(problem.contains("schema `headpond` that this program did not make"), "{problem}");
    }
    let things = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('headpond') AND relkind = 'r'";
    assert_eq!(theirs.number(things).await, 1);
    theirs.drop().await;
}

async fn a_schema_that_was_made_for_us_is_used(test: &TestStore) {
    let empty = test.database.empty().await;
    let (name, url) = role(&empty).await;
    empty.execute(&format!("CREATE SCHEMA headpond AUTHORIZATION {name}")).await.unwrap();
    open(&url, &options()).await.unwrap().close().await;
    drop_role(&empty, &name).await;
    empty.drop().await;
}

async fn a_role_that_may_not_make_the_schema_is_told(test: &TestStore) {
    let empty = test.database.empty().await;
    let (name, url) = role(&empty).await;
    let problem = refusal(open(&url, &options()).await);
    assert!(problem.contains("needs to own the schema `headpond` or to be allowed to make it"), "{problem}");
    drop_role(&empty, &name).await;
    empty.drop().await;
}

async fn a_role_that_may_not_write_is_told_at_the_start(test: &TestStore) {
    let (name, url) = role(&test.database).await;
    let problem = refusal(open(&url, &options()).await);
    assert!(problem.contains("permission denied for schema headpond"), "{problem}");
    let may_read =
        format!("GRANT USAGE ON SCHEMA headpond TO {name}; GRANT SELECT ON ALL TABLES IN SCHEMA headpond TO {name}");
    test.execute(&may_read).await.unwrap();
    let problem = refusal(open(&url, &options()).await);
    assert!(problem.contains("may not write to Headpond's tables"), "{problem}");
    let may_write = format!("GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA headpond TO {name}");
    test.execute(&may_write).await.unwrap();
    open(&url, &options()).await.unwrap().close().await;
    drop_role(&test.database, &name).await;
}

async fn a_read_only_role_is_told_at_the_start(test: &TestStore) {
    let (name, url) = role(&test.database).await;
    test.execute(&format!("ALTER ROLE {name} SET default_transaction_read_only = on")).await.unwrap();
    let problem = refusal(open(&url, &options()).await);
    assert!(problem.contains("the database is read-only for this role"), "{problem}");
    drop_role(&test.database, &name).await;
}

async fn commits_wait_for_the_disk_whatever_the_role_says(test: &TestStore) {
    for (asked, given) in [("off", "on"), ("local", "on"), ("remote_apply", "remote_apply")] {
        let (name, url) = role(&test.database).await;
        let may = format!(
            "ALTER ROLE {name} SET synchronous_commit = {asked};
             GRANT USAGE ON SCHEMA headpond TO {name}; GRANT ALL ON ALL TABLES IN SCHEMA headpond TO {name}"
        );
        test.execute(&may).await.unwrap();
        let store = open(&url, &options()).await.unwrap();
        assert!(store.describe().contains(&format!("synchronous_commit={given}")), "{}", store.describe());
        store.close().await;
        drop_role(&test.database, &name).await;
    }
}

/// At each commit, notes how it is made. What nothing but a repeated request would be lost with need not wait.
async fn claims_and_confirmations_do_not_wait_for_the_disk(test: &TestStore) {
    test.execute(
        "CREATE TABLE commits (how text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO commits VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER note AFTER INSERT ON headpond.lease DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION note();
         CREATE CONSTRAINT TRIGGER note AFTER UPDATE ON headpond.counter DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION note();",
    )
    .await
    .unwrap();
    let weather = test.source_with_keys("weather", 1).await;
    for (seen, how) in [(content("A", &[]), "on"), (content("A", &[]), "off"), (status(500), "on")] {
        let claim = test.claim_one(weather.upstream).await;
        assert_eq!(test.number("SELECT count(*) FROM commits WHERE how = 'off'").await, 1);
        test.execute("DELETE FROM commits").await.unwrap();
        test.settle(&claim, seen).await;
        assert_eq!(test.number(&format!("SELECT count(*) FROM commits WHERE how = '{how}'")).await, 1);
        test.execute("DELETE FROM commits").await.unwrap();
        test.clock.advance(HOUR);
    }
}

/// Under `repeatable read` a claim that waited for another would go on seeing what was free before.
async fn claims_see_each_other_whatever_the_isolation_of_the_role(test: &TestStore) {
    let Database::Postgres { name, .. } = &test.database else { panic!("on Postgres only") };
    let isolation = format!("ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'");
    test.execute(&isolation).await.unwrap();
    let weather = test.source_with_keys("weather", 60).await;
    let mut tasks = JoinSet::new();
    for _ in 0..6 {
        let store = test.another().await;
        tasks.spawn(async move { ids_of(&store.claim(&ask(weather.upstream, 10)).await.unwrap().claims) });
    }
    let mut claimed: Vec<ResourceId> = tasks.join_all().await.concat();
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), 60);
}

async fn the_time_is_the_servers(test: &TestStore) {
    let first = test.store.database_time().await.unwrap().unwrap();
    let told = test.number("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").await;
    let second = test.store.database_time().await.unwrap().unwrap();
    assert!(first.timestamp_micros() <= told && told <= second.timestamp_micros());
    assert!(first < second, "it is not the time at which a transaction began");
}

/// Ends all other sessions of the database.
async fn cut_off(test: &TestStore) {
    test.number(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
}

async fn a_listener_that_was_cut_off_says_so_once(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let mut follower = test.store.follow().await.unwrap();
    cut_off(test).await;
    assert_eq!(follower.news().await.unwrap(), News::Resync);
    let other = test.another().await;
    other.want(&Selection::Sources(vec![weather.source]), test.now()).await.unwrap();
    assert_eq!(follower.news().await.unwrap(), News::Something);
}

async fn connections_that_were_cut_off_are_made_anew(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    cut_off(test).await;
    // How many fail depends on how many connections were open; each says that the same call may succeed.
    loop {
        match test.store.claim(&ask(weather.upstream, 1)).await {
            Ok(claimed) => break assert_eq!(claimed.claims.len(), 1),
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
        }
    }
}

/// Waits until some session of the database waits for a lock.
async fn until_someone_waits(session: &mut PgConnection) {
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *session).await.unwrap() == 0 {}
}

async fn a_wish_that_meets_a_deadlock_is_tried_again(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let ids = ids_of(&test.claim(weather.upstream).await);
    let (mut first, mut second) = (ids[0].0.min(ids[1].0), ids[0].0.max(ids[1].0));
    // The store takes the rows in the order of their ids, so the other one takes them in the opposite order.
    std::mem::swap(&mut first, &mut second);
    let mut other = session(&test.database).await;
    let touch = |id| format!("UPDATE headpond.schedule SET stale_after = 1 WHERE resource_id = {id}");
    run(&mut other, &format!("SET deadlock_timeout = '60s'; BEGIN; {}", touch(first))).await;
    let wish = tokio::spawn({
        let (store, at) = (Arc::clone(&test.store), test.now());
        async move { store.want(&Selection::All, at).await }
    });
    until_someone_waits(&mut session(&test.database).await).await;
    run(&mut other, &touch(second)).await;
    run(&mut other, "COMMIT").await;
    assert_eq!(wish.await.unwrap().unwrap(), 2);
}

async fn a_table_is_not_filled_before_batches_that_did_not_see_it_are_committed(test: &TestStore) {
    let users = test.source_with_keys("users", 1).await;
    let mut applying = session(&test.database).await;
    // A batch holds the tables that there are: none so far.
    run(&mut applying, "BEGIN; SELECT FROM headpond.typed FOR KEY SHARE").await;
    let mut begun = tokio::spawn({
        let store = Arc::clone(&test.store);
        async move { store.begin_table(users.source, &crate::support::tables::users()).await }
    });
    let mut looking = session(&test.database).await;
    tokio::select! {
        early = &mut begun => panic!("{early:?}"),
        () = until_someone_waits(&mut looking) => {}
    }
    // Batches that come meanwhile don't wait for that one: it gives way to them, however often.
    let mut other = session(&test.database).await;
    run(&mut other, "SET lock_timeout = '3s'").await;
    for _ in 0..5 {
        until_someone_waits(&mut looking).await;
        run(&mut other, "BEGIN; SELECT FROM headpond.typed FOR KEY SHARE; COMMIT").await;
    }
    assert!(!begun.is_finished(), "it goes on trying");
    run(&mut applying, "COMMIT").await;
    begun.await.unwrap().unwrap();
}

async fn a_claim_leaves_an_expired_lease_alone_that_is_being_applied(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let claim = test.claim_one(weather.upstream).await;
    test.clock.advance(LEASE);
    let mut applying = session(&test.database).await;
    run(&mut applying, "BEGIN; SELECT FROM headpond.lease FOR UPDATE").await;
    // It returns, and says when to ask again: soon, since the lease has ended already, and not at once, again and again.
    let ask_again_at = nothing_until(&test.store.claim(&ask(weather.upstream, 1)).await.unwrap()).unwrap();
    assert_eq!(ask_again_at, test.now() + Duration::from_millis(50));
    run(&mut applying, "ROLLBACK").await;
    let again = test.claim_one(weather.upstream).await;
    assert_eq!(again.resource, claim.resource);
    let late = [test.settled(&claim, content("late", &[]))];
    assert_eq!(test.store.apply(&late).await.unwrap().fates, [Fate::LeaseLost]);
}

async fn a_claim_does_not_wait_for_a_source_that_is_being_added(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let mut adding = session(&test.database).await;
    let add = format!("BEGIN; INSERT INTO headpond.source (name, upstream_id) VALUES ('b', {})", weather.upstream.0);
    run(&mut adding, &add).await;
    // With a stronger lock this would be Busy after a while.
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
    run(&mut adding, "ROLLBACK").await;
}

async fn a_key_that_is_revived_meanwhile_is_not_pruned(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    test.clock.advance(HOUR);
    let mut reviving = session(&test.database).await;
    let revive = "BEGIN; UPDATE headpond.schedule SET due_at = 1 WHERE resource_id = 1;
                  UPDATE headpond.resource SET retired_at = NULL WHERE id = 1";
    run(&mut reviving, revive).await;
    let rules = PruneRules { now: test.now(), retired: HOUR, changes: HOUR, applied: HOUR };
    let pruning = tokio::spawn({
        let store = Arc::clone(&test.store);
        async move { store.prune(&rules).await }
    });
    until_someone_waits(&mut session(&test.database).await).await;
    run(&mut reviving, "COMMIT").await;
    assert_eq!(pruning.await.unwrap().unwrap(), 1, "the other one");
    assert_eq!(test.number("SELECT min(id) FROM {resource}").await, 1);
}

/// Names that sort the other way round than ids: whoever takes the lower id first must get the higher one too.
async fn registering_takes_locks_in_the_order_of_ids(test: &TestStore) {
    let specs = [spec("z", "z", UNLIMITED), spec("a", "a", UNLIMITED)];
    for spec in &specs {
        test.store.register(std::slice::from_ref(spec), Authority::Owns).await.unwrap();
    }
    for table in ["source", "upstream"] {
        let lock = |id| format!("UPDATE headpond.{table} SET name = name WHERE id = {id}");
        let mut other = session(&test.database).await;
        run(&mut other, &format!("BEGIN; {}", lock(1))).await;
        let registering = tokio::spawn({
            let (store, specs) = (Arc::clone(&test.store), specs.clone());
            async move { store.register(&specs, Authority::Owns).await }
        });
        until_someone_waits(&mut session(&test.database).await).await;
        run(&mut other, &format!("SET lock_timeout = '100ms'; {}; COMMIT", lock(2))).await;
        registering.await.unwrap().unwrap();
    }
}

async fn a_failure_with_a_nul_in_it_is_kept(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let mut settled = test.settled(&test.claim_one(weather.upstream).await, status(500));
    let Outcome::Deferred(deferral) = &mut settled.outcome else { panic!("not deferred") };
    deferral.failing.last.detail = "it said \0".into();
    assert_eq!(test.store.apply(&[settled]).await.unwrap().fates, [Fate::Committed]);
    assert_eq!(test.current("weather", "k0").await.failing.unwrap().last.detail, "it said ␀");
}

async fn bodies_larger_than_one_statement_are_stored(test: &TestStore) {
    let weather = test.source_with_keys("weather", 4).await;
    let body = "x".repeat(12 << 20);
    test.settle_all(weather.upstream, |_| content(&body, &[])).await;
    for name in ["k0", "k1", "k2", "k3"] {
        assert_eq!(test.current("weather", name).await.content.unwrap().body.len(), body.len());
    }
    test.clock.advance(HOUR);
    assert_eq!(test.number("SELECT count(*) FROM {change}").await, 4);
}

#[tokio::test]
async fn what_goes_wrong_is_told_without_the_password() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for url in [
        format!("postgres://someone:hidden@{unused}/app"),
        "postgres://someone:hidden@127.0.0.1:not-a-port/app".to_owned(),
        "postgres://someone:hidden@127.0.0.1/app?sslmode=strange".to_owned(),
        "postgres://someone:hid/den@127.0.0.1/app".to_owned(),
        "mysql://someone:hidden@127.0.0.1/app".to_owned(),
    ] {
        let error = open(&url, &options()).await.unwrap_err();
        let (told, debugged) = (error.to_string(), format!("{error:?}"));
        assert!(!told.contains("hid") && !debugged.contains("hid"), "{debugged}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_passing_and_told_at_once() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let began = monotonic();
    let error = open(&format!("postgres://someone@{unused}/app"), &options()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(4));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://someone@{}/app", silent.local_addr().unwrap());
    let error = open(&url, &options()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
}
