//! The plans of the statements that meet large tables: whatever the planner knows, they find rows by index.
//!
//! `HEADPOND_TEST_ROWS` says how many resources there are (20,000 otherwise), of which one in a hundred is due. The plans
//! are printed: run with `--nocapture` to read them.

use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};

use super::{
    PostgresStore, apply, archive, claim, demand, erase, feed, hasten, history, keys, lease, list, origins, read,
    refusal, reschedule, status, tables, typed, upkeep, walk, want, webhooks, write,
};
use crate::clock::ManualClock;
use crate::domain::resource::{ResourceId, SourceId};
use crate::store::{Selection, StoreOptions};

/// Two sources of one upstream, all with content.
const LOAD: &str = "
    INSERT INTO headpond.upstream (name, burst, max_concurrent, tokens, tokens_at) VALUES ('u', 1, 1000, 1, 0);
    INSERT INTO headpond.source (name, upstream_id, keys) VALUES ('a', 1, 50000), ('b', 1, 50000);
    INSERT INTO headpond.resource (source_id, key, params, retired_at)
         SELECT 1 + n % 2, 'key ' || n, '{}', CASE WHEN n % 1000 = 1 THEN 5 END FROM generate_series(1, $rows) AS n;
    INSERT INTO headpond.schedule (resource_id, upstream_id, source_id, due_at, because)
         SELECT id, 1, source_id, CASE WHEN id % 100 = 0 THEN 1000 + id ELSE hashint8(id)::bigint + 3000000000 END,
                2 + id % 5
           FROM headpond.resource;
    INSERT INTO headpond.content (resource_id, etag, changed_at, headers, body)
         SELECT id, '\\x00', 0, '', '\\x7b7d' FROM headpond.resource;
    INSERT INTO headpond.history (resource_id, version, source_id, changed_at, until, gone, size, etag, headers, body)
         SELECT id, 0, source_id, 0, 5, 0, 0, '\\x00', '', '' FROM headpond.resource;
    INSERT INTO headpond.lease (token, upstream_id, worker, granted_at, expires_at, resources)
         SELECT n, 1, 'w', 0, 9000000000000000, ARRAY[n] FROM generate_series(1, 20) AS n;
    INSERT INTO headpond.change SELECT n, 1, n, 'a', 'key', 'created', 1, 0 FROM generate_series(1, $rows) AS n;
    INSERT INTO headpond.applied SELECT n, 0, ARRAY[n] FROM generate_series(1, $rows) AS n;
    INSERT INTO headpond.origin (source_id, name, place) VALUES (1, 'config', 0), (2, 'config', 0), (1, 'file', 10);
    INSERT INTO headpond.key_origin
         SELECT source_id, id, '{}', id FROM headpond.resource WHERE retired_at IS NULL;
    INSERT INTO headpond.webhook (name, number, tag) VALUES ('w', 0, 0);
    INSERT INTO headpond.webhook_queue (webhook, source, key, number, tag, kind, version, at, next_at)
         SELECT 'w', 'a', 'key ' || n / 2, n, 1, 'changed', 1, 0, CASE n % 1000 WHEN 0 THEN n END
           FROM generate_series(1, $rows) AS n;
    ANALYZE";

/// Tables that are too large to be read as a whole.
const LARGE: [&str; 8] =
    ["schedule", "resource", "content", "history", "change", "applied", "key_origin", "webhook_queue"];

