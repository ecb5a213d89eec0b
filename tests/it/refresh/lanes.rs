//! What a lane takes, in which order, and what it makes of what it can't ask for.

use std::time::Duration;

use headpond::domain::failure::FailureKind;
use headpond::domain::resource::Params;
use headpond::domain::schedule::Because;
use headpond::refresh::task::Until;
use headpond::store::{Authority, Hastened, Registered};
use wiremock::matchers::path;
use wiremock::{Mock, ResponseTemplate};

use super::{HeldServer, Process, answer, asked, mock_server, soon, users};
use crate::support::program::eventually;
use crate::support::store::{TestStore, UNLIMITED, key, on_each_database, spec, wish};

on_each_database!(
    a_source_that_this_process_does_not_know_is_left_to_others,
    a_source_that_is_left_to_others_delays_none_of_ours,
    a_source_that_asks_for_something_else_now_is_left_to_whoever_knows,
    a_key_of_which_no_url_can_be_made_fails_without_a_request,
    what_is_asked_for_by_hand_goes_first,
    a_wish_during_a_fetch_makes_exactly_one_more_request,
    a_wish_of_a_process_whose_clock_is_ahead_makes_one_request,
    an_upstream_that_never_answers_delays_no_other,
);

/// Registers `cities` with the key `berlin` on that upstream, as another process does.
async fn cities(test: &TestStore, upstream: &str) -> Registered {
    let cities = test.store.register(&[spec("cities", upstream, UNLIMITED)], Authority::Owns).await.unwrap()[0];
    test.store.add_keys(cities.source, &[(key("berlin"), Params::new())], Authority::Owns).await.unwrap();
    cities
}

async fn a_source_that_this_process_does_not_know_is_left_to_others(test: &TestStore) {
    let upstream = mock_server().await;
    answer(&upstream, "1", "one").await;
    answer(&upstream, "2", "two").await;
    let process = Process::with_users(test, &upstream.uri(), &["1", "2"], "").await;
    let cities = cities(test, &upstream.uri()).await;
    assert_eq!(cities.upstream, process.ids[0].upstream);

    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.failed), (2, 0), "{counts:?}");
    let berlin = test.current("cities", "berlin").await;
    assert_eq!((berlin.failing, berlin.leased_until), (None, None));
    assert_eq!(berlin.due.unwrap().because, Because::New, "as due as it was, for whoever knows it");
    let mut asked = asked(&upstream).await;
    asked.sort();
    assert_eq!(asked, ["/users/1", "/users/2"]);
}

async fn a_source_that_is_left_to_others_delays_none_of_ours(test: &TestStore) {
    let upstream = mock_server().await;
    answer(&upstream, "1", "one").await;
    let process = Process::with_users(test, &upstream.uri(), &["1"], "").await;
    cities(test, &upstream.uri()).await;
    // Nobody tells the lane of anything: it goes by the clock alone.
    let lane = process.start(Until::Stopped);
    for round in 1..=3 {
        let is_asked = async || (asked(&upstream).await.len() == round).then_some(());
        eventually("a request each hour", Duration::from_secs(30), is_asked).await;
        let is_stored = async || test.current("users", "1").await.leased_until.is_none().then_some(());
        eventually("its outcome", Duration::from_secs(30), is_stored).await;
        test.clock.advance(Duration::from_secs(3600));
    }
    process.stop.cancel();
    soon(lane).await.unwrap();
}

async fn a_source_that_asks_for_something_else_now_is_left_to_whoever_knows(test: &TestStore) {
    let upstream = mock_server().await;
    answer(&upstream, "1", "one").await;
    let process = Process::with_users(test, &upstream.uri(), &["1"], "").await;
    process.refresh().await;
    // Another process owns the configuration by now, and its `users` are elsewhere.
    let elsewhere = users(&upstream.uri(), &["1"], "").replace("/users/{key}", "/people/{key}");
    Mock::given(path("/people/1"))
        .respond_with(ResponseTemplate::new(200).set_body_string("two"))
        .mount(&upstream)
        .await;
    let other = Process::with_config(test, &elsewhere).await;

    process.refresh().await;
    assert_eq!(process.body("1").await, "one");
    other.refresh().await;
    assert_eq!((process.body("1").await.as_str(), asked(&upstream).await.len()), ("two", 2));
}

