//! Pages of a source, and batches of keys.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headpond::domain::read_state::ReadState;
use headpond::domain::resource::{Key, Params, SourceName};
use headpond::store::{
    Authority, Batch, Bodies, Claim, ClaimRequest, ListRequest, Listed, Listing, MOST_SCANNED, Registered, Selection,
    StoreError,
};

use crate::support::outcomes::{HOUR, content, status};
use crate::support::store::{LEASE, TestStore, UNLIMITED, ask, key, on_each_database};

on_each_database! {
    a_source_is_listed_in_the_order_of_its_keys_bytes,
    pages_miss_nothing_and_repeat_nothing_while_keys_come_and_go,
    a_list_of_one_state_has_only_that_state,
    a_rare_state_is_looked_for_page_by_page,
    keys_that_are_no_longer_polled_are_named_but_not_listed,
    a_batch_has_the_order_in_which_its_keys_were_named,
    an_answer_ends_where_its_bodies_would_be_too_many_bytes,
    what_was_removed_shows_no_body,
    a_source_that_is_not_known_is_no_empty_list,
    an_answer_is_of_one_moment,
    freshness_without_content_is_corrupt,
}

const ALL: Bodies = Bodies::UpTo(1 << 20);

fn weather() -> SourceName {
    SourceName::new("weather").unwrap()
}

fn page(after: Option<&str>, limit: u32) -> ListRequest {
    ListRequest { after: after.map(key), limit, state: None, bodies: ALL }
}

async fn list(test: &TestStore, request: &ListRequest) -> Listing {
    test.store.list(&weather(), request).await.unwrap().unwrap()
}

async fn batch(test: &TestStore, keys: &[&str], bodies: Bodies) -> Batch {
    let keys: Vec<Key> = keys.iter().map(|name| key(name)).collect();
    test.store.batch(&weather(), &keys, bodies).await.unwrap().unwrap()
}

fn keys(items: &[Listed]) -> Vec<&str> {
    items.iter().map(|item| item.key.as_str()).collect()
}

fn names(keys: &[Key]) -> Vec<&str> {
    keys.iter().map(Key::as_str).collect()
}

fn body(item: &Listed) -> Option<&[u8]> {
    item.content.as_ref()?.body.as_deref()
}

async fn add(test: &TestStore, source: Registered, names: &[&str]) {
    let keys: Vec<_> = names.iter().map(|name| (key(name), Params::new())).collect();
    test.store.add_keys(source.source, &keys, Authority::Owns).await.unwrap();
}

/// The source `weather` with these keys.
async fn with_keys(test: &TestStore, names: &[&str]) -> Registered {
    let source = test.source("weather", UNLIMITED).await;
    add(test, source, names).await;
    source
}

/// Leases one key, due or not.
async fn claim(test: &TestStore, source: Registered, name: &str) -> Claim {
    let found = test.store.find(source.source, &[key(name)]).await.unwrap();
    let which = Selection::Resources(found.into_iter().flatten().collect());
    let due_by = Some(test.now() + 1000 * HOUR);
    let request = ClaimRequest { which, due_by, lease_for: LEASE, ..ask(source.upstream, 1) };
    test.store.claim(&request).await.unwrap().claims.remove(0)
}

async fn a_source_is_listed_in_the_order_of_its_keys_bytes(test: &TestStore) {
    let names = ["b", "a/2", "\u{e9}", "a", "B", "z", "\u{1F600}", "a10", "10", "9", "\u{ff5e}"];
    let source = with_keys(test, &names).await;
    test.source_with_keys("users", 3).await;
    test.settle(&claim(test, source, "a").await, content("A\u{0}ß", &[("content-type", "text/plain")])).await;
    let sorted = BTreeSet::from(names).into_iter().collect::<Vec<_>>();
    let all = list(test, &page(None, 1000)).await;
    assert_eq!((keys(&all.items), all.next), (sorted.clone(), None));
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let Listing { items, next } = list(test, &ListRequest { after, ..page(None, 4) }).await;
        seen.extend(items);
        after = next;
        if after.is_none() {
            break;
        }
        assert_eq!(seen.len() % 4, 0, "pages are full while there is more");
    }
    assert_eq!(keys(&seen), sorted);

    let a = seen.iter().find(|item| item.key.as_str() == "a").unwrap();
    let current = test.current("weather", "a").await;
    assert_eq!((a.version, a.freshness, a.gone_since), (1, current.freshness, None));
    let (listed, stored) = (a.content.as_ref().unwrap(), current.content.unwrap());
    assert_eq!((listed.etag, listed.changed_at, &listed.headers), (stored.etag, stored.changed_at, &stored.headers));
    assert_eq!(body(a), Some("A\u{0}ß".as_bytes()));
    let pending = seen.iter().find(|item| item.key.as_str() == "b").unwrap();
    assert_eq!((pending.version, pending.freshness, &pending.content), (0, None, &None));
}

