//! The plans of the statements that meet large tables: whatever SQLite knows of these, it finds rows by index.
//!
//! `HEADPOND_TEST_ROWS` says how many resources there are (20,000 otherwise), of which one in a hundred is due. The plans
//! are printed: run with `--nocapture` to read them.

use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use tempfile::TempDir;

use super::tests::store;
use super::{
    apply, archive, claim, demand, erase, feed, hasten, history, keys, lease, list, origins, prune, read, refusal,
    reschedule, status, tables, typed, walk, want, webhooks, write,
};

/// Two sources of one upstream, all with content.
const MANY: &str = "
    INSERT INTO headpond_upstream VALUES (1, 'u', 10.0, 1, 4, 1.0, 0, 0, NULL, NULL);
    INSERT INTO headpond_source (id, name, upstream_id, keys) VALUES (1, 'a', 1, 10000), (2, 'b', 1, 10000);
    WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < $rows)
    INSERT INTO headpond_resource (id, source_id, key, params, version, retired_at)
    SELECT n, 1 + n % 2, 'k' || n, '{}', 1, CASE WHEN n % 1000 = 1 THEN 5 END FROM n;
    INSERT INTO headpond_schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT id, 1, source_id, CASE WHEN id % 100 = 0 THEN 1000 + id ELSE 9000000 + id END, 2 + id % 5
    FROM headpond_resource;
    INSERT INTO headpond_content SELECT id, x'00', 0, x'', zeroblob(100) FROM headpond_resource;
    INSERT INTO headpond_history (resource_id, version, source_id, changed_at, until, gone, size, etag, headers, body)
    SELECT id, 0, source_id, 0, 5, 0, 0, x'00', x'', x'' FROM headpond_resource;
    INSERT INTO headpond_change SELECT id, 1, id, 'a', key, 'created', 1, 0 FROM headpond_resource;
    INSERT INTO headpond_applied SELECT id, 0, '[]' FROM headpond_resource;
    INSERT INTO headpond_lease VALUES (1, 1, 'w', 0, 1, '[100]', '[]');
    INSERT INTO headpond_origin (id, source_id, name, place) VALUES (1, 1, 'config', 0), (2, 2, 'config', 0), (3, 1, 'file', 10);
    INSERT INTO headpond_key_origin SELECT 1 + n.id % 2, n.id, '{}', n.id FROM headpond_resource AS n WHERE n.retired_at IS NULL;";