async fn a_key_of_which_no_url_can_be_made_fails_without_a_request(test: &TestStore) {
    let upstream = mock_server().await;
    answer(&upstream, "1", "one").await;
    let process = Process::with_users(test, &upstream.uri(), &["1"], "").await;
    process.add("..").await;

    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.failed), (1, 1), "{counts:?}");
    let failing = test.current("users", "..").await.failing.unwrap();
    assert_eq!(failing.last.kind, FailureKind::BadRequest);
    assert_eq!(asked(&upstream).await, ["/users/1"]);
}

async fn what_is_asked_for_by_hand_goes_first(test: &TestStore) {
    let upstream = mock_server().await;
    for key in ["1", "2", "3", "4"] {
        answer(&upstream, key, key).await;
    }
    let toml = users(&upstream.uri(), &["1", "2", "3", "4"], "upstream = \"one_by_one\"");
    let toml = format!("[upstreams.one_by_one]\nmax_concurrent_requests = 1\n{toml}");
    let process = Process::with_config(test, &toml).await;
    process.want("3").await;
    process.refresh().await;
    let asked = asked(&upstream).await;
    assert_eq!((asked.len(), asked[0].as_str()), (4, "/users/3"), "{asked:?}");
}

async fn a_wish_during_a_fetch_makes_exactly_one_more_request(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let process = Process::with_users(test, &upstream.origin(), &["1"], "").await;
    let refreshing = process.start(Until::NothingIsLeft);
    upstream.arrival().await;
    // Three want it meanwhile: what is under way may be older than what they know, and one more request serves them all.
    test.clock.advance(std::time::Duration::from_secs(1));
    for _ in 0..3 {
        process.want("1").await;
    }
    upstream.answer(1);
    upstream.arrival().await;
    assert_eq!(process.body("1").await, "answer 1");
    upstream.answer(usize::MAX);
    let counts = soon(refreshing).await.unwrap();
    assert_eq!((counts.new, counts.changed), (1, 1), "{counts:?}");
    assert_eq!((upstream.requests(), process.body("1").await.as_str()), (2, "answer 2"));
}

async fn a_wish_of_a_process_whose_clock_is_ahead_makes_one_request(test: &TestStore) {
    let upstream = mock_server().await;
    answer(&upstream, "1", "one").await;
    let process = Process::with_users(test, &upstream.uri(), &["1"], "").await;
    let id = test.current("users", "1").await.resource;
    let ahead = test.now() + Duration::from_secs(2);
    assert_eq!(test.store.hasten(id, wish(None, ahead)).await.unwrap(), Hastened::Due);
    process.refresh().await;
    assert_eq!(asked(&upstream).await, ["/users/1"], "it was claimed for this wish, so it began after it");
    assert_eq!(test.current("users", "1").await.wanted_at, None);
}

async fn an_upstream_that_never_answers_delays_no_other(test: &TestStore) {
    let (mut silent, quick) = (HeldServer::start().await, mock_server().await);
    let keys: Vec<String> = (0..50).map(|key| key.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for key in &keys {
        answer(&quick, key, key).await;
    }
    let silent_source = format!("[sources.silent]\nurl = \"{}/{{key}}\"\nkeys = [\"a\", \"b\"]", silent.origin());
    let process = Process::with_config(test, &format!("{silent_source}\n{}", users(&quick.uri(), &keys, ""))).await;
    let refreshing = process.start(Until::Stopped);
    silent.arrival().await;
    silent.arrival().await;
    eventually("all of the other's", super::PATIENCE, async || {
        (test.number("SELECT count(*) FROM {content}").await == 50).then_some(())
    })
    .await;
    process.stop.cancel();
    process.abandon.cancel();
    soon(refreshing).await.unwrap();
    assert_eq!((silent.requests(), asked(&quick).await.len()), (2, 50));
}
