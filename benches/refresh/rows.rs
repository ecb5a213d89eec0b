//! Rows per second of claim + apply, and bytes written for each 304.

use std::sync::Arc;
use std::time::Duration;

use headpond::clock::{Clock, ManualClock, monotonic};
use headpond::domain::change::ChangeKind;
use headpond::domain::decision::{Freshness, Metadata, Outcome, Replacement};
use headpond::domain::fingerprint::Fingerprint;
use headpond::domain::governor::{Said, Signal};
use headpond::domain::limit::Limits;
use headpond::domain::resource::{Key, Params, SourceName, UpstreamId};
use headpond::domain::schedule::{Because, Cadence, Due};
use headpond::domain::snapshot::{ContentHash, Snapshot};
use headpond::domain::time::later;
use headpond::domain::validators::Validators;
use headpond::store::{Authority, Claim, ClaimRequest, GoneBudget, Selection, Settled, SourceSpec, Store, Together};

use crate::databases::Database;

const BATCH: u32 = 256;
const INTERVAL: Duration = Duration::from_secs(3600);
/// At least so many rows are measured: on the million, a part of them.
const MEASURED: u64 = 100_000;

pub(crate) async fn run() {
    println!("claim + apply of 304s, batches of {BATCH}, {MEASURED} rows in due order");
    println!("floors: 25,000 rows/s at 100,000 resources; 1,500 bytes per 304 on SQLite, 700 on Postgres");
    println!("{:<12}{:>12}{:>12}{:>16}", "", "resources", "rows/s", "bytes per 304");
    for resources in [10_000, 100_000, 1_000_000] {
        for database in [Database::sqlite(), Database::postgres(&format!("rows_{resources}")).await] {
            let (rate, bytes) = measure(&database, resources).await;
            println!("{:<12}{resources:>12}{rate:>12.0}{bytes:>16.0}", database.name());
            database.drop().await;
        }
    }
}

async fn measure(database: &Database, resources: u64) -> (f64, f64) {
    let clock = Arc::new(ManualClock::at(chrono::DateTime::from_timestamp(1_800_000_000, 0).expect("a time")));
    let store = database.connect(Arc::<ManualClock>::clone(&clock)).await;
    let upstream = fill(store.as_ref(), resources).await;
    // Two rounds bring every resource into its slot.
    for _ in 0..2 {
        round(store.as_ref(), &clock, upstream, resources, resources).await;
    }
    let (mark, started) = (database.mark().await, monotonic());
    let mut rows = 0;
    while rows < MEASURED {
        rows += round(store.as_ref(), &clock, upstream, resources, (MEASURED - rows).min(resources)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    store.close().await;
    let bytes = database.bytes_since(mark).await;
    #[allow(clippy::cast_precision_loss, reason = "rates to print")]
    (rows as f64 / seconds, bytes as f64 / rows as f64)
}

async fn fill(store: &dyn Store, resources: u64) -> UpstreamId {
    let limits = Limits {
        requests_per_second: None,
        burst: 1,
        max_concurrent: BATCH,
        budgets: headpond::domain::budget::Budgets::NONE,
    };
    let name = SourceName::new("users").expect("a name");
    let spec = SourceSpec {
        name,
        upstream: "bench".into(),
        limits,
        fingerprint: Fingerprint(1),
        is_walked: false,
        history: None,
        erase_gone: false,
    };
    let registered = store.register(&[spec], Authority::Owns).await.expect("to register");
    let keys: Vec<_> = (0..resources).map(|n| (Key::new(format!("user-{n}")).expect("a key"), Params::new())).collect();
    for chunk in keys.chunks(5000) {
        store.add_keys(registered[0].source, chunk, Authority::Owns).await.expect("to add keys");
    }
    registered[0].upstream
}

/// Claims and applies so many rows as they fall due, moving the clock on when nothing is due. The first time, content is
/// stored; from then on, nothing has changed.
async fn round(store: &dyn Store, clock: &ManualClock, upstream: UpstreamId, resources: u64, rows: u64) -> u64 {
    let request = ClaimRequest {
        worker: "bench".into(),
        upstream,
        at_most: BATCH,
        which: Selection::All,
        due_by: None,
        lease_for: Duration::from_secs(60),
        together: Together::new(),
    };
    let mut done = 0;
    while done < rows {
        let claimed = store.claim(&request).await.expect("a claim");
        if claimed.claims.is_empty() {
            // On to where a whole batch is due.
            let now = clock.now();
            let wait = claimed.ask_again_at.map_or(Duration::ZERO, |at| (at - now).to_std().unwrap_or_default());
            clock.advance(wait + INTERVAL * BATCH / u32::try_from(resources).expect("a count"));
            continue;
        }
        done += claimed.claims.len() as u64;
        let batch: Vec<_> = claimed.claims.iter().map(|claim| settle(claim, clock)).collect();
        store.apply(&batch).await.expect("to apply");
    }
    done
}

fn settle(claim: &Claim, clock: &ManualClock) -> Settled {
    let now = clock.now();
    let due = Due { at: Cadence::Every(INTERVAL).next(now, claim.previous.slot), because: Because::Interval };
    let freshness = Freshness { fetched_at: now, stale_after: later(now, INTERVAL * 2) };
    let outcome = if claim.previous.version == 0 {
        let body = bytes::Bytes::from(format!("{{\"name\": \"{}\", \"bio\": \"{:400}\"}}", claim.key, ""));
        let etag = ContentHash::of(&[&body]);
        let snapshot = Snapshot { headers: http::HeaderMap::new(), etag, content_hash: etag, body };
        let validators = Validators { etag: Some("\"6553f100-1a2\"".into()), last_modified: None };
        let metadata = Metadata { validators, ..Metadata::default() };
        let kind = ChangeKind::Created;
        Outcome::Replaced(Box::new(Replacement {
            snapshot,
            typed: None,
            version: 1,
            kind,
            metadata,
            freshness,
            kept_until: None,
            due,
        }))
    } else {
        Outcome::Confirmed { freshness, kept_until: None, metadata: None, described: http::HeaderMap::new(), due }
    };
    Settled {
        token: claim.token,
        resource: claim.resource,
        requested_at: now,
        decided_at: now,
        outcome,
        gone_budget: GoneBudget { share: 0.1, period: INTERVAL },
        signal: Signal { source: claim.source, own_cap: INTERVAL, said: Said::Well },
    }
}
