//! What can't be seen through the store's contract: a disk that is full, and which commits wait for the disk.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use http::HeaderMap;
use sqlx::{AssertSqlSafe, Row};
use tempfile::TempDir;

use super::writer::Durability;
use super::{SqliteStore, WISH};
use crate::clock::ManualClock;
use crate::domain::change::ChangeKind;
use crate::domain::decision::{Freshness, Metadata, Outcome, Replacement};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::governor::{Said, Signal};
use crate::domain::limit::Limits;
use crate::domain::resource::{Key, Params, SourceName, UpstreamId};
use crate::domain::schedule::{Because, Due};
use crate::domain::snapshot::{ContentHash, Snapshot};
use crate::store::{
    Authority, Claim, ClaimRequest, Fate, GoneBudget, Selection, Settled, SourceSpec, Store, StoreError, StoreOptions,
    Together,
};

/// A store on a file of its own.
pub(super) async fn store(directory: &TempDir) -> (SqliteStore, String) {
    let clock = Arc::new(ManualClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap()));
    let url = format!("sqlite://{}/headpond.db", directory.path().display());
    let options = StoreOptions { readers: 1, migrate: true, create: true };
    (SqliteStore::connect(&url, &options, clock).await.unwrap(), url)
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_is_got_over() {
    let directory = TempDir::new().unwrap();
    let (store, _) = store(&directory).await;
    let limits = Limits {
        requests_per_second: None,
        burst: 1,
        max_concurrent: 10,
        budgets: crate::domain::budget::Budgets::NONE,
    };
    let spec = SourceSpec {
        name: SourceName::new("weather").unwrap(),
        upstream: "u".into(),
        limits,
        fingerprint: Fingerprint(1),
        is_walked: false,
        history: None,
        erase_gone: false,
    };
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
    let limits = Limits {
        requests_per_second: None,
        burst: 1,
        max_concurrent: 10,
        budgets: crate::domain::budget::Budgets::NONE,
    };
    let spec = SourceSpec {
        name: SourceName::new("weather").unwrap(),
        upstream: "u".into(),
        limits,
        fingerprint: Fingerprint(1),
        is_walked: false,
        history: None,
        erase_gone: false,
    };
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

#[tokio::test]
async fn what_is_dropped_before_its_commit_is_rolled_back_and_makes_way() {
    let directory = TempDir::new().unwrap();
    let (store, _) = store(&directory).await;
    let wishes = "SELECT wishes FROM headpond_counter";
    let mut work = store.work(Durability::Relaxed).await.unwrap();
    let rows = work.add(WISH, &[]).unwrap().add(wishes, &[]).unwrap().run().await.unwrap();
    assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1], "the rows of what was added, and nothing else");
    assert_eq!(rows[1][0].get::<i64, _>(0), 1);
    drop(work);
    let mut work = store.work(Durability::Full).await.unwrap();
    work.add("SELECT nothing", &[]).unwrap();
    assert!(work.run().await.is_err());
    assert!(work.run().await.is_err(), "an error is the end");
    let mut work = store.work(Durability::Full).await.unwrap();
    let rows = work.add(wishes, &[]).unwrap().run().await.unwrap();
    assert_eq!(rows[0][0].get::<i64, _>(0), 0);
    work.add(WISH, &[]).unwrap();
    work.commit().await.unwrap();
    let kept: i64 = sqlx::query_scalar(wishes).fetch_one(&store.readers).await.unwrap();
    assert_eq!(kept, 1);
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
    Settled {
        outcome: Outcome::Confirmed { freshness, kept_until: None, metadata: None, described: HeaderMap::new(), due },
        ..large(store, claim)
    }
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
        together: Together::new(),
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
            typed: None,
            version: 1,
            kind: ChangeKind::Created,
            metadata: Metadata::default(),
            freshness: Freshness { fetched_at: now, stale_after: now },
            kept_until: None,
            due: Due { at: now, because: Because::Interval },
        })),
        gone_budget: GoneBudget { share: 1.0, period: Duration::from_secs(1) },
        signal: Signal { source: claim.source, own_cap: Duration::ZERO, said: Said::Well },
    }
}
