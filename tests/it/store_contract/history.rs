//! Contents that were replaced and are kept.

use std::time::Duration;

use headpond::domain::history::History;
use headpond::domain::resource::SourceName;
use headpond::store::{Authority, HistorySize, KeptVersion, PruneRules, Registered, SourceSpec};

use crate::support::outcomes::{HOUR, content, status};
use crate::support::store::{TestStore, UNLIMITED, key, on_each_database, spec};

on_each_database! {
    what_is_replaced_is_kept_with_its_times_where_the_source_says_so,
    of_a_resource_so_many_are_kept_and_the_oldest_go_out_at_once,
    what_is_gone_was_current_until_then,
    what_is_too_old_is_pruned_and_what_a_smaller_number_leaves_over_too,
    a_source_that_keeps_none_any_more_loses_what_it_has,
    it_goes_with_its_resource_and_its_size_with_it,
    neither_confirmations_nor_refusals_are_versions,
}

const DAY: Duration = Duration::from_secs(86_400);

/// `weather`, which keeps so many.
async fn keeping(test: &TestStore, versions: u32) -> Registered {
    let history = Some(History { versions, keep: 30 * DAY });
    let spec = SourceSpec { history, ..spec("weather", "weather", UNLIMITED) };
    test.store.register(&[spec], Authority::Owns).await.unwrap()[0]
}

/// All keys get this content, two hours later.
async fn gets(test: &TestStore, weather: Registered, body: &str) {
    test.clock.advance(2 * HOUR);
    test.settle_all(weather.upstream, |_| content(body, &[("content-type", "text/x-kept")])).await;
}

async fn kept(test: &TestStore, name: &str) -> Vec<KeptVersion> {
    test.store.history(&SourceName::new("weather").unwrap(), &key(name)).await.unwrap()
}

async fn body(test: &TestStore, name: &str, version: u64) -> Option<String> {
    let weather = SourceName::new("weather").unwrap();
    let content = test.store.version(&weather, &key(name), version).await.unwrap()?;
    assert_eq!(content.headers["content-type"], "text/x-kept");
    Some(String::from_utf8(content.body.to_vec()).unwrap())
}

async fn versions(test: &TestStore, name: &str) -> Vec<u64> {
    kept(test, name).await.iter().map(|kept| kept.version).collect()
}

async fn size(test: &TestStore) -> HistorySize {
    test.store.status(test.now()).await.unwrap().sources[0].history
}

async fn prune(test: &TestStore) -> u64 {
    let rules = PruneRules { now: test.now(), retired: 99 * DAY, changes: 99 * DAY, applied: 99 * DAY };
    test.store.prune(&rules).await.unwrap()
}

async fn what_is_replaced_is_kept_with_its_times_where_the_source_says_so(test: &TestStore) {
    let plain = test.source_with_keys("weather", 2).await;
    gets(test, plain, "1").await;
    gets(test, plain, "two").await;
    assert_eq!(kept(test, "k0").await, [], "by default nothing is");
    let weather = keeping(test, 5).await;
    let began = test.now();
    gets(test, weather, "3").await;
    let of_k0 = kept(test, "k0").await;
    let first = &of_k0[0];
    assert_eq!((of_k0.len(), first.version, first.changed_at, first.until), (1, 2, began, test.now()));
    assert_eq!((first.is_gone, first.size), (false, 3));
    assert_eq!(body(test, "k0", 2).await.as_deref(), Some("two"));
    assert_eq!((body(test, "k0", 1).await, body(test, "k0", 3).await), (None, None), "never kept, and current");
    assert_eq!((versions(test, "k1").await, versions(test, "k9").await), (vec![2], vec![]));
    assert_eq!(size(test).await, HistorySize { versions: 2, bytes: 6 });
}

