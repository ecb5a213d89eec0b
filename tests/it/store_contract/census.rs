//! The counts that are kept are those that counting would find, whatever was done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use headpond::domain::observation::Seen;
use headpond::domain::resource::{Params, SourceId, UpstreamId};
use headpond::domain::schedule::Because;
use headpond::store::{Authority, Claim, Counts, NextDue, PruneRules, Selection, SourceStatus};
use http::header::RETRY_AFTER;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinSet;

use crate::support::outcomes::{HOUR, content, not_modified, status, unreachable};
use crate::support::store::{TestStore, UNLIMITED, ask, key, on_database, on_each_database, spec};

on_each_database! {
    after_any_history_the_kept_counts_are_those_of_a_full_count,
    processes_that_write_at_once_lose_no_count,
    the_rows_of_the_census_stay_few,
    what_is_deleted_past_the_store_is_counted_out,
    a_database_of_the_first_format_is_counted_when_it_is_migrated,
}

on_database! {
    on_postgres_alone, crate::support::store::TestStore::postgres().await,
    what_one_transaction_counts_holds_up_no_other
}

/// A row that is polled, as a full count finds it.
#[derive(Debug)]
struct Polled {
    source: i64,
    because: i16,
    failing: bool,
    gone: bool,
    due_at: i64,
    times: Option<(i64, i64)>,
}

/// All that is polled, read from what the store's own readers look at, and from nothing that is kept for counts.
async fn polled(test: &TestStore) -> Vec<Polled> {
    let rows = test.database.integers(
        "SELECT r.source_id, CAST(s.because AS bigint), CAST(r.failures AS bigint), r.gone_since,
                CASE WHEN s.due_at > 0 THEN s.due_at ELSE s.wanted_at END, s.fetched_at, s.stale_after
         FROM {resource} AS r JOIN {schedule} AS s ON s.resource_id = r.id WHERE r.retired_at IS NULL",
    );
    let read = |row: Vec<Option<i64>>| Polled {
        source: row[0].unwrap(),
        because: i16::try_from(row[1].unwrap()).unwrap(),
        failing: row[2].unwrap() > 0,
        gone: row[3].is_some(),
        due_at: row[4].unwrap_or(0),
        times: row[5].zip(row[6]),
    };
    rows.await.into_iter().map(read).collect()
}

/// The end of the span of a time of a copy that is fresh for so long: a power of four times 2^20 µs that is at most a 128th
/// of that, or 2^20 µs.
fn rounded(time: i64, fresh_for: i64) -> i64 {
    let mut width = 1 << 20;
    while width * 4 * 128 <= fresh_for {
        width *= 4;
    }
    assert!(width <= (fresh_for / 128).max(1 << 20));
    (time.div_euclid(width) + 1) * width - 1
}

/// What a full count at `now` finds.
fn counted(rows: &[Polled], source: SourceId, now: DateTime<Utc>) -> (Counts, BTreeMap<Because, u64>, Option<i64>) {
    let (mut counts, mut because, mut oldest) = (Counts::default(), BTreeMap::new(), None::<i64>);
    for row in rows.iter().filter(|row| row.source == source.0) {
        counts.keys += 1;
        counts.failing += u64::from(row.failing);
        *because.entry(Because::from_code(row.because).unwrap()).or_default() += 1;
        match row.times {
            _ if row.gone => counts.gone += 1,
            None => counts.pending += 1,
            Some((fetched_at, stale_after)) => {
                let fresh_for = stale_after - fetched_at;
                let is_fresh = rounded(stale_after, fresh_for) > now.timestamp_micros();
                *(if is_fresh { &mut counts.fresh } else { &mut counts.stale }) += 1;
                let fetched_by = rounded(fetched_at, fresh_for).min(now.timestamp_micros());
                oldest = Some(oldest.map_or(fetched_by, |oldest| oldest.min(fetched_by)));
            }
        }
    }
    (counts, because, oldest)
}

