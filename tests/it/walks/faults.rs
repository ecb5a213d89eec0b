//! Walks that do not come to their end, or should not have: what is stored, and what is gone.
//!
//! Each begins with users 1 to 10 in pages of four. Then users 2 and 9, of the first and the last page, change, and user 10
//! is removed: a walk that is taken for complete would make it gone.

use std::time::Duration;

use headpond::domain::failure::FailureKind;
use headpond::refresh::task::Until;
use serde_json::json;
use tokio::sync::mpsc;
use wiremock::{Request, ResponseTemplate};

use super::Pond;
use super::upstream::{Answer, State, Upstream, Way, respond, status};
use crate::refresh::{Process, soon};
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    a_page_that_fails_leaves_what_is_behind_it_as_it_was,
    a_page_that_is_no_list_ends_the_walk,
    a_page_that_comes_again_ends_the_walk,
    a_next_link_to_itself_or_back_ends_the_walk,
    a_next_link_to_another_host_is_not_followed,
    too_many_pages_end_the_walk,
    an_item_without_a_key_is_left_out_and_nothing_is_gone,
    two_items_with_one_key_are_left_out_and_nothing_is_gone,
    members_that_move_between_numbered_pages_are_not_gone,
    a_member_that_changes_between_pages_is_seen_at_the_next_walk,
    a_crash_in_the_middle_leaves_nothing_gone_and_cursors_go_on,
    after_a_crash_numbered_pages_are_walked_from_the_start,
    half_of_a_list_that_vanishes_is_held_and_reported,
    an_empty_list_makes_nothing_gone,
);

/// What one walk stores of the changed users, how many are gone, and of what it fails.
type Outcome = (&'static str, &'static str, usize, Option<FailureKind>);

/// The second page is the request with which the fault begins.
async fn walk_with(
    test: &TestStore,
    way: Way,
    more: &str,
    fault: impl FnMut(usize, &mut State, &Request) -> Option<Answer> + Send + 'static,
    expected: Outcome,
) {
    let pond = Pond::walked(test, Upstream::start(way, 10, 4).await, more).await;
    change(&pond.upstream);
    pond.upstream.before(fault);
    let counts = pond.walk().await;
    let walk = test.current("users", "2").await.failing;
    let kind = walk.as_ref().map(|failing| failing.last.kind);
    let (second, ninth) = (pond.content(2).await, pond.content(9).await);
    let stored = (second.as_str(), ninth.as_str(), pond.gone().await.len(), kind);
    assert_eq!(stored, expected, "{walk:?}");
    assert_eq!(counts.failed, u64::from(expected.3.is_some()));
    assert_eq!(pond.origin().await.problem.is_some(), expected.3.is_some(), "the status tells it, too");
    // And when all is well again, so is the walk.
    pond.upstream.heal();
    assert_eq!(pond.walk().await.failed, 0);
    assert_eq!((pond.content(9).await.as_str(), pond.gone().await), ("new", vec![10]));
    assert_eq!(pond.origin().await.problem, None);
}

fn change(upstream: &Upstream) {
    let mut state = upstream.state();
    state.change(2, "new");
    state.change(9, "new");
    state.users.remove(&10);
}

async fn a_page_that_fails_leaves_what_is_behind_it_as_it_was(test: &TestStore) {
    let fault = |number: usize, _: &mut State, _: &Request| (number == 2).then(|| status(500));
    walk_with(test, Way::Cursor, "", fault, ("new", "user 9", 0, Some(FailureKind::ServerError))).await;
}

async fn a_page_that_is_no_list_ends_the_walk(test: &TestStore) {
    let fault = |number: usize, _: &mut State, request: &Request| {
        (number == 2).then(|| respond(request, &json!({ "error": "try later" }), None))
    };
    walk_with(test, Way::PageNumber, "gone_after = 1", fault, ("new", "user 9", 0, Some(FailureKind::Unparsable)))
        .await;
}

async fn a_page_that_comes_again_ends_the_walk(test: &TestStore) {
    // Whatever page is asked for, the first comes.
    let fault = |number: usize, _: &mut State, request: &Request| {
        let data: Vec<_> = (1..=4).map(|id| json!({ "id": id, "content": "new" })).collect();
        (number <= 10).then(|| respond(request, &json!({ "data": data }), None))
    };
    walk_with(test, Way::PageNumber, "gone_after = 1", fault, ("new", "user 9", 0, Some(FailureKind::Pages))).await;
}

async fn a_next_link_to_itself_or_back_ends_the_walk(test: &TestStore) {
    let fault = |number: usize, _: &mut State, request: &Request| {
        let data = json!([{ "id": 5, "content": "new" }]);
        (number == 2).then(|| respond(request, &json!({ "data": data, "next": "?role=any&after=4" }), None))
    };
    walk_with(test, Way::JsonLink, "", fault, ("new", "user 9", 0, Some(FailureKind::Pages))).await;
}

async fn a_next_link_to_another_host_is_not_followed(test: &TestStore) {
    let fault = |number: usize, _: &mut State, request: &Request| {
        let data = json!([{ "id": 5, "content": "new" }]);
        let link = "http://evil.example/users?token=s3cret".to_owned();
        (number == 2).then(|| respond(request, &json!({ "data": data }), Some(link)))
    };
    walk_with(test, Way::LinkHeader, "", fault, ("new", "user 9", 0, Some(FailureKind::Pages))).await;
    assert_eq!(test.number("SELECT count(*) FROM {last_failure} WHERE detail LIKE '%s3cret%'").await, 0);
}

