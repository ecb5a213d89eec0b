//! Walks that come to their end.

use std::time::Duration;

use headpond::domain::change::ChangeKind;
use headpond::domain::schedule::Because;
use headpond::store::PruneRules;

use super::Pond;
use super::upstream::{Upstream, Way};
use crate::support::outcomes::HOUR;
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    link_headers_bring_all_members_and_then_confirm_them,
    json_links_bring_all_members_and_then_confirm_them,
    cursors_bring_all_members_and_then_confirm_them,
    page_numbers_bring_all_members_and_then_confirm_them,
    what_a_complete_walk_does_not_see_is_gone_and_comes_back,
    what_is_gone_for_long_is_pruned_and_may_come_back_all_the_same,
    a_walk_is_made_again_no_sooner_than_its_pages_want,
);

async fn a_walk_is_made_again_no_sooner_than_its_pages_want(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::Cursor, 5, 2).await, "").await;
    pond.upstream.before(|number, state, request| {
        let (status, answer) = state.page(request);
        // The first of the pages wants it, and no other.
        Some((status, if number == 1 { answer.insert_header("x-poll-interval", "7200") } else { answer }))
    });
    assert_eq!(pond.walk().await.failed, 0);
    assert_eq!(pond.upstream.statuses().len(), 3);
    let due = test.current("users", "1").await.due.unwrap();
    assert_eq!((due.at, due.because), (test.now() + Duration::from_secs(7200), Because::NotBefore));
    pond.upstream.heal();
    pond.walk().await;
    assert_eq!(test.current("users", "1").await.due.unwrap().because, Because::Interval);
}

async fn link_headers_bring_all_members_and_then_confirm_them(test: &TestStore) {
    brings_all_and_confirms(test, Way::LinkHeader).await;
}

async fn json_links_bring_all_members_and_then_confirm_them(test: &TestStore) {
    brings_all_and_confirms(test, Way::JsonLink).await;
}

async fn cursors_bring_all_members_and_then_confirm_them(test: &TestStore) {
    brings_all_and_confirms(test, Way::Cursor).await;
}

async fn page_numbers_bring_all_members_and_then_confirm_them(test: &TestStore) {
    brings_all_and_confirms(test, Way::PageNumber).await;
}

/// Validators are kept for each page, and the walk goes on through what it remembers of one that is as it was.
async fn brings_all_and_confirms(test: &TestStore, way: Way) {
    let pond = Pond::walked(test, Upstream::start(way, 10, 4).await, "").await;
    assert_eq!(pond.members().await, (1..=10).collect::<Vec<_>>());
    let pages = if way == Way::PageNumber { 4 } else { 3 };
    test.clock.advance(Duration::from_secs(3600));
    let counts = pond.walk().await;
    assert_eq!((counts.unchanged, counts.new, counts.changed, counts.failed), (10, 0, 0, 0), "{counts:?}");
    assert_eq!(pond.upstream.statuses(), vec![304; pages]);
    assert_eq!(test.current("users", "9").await.freshness.unwrap().fetched_at, test.now());
    pond.upstream.state().change(7, "another");
    let counts = pond.walk().await;
    assert_eq!((counts.unchanged, counts.changed, counts.gone), (9, 1, 0));
    assert_eq!(pond.content(7).await, "another");
    assert_eq!(pond.upstream.statuses().iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(pond.changes(ChangeKind::Created).await.len(), 10);
    assert_eq!(pond.changes(ChangeKind::Changed).await, ["7"]);
    assert_eq!(pond.origin().await.keys, 10);
}

async fn what_a_complete_walk_does_not_see_is_gone_and_comes_back(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::Cursor, 10, 4).await, "").await;
    pond.upstream.state().users.remove(&6);
    let counts = pond.walk().await;
    assert_eq!((counts.gone, counts.unchanged), (1, 9));
    assert_eq!(pond.gone().await, [6]);
    assert_eq!(pond.changes(ChangeKind::Gone).await, ["6"]);
    pond.upstream.state().change(6, "back");
    assert_eq!(pond.walk().await.new, 1);
    assert_eq!((pond.gone().await, pond.content(6).await.as_str()), (vec![], "back"));
    assert_eq!(pond.changes(ChangeKind::Returned).await, ["6"]);
}

async fn what_is_gone_for_long_is_pruned_and_may_come_back_all_the_same(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::Cursor, 10, 4).await, "").await;
    pond.upstream.state().users.remove(&6);
    pond.walk().await;
    let prune = async |retired| {
        let long = Duration::from_secs(365 * 86_400);
        pond.store().prune(&PruneRules { now: test.now(), retired, changes: long, applied: long }).await.unwrap()
    };
    test.clock.advance(HOUR);
    assert_eq!(
        (prune(2 * HOUR).await, pond.gone().await),
        (0, vec![6]),
        "it is told of for as long as others keep their data"
    );
    assert_eq!((prune(HOUR).await, pond.gone().await), (1, vec![]));
    assert_eq!((pond.members().await.len(), pond.origin().await.keys), (9, 9));
    assert_eq!(prune(HOUR).await, 0);
    pond.upstream.state().change(6, "back");
    let counts = pond.walk().await;
    assert_eq!((counts.new, counts.failed, pond.content(6).await.as_str()), (1, 0, "back"), "{counts:?}");
    assert_eq!((test.current("users", "6").await.version, pond.origin().await.keys), (1, 10));
}