/// The statements of claim and grant, apply, reads, wishes and prune. A plan is the same with real arguments as with none.
const STATEMENTS: &[(&str, &str)] = &[
    ("wait", read::STANDING),
    ("claim: end expired leases", claim::END_EXPIRED),
    ("claim: upstream", claim::UPSTREAM),
    ("claim: upstream and leases", claim::UPSTREAM_AND_LEASES),
    ("claim: candidates", claim::CANDIDATES),
    ("claim: what is new", claim::NEW_CANDIDATES),
    ("claim: leases of what is corrupt", claim::OF_LEASES),
    ("claim: candidates of sources", claim::CANDIDATES_OF_SOURCES),
    ("claim: candidates of resources", claim::CANDIDATES_OF_RESOURCES),
    ("claim: chosen", claim::CHOSEN),
    ("claim: grant the lease", claim::GRANT_LEASE),
    ("claim: put off what is corrupt", claim::PUT_OFF_CORRUPT),
    ("claim, take_token: keep tokens", claim::KEEP_TOKENS),
    ("claim, apply: keep the standing", claim::KEEP_STANDING),
    ("apply: leases", apply::LEASES),
    ("apply: sources of", apply::SOURCES_OF),
    ("apply: gone periods", apply::KEEP_GONE_PERIODS),
    ("apply: schedule", write::SCHEDULE),
    ("apply: confirmed", write::CONFIRMED),
    ("apply: replaced", write::REPLACED),
    ("apply: forget outdated", write::FORGET_OUTDATED),
    ("apply: reset", write::RESET),
    ("apply: deferred", write::DEFERRED),
    ("apply: gone", write::GONE),
    ("apply: described", write::DESCRIBED),
    ("apply: describe", write::DESCRIBE),
    ("apply: forget refused", refusal::FORGET),
    ("apply: changes", write::CHANGES),
    ("apply: keep outages", write::KEEP_OUTAGES),
    ("apply: retry now", write::RETRY_NOW),
    ("apply: end leases", lease::END),
    ("apply: shrink leases", lease::SHRINK),
    ("apply: number", write::NUMBER),
    ("apply: applied", write::APPLIED),
    ("release: leases", lease::READ),
    ("current", read::CURRENT),
    ("list: after", list::AFTER),
    ("list: named", list::NAMED),
    ("list: described", list::DESCRIBED),
    ("list: bodies", list::BODIES),
    ("refusal", refusal::REFUSED),
    ("ready", read::UNREADY),
    ("changes: tag", feed::TAG),
    ("changes: oldest", feed::OLDEST),
    ("changes: page", feed::PAGE),
    ("applied since", feed::APPLIED_AFTER),
    ("want all", want::WANT_ALL),
    ("want sources", want::WANT_SOURCES),
    ("want resources", want::WANT_RESOURCES),
    ("hasten: place", hasten::PLACE),
    ("hasten", hasten::HASTEN),
    ("hasten: note", hasten::NOTE),
    ("backlog", want::BACKLOG),
    ("backlog of sources", want::BACKLOG_OF_SOURCES),
    ("backlog of resources", want::BACKLOG_OF_RESOURCES),
    ("reschedule: later", reschedule::LATER),
    ("reschedule: earlier", reschedule::EARLIER),
    ("status: sources", status::SOURCES),
    ("status: upstreams", status::UPSTREAMS),
    ("status: census", status::CENSUS),
    ("status: queue", status::QUEUE),
    ("status: due", status::DUE),
    ("keys: known", keys::KNOWN),
    ("keys: attach", keys::ATTACH),
    ("keys: revive", keys::REVIVE),
    ("keys: update", keys::UPDATE_PARAMS),
    ("keys: due now", keys::DUE_NOW),
    ("demand: first in line", demand::FIRST_IN_LINE),
    ("demand: read now", demand::READ_NOW),
    ("demand: read", demand::READ),
    ("demand: unread", demand::UNREAD),
    ("demand: evicted", demand::EVICTED),
    ("origins: listed", origins::LISTED),
    ("origins: detach", origins::DETACH),
    ("origins: orphans", origins::ORPHANS),
    ("origins: otherwise", origins::OTHERWISE),
    ("origins: retire", origins::RETIRE),
    ("origins: never due", origins::NEVER_DUE),
    ("origins: keys", origins::KEYS),
    ("status: origins", status::ORIGINS),
    ("export", archive::EXPORT),
    ("import: unpolled", archive::INSERT_UNPOLLED),
    ("import: unscheduled", archive::INSERT_UNSCHEDULED),
    ("import: stored", archive::STORED),
    ("import: leases", archive::LEASES),
    ("webhooks: nothing", webhooks::NOTHING),
    ("webhooks: lease", webhooks::LEASE),
    ("webhooks: due", webhooks::DUE),
    ("webhooks: failing", webhooks::FAILING),
    ("webhooks: state", webhooks::STATE),
    ("webhooks: promote", webhooks::PROMOTE),
    ("webhooks: states", webhooks::STATES),
    ("walk", walk::WALK_ROW),
    ("walk: pages it has been on", walk::BEEN_ON),
    ("walk: page", walk::PAGE),
    ("walk: known members", walk::page::KNOWN),
    ("walk: members of a page", walk::page::SAME),
    ("walk: join", walk::page::JOIN),
    ("walk: seen", walk::page::SEEN),
    ("walk: missing", walk::end::MISSING),
    ("walk: going", walk::end::GOING),
    ("walk: absent", walk::end::ABSENT),
    ("misfits", refusal::MISFITS),
    ("typed: open", typed::OPEN),
    ("typed: sources", typed::SOURCES),
    ("typed: copies", tables::COPIES),
    ("typed: versions", tables::VERSIONS),
    ("erase: found", erase::FOUND),
    ("erase: schedule", erase::SCHEDULE),
    ("erase: resource", erase::RESOURCE),
    ("erase: uncount", erase::UNCOUNT),
    ("erase: unlist", erase::UNLIST),
    ("erase: no params", erase::NO_PARAMS),
    ("erase: content", erase::CONTENT),
    ("erase: history", erase::HISTORY),
    ("erase: gone", erase::GONE),
    ("erase: allow", erase::ALLOW),
    ("history: keep", history::KEEP),
    ("history: past", history::PAST),
    ("history: trim", history::TRIM),
    ("history: versions", history::VERSIONS),
    ("history: version", history::VERSION),
    ("prune: history", history::OUTLIVED),
    ("prune: too much history", history::TOO_MANY),
    ("prune: leases", prune::LEASES),
    ("prune: retired", prune::RETIRED),
    ("prune: long gone", prune::LONG_GONE),
    ("prune: applied", prune::APPLIED[1]),
    ("prune: changes", prune::CHANGES[1]),
];

