//! Keys that exist because someone reads them.

use std::time::Duration;

use headpond::domain::observation::Via;
use headpond::domain::origin::{DEMAND, Hand};
use headpond::domain::policy::Policy;
use headpond::domain::resource::{Params, SourceId, SourceName};
use headpond::domain::schedule::{Because, Cadence};
use headpond::store::{Authority, Hastened, NextDue, PruneRules, Wish};

use crate::support::outcomes::{HOUR, content, policy, status};
use crate::support::store::{TestStore, ask, key, keys_of, nothing_until, on_each_database, wish};

on_each_database! {
    what_a_reader_asks_for_is_polled_and_goes_first,
    a_key_is_demanded_once,
    what_readers_ask_for_does_not_make_a_source_unready,
    what_is_not_read_is_polled_no_longer,
    what_was_read_counts_as_read_and_only_where_readers_matter,
    the_least_recently_read_make_room,
    a_key_that_is_listed_too_stays_when_it_is_not_read,
    a_key_that_comes_back_has_its_data,
    many_processes_demand_without_a_deadlock,
    what_is_gone_is_looked_at_again_for_a_reader,
    what_nobody_polls_falls_due_for_a_reader_alone,
    a_source_that_is_polled_again_is,
}

const MINUTE: Duration = Duration::from_secs(60);
const MANY: u32 = 1_000_000;

impl TestStore {
    async fn demand(&self, source: SourceId, name: &str, most: u32) -> bool {
        self.store.demand(source, &key(name), most).await.unwrap()
    }

    /// The names of the keys that are polled.
    async fn polled(&self, source: SourceId) -> Vec<String> {
        let keys = self.store.keys(source, None, 1000).await.unwrap();
        keys.iter().map(|listed| listed.key.to_string()).collect()
    }

    async fn read(&self, names: &[&str]) {
        let mut resources = Vec::new();
        for name in names {
            resources.push(self.current("weather", name).await.resource);
        }
        self.store.note_reads(&resources, self.now()).await.unwrap();
    }
}

fn when_read() -> Policy {
    Policy { cadence: Cadence::WhenRead(HOUR), ..policy() }
}

async fn what_a_reader_asks_for_is_polled_and_goes_first(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    let wishes = async || test.store.applied_since(0).await.unwrap().wishes;
    let before = wishes().await;
    assert!(test.demand(weather.source, "new", MANY).await);
    assert_eq!(wishes().await, before + 1, "other processes hear of it");
    let current = test.current("weather", "new").await;
    assert_eq!((current.wanted_at, current.hastened_at), (Some(test.now()), Some(test.now())));
    let listed = test.store.keys(weather.source, None, 100).await.unwrap();
    assert_eq!(listed.last().unwrap().origins, [DEMAND.0]);
    let claims = test.claim(weather.upstream).await;
    assert_eq!(keys_of(&claims), ["new", "k0", "k1", "k2"]);
    test.settle(&claims[0], content("A", &[])).await;
    let current = test.current("weather", "new").await;
    assert_eq!((current.version, current.due.unwrap().because), (1, Because::Interval), "and polled from then on");
}

async fn a_key_is_demanded_once(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    assert!(test.demand(weather.source, "new", MANY).await);
    for name in ["new", "k0"] {
        assert!(!test.demand(weather.source, name, MANY).await, "{name}");
        assert!(!test.another().await.demand(weather.source, &key(name), MANY).await.unwrap(), "{name}");
    }
    let seen = wish(None, test.now());
    let id = test.current("weather", "new").await.resource;
    assert_eq!(test.store.hasten(id, seen).await.unwrap(), Hastened::Coming, "who waits causes no other request");
    let origins = test.store.status(test.now()).await.unwrap().sources.remove(0).origins;
    let counts: Vec<_> = origins.iter().map(|origin| (origin.name.as_str(), origin.keys)).collect();
    assert_eq!(counts, [("config", 1), (DEMAND.0, 1)]);
}

async fn what_readers_ask_for_does_not_make_a_source_unready(test: &TestStore) {
    let weather = test.source_with_keys("weather", 0).await;
    assert!(test.store.is_ready().await.unwrap());
    test.demand(weather.source, "new", MANY).await;
    assert!(test.store.is_ready().await.unwrap());
}

