//! What a lane does with what is under way when it is told to end.

use headpond::refresh::task::Until;
use headpond::store::{Backlog, Selection};

use super::{HeldServer, Process, soon};
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    what_is_under_way_when_it_is_told_to_stop_is_finished_and_nothing_new_begun,
    what_is_abandoned_is_given_back_and_due_as_before,
);

async fn what_is_under_way_when_it_is_told_to_stop_is_finished_and_nothing_new_begun(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let process = one_at_a_time(test, &upstream).await;
    let refreshing = process.start(Until::Stopped);
    upstream.arrival().await;
    process.stop.cancel();
    upstream.answer(usize::MAX);
    let counts = soon(refreshing).await.unwrap();
    assert_eq!((counts.new, counts.failed, upstream.requests()), (1, 0, 1), "{counts:?}");
    assert_eq!(test.number("SELECT count(*) FROM {content}").await, 1);
    assert_eq!(backlog(test).await, Backlog { waiting: 1, leased: 0 });
}

async fn what_is_abandoned_is_given_back_and_due_as_before(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let process = one_at_a_time(test, &upstream).await;
    let refreshing = process.start(Until::Stopped);
    upstream.arrival().await;
    assert_eq!(backlog(test).await, Backlog { waiting: 1, leased: 1 });
    process.stop.cancel();
    process.abandon.cancel();
    soon(refreshing).await.unwrap();
    assert_eq!(backlog(test).await, Backlog { waiting: 2, leased: 0 });
    // Too late.
    upstream.answer(usize::MAX);
    assert_eq!(test.number("SELECT count(*) FROM {content}").await, 0);
    assert_eq!(test.number("SELECT count(*) FROM {lease}").await, 0);
    assert_eq!(upstream.requests(), 1);
}

async fn one_at_a_time<'a>(test: &'a TestStore, upstream: &HeldServer) -> Process<'a> {
    let toml = super::users(&upstream.origin(), &["1", "2"], "upstream = \"narrow\"");
    Process::with_config(test, &format!("[upstreams.narrow]\nmax_concurrent_requests = 1\n{toml}")).await
}

async fn backlog(test: &TestStore) -> Backlog {
    test.store.backlog(&Selection::All, test.now()).await.unwrap()
}