fn told(status: &SourceStatus) -> (Counts, BTreeMap<Because, u64>, Option<i64>) {
    let oldest = status.oldest_fetched_at.map(|at| at.timestamp_micros());
    (status.counts, status.because.clone(), oldest)
}

/// Compares at several times: now, later, and around the moments at which something turns stale.
async fn assert_counts(test: &TestStore, sources: [SourceId; 2], history: &[String]) {
    let rows = polled(test).await;
    let turning = rows.iter().filter_map(|row| row.times).take(2);
    let turning = turning.map(|(fetched_at, stale_after)| rounded(stale_after, stale_after - fetched_at));
    let turning = turning.flat_map(|at| [at - 1, at, at + 1]).filter_map(DateTime::from_timestamp_micros);
    let times = [test.now(), test.now() + TimeDelta::minutes(90), test.now() + TimeDelta::days(3)];
    for at in times.into_iter().chain(turning.filter(|at| *at > test.now())) {
        let status = test.store.status(at).await.unwrap();
        for (source, status) in sources.iter().zip(&status.sources) {
            assert_eq!(
                told(status),
                counted(&rows, *source, at),
                "{} at {at}, after\n{}",
                status.name,
                history.join("\n")
            );
        }
    }
}

/// Nothing is in flight: what is next due is the earliest of all.
async fn assert_next_due(test: &TestStore, sources: [SourceId; 2], history: &[String]) {
    let rows = polled(test).await;
    let status = test.store.status(test.now()).await.unwrap();
    for (source, status) in sources.iter().zip(&status.sources) {
        let next = rows.iter().filter(|row| row.source == source.0).map(|row| row.due_at).min();
        let next = next.map(|at| if at == 0 { test.now() } else { DateTime::from_timestamp_micros(at).unwrap() });
        let next = next.map_or(NextDue::Never, NextDue::At);
        assert_eq!(status.next_due, next, "{} after\n{}", status.name, history.join("\n"));
    }
}

/// Two sources, and what is in flight of them.
struct History {
    rng: Rng,
    sources: [SourceId; 2],
    upstreams: [UpstreamId; 2],
    in_flight: Vec<Claim>,
}

impl History {
    async fn begin(test: &TestStore, seed: u64) -> Self {
        let specs = [spec("alpha", "one", UNLIMITED), spec("beta", "one", UNLIMITED)];
        let registered = test.store.register(&specs, Authority::Owns).await.unwrap();
        let elsewhere = test.source("elsewhere", UNLIMITED).await;
        Self {
            rng: Rng::with_seed(seed),
            sources: [registered[0].source, registered[1].source],
            upstreams: [registered[0].upstream, elsewhere.upstream],
            in_flight: Vec::new(),
        }
    }

    fn source(&mut self) -> SourceId {
        let which = self.rng.usize(..2);
        self.sources[which]
    }

    fn some_keys(&mut self) -> BTreeSet<String> {
        (0..30).filter(|_| self.rng.bool()).map(|n| format!("k{n}")).collect()
    }

    /// One step, and what it was.
    async fn step(&mut self, test: &TestStore) -> String {
        match self.rng.u8(..12) {
            0 | 1 => self.add(test).await,
            2..=5 => self.refresh(test).await,
            6 => self.settle(test).await,
            7 => self.retire(test).await,
            8 => {
                let rules = PruneRules { now: test.now(), retired: Duration::ZERO, changes: HOUR, applied: HOUR };
                format!("prune: {}", test.store.prune(&rules).await.unwrap())
            }
            9 => self.want(test).await,
            10 => {
                let upstream = if self.rng.bool() { "one" } else { "elsewhere" };
                test.store.register(&[spec("beta", upstream, UNLIMITED)], Authority::Owns).await.unwrap();
                format!("beta is of {upstream}")
            }
            _ => {
                let wait = Duration::from_millis(self.rng.u64(..3 * 3_600_000));
                test.clock.advance(wait);
                format!("wait {wait:?}")
            }
        }
    }

