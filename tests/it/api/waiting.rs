//! Readers who wait, beside the refresher of the same process or of another.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use headpond::api::{ApiState, router};
use headpond::clock::{Clock, ManualClock};
use headpond::refresh::task::Until;
use tokio::task::JoinHandle;
use wiremock::matchers::method;
use wiremock::{Mock, ResponseTemplate};

use super::pond::{Pond, state};
use super::serving::{Answer, Served, settings};
use crate::refresh::{HeldServer, Process, asked, mock_server, soon, users};
use crate::support::outcomes::content;
use crate::support::program::eventually;
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    many_readers_of_a_stale_key_cause_one_request,
    readers_of_two_processes_cause_one_request,
    who_comes_while_it_is_fetched_shares_that_request,
    who_comes_just_after_gets_what_the_others_got,
    who_comes_just_after_to_another_process_gets_it_too,
    what_was_never_fetched_comes_when_it_is_waited_for,
    a_failure_ends_the_waiting_and_is_not_repeated,
    when_the_time_is_over_there_is_what_there_is,
    a_wait_of_nothing_only_makes_it_due,
    a_refresher_that_is_restarted_serves_those_who_wait,
    a_process_that_stops_answers_those_who_wait,
    readers_who_leave_are_not_waited_for,
    an_outcome_that_comes_while_the_reader_looks_is_not_missed,
    a_copy_that_the_upstreams_terms_withhold_is_asked_for_and_answered,
);

const PATIENCE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

/// A process that serves readers, with one key, `k`. Its copy is stale after ten minutes, and due after an hour.
struct Site<'a> {
    process: Process<'a>,
    api: ApiState,
    served: Served,
}

fn config(origin: &str) -> String {
    users(origin, &["k"], "stale_after = \"10m\"")
}

impl<'a> Site<'a> {
    fn api(process: &Process<'a>, test: &TestStore) -> ApiState {
        let (store, clock) = (Arc::clone(&process.refresher.store), Arc::clone(&test.clock) as _);
        ApiState { announcer: process.refresher.announcer.clone(), ..state(store, clock, &settings()) }
    }

    async fn of(process: Process<'a>, test: &TestStore) -> Self {
        let api = Self::api(&process, test);
        let served = Served::start(router(api.clone()), settings()).await;
        Self { process, api, served }
    }

    /// With a refresher that runs, and a copy that is stale, and not due yet. The first answer was for that copy.
    async fn with_stale_copy(test: &'a TestStore, upstream: &mut HeldServer) -> Self {
        Self::with_stale_copy_by(test, upstream, "").await
    }

    /// The same, with these settings too.
    async fn with_stale_copy_by(test: &'a TestStore, upstream: &mut HeldServer, more: &str) -> Self {
        let config = config(&upstream.origin()) + more;
        let site = Self::of(Process::with_config(test, &config).await, test).await;
        upstream.answer(1);
        site.process.refresh().await;
        upstream.arrival().await;
        test.clock.advance(20 * MINUTE);
        site
    }

    async fn read(&self, line: &str) -> Answer {
        read(&self.served, line).await
    }

    /// Returns when so many readers wait.
    async fn has_readers(&self, count: usize) {
        eventually("readers", PATIENCE, async || (self.api.waiting.readers() == count).then_some(())).await;
    }
}

async fn read(served: &Served, line: &str) -> Answer {
    served.exchange("GET", format!("GET /v1/users/k HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n")).await
}

/// What a 200 says, and how it came about.
fn told(answer: &Answer) -> (String, &str) {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let way = answer.field("cache-status").unwrap().strip_prefix("headpond;").unwrap();
    (answer.text(), way.rsplit_once(";ttl=").unwrap().0)
}

fn stop(refreshing: JoinHandle<headpond::refresh::tally::Counts>, process: &Process<'_>) -> impl Future<Output = ()> {
    process.stop.cancel();
    async { _ = soon(refreshing).await.unwrap() }
}

async fn many_readers_of_a_stale_key_cause_one_request(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let site = Site::with_stale_copy(test, &mut upstream).await;
    let refreshing = site.process.start(Until::Stopped);
    let wishes = async || test.store.applied_since(0).await.unwrap().wishes;
    let before = wishes().await;
    let readers = join_all((0..50).map(|_| site.read("Prefer: wait=5")));
    let answering = async {
        site.has_readers(50).await;
        upstream.arrival().await;
        upstream.answer(2);
    };
    let (answers, ()) = tokio::join!(readers, answering);
    let ways = answers.iter().map(|answer| {
        assert_eq!(answer.field("headpond-state"), Some("fresh"));
        assert_eq!(answer.field("preference-applied"), Some("wait=5"));
        let (body, way) = told(answer);
        assert_eq!(body, "answer 2");
        way
    });
    let mut ways: Vec<_> = ways.collect();
    ways.sort_unstable();
    assert_eq!(
        (ways[0], &ways[1..]),
        ("fwd=stale;fwd-status=200;stored", &["fwd=stale;fwd-status=200;stored;collapsed"; 49][..])
    );
    assert_eq!((upstream.requests(), wishes().await - before), (2, 1), "one wish, and one request");
    stop(refreshing, &site.process).await;
}

