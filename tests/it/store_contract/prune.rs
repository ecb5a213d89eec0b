//! What has outlived its retention goes, and nothing else.

use std::time::Duration;

use headpond::domain::resource::SourceName;
use headpond::store::{Changes, PruneRules};

use super::feed::{changed, page};
use crate::support::outcomes::{HOUR, content};
use crate::support::store::{TestStore, key, on_each_database};

on_each_database! {
    nothing_goes_before_its_time,
    retired_keys_go_with_all_they_had,
    a_retired_key_that_is_in_flight_waits_for_its_outcome,
    a_key_that_was_pruned_begins_anew,
    old_entries_of_the_feed_go_and_their_places_are_unknown,
    the_newest_entry_of_the_feed_stays,
    pruned_batches_are_told_as_missing,
    leases_of_workers_that_are_gone_do_not_hold_for_ever,
    large_amounts_go_as_well,
}

const LONG: Duration = Duration::from_secs(365 * 86_400);

fn rules(test: &TestStore) -> PruneRules {
    PruneRules { now: test.now(), retired: LONG, changes: LONG, applied: LONG }
}

async fn nothing_goes_before_its_time(test: &TestStore) {
    changed(test, 2).await;
    let weather = test.source("weather", crate::support::store::UNLIMITED).await;
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    assert_eq!(test.store.prune(&rules(test)).await.unwrap(), 0);
    assert_eq!(test.current("weather", "k0").await.version, 2);
    assert_eq!(page(&*test.store, None, 10).await.0.len(), 4);
    assert!(test.store.applied_since(0).await.unwrap().resources.is_some());
}

async fn retired_keys_go_with_all_they_had(test: &TestStore) {
    changed(test, 1).await;
    let weather = test.source("weather", crate::support::store::UNLIMITED).await;
    test.retire_keys_except(weather.source, &[key("k1")].into()).await.unwrap();
    test.clock.advance(HOUR);
    assert_eq!(test.store.prune(&PruneRules { retired: 2 * HOUR, ..rules(test) }).await.unwrap(), 0);
    assert_eq!(test.store.prune(&PruneRules { retired: HOUR, ..rules(test) }).await.unwrap(), 1);
    assert_eq!(test.store.current(&SourceName::new("weather").unwrap(), &key("k0")).await.unwrap(), None);
    for table in ["resource", "schedule", "content"] {
        assert_eq!(test.number(&format!("SELECT count(*) FROM {{{table}}}")).await, 1, "{table}");
    }
    assert_eq!(test.current("weather", "k1").await.version, 1);
}

async fn a_retired_key_that_is_in_flight_waits_for_its_outcome(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let claim = test.claim_one(weather.upstream).await;
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    test.clock.advance(HOUR);
    let at_once = PruneRules { retired: Duration::ZERO, ..rules(test) };
    assert_eq!(test.store.prune(&at_once).await.unwrap(), 0);
    test.settle(&claim, content("A", &[])).await;
    assert_eq!(test.store.prune(&at_once).await.unwrap(), 1);
}

async fn a_key_that_was_pruned_begins_anew(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
    let before = test.current("weather", "k0").await.resource;
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    test.store.prune(&PruneRules { retired: Duration::ZERO, ..rules(test) }).await.unwrap();
    assert_eq!(test.add(weather, 1).await.added, 1);
    let claim = test.claim_one(weather.upstream).await;
    assert_eq!((claim.previous.version, claim.previous.validators()), (0, None));
    assert_ne!(claim.resource, before, "an id is never given twice");
}

async fn old_entries_of_the_feed_go_and_their_places_are_unknown(test: &TestStore) {
    let (_, start) = page(&*test.store, None, 10).await;
    changed(test, 3).await;
    let (before, end) = page(&*test.store, None, 10).await;
    assert_eq!(test.store.prune(&PruneRules { changes: 2 * HOUR, ..rules(test) }).await.unwrap(), 4);
    let (after, _) = page(&*test.store, None, 10).await;
    assert_eq!(after, before[4..]);
    for gone in [start, before[0].cursor, before[3].cursor] {
        assert_eq!(test.store.changes(Some(gone), 10).await.unwrap(), Changes::Unknown, "{gone}");
    }
    assert_eq!(page(&*test.store, Some(before[4].cursor), 10).await, (before[5..].to_vec(), end));
}

async fn the_newest_entry_of_the_feed_stays(test: &TestStore) {
    changed(test, 2).await;
    let (_, end) = page(&*test.store, None, 10).await;
    test.clock.advance(HOUR);
    assert_eq!(test.store.prune(&PruneRules { changes: Duration::ZERO, ..rules(test) }).await.unwrap(), 3);
    assert_eq!(page(&*test.store, Some(end), 10).await, (vec![], end));
    assert_eq!(page(&*test.store, None, 10).await.1, end);
}

async fn pruned_batches_are_told_as_missing(test: &TestStore) {
    changed(test, 3).await;
    let prune = PruneRules { applied: 2 * HOUR, ..rules(test) };
    assert_eq!(test.store.prune(&prune).await.unwrap(), 2);
    for (number, known) in [(0, false), (1, false), (2, true), (3, true)] {
        let since = test.store.applied_since(number).await.unwrap();
        assert_eq!((since.newest, since.resources.is_some()), (3, known), "{number}");
    }
    assert_eq!(test.store.prune(&PruneRules { applied: Duration::ZERO, ..rules(test) }).await.unwrap(), 1);
    assert_eq!(test.store.applied_since(3).await.unwrap().resources, Some(vec![]));
    assert_eq!(test.store.applied_since(2).await.unwrap().resources, None);
}

async fn leases_of_workers_that_are_gone_do_not_hold_for_ever(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.claim_one(weather.upstream).await;
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    test.clock.advance(24 * HOUR);
    let prune = PruneRules { retired: HOUR, applied: HOUR, ..rules(test) };
    assert_eq!(test.store.prune(&prune).await.unwrap(), 2, "the lease and the key");
}

async fn large_amounts_go_as_well(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2500).await;
    test.retire_keys_except(weather.source, &[].into()).await.unwrap();
    test.clock.advance(HOUR);
    assert_eq!(test.store.prune(&PruneRules { retired: HOUR, ..rules(test) }).await.unwrap(), 2500);
}