    async fn add(&mut self, test: &TestStore) -> String {
        let params: Params = [("p".into(), self.rng.u8(..2).to_string())].into();
        let keys: Vec<_> = self.some_keys().iter().map(|name| (key(name), params.clone())).collect();
        let authority = if self.rng.bool() { Authority::Owns } else { Authority::Adds };
        let source = self.source();
        format!("add: {:?}", test.store.add_keys(source, &keys, authority).await.unwrap())
    }

    async fn retire(&mut self, test: &TestStore) -> String {
        let (source, keep) = (self.source(), self.some_keys());
        let keep = keep.iter().map(|name| key(name)).collect();
        format!("retire: {}", test.retire_keys_except(source, &keep).await.unwrap())
    }

    async fn want(&mut self, test: &TestStore) -> String {
        let source = self.source();
        let which = match self.rng.u8(..3) {
            0 => Selection::All,
            1 => Selection::Sources(vec![source]),
            _ => {
                let found = test.store.find(source, &[key("k0"), key("k1"), key("k2")]).await.unwrap();
                Selection::Resources(found.into_iter().flatten().collect())
            }
        };
        format!("want {which:?}: {}", test.store.want(&which, test.now()).await.unwrap())
    }

    /// Claims some of what is due, and settles at once or leaves it in flight.
    async fn refresh(&mut self, test: &TestStore) -> String {
        let at_most = self.rng.u32(1..30);
        let mut claimed = 0;
        for upstream in self.upstreams {
            let claims = test.store.claim(&ask(upstream, at_most)).await.unwrap().claims;
            claimed += claims.len();
            self.in_flight.extend(claims);
        }
        let settled = if self.rng.u8(..4) > 0 { self.settle(test).await } else { "later".into() };
        format!("claim: {claimed}, {settled}")
    }

    /// Settles what is in flight, one way or the other; leases may be lost by now.
    async fn settle(&mut self, test: &TestStore) -> String {
        let claims = std::mem::take(&mut self.in_flight);
        let (back, landed): (Vec<_>, Vec<_>) = claims.into_iter().partition(|_| self.rng.u8(..10) == 0);
        let back: Vec<_> = back.iter().map(|claim| (claim.token, claim.resource)).collect();
        test.store.release(&back).await.unwrap();
        let batch: Vec<_> = landed.iter().map(|claim| test.settled(claim, self.answer())).collect();
        format!("{:?}", test.store.apply(&batch).await.unwrap().fates)
    }

    fn answer(&mut self) -> Seen {
        match self.rng.u8(..12) {
            0..=2 => content("A", &[("etag", "\"a\"")]),
            3 => content("B", &[("cache-control", "max-age=20000")]),
            4 | 5 => not_modified(),
            6 => status(410),
            7 | 8 => status(404),
            9 => status(503),
            10 => unreachable(),
            _ => match status(429) {
                Seen::Refused { status, mut headers, failure } => {
                    headers.insert(RETRY_AFTER, "7200".parse().unwrap());
                    Seen::Refused { status, headers, failure }
                }
                other => other,
            },
        }
    }
}

async fn after_any_history_the_kept_counts_are_those_of_a_full_count(test: &TestStore) {
    let mut seen = Counts::default();
    for seed in 0..6 {
        let mut history = History::begin(test, seed).await;
        let mut steps = vec![format!("seed {seed}")];
        for _ in 0..25 {
            steps.push(history.step(test).await);
            assert_counts(test, history.sources, &steps).await;
        }
        steps.push(history.settle(test).await);
        test.clock.advance(Duration::from_secs(61));
        assert_next_due(test, history.sources, &steps).await;
        for source in &test.store.status(test.now()).await.unwrap().sources {
            let Counts { keys, fresh, stale, pending, gone, failing } = source.counts;
            assert_eq!(keys, fresh + stale + pending + gone);
            for (seen, now) in [
                (&mut seen.fresh, fresh),
                (&mut seen.stale, stale),
                (&mut seen.pending, pending),
                (&mut seen.gone, gone),
                (&mut seen.failing, failing),
            ] {
                *seen += now;
            }
        }
    }
    // Otherwise the histories say little.
    assert!([seen.fresh, seen.stale, seen.pending, seen.gone, seen.failing].iter().all(|seen| *seen > 0), "{seen:?}");
}