async fn readers_of_two_processes_cause_one_request(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let here = Site::with_stale_copy(test, &mut upstream).await;
    let there = Site::of(Process::beside(test, &config(&upstream.origin())).await, test).await;
    let refreshing = [&here, &there].map(|site| {
        site.process.follow();
        site.process.start(Until::Stopped)
    });
    let readers = join_all((0..40).map(|n| [&here, &there][n % 2].read("Prefer: wait=5")));
    let answering = async {
        tokio::join!(here.has_readers(20), there.has_readers(20));
        upstream.arrival().await;
        upstream.answer(2);
    };
    let (answers, ()) = tokio::join!(readers, answering);
    for answer in &answers {
        assert_eq!(told(answer).0, "answer 2");
    }
    assert_eq!(upstream.requests(), 2);
    for (refreshing, site) in refreshing.into_iter().zip([&here, &there]) {
        stop(refreshing, &site.process).await;
    }
}

async fn who_comes_while_it_is_fetched_shares_that_request(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let site = Site::with_stale_copy(test, &mut upstream).await;
    let refreshing = site.process.start(Until::Stopped);
    for (request, line) in [(2, "Prefer: wait=5"), (3, "Cache-Control: no-cache")] {
        test.clock.advance(60 * MINUTE);
        upstream.arrival().await;
        test.clock.advance(Duration::from_secs(1));
        let answering = async {
            site.has_readers(1).await;
            upstream.answer(request);
        };
        let (answer, ()) = tokio::join!(site.read(line), answering);
        assert_eq!(told(&answer), (format!("answer {request}"), "fwd=stale;fwd-status=200;stored;collapsed"), "{line}");
        assert_eq!(upstream.requests(), request, "{line}");
    }
    stop(refreshing, &site.process).await;
    assert_eq!(upstream.requests(), 3);
}

async fn who_comes_just_after_gets_what_the_others_got(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let site = Site::with_stale_copy(test, &mut upstream).await;
    upstream.answer(usize::MAX);
    let refreshing = site.process.start(Until::Stopped);
    let wait = "Prefer: wait=5";
    assert_eq!(told(&site.read(wait).await), ("answer 2".into(), "fwd=stale;fwd-status=200;stored"));
    assert_eq!(told(&site.read(wait).await), ("answer 2".into(), "hit"), "no second request for who comes late");
    test.clock.advance(Duration::from_millis(100));
    let no_cache = "Cache-Control: no-cache";
    assert_eq!(
        told(&site.read(no_cache).await),
        ("answer 3".into(), "fwd=request;fwd-status=200;stored"),
        "but for who asks for one"
    );
    assert_eq!(told(&site.read("Cache-Control: max-age=0").await), ("answer 3".into(), "hit"));
    test.clock.advance(Duration::from_secs(2));
    assert_eq!(told(&site.read(wait).await), ("answer 4".into(), "fwd=request;fwd-status=200;stored"));
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(
        told(&site.read("Cache-Control: max-age=0").await),
        ("answer 5".into(), "fwd=request;fwd-status=200;stored")
    );
    stop(refreshing, &site.process).await;
    assert_eq!(upstream.requests(), 5);
}

async fn who_comes_just_after_to_another_process_gets_it_too(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let here = Site::with_stale_copy(test, &mut upstream).await;
    let there = Site::of(Process::beside(test, &config(&upstream.origin())).await, test).await;
    there.process.follow();
    upstream.answer(usize::MAX);
    let refreshing = here.process.start(Until::Stopped);
    let wait = "Prefer: wait=5";
    assert_eq!(told(&here.read(wait).await), ("answer 2".into(), "fwd=stale;fwd-status=200;stored"));
    test.clock.advance(Duration::from_millis(100));
    for _ in 0..2 {
        assert_eq!(told(&there.read(wait).await), ("answer 2".into(), "hit"));
    }
    here.process.follow();
    assert_eq!(
        told(&there.read("Cache-Control: no-cache").await),
        ("answer 3".into(), "fwd=request;fwd-status=200;stored")
    );
    test.clock.advance(Duration::from_secs(2));
    assert_eq!(told(&there.read(wait).await), ("answer 4".into(), "fwd=request;fwd-status=200;stored"));
    stop(refreshing, &here.process).await;
    there.process.stop.cancel();
    assert_eq!(upstream.requests(), 4);
}