async fn pages_miss_nothing_and_repeat_nothing_while_keys_come_and_go(test: &TestStore) {
    let source = with_keys(test, &["b", "d", "f", "h"]).await;
    let first = list(test, &page(None, 2)).await;
    assert_eq!((keys(&first.items), first.next), (vec!["b", "d"], Some(key("d"))));
    add(test, source, &["a", "c", "e"]).await;
    let keep = ["a", "c", "e", "f", "h"].map(key).into();
    test.retire_keys_except(source.source, &keep).await.unwrap();
    let rest = list(test, &page(Some("d"), 10)).await;
    assert_eq!((keys(&rest.items), rest.next), (vec!["e", "f", "h"], None), "also after a key that is not there");
    let exact = list(test, &page(Some("e"), 2)).await;
    assert_eq!((keys(&exact.items), exact.next), (vec!["f", "h"], None), "a last page that is full knows its end");
    assert_eq!(list(test, &page(Some("h"), 2)).await, Listing { items: vec![], next: None });
}

async fn a_list_of_one_state_has_only_that_state(test: &TestStore) {
    let source = with_keys(test, &["absent", "fresh", "gone", "pending", "stale"]).await;
    test.settle(&claim(test, source, "stale").await, content("A", &[])).await;
    test.settle(&claim(test, source, "gone").await, content("A", &[])).await;
    test.clock.advance(2 * HOUR);
    test.settle(&claim(test, source, "fresh").await, content("A", &[])).await;
    test.settle(&claim(test, source, "gone").await, status(410)).await;
    test.settle(&claim(test, source, "absent").await, status(404)).await;
    for (state, expected) in [
        (ReadState::Fresh, vec!["fresh"]),
        (ReadState::Stale, vec!["stale"]),
        (ReadState::Pending, vec!["pending"]),
        (ReadState::Gone, vec!["absent", "gone"]),
    ] {
        let listing = list(test, &ListRequest { state: Some((state, test.now())), ..page(None, 10) }).await;
        assert_eq!((keys(&listing.items), listing.next), (expected, None), "{state}");
    }
    let earlier = Some((ReadState::Fresh, test.now() - HOUR));
    let listing = list(test, &ListRequest { state: earlier, ..page(None, 10) }).await;
    assert_eq!(keys(&listing.items), ["fresh", "stale"], "states are those of the time that is named");
    let first = list(test, &ListRequest { state: Some((ReadState::Gone, test.now())), ..page(None, 1) }).await;
    assert_eq!((keys(&first.items), first.next), (vec!["absent"], Some(key("absent"))));
}