async fn processes_that_write_at_once_lose_no_count(test: &TestStore) {
    const EACH: u64 = 60;
    let specs = ["alpha", "beta"].map(|name| spec(name, name, UNLIMITED));
    let registered = test.store.register(&specs, Authority::Owns).await.unwrap();
    let mut processes = JoinSet::new();
    for process in 0..4 {
        let (store, clock) = (test.another().await, std::sync::Arc::clone(&test.clock));
        let registered = registered.clone();
        // Both sources, each process in another order: what waited for each other's counts would soon block.
        processes.spawn(async move {
            let test = TestStore { store, clock, database: crate::support::store::Database::sqlite() };
            for round in 0..EACH {
                let ids = registered[usize::try_from((process + round) % 2).unwrap()];
                let name = key(&format!("p{process}-{round}"));
                test.store.add_keys(ids.source, &[(name, Params::new())], Authority::Owns).await.unwrap();
                let mut claims = Vec::new();
                for ids in &registered {
                    claims.extend(test.store.claim(&ask(ids.upstream, 3)).await.unwrap().claims);
                }
                let answers = claims
                    .iter()
                    .map(|claim| test.settled(claim, if round % 3 == 0 { status(503) } else { content("A", &[]) }));
                test.store.apply(&answers.collect::<Vec<_>>()).await.unwrap();
                test.store.want(&Selection::Sources(vec![ids.source]), test.now()).await.unwrap();
            }
            test.store.close().await;
        });
    }
    while let Some(ended) = processes.join_next().await {
        ended.unwrap();
    }
    assert_counts(test, [registered[0].source, registered[1].source], &[]).await;
    let status = test.store.status(test.now()).await.unwrap();
    assert_eq!(status.sources.iter().map(|source| source.counts.keys).sum::<u64>(), 4 * EACH);
    assert!(status.sources.iter().all(|source| source.last_failure.is_some()));
}

async fn what_one_transaction_counts_holds_up_no_other(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let claims = test.claim(weather.upstream).await;
    let mut open = PgConnection::connect(&test.database.url()).await.unwrap();
    let mut transaction = open.begin().await.unwrap();
    let begun = AssertSqlSafe(format!(
        "UPDATE headpond.schedule SET fetched_at = 5, stale_after = 6 WHERE resource_id = {}",
        claims[0].resource.0
    ));
    sqlx::query(begun).execute(&mut *transaction).await.unwrap();
    // The other leaves the same kind of resources and joins the same.
    let also = AssertSqlSafe(format!(
        "SET lock_timeout = '1ms'; UPDATE headpond.schedule SET fetched_at = 5, stale_after = 6 WHERE resource_id = {}",
        claims[1].resource.0
    ));
    let mut other = PgConnection::connect(&test.database.url()).await.unwrap();
    sqlx::raw_sql(also).execute(&mut other).await.unwrap();
    assert_eq!(test.store.status(test.now()).await.unwrap().sources[0].counts.pending, 1);
    transaction.rollback().await.unwrap();
    assert_eq!(
        test.store.status(test.now()).await.unwrap().sources[0].counts.pending,
        1,
        "what is undone counts nothing"
    );
}

async fn the_rows_of_the_census_stay_few(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    for round in 0..400 {
        test.clock.advance(HOUR);
        test.store.want(&Selection::Sources(vec![weather.source]), test.now()).await.unwrap();
        test.settle_all(weather.upstream, |_| content(&round.to_string(), &[])).await;
    }
    // Two statements a round, with a row in and a row out each, would be 1,600.
    let rows = test.number("SELECT count(*) FROM {census}").await;
    assert!(rows < 1200, "{rows}");
    assert_eq!(test.store.status(test.now()).await.unwrap().sources[0].counts.fresh, 3);
}