async fn what_was_never_fetched_comes_when_it_is_waited_for(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let site = Site::of(Process::with_config(test, &config(&upstream.origin())).await, test).await;
    let refreshing = site.process.start(Until::Stopped);
    upstream.arrival().await;
    let answering = async {
        site.has_readers(1).await;
        upstream.answer(1);
    };
    let (answer, ()) = tokio::join!(site.read("Prefer: wait=5"), answering);
    assert_eq!(told(&answer), ("answer 1".into(), "fwd=uri-miss;fwd-status=200;stored;collapsed"));
    stop(refreshing, &site.process).await;
}

async fn a_failure_ends_the_waiting_and_is_not_repeated(test: &TestStore) {
    let upstream = mock_server().await;
    let good = ResponseTemplate::new(200).set_body_string("good");
    Mock::given(method("GET")).respond_with(good).up_to_n_times(1).mount(&upstream).await;
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(502)).mount(&upstream).await;
    let site = Site::of(Process::with_config(test, &config(&upstream.uri())).await, test).await;
    site.process.refresh().await;
    test.clock.advance(20 * MINUTE);
    let refreshing = site.process.start(Until::Stopped);
    let fails = |answer: &Answer| {
        assert_eq!(answer.field("headpond-state"), Some("stale"));
        assert_eq!(answer.field("headpond-last-failure"), Some("server_error"));
    };
    // The clock stands still: none of these waits until its time is over.
    let answer = site.read("Prefer: wait=100000").await;
    assert_eq!(told(&answer), ("good".into(), "fwd=stale;fwd-status=502"));
    assert_eq!(answer.field("preference-applied"), Some("wait=3599"), "a request may take an hour");
    fails(&answer);
    assert_eq!(asked(&upstream).await.len(), 2);
    for (line, status) in [
        ("Prefer: wait=1", 200),
        ("Prefer: wait=1\r\nCache-Control: max-age=0", 504),
        ("Prefer: wait=1\r\nCache-Control: no-cache", 504),
    ] {
        let answer = site.read(line).await;
        assert_eq!(answer.status(), status, "{line}");
        fails(&answer);
    }
    assert_eq!(asked(&upstream).await.len(), 2, "the upstream is spared as long as the backoff lasts");

    // Who waits for longer than that gets the next outcome.
    let due = test.current("users", "k").await.due.unwrap().at;
    let advancing = async {
        site.has_readers(1).await;
        test.clock.advance((due - test.now()).to_std().unwrap());
    };
    let (answer, ()) = tokio::join!(site.read("Prefer: wait=60"), advancing);
    assert_eq!(answer.text(), "good");
    fails(&answer);
    assert_eq!(asked(&upstream).await.len(), 3);
    stop(refreshing, &site.process).await;
}

async fn when_the_time_is_over_there_is_what_there_is(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let site = Site::with_stale_copy(test, &mut upstream).await;
    let refreshing = site.process.start(Until::Stopped);
    for (line, seconds, status) in [
        ("Prefer: wait=5", 5, 200),
        ("Cache-Control: no-cache", 10, 504),
        ("Cache-Control: max-age=60\r\nPrefer: wait=7", 7, 504),
    ] {
        let advancing = async {
            site.has_readers(1).await;
            test.clock.advance(Duration::from_secs(seconds));
        };
        let (answer, ()) = tokio::join!(site.read(line), advancing);
        assert_eq!(answer.status(), status, "{line}");
        assert_eq!(answer.field("headpond-state"), Some("stale"), "{line}");
        if status == 200 {
            assert_eq!(told(&answer), ("answer 1".into(), "hit"));
        }
    }
    // It comes all the same.
    upstream.arrival().await;
    upstream.answer(2);
    let body = async || (site.read("").await.text() == "answer 2").then_some(());
    eventually("the answer", PATIENCE, body).await;
    assert_eq!(upstream.requests(), 2);
    stop(refreshing, &site.process).await;
}

async fn a_wait_of_nothing_only_makes_it_due(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let site = Site::with_stale_copy(test, &mut upstream).await;
    let refreshing = site.process.start(Until::Stopped);
    let answer = site.read("Prefer: wait=0").await;
    assert_eq!(told(&answer), ("answer 1".into(), "hit"));
    assert_eq!(answer.field("preference-applied"), Some("wait=0"));
    upstream.arrival().await;
    upstream.answer(2);
    stop(refreshing, &site.process).await;
}

