//! What can't be seen through the store's contract: query plans, and a disk that is full.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use http::HeaderMap;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use tempfile::TempDir;

use super::{SqliteStore, apply, claim, feed, lease, read, want, write};
use crate::clock::ManualClock;
use crate::domain::change::ChangeKind;
use crate::domain::decision::{Freshness, Metadata, Outcome, Replacement};
use crate::domain::limit::Limits;
use crate::domain::resource::{Key, Params, SourceName, UpstreamId};
use crate::domain::schedule::{Because, Due};
use crate::domain::snapshot::{ContentHash, Snapshot};
use crate::store::{
    Authority, Claim, ClaimRequest, Fate, GoneBudget, Selection, Settled, SourceSpec, Store, StoreError, StoreOptions,
};

/// A store on a file of its own.
async fn store(directory: &TempDir) -> (SqliteStore, String) {
    let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
    let url = format!("sqlite://{}/headpond.db", directory.path().display());
    let options = StoreOptions { readers: 1, migrate: true, create: true };
    (SqliteStore::connect(&url, &options, clock).await.unwrap(), url)
}

/// 20,000 resources with content of which one in a hundred is due, in two sources of one upstream.
const MANY: &str = "
    INSERT INTO headpond_upstream VALUES (1, 'u', 10.0, 1, 4, 1.0, 0, 0);
    INSERT INTO headpond_source (id, name, upstream_id, keys) VALUES (1, 'a', 1, 10000), (2, 'b', 1, 10000);
    WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
    INSERT INTO headpond_resource (id, source_id, key, params, version) SELECT n, 1 + n % 2, 'k' || n, '{}', 1 FROM n;
    INSERT INTO headpond_schedule (resource_id, upstream_id, source_id, due_at, because)
    SELECT id, 1, source_id, CASE WHEN id % 100 = 0 THEN 1000 + id ELSE 9000000 + id END, 2 + id % 5
    FROM headpond_resource;
    INSERT INTO headpond_content SELECT id, x'00', 0, x'', zeroblob(100) FROM headpond_resource;
    INSERT INTO headpond_change SELECT id, 1, id, 'a', key, 'created', 1, 0 FROM headpond_resource;
    INSERT INTO headpond_applied SELECT id, 0, '[]' FROM headpond_resource;
    INSERT INTO headpond_lease VALUES (1, 1, 'w', 0, 1, '[100]');";

/// The statements of claim, apply and read that meet large tables. The plan is the same with real arguments as with none.
const HOT: [&str; 27] = [
    claim::CANDIDATES,
    claim::CANDIDATES_OF_SOURCES,
    claim::CANDIDATES_OF_RESOURCES,
    claim::CHOSEN,
    apply::SOURCES_OF,
    lease::READ,
    write::SCHEDULE,
    write::CONFIRMED,
    write::REPLACED,
    write::FORGET_OUTDATED,
    write::RESET,
    write::DEFERRED,
    write::GONE,
    write::CHANGES,
    write::RETRY_NOW,
    read::CURRENT,
    read::UNREADY,
    feed::TAG,
    feed::OLDEST,
    feed::PAGE,
    feed::APPLIED_AFTER,
    want::WANT_ALL,
    want::WANT_SOURCES,
    want::WANT_RESOURCES,
    want::BACKLOG,
    want::BACKLOG_OF_SOURCES,
    want::BACKLOG_OF_RESOURCES,
];

#[tokio::test]
async fn no_hot_statement_scans_a_large_table() {
    let directory = TempDir::new().unwrap();
    let (_store, url) = store(&directory).await;
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(MANY).execute(&mut connection).await.unwrap();
    // With and without statistics, since nobody runs ANALYZE for us.
    for analyze in ["", "ANALYZE"] {
        sqlx::raw_sql(analyze).execute(&mut connection).await.unwrap();
        for statement in HOT {
            let plan = plan(&mut connection, statement).await;
            let scans = plan.iter().filter_map(|step| step.strip_prefix("SCAN ")?.split_whitespace().next());
            // Arrays, the few leases, sources and upstreams, and the counter's one row.
            let large: Vec<_> = scans
                .filter(|name| !["j", "held", "l", "source", "u", "c", "json_each", "CONSTANT"].contains(name))
                .collect();
            assert!(large.is_empty(), "{statement}\n{plan:#?}");
        }
    }
}

