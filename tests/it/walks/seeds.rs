//! Incremental walks while the upstream changes: a thousand seeded runs, none of which may miss a change.
//!
//! The upstream, its clock and what is stored are simulated; pages are read and walked as they really are.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use headpond::domain::collection::{ChangesSince, Collection, Kind, Known, Paginate, Stamp, Turn, Walk, page};
use headpond::domain::content::{BodyRules, JsonPath};
use http::HeaderMap;
use serde_json::{Value, json};
use url::Url;

/// How much later than it is dated a change can be seen, at the most; less than the overlap.
const LATEST: i64 = 50;
const OVERLAP: Duration = Duration::from_secs(60);
const SEEDS: u64 = 1000;

/// A change: the user, the time that it is dated, and its content.
type Change = (u32, i64, u64);

struct Upstream {
    rng: Rng,
    /// Its clock, which is not ours.
    now: i64,
    seen: BTreeMap<u32, (i64, u64)>,
    /// What is dated already and can be seen later, with that time.
    late: Vec<(i64, Change)>,
}

impl Upstream {
    fn new(number: u64) -> Self {
        let mut rng = Rng::with_seed(number);
        let now = 1_700_000_000 + rng.i64(0..1000);
        let seen = (0..rng.u32(1..40)).map(|id| (id, (now - rng.i64(0..100_000), 0))).collect();
        Self { rng, now, seen, late: Vec::new() }
    }

    /// So much time passes, and some users change in it, or come.
    fn passes(&mut self, seconds: i64, changes: usize) {
        for _ in 0..changes {
            let (id, dated) = (self.rng.u32(0..50), self.now + self.rng.i64(0..=seconds));
            if self.late.iter().all(|(_, (late, ..))| *late != id) {
                let visible = dated + self.rng.i64(0..LATEST);
                self.late.push((visible, (id, dated, self.rng.u64(..))));
            }
        }
        self.now += seconds;
        let now = self.now;
        for (_, (id, dated, content)) in self.late.extract_if(.., |(visible, _)| *visible <= now) {
            self.seen.insert(id, (dated, content));
        }
    }

    fn page(&mut self, url: &Url) -> Value {
        let changes = self.rng.usize(0..4);
        let took = self.rng.i64(0..40);
        self.passes(took, changes);
        let param =
            |name: &str| url.query_pairs().find(|(own, _)| own == name).and_then(|(_, value)| value.parse().ok());
        let (since, after) = (param("since").unwrap_or(0), param("after").unwrap_or(-1));
        let rest = self.seen.iter().filter(|(id, (at, _))| i64::from(**id) > after && *at >= since);
        let rest: Vec<_> = rest.map(|(id, (at, content))| json!({ "id": id, "at": at, "content": content })).collect();
        let size = 5;
        let next = rest.get(size - 1).filter(|_| rest.len() > size).map(|last| last["id"].clone());
        json!({ "data": &rest[..size.min(rest.len())], "next": next })
    }
}

fn collection() -> Collection {
    let path = |path| JsonPath::new(path).unwrap();
    let sweep_every = Duration::from_secs(1_000_000_000);
    let changes = ChangesSince { param: "since".into(), path: path("$.at"), overlap: OVERLAP, sweep_every };
    Collection {
        items: path("$.data[*]"),
        key: path("$.id"),
        paginate: Paginate::Cursor { param: "after".into(), next: path("$.next"), more: None },
        max_pages: 1000,
        changes: Some(changes),
        gone_after: 1,
    }
}

/// From when on the next walk asks: what a walk knows, what was known before, and the time at its end.
type Since = fn(&Walk<'_>, Option<&str>, DateTime<Utc>) -> Option<String>;

/// Walks once, and stores what comes.
fn walk(upstream: &mut Upstream, stored: &mut BTreeMap<String, Value>, known: Known, since: Since) -> Known {
    let collection = collection();
    let (offset, base) = (TimeDelta::days(400), "http://api.example/users".parse::<Url>().unwrap());
    let ours = |upstream: &Upstream| DateTime::from_timestamp(upstream.now, 0).unwrap() + offset;
    let began = ours(upstream);
    let mut walk = Walk::begin(&collection, base, &known, began, Duration::from_secs(3600));
    while !walk.is_over() {
        let body = Bytes::from(upstream.page(&walk.url()).to_string());
        let page = page::read(&collection, &BodyRules::default(), &HeaderMap::new(), &body).unwrap();
        let Turn::On(on) = walk.after(&page) else { panic!("{:?}", walk.after(&page)) };
        for item in &page.items {
            stored.insert(item.key.to_string(), serde_json::from_slice(&item.snapshot.body).unwrap());
        }
        walk.go(on, page.hash);
    }
    let swept_at = if walk.under_way.kind == Kind::All { Some(began) } else { known.swept_at };
    let since = since(&walk, known.since.as_deref(), ours(upstream)).or(known.since);
    Known { number: walk.number, since, swept_at, ..Known::default() }
}

/// How many users are stored otherwise than they are, after a walk of what was left.
fn missed(seed: u64, since: Since) -> usize {
    let mut upstream = Upstream::new(seed);
    let (mut stored, mut known) = (BTreeMap::new(), Known::default());
    for _ in 0..6 {
        known = walk(&mut upstream, &mut stored, known, since);
        let (pause, changes) = (upstream.rng.i64(0..600), upstream.rng.usize(0..8));
        upstream.passes(pause, changes);
    }
    assert!(known.since.is_some(), "changes alone were asked for");
    upstream.passes(LATEST, 0);
    // What changes while this one walks is not held against it.
    let mut quiet = Upstream { late: Vec::new(), rng: Rng::with_seed(seed), ..upstream };
    let truth = quiet.seen.clone();
    walk(&mut quiet, &mut stored, known, since);
    let differs =
        |(id, (at, _)): &(&u32, &(i64, u64))| stored.get(&id.to_string()).is_none_or(|one| one["at"] != json!(at));
    truth.iter().filter(differs).filter(|(id, now)| quiet.seen[id] == **now).count()
}

#[test]
fn no_change_is_missed_in_a_thousand_runs_with_changes_during_the_walks() {
    let as_it_is: Since = |walk, known, now| walk.since_now(known, now);
    let total: usize = (0..SEEDS).map(|seed| missed(seed, as_it_is)).sum();
    assert_eq!(total, 0);
}

/// The simulation is one in which asking from the latest change on, less the overlap, would not do.
#[test]
fn without_the_time_that_a_walk_takes_changes_would_be_missed() {
    let latest_seen: Since = |walk, known, _| {
        let seen = walk.under_way.newest.map(|newest| newest.minus(OVERLAP));
        seen.max(known.and_then(Stamp::parse)).map(|since| since.to_string())
    };
    let missing = (0..SEEDS).filter(|seed| missed(*seed, latest_seen) > 0).count();
    println!("asking from the latest change on misses some in {missing} of {SEEDS} runs");
    assert!(missing > 0);
}