async fn too_many_pages_end_the_walk(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::Cursor, 10, 4).await, "").await;
    change(&pond.upstream);
    let toml = pond.upstream.config("").replace("by = \"cursor\"", "by = \"cursor\", max_pages = 2");
    let process = Process::with_config(test, &toml).await;
    test.store.want(&headpond::store::Selection::All, test.now()).await.unwrap();
    assert_eq!(process.refresh().await.failures[0].failure.kind, FailureKind::Pages);
    assert_eq!((pond.content(2).await.as_str(), pond.gone().await), ("new", vec![]));
}

async fn an_item_without_a_key_is_left_out_and_nothing_is_gone(test: &TestStore) {
    let fault = |number: usize, _: &mut State, request: &Request| {
        let data = json!([{ "id": 5, "content": "user 5" }, { "content": "?" }, { "id": 8, "content": "user 8" }]);
        (number == 2).then(|| respond(request, &json!({ "data": data, "after": 8 }), None))
    };
    walk_with(test, Way::Cursor, "", fault, ("new", "new", 0, Some(FailureKind::Unparsable))).await;
}

async fn two_items_with_one_key_are_left_out_and_nothing_is_gone(test: &TestStore) {
    let fault = |number: usize, _: &mut State, request: &Request| {
        let data = json!([{ "id": 5, "content": "one" }, { "id": 5, "content": "another" }]);
        (number == 2).then(|| respond(request, &json!({ "data": data, "after": 8 }), None))
    };
    walk_with(test, Way::Cursor, "", fault, ("new", "new", 0, Some(FailureKind::Unparsable))).await;
}

/// User 1 is removed after its page was read: each page begins one later, and user 5 is on none that is read.
async fn members_that_move_between_numbered_pages_are_not_gone(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::PageNumber, 10, 4).await, "").await;
    pond.upstream.before(|number, state, _| {
        if number == 2 {
            state.users.remove(&1);
        }
        None
    });
    for (number, gone) in [(1, vec![]), (2, vec![]), (3, vec![1])] {
        let counts = pond.walk().await;
        assert_eq!((counts.failed, pond.gone().await), (0, gone), "walk {number}");
        pond.upstream.heal();
    }
}

async fn a_member_that_changes_between_pages_is_seen_at_the_next_walk(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::Cursor, 10, 4).await, "").await;
    pond.upstream.before(|number, state, _| {
        if number == 2 {
            state.change(1, "late");
            state.change(9, "in time");
        }
        None
    });
    pond.walk().await;
    assert_eq!((pond.content(1).await.as_str(), pond.content(9).await.as_str()), ("user 1", "in time"));
    pond.upstream.heal();
    pond.walk().await;
    assert_eq!((pond.content(1).await.as_str(), pond.gone().await), ("late", vec![]));
}

/// A process that vanishes while it waits for the second page, and another that takes over when its lease has run out.
async fn crash(test: &TestStore, way: Way) -> (Vec<String>, Vec<u16>) {
    let pond = Pond::walked(test, Upstream::start(way, 10, 4).await, "").await;
    change(&pond.upstream);
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    pond.upstream.before(move |number, _, _| {
        (number == 2).then(|| {
            _ = arrived.send(());
            (200, ResponseTemplate::new(200).set_delay(Duration::from_secs(600)))
        })
    });
    pond.process.want_all().await;
    let walk = pond.process.start(Until::NothingIsLeft);
    soon(arrivals.recv()).await.unwrap();
    walk.abort();
    assert!(walk.await.is_err());
    assert_eq!((pond.content(2).await.as_str(), pond.gone().await), ("new", vec![]));
    test.clock.advance(Duration::from_secs(120));
    pond.upstream.heal();
    let other = Process::beside(test, &pond.upstream.config("")).await;
    let counts = other.refresh().await;
    assert_eq!(counts.failed, 0, "{counts:?}");
    assert_eq!(
        (pond.content(9).await.as_str(), pond.members().await.len()),
        ("new", if way == Way::Cursor { 9 } else { 10 })
    );
    pond.upstream.state().take_asked()
}

async fn a_crash_in_the_middle_leaves_nothing_gone_and_cursors_go_on(test: &TestStore) {
    let (queries, statuses) = crash(test, Way::Cursor).await;
    assert_eq!((queries, statuses), (vec!["role=any&after=4".into(), "role=any&after=8".into()], vec![304, 200]));
}

/// Two walks in a row must miss a member where pages are counted: none is gone yet.
async fn after_a_crash_numbered_pages_are_walked_from_the_start(test: &TestStore) {
    let (queries, statuses) = crash(test, Way::PageNumber).await;
    let pages: Vec<_> = (1..=4).map(|page| format!("role=any&page={page}")).collect();
    assert_eq!((queries, statuses), (pages, vec![304, 304, 200, 304]));
}

async fn half_of_a_list_that_vanishes_is_held_and_reported(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::Cursor, 10, 4).await, "").await;
    pond.upstream.state().users.retain(|id, _| *id <= 4);
    let counts = pond.walk().await;
    assert_eq!(counts.failures[0].failure.kind, FailureKind::Held, "{counts:?}");
    assert_eq!((counts.gone, pond.gone().await), (0, vec![]));
    assert!(pond.origin().await.problem.unwrap().0.starts_with("6 members were not in the list any more"));
    pond.upstream.state().users.extend((5..=9).map(|id| (id, (format!("user {id}"), 0))));
    let counts = pond.walk().await;
    assert_eq!((counts.failed, counts.gone, pond.gone().await), (0, 1, vec![10]));
    assert_eq!(pond.origin().await.problem, None);
}

async fn an_empty_list_makes_nothing_gone(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::LinkHeader, 10, 4).await, "").await;
    pond.upstream.before(|_, _, request| Some(respond(request, &json!({ "data": [] }), None)));
    assert_eq!(pond.walk().await.failures[0].failure.kind, FailureKind::Held);
    assert_eq!(pond.members().await.len(), 10);
}