#[tokio::test]
async fn candidates_are_read_by_the_due_index_or_by_their_ids() {
    let directory = TempDir::new().unwrap();
    let (_store, url) = store(&directory).await;
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(MANY).execute(&mut connection).await.unwrap();
    for statement in [claim::CANDIDATES, claim::CANDIDATES_OF_SOURCES] {
        let plan = plan(&mut connection, statement).await;
        assert!(plan[0].contains("USING INDEX headpond_schedule_due (upstream_id=?"), "{plan:#?}");
        assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{plan:#?}");
    }
    for statement in [claim::CANDIDATES_OF_RESOURCES, want::WANT_RESOURCES, want::BACKLOG_OF_RESOURCES] {
        let by_id = plan(&mut connection, statement).await;
        assert!(by_id.iter().any(|step| step.contains("USING INTEGER PRIMARY KEY (rowid=?)")), "{by_id:#?}");
    }
    let retry = plan(&mut connection, write::RETRY_NOW).await;
    assert!(retry[0].contains("headpond_schedule_outage"), "{retry:#?}");
}

async fn plan(connection: &mut SqliteConnection, statement: &str) -> Vec<String> {
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let rows = sqlx::query(explain).fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get("detail")).collect()
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_got_over() {
    let directory = TempDir::new().unwrap();
    let (store, _) = store(&directory).await;
    let limits = Limits { requests_per_second: None, burst: 1, max_concurrent: 10 };
    let spec = SourceSpec { name: SourceName::new("weather").unwrap(), upstream: "u".into(), limits };
    let weather = store.register(std::slice::from_ref(&spec), Authority::Owns).await.unwrap()[0];
    let keys = ["a", "b"].map(|key| (Key::new(key).unwrap(), Params::new()));
    store.add_keys(weather.source, &keys, Authority::Owns).await.unwrap();
    let claims = claim_all(&store, weather.upstream).await;
    let batch: Vec<_> = claims.iter().map(|claim| large(&store, claim)).collect();
    store.apply(&batch[..1]).await.unwrap();

    // SQLite answers to its own limit as to the disk's: SQLITE_FULL, and it rolls back by itself.
    limit_pages(&store, 1).await;
    assert!(matches!(store.apply(&batch[1..]).await, Err(StoreError::Unavailable(_))));
    limit_pages(&store, 1_000_000).await;
    let kept = store.current(&spec.name, &keys[0].0).await.unwrap().unwrap();
    assert_eq!(kept.content.unwrap().body.len(), 1_000_000);
    assert_eq!(store.apply(&batch[1..]).await.unwrap().fates, [Fate::Committed]);
}

#[tokio::test]
async fn what_is_served_waits_for_the_disk_and_claims_do_not() {
    let directory = TempDir::new().unwrap();
    let (store, _) = store(&directory).await;
    let limits = Limits { requests_per_second: None, burst: 1, max_concurrent: 10 };
    let spec = SourceSpec { name: SourceName::new("weather").unwrap(), upstream: "u".into(), limits };
    let weather = store.register(&[spec], Authority::Owns).await.unwrap()[0];
    store.add_keys(weather.source, &[(Key::new("a").unwrap(), Params::new())], Authority::Owns).await.unwrap();
    assert_eq!(synchronous(&store).await, FULL);
    let claims = claim_all(&store, weather.upstream).await;
    assert_eq!(synchronous(&store).await, NORMAL);
    store.apply(&[large(&store, &claims[0])]).await.unwrap();
    assert_eq!(synchronous(&store).await, FULL);
    let claims = claim_all(&store, weather.upstream).await;
    store.apply(&[confirmed(&store, &claims[0])]).await.unwrap();
    assert_eq!(synchronous(&store).await, NORMAL);
    store.want(&Selection::All, store.clock.now()).await.unwrap();
    assert_eq!(synchronous(&store).await, FULL);
}

const NORMAL: i64 = 1;
const FULL: i64 = 2;

/// How the writer's latest transaction was committed.
async fn synchronous(store: &SqliteStore) -> i64 {
    let mut writer = store.writer().await;
    sqlx::query_scalar("PRAGMA synchronous").fetch_one(writer.connection().unwrap()).await.unwrap()
}

/// Still as it was.
fn confirmed(store: &SqliteStore, claim: &Claim) -> Settled {
    let now = store.clock.now();
    let freshness = Freshness { fetched_at: now, stale_after: now };
    let due = Due { at: now, because: Because::Interval };
    Settled { outcome: Outcome::Confirmed { freshness, metadata: None, due }, ..large(store, claim) }
}

/// 1 is "no more than there are".
async fn limit_pages(store: &SqliteStore, pages: u32) {
    let mut writer = store.writer().await;
    let statement = AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::query(statement).execute(writer.connection().unwrap()).await.unwrap();
}

async fn claim_all(store: &SqliteStore, upstream: UpstreamId) -> Vec<Claim> {
    let request = ClaimRequest {
        worker: "test".into(),
        upstream,
        at_most: 10,
        which: Selection::All,
        due_by: None,
        lease_for: Duration::from_secs(60),
    };
    store.claim(&request).await.unwrap().claims
}

/// A megabyte of new content.
fn large(store: &SqliteStore, claim: &Claim) -> Settled {
    let now = store.clock.now();
    let snapshot = Snapshot {
        body: vec![7; 1_000_000].into(),
        headers: HeaderMap::new(),
        etag: ContentHash([1; 16]),
        content_hash: ContentHash([2; 16]),
    };
    Settled {
        token: claim.token,
        resource: claim.resource,
        requested_at: now,
        decided_at: now,
        outcome: Outcome::Replaced(Box::new(Replacement {
            snapshot,
            version: 1,
            kind: ChangeKind::Created,
            metadata: Metadata::default(),
            freshness: Freshness { fetched_at: now, stale_after: now },
            due: Due { at: now, because: Because::Interval },
        })),
        gone_budget: GoneBudget { share: 1.0, period: Duration::from_secs(1) },
    }
}