async fn what_is_not_read_is_polled_no_longer(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    for name in ["a", "b"] {
        test.demand(weather.source, name, MANY).await;
        test.clock.advance(MINUTE);
    }
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    let retire = async || test.store.retire_unread(weather.source, test.now() - 2 * MINUTE).await.unwrap();
    assert_eq!(retire().await, 0, "each was read within two minutes");
    test.clock.advance(MINUTE);
    test.read(&["a"]).await;
    assert_eq!(retire().await, 0);
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(retire().await, 1);
    assert_eq!(test.polled(weather.source).await, ["a", "k0"]);
    let idle = test.current("weather", "b").await;
    assert_eq!((idle.due, idle.content.is_some()), (None, true), "its data stays");
    test.clock.advance(HOUR);
    assert_eq!(retire().await, 1);
    assert_eq!(test.polled(weather.source).await, ["k0"], "and what was listed is none of its business");
    let nowhere = test.source_with_keys("users", 1).await;
    assert_eq!(test.store.retire_unread(nowhere.source, test.now()).await.unwrap(), 0);
}

async fn what_was_read_counts_as_read_and_only_where_readers_matter(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    test.demand(weather.source, "new", MANY).await;
    let began = test.now();
    test.clock.advance(HOUR);
    test.read(&["k0", "new"]).await;
    let older = test.current("weather", "new").await.resource;
    test.store.note_reads(&[older], began).await.unwrap();
    assert_eq!(test.store.retire_unread(weather.source, test.now()).await.unwrap(), 0, "it was read later than that");
    assert_eq!(test.number("SELECT count(*) FROM {key_origin} WHERE read_at IS NOT NULL").await, 1);
    test.store.note_reads(&[], test.now()).await.unwrap();
}

async fn the_least_recently_read_make_room(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    for name in ["a", "b", "c"] {
        test.demand(weather.source, name, 3).await;
        test.clock.advance(MINUTE);
    }
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.read(&["a", "c"]).await;
    test.clock.advance(MINUTE);
    assert!(test.demand(weather.source, "d", 3).await);
    assert_eq!(test.polled(weather.source).await, ["a", "c", "d", "k0", "k1"], "listed keys don't count");
    let rules = PruneRules { now: test.now(), retired: 24 * HOUR, changes: 24 * HOUR, applied: HOUR };
    test.store.prune(&rules).await.unwrap();
    let left = test.number("SELECT count(*) FROM {resource} WHERE key = 'b'").await;
    assert_eq!(left, 0, "what was evicted keeps no data");
    assert!(test.demand(weather.source, "e", 1).await);
    assert_eq!(test.polled(weather.source).await, ["e", "k0", "k1"], "a limit that was lowered holds from then on");
}

async fn a_key_that_is_listed_too_stays_when_it_is_not_read(test: &TestStore) {
    let weather = test.source_with_keys("weather", 0).await;
    for name in ["a", "b"] {
        test.demand(weather.source, name, MANY).await;
    }
    test.store.add_by_hand(weather.source, Hand::Api, &[(key("a"), Params::new())]).await.unwrap();
    test.store.add_keys(weather.source, &[(key("b"), Params::new())], Authority::Owns).await.unwrap();
    test.clock.advance(HOUR);
    assert_eq!(test.store.retire_unread(weather.source, test.now()).await.unwrap(), 0);
    let listed = test.store.keys(weather.source, None, 100).await.unwrap();
    let origins: Vec<_> = listed.iter().map(|listed| listed.origins.join(" ")).collect();
    assert_eq!(origins, ["api", "config"]);
}

async fn a_key_that_comes_back_has_its_data(test: &TestStore) {
    let weather = test.source_with_keys("weather", 0).await;
    test.demand(weather.source, "a", MANY).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.clock.advance(HOUR);
    test.store.retire_unread(weather.source, test.now()).await.unwrap();
    assert!(test.demand(weather.source, "a", MANY).await);
    let current = test.current("weather", "a").await;
    assert_eq!((current.version, current.due.unwrap().because), (1, Because::Manual));
    assert_eq!(keys_of(&test.claim(weather.upstream).await), ["a"]);
}