async fn a_rare_state_is_looked_for_page_by_page(test: &TestStore) {
    let source = test.source("weather", UNLIMITED).await;
    let names: Vec<_> = (0..MOST_SCANNED).map(|n| format!("k{n:06}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    add(test, source, &names).await;
    let last = names.last().unwrap();
    test.settle(&claim(test, source, last).await, content("A", &[])).await;
    let fresh = ListRequest { state: Some((ReadState::Fresh, test.now())), ..page(None, 10) };
    let first = list(test, &fresh).await;
    let place = first.next.unwrap();
    assert!(first.items.is_empty() && place < key(last), "it has looked enough");
    let second = list(test, &ListRequest { after: Some(place.clone()), ..fresh }).await;
    assert_eq!((keys(&second.items), second.next), (vec![*last], None));

    test.retire_keys_except(source.source, &[key(last)].into()).await.unwrap();
    let first = list(test, &page(None, 10)).await;
    assert_eq!(first, Listing { items: vec![], next: Some(place) }, "retired keys are passed over no further either");
    let second = list(test, &page(first.next.as_ref().map(Key::as_str), 10)).await;
    assert_eq!((keys(&second.items), second.next), (vec![*last], None));
}

async fn keys_that_are_no_longer_polled_are_named_but_not_listed(test: &TestStore) {
    let source = with_keys(test, &["fetched", "kept", "never"]).await;
    test.settle(&claim(test, source, "fetched").await, content("A", &[])).await;
    test.retire_keys_except(source.source, &[key("kept")].into()).await.unwrap();
    assert_eq!(keys(&list(test, &page(None, 10)).await.items), ["kept"]);
    let named = batch(test, &["fetched", "kept", "never"], ALL).await;
    assert_eq!((keys(&named.items), names(&named.absent)), (vec!["fetched", "kept"], vec!["never"]));
    assert_eq!(body(&named.items[0]), Some(&b"A"[..]));
}

async fn a_batch_has_the_order_in_which_its_keys_were_named(test: &TestStore) {
    with_keys(test, &["a", "b", "c", "a,b", "\u{e9}"]).await;
    let named = batch(test, &["c", "x", "a,b", "\u{e9}", "a", "A"], ALL).await;
    assert_eq!(keys(&named.items), ["c", "a,b", "\u{e9}", "a"]);
    assert_eq!((names(&named.absent), named.rest), (vec!["x", "A"], vec![]));
    assert_eq!(batch(test, &[], ALL).await, Batch { items: vec![], absent: vec![], rest: vec![] });
    let many: Vec<_> = (0..1000).map(|n| format!("k{n}")).chain(["b".into()]).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let named = batch(test, &many, ALL).await;
    assert_eq!((keys(&named.items), named.absent.len()), (vec!["b"], 1000));
}

async fn an_answer_ends_where_its_bodies_would_be_too_many_bytes(test: &TestStore) {
    let source = with_keys(test, &["a", "b", "c", "d", "e"]).await;
    for (name, bytes) in [("a", 40), ("c", 60), ("d", 1), ("e", 500)] {
        test.settle(&claim(test, source, name).await, content(&"x".repeat(bytes), &[])).await;
    }
    for (bodies, after, expected, next) in [
        (Bodies::UpTo(100), None, vec!["a", "b", "c"], Some("c")),
        (Bodies::UpTo(99), None, vec!["a", "b"], Some("b")),
        (Bodies::UpTo(1), None, vec!["a", "b"], Some("b")),
        (Bodies::UpTo(1), Some("b"), vec!["c"], Some("c")),
        (Bodies::UpTo(100), Some("c"), vec!["d"], Some("d")),
        (Bodies::UpTo(100), Some("d"), vec!["e"], None),
        (Bodies::LeftOut, None, vec!["a", "b", "c", "d", "e"], None),
    ] {
        let listing = list(test, &ListRequest { bodies, ..page(after, 10) }).await;
        assert_eq!((keys(&listing.items), listing.next), (expected, next.map(key)), "{bodies:?} after {after:?}");
        let has_bodies = listing.items.iter().any(|item| body(item).is_some());
        assert_eq!(has_bodies, bodies != Bodies::LeftOut, "{bodies:?}");
    }
    let named = batch(test, &["e", "x", "d", "a"], Bodies::UpTo(100)).await;
    assert_eq!((keys(&named.items), names(&named.absent), names(&named.rest)), (vec!["e"], vec!["x"], vec!["d", "a"]));
    let without = batch(test, &["e", "x", "d", "a"], Bodies::LeftOut).await;
    assert_eq!((keys(&without.items), without.rest), (vec!["e", "d", "a"], vec![]));
}

async fn what_was_removed_shows_no_body(test: &TestStore) {
    let source = with_keys(test, &["a"]).await;
    test.settle(&claim(test, source, "a").await, content("A", &[])).await;
    test.clock.advance(HOUR);
    test.settle(&claim(test, source, "a").await, status(410)).await;
    let listing = list(test, &page(None, 10)).await;
    let gone = &listing.items[0];
    assert_eq!((gone.gone_since, gone.version, body(gone)), (Some(test.now()), 1, None));
}

async fn a_source_that_is_not_known_is_no_empty_list(test: &TestStore) {
    assert_eq!(test.store.list(&weather(), &page(None, 10)).await.unwrap(), None);
    assert_eq!(test.store.batch(&weather(), &[key("a")], ALL).await.unwrap(), None);
    test.source("weather", UNLIMITED).await;
    assert_eq!(list(test, &page(None, 10)).await, Listing { items: vec![], next: None });
}

async fn an_answer_is_of_one_moment(test: &TestStore) {
    let source = with_keys(test, &["a"]).await;
    test.settle(&claim(test, source, "a").await, content("1", &[])).await;
    let (store, done) = (Arc::clone(&test.store), Arc::new(AtomicBool::new(false)));
    let reading = tokio::spawn({
        let done = Arc::clone(&done);
        async move {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let listing = store.list(&weather(), &page(None, 10)).await.unwrap().unwrap();
                let item = &listing.items[0];
                assert_eq!(body(item), Some(item.version.to_string().as_bytes()));
                seen.insert(item.version);
            }
            seen.len()
        }
    });
    for version in 2..=100 {
        test.settle(&claim(test, source, "a").await, content(&version.to_string(), &[])).await;
    }
    done.store(true, Ordering::Relaxed);
    assert!(reading.await.unwrap() > 2, "it was read while it changed");
}

async fn freshness_without_content_is_corrupt(test: &TestStore) {
    let source = with_keys(test, &["a"]).await;
    test.settle(&claim(test, source, "a").await, content("1", &[])).await;
    test.execute("DELETE FROM {content}").await.unwrap();
    for answer in [
        test.store.list(&weather(), &page(None, 10)).await.err(),
        test.store.batch(&weather(), &[key("a")], Bodies::LeftOut).await.err(),
    ] {
        assert!(matches!(answer, Some(StoreError::Corrupt { table: "content", .. })), "{answer:?}");
    }
}