async fn of_a_resource_so_many_are_kept_and_the_oldest_go_out_at_once(test: &TestStore) {
    test.source_with_keys("weather", 2).await;
    let weather = keeping(test, 2).await;
    for n in 1..=5 {
        gets(test, weather, &n.to_string().repeat(10)).await;
    }
    for name in ["k0", "k1"] {
        assert_eq!(versions(test, name).await, [4, 3]);
        assert_eq!(body(test, name, 3).await.as_deref(), Some("3333333333"));
    }
    assert_eq!(size(test).await, HistorySize { versions: 4, bytes: 40 });
    assert_eq!(prune(test).await, 0);
}

async fn what_is_gone_was_current_until_then(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    let weather = keeping(test, 5).await;
    gets(test, weather, "1").await;
    test.clock.advance(2 * HOUR);
    let gone_at = test.now();
    test.settle_all(weather.upstream, |_| status(410)).await;
    assert_eq!(versions(test, "k0").await, Vec::<u64>::new(), "the last content stays where it is");
    test.clock.advance(24 * HOUR);
    gets(test, weather, "1").await;
    let kept = kept(test, "k0").await;
    assert_eq!((kept[0].version, kept[0].until, kept[0].is_gone), (1, gone_at, true));
    assert_eq!(test.current("weather", "k0").await.version, 2);
}

async fn what_is_too_old_is_pruned_and_what_a_smaller_number_leaves_over_too(test: &TestStore) {
    test.source_with_keys("weather", 2).await;
    let weather = keeping(test, 5).await;
    for n in 1..=5 {
        gets(test, weather, &n.to_string()).await;
    }
    keeping(test, 2).await;
    assert_eq!(versions(test, "k0").await, [4, 3, 2, 1]);
    assert_eq!(prune(test).await, 4);
    assert_eq!((versions(test, "k0").await, versions(test, "k1").await), (vec![4, 3], vec![4, 3]));
    assert_eq!(prune(test).await, 0);
    // Version 3 was current until two hours before 4 was no longer.
    test.clock.advance(Duration::from_micros((30 * 24 - 2) * 3_600_000_000 - 1));
    assert_eq!(prune(test).await, 0);
    test.clock.advance(Duration::from_micros(1));
    assert_eq!(prune(test).await, 2);
    assert_eq!(versions(test, "k0").await, [4]);
    test.clock.advance(2 * HOUR);
    assert_eq!(prune(test).await, 2);
    assert_eq!(size(test).await, HistorySize::default());
}

async fn a_source_that_keeps_none_any_more_loses_what_it_has(test: &TestStore) {
    let plain = test.source_with_keys("weather", 2).await;
    let weather = keeping(test, 5).await;
    gets(test, weather, "1").await;
    gets(test, weather, "2").await;
    test.source("weather", UNLIMITED).await;
    gets(test, plain, "3").await;
    assert_eq!(versions(test, "k0").await, [1], "nothing is added");
    assert_eq!(prune(test).await, 2);
    assert_eq!((versions(test, "k0").await, size(test).await), (vec![], HistorySize::default()));
}

async fn it_goes_with_its_resource_and_its_size_with_it(test: &TestStore) {
    test.source_with_keys("weather", 2).await;
    let weather = keeping(test, 5).await;
    gets(test, weather, "1").await;
    gets(test, weather, "2").await;
    test.retire_keys_except(weather.source, &[key("k1")].into()).await.unwrap();
    test.clock.advance(2 * DAY);
    let rules = PruneRules { now: test.now(), retired: DAY, changes: DAY, applied: DAY };
    test.store.prune(&rules).await.unwrap();
    assert_eq!((versions(test, "k0").await, versions(test, "k1").await), (vec![], vec![1]));
    assert_eq!(size(test).await, HistorySize { versions: 1, bytes: 1 });
    assert_eq!(test.number("SELECT count(*) FROM {history}").await, 1);
}

async fn neither_confirmations_nor_refusals_are_versions(test: &TestStore) {
    test.source_with_keys("weather", 1).await;
    let weather = keeping(test, 5).await;
    gets(test, weather, "1").await;
    gets(test, weather, "1").await;
    test.clock.advance(2 * HOUR);
    test.settle_all(weather.upstream, |_| status(503)).await;
    assert_eq!(versions(test, "k0").await, Vec::<u64>::new());
}
