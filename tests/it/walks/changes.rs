//! Walks of changes alone, and who waits for a member.

use std::time::Duration;

use headpond::domain::collection::Kind;
use headpond::domain::failure::FailureKind;
use headpond::domain::fingerprint::Fingerprint;
use headpond::refresh::task::Until;
use headpond::store::Selection;

use super::Pond;
use super::upstream::{Upstream, Way, status};
use crate::refresh::soon;
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    two_hundred_changes_of_two_thousand_cost_two_requests,
    what_is_gone_is_found_by_the_sweep,
    a_walk_of_changes_that_fails_asks_for_the_same_again,
    who_wants_a_member_wakes_the_walk_and_hears_of_its_end,
    a_part_of_the_url_from_outside_is_in_no_row,
    other_settings_of_a_collection_walk_it_anew_without_what_was_remembered,
);

const SINCE: &str = "updated_since = { param = \"since\", path = \"$.at\", overlap = \"1m\" }\nsweep_every = \"1d\"";

async fn two_hundred_changes_of_two_thousand_cost_two_requests(test: &TestStore) {
    let upstream = Upstream::start(Way::Cursor, 2000, 100).await;
    {
        // All but one have been as they are for long.
        let mut state = upstream.state();
        state.users.values_mut().for_each(|(_, at)| *at -= 1_000_000);
        state.change(10, "user 10");
    }
    let pond = Pond::walked(test, upstream, SINCE).await;
    test.clock.advance(Duration::from_secs(3600));
    {
        let mut state = pond.upstream.state();
        state.now += 3600;
        for id in 1..=200 {
            state.change(id * 10, "changed");
        }
    }
    let counts = pond.walk().await;
    assert_eq!((counts.changed, counts.failed), (200, 0), "{counts:?}");
    let (queries, _) = pond.upstream.state().take_asked();
    assert_eq!(queries.len(), 2, "{queries:?}");
    assert!(queries.iter().all(|query| query.contains("since=")), "{queries:?}");
    assert_eq!(pond.content(1990).await, "changed");
    // Nothing has changed since, but what is within the overlap is looked at again.
    let counts = pond.walk().await;
    assert_eq!((counts.changed, counts.unchanged), (0, 200));
}

async fn what_is_gone_is_found_by_the_sweep(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::LinkHeader, 10, 4).await, SINCE).await;
    pond.upstream.state().users.remove(&6);
    test.clock.advance(Duration::from_secs(3600));
    assert_eq!(pond.walk().await.gone, 0);
    assert!(pond.upstream.state().take_asked().0[0].contains("since="));
    test.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(pond.walk().await.gone, 1);
    assert_eq!((pond.gone().await, pond.upstream.state().take_asked().0.len()), (vec![6], 3));
}

async fn a_walk_of_changes_that_fails_asks_for_the_same_again(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::PageNumber, 10, 4).await, SINCE).await;
    {
        let mut state = pond.upstream.state();
        state.now += 1000;
        (1..=10).for_each(|id| state.change(id, "changed"));
    }
    pond.upstream.before(|number, _, _| (number == 2).then(|| status(503)));
    assert_eq!(pond.walk().await.failures[0].failure.kind, FailureKind::ServerError);
    let failed = pond.upstream.state().take_asked().0;
    pond.upstream.heal();
    assert_eq!(pond.walk().await.failed, 0);
    let again = pond.upstream.state().take_asked().0;
    assert_eq!(failed[..2], again[..2], "the time moves on with a complete walk only");
    assert_eq!((pond.content(2).await, pond.content(10).await), ("changed".into(), "changed".into()));
}

async fn who_wants_a_member_wakes_the_walk_and_hears_of_its_end(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::Cursor, 10, 4).await, "").await;
    let walking = pond.process.start(Until::Stopped);
    let before = test.current("users", "9").await;
    let (asked, ended_at) = before.comes_with();
    assert_eq!(ended_at, before.walk.unwrap().ended_at);
    let mut news = pond.process.refresher.announcer.listen_to(asked);
    test.clock.advance(Duration::from_secs(60));
    pond.upstream.state().change(9, "new");
    assert_eq!(test.store.want(&Selection::Resources(vec![asked]), test.now()).await.unwrap(), 1);
    pond.process.refresher.announcer.announce(headpond::announce::Announcement::Wanted);
    let hears = async {
        while test.current("users", "9").await.walk.unwrap().ended_at == ended_at {
            news.next().await;
        }
    };
    soon(hears).await;
    assert_eq!(pond.content(9).await, "new");
    pond.upstream.before(|_, _, _| Some(status(500)));
    test.clock.advance(Duration::from_secs(60));
    test.store.want(&Selection::Resources(vec![asked]), test.now()).await.unwrap();
    pond.process.refresher.announcer.announce(headpond::announce::Announcement::Wanted);
    let hears = async {
        while test.current("users", "9").await.failing.is_none() {
            news.next().await;
        }
    };
    soon(hears).await;
    let failing = test.current("users", "9").await.failing.unwrap();
    assert!(failing.last.detail.starts_with("page 1: "), "{failing:?}");
    pond.process.stop.cancel();
    soon(walking).await.unwrap();
}

/// Next links repeat it. Such a walk is not gone on with, and keeps no validators but the first page's.
async fn a_part_of_the_url_from_outside_is_in_no_row(test: &TestStore) {
    let upstream = Upstream::start(Way::LinkHeader, 10, 4).await;
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("role");
    std::fs::write(&secret, "any").unwrap();
    let toml = upstream.config("").replace("role=any", &format!("role=${{file:{}}}", secret.display()));
    let process = crate::refresh::Process::with_config(test, &toml).await;
    assert_eq!(process.refresh().await.new, 10);
    let kept = "SELECT count(*) FROM {walk_page} WHERE step LIKE '%any%' OR next LIKE '%any%'";
    assert_eq!(test.number(kept).await, 0);
    let known = test.store.walk(process.ids[0].source, Fingerprint(0)).await.unwrap();
    assert_eq!((known.number, known.under_way.map(|walk| walk.kind)), (1, None::<Kind>));
}

async fn other_settings_of_a_collection_walk_it_anew_without_what_was_remembered(test: &TestStore) {
    let pond = Pond::walked(test, Upstream::start(Way::Cursor, 10, 4).await, "").await;
    let toml = pond.upstream.config("ignore_changes_in = [\"$.at\"]");
    let process = crate::refresh::Process::with_config(test, &toml).await;
    // It is due at once, and its members are no more due by themselves than before.
    let counts = process.refresh().await;
    assert_eq!((counts.failed, counts.new + counts.changed + counts.unchanged), (0, 10), "{counts:?}");
    assert_eq!(pond.upstream.statuses(), [200; 3], "the validators were for something else");
    assert_eq!(pond.members().await.len(), 10);
}