/// Arrays; the few leases, sources, origins and upstreams; the counter's one row; the census.
const SMALL: [&str; 19] = [
    "j",
    "held",
    "l",
    "source",
    "u",
    "c",
    "json_each",
    "jsonb_each",
    "CONSTANT",
    "headpond_lease",
    "headpond_counter",
    "headpond_census",
    "headpond_origin",
    "o",
    "w",
    "p",
    "t",
    "f",
    "kept",
];

/// A database with that many resources.
async fn many(directory: &TempDir) -> SqliteConnection {
    let (_store, url) = store(directory).await;
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let rows = std::env::var("HEADPOND_TEST_ROWS").unwrap_or_else(|_| "20000".into());
    sqlx::raw_sql(AssertSqlSafe(MANY.replace("$rows", &rows))).execute(&mut connection).await.unwrap();
    connection
}

#[tokio::test]
async fn no_statement_scans_a_large_table() {
    let directory = TempDir::new().unwrap();
    let mut connection = many(&directory).await;
    // With and without statistics, since nobody runs ANALYZE for us.
    for analyze in ["", "ANALYZE"] {
        sqlx::raw_sql(analyze).execute(&mut connection).await.unwrap();
        for (name, statement) in STATEMENTS {
            let plan = plan(&mut connection, statement).await;
            println!("{name} {analyze}\n    {}", plan.join("\n    "));
            // A name in brackets is a subquery, whose own steps are listed too.
            let scans = plan.iter().filter_map(|step| step.strip_prefix("SCAN ")?.split_whitespace().next());
            let large: Vec<_> = scans.filter(|name| !SMALL.contains(name) && !name.starts_with('(')).collect();
            assert!(large.is_empty(), "{name}: {statement}\n{plan:#?}");
        }
        the_right_indexes_serve(&mut connection).await;
    }
}

/// By the due index in its order, or by ids; an outage's end by its own index, and prune by ranges of numbers.
async fn the_right_indexes_serve(connection: &mut SqliteConnection) {
    for statement in [claim::CANDIDATES, claim::CANDIDATES_OF_SOURCES] {
        let plan = plan(connection, statement).await;
        assert!(plan[0].contains("USING INDEX headpond_schedule_due (upstream_id=?"), "{plan:#?}");
        assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{plan:#?}");
    }
    for statement in [claim::CANDIDATES_OF_RESOURCES, want::WANT_RESOURCES, want::BACKLOG_OF_RESOURCES] {
        let by_id = plan(connection, statement).await;
        assert!(by_id.iter().any(|step| step.contains("USING INTEGER PRIMARY KEY (rowid=?)")), "{by_id:#?}");
    }
    for statement in [status::QUEUE, status::DUE] {
        let plan = plan(connection, statement).await;
        assert!(plan.iter().any(|step| step.contains("INDEX headpond_schedule_due (upstream_id=?")), "{plan:#?}");
        assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE FOR ORDER BY")), "{plan:#?}");
    }
    let page = plan(connection, list::AFTER).await;
    assert!(page[0].contains("headpond_resource_1 (source_id=? AND key>?)"), "{page:#?}");
    assert!(page.iter().all(|step| !step.contains("TEMP B-TREE")), "{page:#?}");
    let named = plan(connection, list::NAMED).await;
    assert!(named[1].contains("headpond_resource_1 (source_id=? AND key=?)"), "{named:#?}");
    let retry = plan(connection, write::RETRY_NOW).await;
    assert!(retry.iter().any(|step| step.contains("headpond_schedule_outage")), "{retry:#?}");
    for [_, cut] in [prune::APPLIED, prune::CHANGES] {
        let by_range = plan(connection, cut).await;
        assert!(by_range[0].contains("USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"), "{by_range:#?}");
    }
}

async fn plan(connection: &mut SqliteConnection, statement: &str) -> Vec<String> {
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let rows = sqlx::query(explain).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get("detail")).collect()
}