async fn many_processes_demand_without_a_deadlock(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let (here, there) = (&test.store, test.another().await);
    let demands = (0..40).map(|n| {
        let store = if n % 2 == 0 { std::sync::Arc::clone(here) } else { std::sync::Arc::clone(&there) };
        async move {
            let new = store.demand(weather.source, &key(&format!("n{}", n / 2)), 10).await.unwrap();
            let read = store.current(&SourceName::new("weather").unwrap(), &key(&format!("n{}", n / 2))).await;
            if let Some(current) = read.unwrap() {
                store.note_reads(&[current.resource], chrono::DateTime::UNIX_EPOCH).await.unwrap();
            }
            u32::from(new)
        }
    });
    let new: u32 = futures_util::future::join_all(demands).await.into_iter().sum();
    assert!(new >= 20, "{new}: each was new once, and again where it had been evicted");
    let counted = test.number("SELECT keys FROM {origin} WHERE name = 'demand'").await;
    let kept = test.number("SELECT count(*) FROM {key_origin} WHERE read_at IS NOT NULL").await;
    assert_eq!((counted, kept), (10, 10));
    assert_eq!(test.polled(weather.source).await.len(), 11);
}

async fn what_is_gone_is_looked_at_again_for_a_reader(test: &TestStore) {
    let weather = test.source_with_keys("weather", 0).await;
    test.demand(weather.source, "a", MANY).await;
    test.settle_all(weather.upstream, |_| status(404)).await;
    let current = test.current("weather", "a").await;
    let hasten = async |gone_for| {
        let wish = Wish { gone_for, ..wish(None, test.now()) };
        test.store.hasten(current.resource, wish).await.unwrap()
    };
    let put_off = Hastened::PutOff(test.current("weather", "a").await.due.unwrap().at);
    test.clock.advance(10 * MINUTE);
    assert_eq!((hasten(None).await, hasten(Some(11 * MINUTE)).await), (put_off, put_off));
    assert_eq!(hasten(Some(10 * MINUTE)).await, Hastened::Due);
    assert_eq!(hasten(Some(10 * MINUTE)).await, Hastened::Coming);
    test.settle_all(weather.upstream, |_| status(404)).await;
    assert!(matches!(hasten(Some(10 * MINUTE)).await, Hastened::PutOff(_)), "this time is counted anew");
}

async fn what_nobody_polls_falls_due_for_a_reader_alone(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let settle = async |seen| {
        let claim = test.claim_one(weather.upstream).await;
        let settled = test.settled_by(&when_read(), &claim, seen, Via::default());
        test.store.apply(&[settled]).await.unwrap();
    };
    settle(content("A", &[])).await;
    let current = test.current("weather", "k0").await;
    let due = current.due.unwrap();
    assert_eq!((due.at, due.because), (test.now(), Because::Read), "from now on, if someone reads it");
    let status_now = async || test.store.status(test.now()).await.unwrap().sources.remove(0);
    assert_eq!((status_now().await.next_due, status_now().await.counts.keys), (NextDue::Never, 1));
    test.clock.advance(10_000 * HOUR);
    nothing_until(&test.store.claim(&ask(weather.upstream, 9)).await.unwrap());

    let seen = current.freshness.map(|freshness| freshness.fetched_at);
    let hasten = async || test.store.hasten(current.resource, wish(seen, test.now())).await.unwrap();
    assert_eq!(hasten().await, Hastened::Due);
    settle(status(500)).await;
    let failing = test.current("weather", "k0").await.due.unwrap();
    assert_eq!((failing.at > test.now(), failing.because), (true, Because::Backoff));
    assert_eq!(hasten().await, Hastened::PutOff(failing.at), "a reader does not cut its backoff short");
    test.clock.advance(2 * HOUR);
    assert!(test.claim(weather.upstream).await.is_empty(), "and its end makes nothing due");
    assert_eq!(hasten().await, Hastened::Due);
}

async fn a_source_that_is_polled_again_is(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let aside = Cadence::WhenRead(HOUR);
    test.store.reschedule(weather.source, &aside).await.unwrap();
    let claims = test.claim(weather.upstream).await;
    let settled: Vec<_> = [content("A", &[]), status(404)]
        .into_iter()
        .zip(&claims)
        .map(|(seen, claim)| test.settled_by(&when_read(), claim, seen, Via::default()))
        .collect();
    test.store.apply(&settled).await.unwrap();
    assert_eq!(test.store.reschedule(weather.source, &aside).await.unwrap(), 0);
    assert_eq!(test.store.reschedule(weather.source, &Cadence::Every(HOUR)).await.unwrap(), 2);
    test.clock.advance(HOUR);
    assert_eq!(keys_of(&test.claim(weather.upstream).await), ["k0"]);
    test.clock.advance(24 * HOUR);
    assert!(keys_of(&test.claim(weather.upstream).await).contains(&"k1"), "what is gone, when it would have been");
}
