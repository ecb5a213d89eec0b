//! The change feed and its cursors.

use headpond::domain::change::{Change, ChangeKind, Cursor};
use headpond::store::{Changes, Store};

use crate::support::outcomes::{HOUR, content};
use crate::support::store::{TestStore, on_each_database};

on_each_database! {
    each_change_is_listed_once_in_order,
    an_empty_feed_has_a_place_to_go_on_from,
    pages_go_on_where_the_last_one_ended,
    a_place_of_another_history_is_unknown,
    a_place_that_is_yet_to_come_is_unknown,
    the_place_before_the_first_entry_is_of_its_database,
}

/// A page that must be there.
pub async fn page(store: &dyn Store, since: Option<Cursor>, limit: u32) -> (Vec<Change>, Cursor) {
    match store.changes(since, limit).await.unwrap() {
        Changes::Page { changes, next } => (changes, next),
        Changes::Unknown => panic!("unknown: {since:?}"),
    }
}

/// Two keys, each changed this often.
pub async fn changed(test: &TestStore, times: usize) {
    let weather = test.source_with_keys("weather", 2).await;
    for n in 0..times {
        test.settle_all(weather.upstream, |_| content(&format!("{n}"), &[])).await;
        test.clock.advance(HOUR);
    }
}

async fn each_change_is_listed_once_in_order(test: &TestStore) {
    let began = test.now();
    changed(test, 2).await;
    let (changes, next) = page(&*test.store, None, 100).await;
    let listed: Vec<_> =
        changes.iter().map(|change| (change.cursor.number, change.key.as_str(), change.kind, change.version)).collect();
    let (new, other) = (ChangeKind::Created, ChangeKind::Changed);
    // In the second round they fell due in the order of their slots.
    let second: Vec<_> = listed[2..].iter().map(|entry| entry.1).collect();
    assert!(second == ["k0", "k1"] || second == ["k1", "k0"]);
    assert_eq!(listed[..2], [(1, "k0", new, 1), (2, "k1", new, 1)]);
    assert_eq!(listed[2..], [(3, second[0], other, 2), (4, second[1], other, 2)]);
    assert_eq!((changes[0].source.as_str(), changes[0].at, changes[3].at), ("weather", began, began + HOUR));
    assert_eq!(next, changes[3].cursor);
    assert_eq!(page(&*test.another().await, None, 100).await, (changes, next));
}

async fn an_empty_feed_has_a_place_to_go_on_from(test: &TestStore) {
    let (none, start) = page(&*test.store, None, 10).await;
    assert_eq!((none, start.number), (vec![], 0));
    assert_eq!(page(&*test.store, Some(start), 10).await, (vec![], start));
    changed(test, 1).await;
    assert_eq!(page(&*test.store, Some(start), 10).await.0.len(), 2);
}

async fn pages_go_on_where_the_last_one_ended(test: &TestStore) {
    changed(test, 3).await;
    let (whole, end) = page(&*test.store, None, 100).await;
    let (mut parts, mut since) = (Vec::new(), None);
    loop {
        let (changes, next) = page(&*test.store, since, 4).await;
        assert!(changes.len() <= 4);
        since = Some(next);
        if changes.is_empty() {
            break;
        }
        parts.extend(changes);
    }
    assert_eq!((parts, since), (whole, Some(end)));
}

async fn a_place_of_another_history_is_unknown(test: &TestStore) {
    changed(test, 1).await;
    let (changes, next) = page(&*test.store, None, 1).await;
    assert_eq!(changes.len(), 1);
    let elsewhere = Cursor { tag: next.tag ^ 1, ..next };
    assert_eq!(test.store.changes(Some(elsewhere), 10).await.unwrap(), Changes::Unknown);
    // As after a restore, when the number was given to another entry.
    test.execute(&format!("UPDATE {{change}} SET tag = {} WHERE number = 1", elsewhere.tag)).await.unwrap();
    assert_eq!(test.store.changes(Some(next), 10).await.unwrap(), Changes::Unknown);
    assert_eq!(page(&*test.store, Some(elsewhere), 10).await.0.len(), 1);
}

async fn a_place_that_is_yet_to_come_is_unknown(test: &TestStore) {
    changed(test, 1).await;
    let (_, end) = page(&*test.store, None, 10).await;
    let ahead = Cursor { number: end.number + 1, ..end };
    assert_eq!(test.store.changes(Some(ahead), 10).await.unwrap(), Changes::Unknown);
}

async fn the_place_before_the_first_entry_is_of_its_database(test: &TestStore) {
    let (_, start) = page(&*test.store, None, 10).await;
    let elsewhere = Cursor { tag: start.tag ^ 1, ..start };
    assert_eq!(test.store.changes(Some(elsewhere), 10).await.unwrap(), Changes::Unknown);
    changed(test, 1).await;
    assert_eq!(test.store.changes(Some(elsewhere), 10).await.unwrap(), Changes::Unknown);
}