async fn a_refresher_that_is_restarted_serves_those_who_wait(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    // Serves readers, and refreshes nothing itself.
    let site = Site::with_stale_copy(test, &mut upstream).await;
    site.process.follow();
    let first = Process::beside(test, &config(&upstream.origin())).await;
    first.follow();
    let refreshing = first.start(Until::Stopped);
    let restarting = async {
        site.has_readers(1).await;
        upstream.arrival().await;
        first.abandon.cancel();
        stop(refreshing, &first).await;
        let second = Process::beside(test, &config(&upstream.origin())).await;
        let refreshing = second.start(Until::Stopped);
        upstream.arrival().await;
        upstream.answer(3);
        stop(refreshing, &second).await;
    };
    let (answer, ()) = tokio::join!(site.read("Prefer: wait=5"), restarting);
    assert_eq!(told(&answer), ("answer 3".into(), "fwd=stale;fwd-status=200;stored"));
    site.process.stop.cancel();
}

async fn a_process_that_stops_answers_those_who_wait(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let site = Site::with_stale_copy(test, &mut upstream).await;
    let readers = join_all((0..20).map(|_| site.read("Prefer: wait=5")));
    let stopping = async {
        site.has_readers(20).await;
        site.api.stopping.cancel();
    };
    let (answers, ()) = tokio::join!(readers, stopping);
    for answer in &answers {
        assert_eq!(told(answer), ("answer 1".into(), "hit"));
        assert_eq!(answer.field("headpond-state"), Some("stale"));
    }
    assert_eq!(site.read("Cache-Control: no-cache").await.status(), 504, "and none waits from then on");
}

async fn readers_who_leave_are_not_waited_for(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let site = Site::with_stale_copy(test, &mut upstream).await;
    let mut wire = site.served.connect().await;
    wire.send("GET /v1/users/k HTTP/1.1\r\nHost: x\r\nPrefer: wait=5\r\n\r\n").await;
    site.has_readers(1).await;
    drop(wire);
    site.has_readers(0).await;
    // The wish stands, and who comes next has the good of it.
    let refreshing = site.process.start(Until::Stopped);
    upstream.arrival().await;
    upstream.answer(2);
    let fresh = async || (site.read("").await.field("headpond-state") == Some("fresh")).then_some(());
    eventually("a fresh copy", PATIENCE, fresh).await;
    assert_eq!(upstream.requests(), 2);
    stop(refreshing, &site.process).await;
}

/// A clock that holds up the one who reads it next.
#[derive(Debug)]
struct Holding {
    clock: Arc<ManualClock>,
    next: Mutex<Option<(SyncSender<()>, Receiver<()>)>>,
}

#[async_trait]
impl Clock for Holding {
    fn now(&self) -> DateTime<Utc> {
        let next = self.next.lock().unwrap().take();
        if let Some((held, release)) = next {
            // Tells the runtime, so that this thread's other tasks go on.
            tokio::task::block_in_place(|| {
                held.send(()).unwrap();
                release.recv().unwrap();
            });
        }
        self.clock.now()
    }

    async fn sleep_until(&self, at: DateTime<Utc>) {
        self.clock.sleep_until(at).await;
    }
}

async fn an_outcome_that_comes_while_the_reader_looks_is_not_missed(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[], "old").await;
    test.clock.advance(180 * MINUTE);
    let (held, is_held) = sync_channel(0);
    let (let_go, release) = sync_channel(0);
    let clock = Holding { clock: Arc::clone(&test.clock), next: Mutex::new(Some((held, release))) };
    let served = Served::start(router(state(Arc::clone(&test.store), Arc::new(clock), &settings())), settings()).await;
    let reader = tokio::spawn(async move {
        served.exchange("GET", "GET /v1/weather/berlin HTTP/1.1\r\nHost: x\r\nCache-Control: no-cache\r\n\r\n").await
    });
    // He has seen the old copy, and has not wished for another yet.
    tokio::task::spawn_blocking(move || is_held.recv().unwrap()).await.unwrap();
    let claim = pond.claim("berlin").await;
    test.settle(&claim, content("new", &[])).await;
    tokio::task::spawn_blocking(move || let_go.send(()).unwrap()).await.unwrap();
    let answer = soon(reader).await.unwrap();
    assert_eq!(
        told(&answer),
        ("new".into(), "fwd=stale;fwd-status=200;stored;collapsed"),
        "without any announcement, or another request"
    );
    assert_eq!(test.current("weather", "berlin").await.wanted_at, None);
}

async fn a_copy_that_the_upstreams_terms_withhold_is_asked_for_and_answered(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let site = Site::with_stale_copy_by(test, &mut upstream, "cache_control = \"respect\"\n").await;
    let refreshing = site.process.start(Until::Stopped);
    let withheld = site.read("Cache-Control: only-if-cached").await;
    assert_eq!((withheld.status(), upstream.requests()), (504, 1));
    withheld.problem("withheld");
    let reading = site.read("Accept: */*");
    let answering = async {
        upstream.arrival().await;
        upstream.answer(2);
    };
    let (answer, ()) = tokio::join!(reading, answering);
    assert_eq!(told(&answer), ("answer 2".into(), "fwd=stale;fwd-status=200;stored"));
    stop(refreshing, &site.process).await;
}