async fn what_is_deleted_past_the_store_is_counted_out(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    // SQLite keeps to foreign keys only where a connection asks for it; sqlx does.
    test.execute("DELETE FROM {resource} WHERE key IN ('k1', 'k3')").await.unwrap();
    let counts = test.store.status(test.now()).await.unwrap().sources[0].counts;
    assert_eq!((counts.keys, counts.fresh), (3, 3));
}

/// What the first migration made, with rows of each kind.
const FIRST_FORMAT: &str = "
    INSERT INTO {upstream} (name, burst, max_concurrent, tokens, tokens_at) VALUES ('u', 1, 1, 1, 0);
    INSERT INTO {source} (name, upstream_id, keys) VALUES ('alpha', 1, 6), ('beta', 1, 1);
    INSERT INTO {resource} (source_id, key, params, version, retired_at, failures, failing_since, failed_at,
        failure_kind, failure_status, failure_detail, gone_since) VALUES
        (1, 'fresh', '[]', 1, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL),
        (1, 'stale', '[]', 1, NULL, 1, 5, 5, 'timeout', NULL, 'it took too long', NULL),
        (1, 'pending', '[]', 0, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL),
        (1, 'failing', '[]', 0, NULL, 3, 6, 9, 'server_error', 503, 'the upstream answered 503', NULL),
        (1, 'gone', '[]', 1, NULL, 0, NULL, NULL, NULL, NULL, NULL, 7),
        (1, 'gone_and_failing', '[]', 0, NULL, 2, 6, 6, 'connect', NULL, 'refused', 7),
        (1, 'retired', '[]', 1, 8, 1, 6, 6, 'connect', NULL, 'refused', NULL),
        (2, 'other', '[]', 1, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL);
    INSERT INTO {schedule} (resource_id, upstream_id, source_id, due_at, because, fetched_at, stale_after) VALUES
        (1, 1, 1, $now + 5, 2, $now - 10, $now + 7200000000),
        (2, 1, 1, $now + 5, 4, $now - 9000000000, $now - 1800000000),
        (3, 1, 1, $now + 5, 1, NULL, NULL),
        (4, 1, 1, $now + 5, 5, NULL, NULL),
        (5, 1, 1, $now + 5, 7, $now - 10, $now + 7200000000),
        (6, 1, 1, $now + 5, 4, NULL, NULL),
        (7, 1, 1, NULL, 2, $now - 10, $now + 7200000000),
        (8, 1, 2, $now + 9, 2, $now - 10, $now + 7200000000);";

async fn a_database_of_the_first_format_is_counted_when_it_is_migrated(test: &TestStore) {
    let old = test.database.empty().await;
    old.execute_as_it_is(old.first_migration()).await.unwrap();
    let rows = FIRST_FORMAT.replace("$now", &test.now().timestamp_micros().to_string());
    old.execute(&rows).await.unwrap();
    let store = test.connect(&old, &crate::support::store::options()).await.unwrap();
    let status = store.status(test.now()).await.unwrap();
    let [alpha, beta] = &status.sources[..] else { panic!("{status:?}") };
    assert_eq!(alpha.counts, Counts { keys: 6, fresh: 1, stale: 1, pending: 2, gone: 2, failing: 3 });
    assert_eq!(beta.counts, Counts { keys: 1, fresh: 1, ..Counts::default() });
    let failure = alpha.last_failure.as_ref().unwrap();
    assert_eq!(
        (failure.key.as_str(), failure.failure.status, failure.at.timestamp_micros()),
        ("failing", Some(503), 9)
    );
    assert_eq!((beta.last_failure.as_ref(), alpha.because[&Because::Backoff]), (None, 2));
    let next = |micros| NextDue::At(test.now() + TimeDelta::microseconds(micros));
    assert_eq!((alpha.next_due, beta.next_due), (next(5), next(9)));
    store.close().await;
    old.drop().await;
}