/// What to explain: a name, the statement, and arguments as SQL.
type Case = (&'static str, String, String);

/// An argument for each of 256 ids that lie far apart.
fn spread(of: impl Fn(i64) -> String) -> String {
    let all: Vec<_> = (1..=256).map(|n| of(n * 70)).collect();
    format!("'{{{}}}'", all.join(","))
}

#[expect(clippy::too_many_lines, reason = "one table of all statements")]
fn cases() -> Vec<Case> {
    let ids = spread(|id| id.to_string());
    let zeros = spread(|_| "0".into());
    let bytes = spread(|_| "00".into());
    let texts = spread(|_| "x".into());
    let candidates = |which| claim::candidates_sql(&which);
    let sources = Selection::Sources(vec![SourceId(1)]);
    let resources = Selection::Resources(vec![ResourceId(1)]);
    vec![
        ("upstream", claim::LOCK_UPSTREAM.into(), "1".into()),
        ("live leases", claim::LIVE_LEASES.into(), "5".into()),
        ("candidates", candidates(Selection::All), "1, 300, 5, '{}', '{7,8}', '{}'".into()),
        ("candidates that are new", claim::new_candidates_sql(), "1, 300, 1000000000, '{}', '{7,8}', '{}'".into()),
        ("candidates of sources", candidates(sources.clone()), "1, 300, 1000000000, '{1}', '{7,8}', '{}'".into()),
        ("candidates of resources", candidates(resources.clone()), format!("1, 300, 5, {ids}, '{{7,8}}', '{{}}'")),
        ("put off what is corrupt", claim::PUT_OFF_CORRUPT.into(), format!("{ids}, 5")),
        ("take_token: pay", claim::PAY.into(), "1, 1, 5".into()),
        ("lock leases", lease::LOCK.into(), "'{1,2}'".into()),
        ("end leases", lease::DELETE.into(), "'{1,2}'".into()),
        ("shrink a lease", lease::SHRINK.into(), format!("1, {ids}")),
        ("lock sources", apply::LOCK_SOURCES.into(), "'{1}'".into()),
        ("upstreams of a batch", apply::UPSTREAMS.into(), "'{1}'".into()),
        ("lock upstreams of a batch", apply::LOCK_UPSTREAMS.into(), "'{1}'".into()),
        ("heed", apply::KEEP.into(), "1, 0, NULL".into()),
        ("keep a standing", claim::KEEP_STANDING.into(), "1, NULL".into()),
        ("lease", claim::LEASE.into(), format!("1, 1, 'w', 0, 0, {ids}, 1, 0, '{{7}}'")),
        (
            "schedule",
            write::SCHEDULE.into(),
            format!("{ids}, {zeros}, {zeros}, {zeros}, {zeros}, {zeros}, {zeros}, 0, 8"),
        ),
        ("confirmed", write::CONFIRMED.into(), format!("{ids}, {bytes}, {bytes}, {zeros}, {texts}, {zeros}, {texts}")),
        ("described", write::DESCRIBED.into(), ids.clone()),
        ("forget refused", refusal::FORGET.into(), ids.clone()),
        ("refuse", refusal::REFUSE.into(), format!("{ids}, {zeros}, {zeros}, {bytes}, {zeros}, {bytes}")),
        ("refusal", refusal::REFUSED.into(), "'a', 'key 7'".into()),
        ("describe", write::DESCRIBE.into(), format!("{ids}, {bytes}")),
        (
            "replaced",
            write::REPLACED.into(),
            format!("{ids}, {bytes}, {bytes}, {zeros}, {texts}, {zeros}, {texts}, {zeros}, {bytes}"),
        ),
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
        ("retry now", apply::RETRY_NOW.into(), "1, 5, 10, 10000".into()),
        ("current", read::CURRENT.into(), "'a', 'key 7', 5".into()),
        ("wait", read::STANDING.into(), "'a'".into()),
        ("list", list::AFTER.into(), "1, 'key 7', 101".into()),
        ("list while looking for a state", list::AFTER.into(), "1, '', 1000".into()),
        ("batch", list::NAMED.into(), format!("1, {}", spread(|n| format!("key {n}")))),
        ("contents of a list", list::DESCRIBED.into(), ids.clone()),
        ("bodies of a list", list::BODIES.into(), ids.clone()),
        ("want", want::want_sql(&resources), format!("{ids}, 0, 8, 5, 0, 20000")),
        ("want sources", want::want_sql(&sources), "'{1}', 5, 8, 5, 7000, 7500".into()),
        ("want all", want::want_sql(&Selection::All), "'{}', 5, 8, 5, 7000, 7500".into()),
        ("hasten: upstream", hasten::LOCK_UPSTREAM.into(), "7".into()),
        ("hasten: place", hasten::PLACE.into(), "7".into()),
        ("hasten: leases", hasten::IS_LEASED.into(), "7, 5".into()),
        ("hasten", hasten::HASTEN.into(), "7, 0, 8, 5".into()),
        ("hasten: note", hasten::NOTE.into(), "7, 5".into()),
        ("backlog", want::backlog_sql(&Selection::All), "'{}', 5, 5".into()),
        ("backlog of sources", want::backlog_sql(&sources), "'{1}', 5, 5".into()),
        ("backlog of resources", want::backlog_sql(&resources), format!("{ids}, 5, 5")),
        ("changes", feed::CHANGES.into(), "7000, 100".into()),
        ("applied since", feed::APPLIED_SINCE.into(), "$rows - 10".into()),
        ("status: sources", status::SOURCES.into(), String::new()),
        ("status: upstreams", status::UPSTREAMS.into(), "5".into()),
        ("status: census", status::CENSUS.into(), "5".into()),
        ("status: first in the queue", status::QUEUE.into(), "1, 5, 1, 9000000".into()),
        ("status: queue", status::QUEUE.into(), "1, 5, 1000, 9000000".into()),
        ("status: due", status::DUE.into(), "1, 5, 100001".into()),
        ("export", archive::EXPORT.into(), "1, 'key 7', 32".into()),
        ("import: stored", archive::STORED.into(), format!("1, {texts}")),
        ("import: leases", archive::LEASES.into(), format!("1, {texts}")),
        ("erase: found", erase::FOUND.into(), format!("1, {texts}")),
        ("erase: leases", erase::LEASES.into(), ids.clone()),
        ("erase: lock", erase::LOCK.into(), ids.clone()),
        ("erase: unlist", erase::UNLIST.into(), ids.clone()),
        ("erase: no params", erase::NO_PARAMS.into(), ids.clone()),
        ("erase: schedule", erase::SCHEDULE.into(), ids.clone()),
        ("erase: resource", erase::RESOURCE.into(), format!("{ids}, 5, 5")),
        ("erase: content", erase::CONTENT.into(), ids.clone()),
        ("erase: history", erase::HISTORY.into(), ids.clone()),
        ("erase: gone", erase::GONE.into(), ids.clone()),
        ("erase: allow", erase::ALLOW.into(), format!("{ids}, 5, 5")),
        ("history: keep", history::KEEP.into(), format!("{ids}, {zeros}")),
        (
            "history: past",
            history::PAST.into(),
            format!("{ids}, {zeros}, {zeros}, {zeros}, {zeros}, {bytes}, {bytes}, {bytes}"),
        ),
        ("history: trim", history::TRIM.into(), ids.clone()),
        ("history: versions", history::VERSIONS.into(), "'a', 'key 7'".into()),
        ("history: version", history::VERSION.into(), "'a', 'key 7', 0".into()),
        ("prune history", history::OUTLIVED.into(), "5, 1000".into()),
        ("prune leases", upkeep::LEASES.into(), "5, 1000".into()),
        ("prune retired", upkeep::RETIRED.into(), "7, 1000".into()),
        ("prune applied", upkeep::APPLIED[1].into(), "1, 1001".into()),
        ("prune changes", upkeep::CHANGES[1].into(), "1, 1001".into()),
        ("later", reschedule::LATER.into(), "1, 7000, 5, 100, 9000000".into()),
        ("earlier", reschedule::EARLIER.into(), format!("{ids}, {zeros}, 9000000")),
        ("known keys", keys::KNOWN.into(), format!("1, {texts}, 1")),
        ("attach keys", keys::ATTACH.into(), format!("1, {ids}, {texts}")),
        ("demand: first in line", demand::FIRST_IN_LINE.into(), "7, 0, 8, 5".into()),
        ("demand: read now", demand::READ_NOW.into(), "1, 7, 5".into()),
        ("demand: read", demand::READ.into(), format!("{ids}, 9000000")),
        ("demand: unread", demand::UNREAD.into(), "1, 7000, 1000".into()),
        ("demand: evicted", demand::EVICTED.into(), ids.clone()),
        ("listed of an origin", origins::LISTED.into(), "1, 7, 5000".into()),
        ("detach keys", origins::DETACH.into(), format!("1, {ids}")),
        ("orphans", origins::ORPHANS.into(), ids.clone()),
        ("otherwise", origins::OTHERWISE.into(), ids.clone()),
        ("misfits", refusal::MISFITS.into(), "1".into()),
        ("typed: open", typed::OPEN.into(), String::new()),
        ("typed: copies", tables::COPIES.into(), "1, 'key 7', 500".into()),
        ("typed: hold", tables::HOLD.into(), ids.clone()),
        ("typed: versions", tables::VERSIONS.into(), ids.clone()),
        ("list of keys", origins::KEYS.into(), "1, 'key 7', 100".into()),
        ("status: origins", status::ORIGINS.into(), String::new()),
        ("webhooks: nothing", webhooks::NOTHING.into(), "'w', 1".into()),
        ("webhooks: lease", webhooks::LEASE.into(), "'w', 'me', 2, 1".into()),
        ("webhooks: due", webhooks::DUE.into(), "'w', 2000".into()),
        ("webhooks: failing", webhooks::FAILING.into(), "'w'".into()),
        ("webhooks: promote", webhooks::PROMOTE.into(), "'w', 'a', 'key 7', 1".into()),
        ("walk", walk::WALK_ROW.into(), "1".into()),
        ("walk: pages it has been on", walk::BEEN_ON.into(), "1, 1".into()),
        ("walk: page", walk::PAGE.into(), "1, 1".into()),
        ("walk: known members", walk::page::KNOWN.into(), format!("1, {texts}")),
        ("walk: members of a page", walk::page::SAME.into(), "1, 1".into()),
        ("walk: join", walk::page::JOIN.into(), format!("{ids}, 5")),
        ("walk: seen", walk::page::SEEN.into(), format!("{ids}, 5")),
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
    let rows = std::env::var("HEADPOND_TEST_ROWS").unwrap_or_else(|_| "20000".into());
    run(&mut session, format!("SET statement_timeout = 0; {}", LOAD.replace("$rows", &rows))).await;
    let mut problems = Vec::new();
    for (name, sql, arguments) in cases() {
        // A backlog may be small or everything: it is planned for its time, each time.
        let is_planned_anew = name.starts_with("backlog");
        for mode in ["force_custom_plan", "force_generic_plan"].iter().take(if is_planned_anew { 1 } else { 2 }) {
            run(&mut session, format!("SET plan_cache_mode = {mode}; PREPARE explained AS {sql}")).await;
            let arguments = if arguments.is_empty() { String::new() } else { format!("({arguments})") };
            let explain = AssertSqlSafe(format!("EXPLAIN EXECUTE explained {}", arguments.replace("$rows", &rows)));
            let lines = sqlx::raw_sql(explain).fetch_all(&mut *session).await.unwrap();
            let lines: Vec<String> = lines.iter().map(|line| line.get(0)).collect();
            let plan = lines.join("\n");
            println!("{name}, {mode}:\n{plan}");
            let scans = LARGE.iter().any(|table| plan.contains(&format!("Seq Scan on {table}")));
            // A page is read in the order of the index: to sort it, all of the source would have to be read.
            if scans || (name.starts_with("list") && plan.contains("Sort")) {
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
