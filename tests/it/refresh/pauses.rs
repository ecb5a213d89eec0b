//! An upstream that wants to be left alone.

use std::time::Duration;

use headpond::domain::resource::SourceName;
use headpond::refresh::task::Until;
use tokio::sync::watch;
use wiremock::matchers::method;
use wiremock::{Mock, ResponseTemplate};

use super::{HeldServer, Process, asked, mock_server};
use crate::support::raw_server::RawServer;
use crate::support::store::{TestStore, on_each_database};

on_each_database! {
    nothing_is_sent_in_a_pause_and_whoever_can_wait_no_longer_is_told,
    what_is_under_way_when_a_pause_begins_is_held_back,
    after_a_pause_one_request_goes_first,
    a_walk_that_goes_first_after_a_pause_keeps_nobody_waiting_for_its_end,
}

const KEYS: [&str; 5] = ["1", "2", "3", "4", "5"];
const AN_HOUR: Duration = Duration::from_secs(3600);

fn too_many() -> ResponseTemplate {
    ResponseTemplate::new(429).insert_header("retry-after", "3600")
}

/// One request at a time, so that what comes first is known.
fn serial(origin: &str) -> String {
    super::users(origin, &KEYS, "").replace("max_concurrent_requests = 100", "max_concurrent_requests = 1")
}

async fn nothing_is_sent_in_a_pause_and_whoever_can_wait_no_longer_is_told(test: &TestStore) {
    let upstream = mock_server().await;
    Mock::given(method("GET")).respond_with(too_many()).mount(&upstream).await;
    let process = Process::with_config(test, &serial(&upstream.uri())).await;
    let counts = process.refresh().await;
    assert_eq!((counts.failed, asked(&upstream).await.len()), (1, 1), "{counts:?}");
    assert_eq!(counts.waits.len(), 1, "{counts:?}");
    assert_eq!(counts.waits[0].until, test.now() + AN_HOUR);
    assert_eq!(counts.waits[0].why, "the upstream is left alone: 429 with Retry-After");

    let counts = Process::beside(test, &serial(&upstream.uri())).await.refresh().await;
    assert_eq!((counts.failed, counts.waits.len(), asked(&upstream).await.len()), (0, 1, 1), "nor by another process");
    upstream.reset().await;
    Mock::given(method("GET")).respond_with(ResponseTemplate::new(200).set_body_string("x")).mount(&upstream).await;
    test.clock.advance(AN_HOUR);
    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.waits), (5, vec![]));
}

async fn what_is_under_way_when_a_pause_begins_is_held_back(test: &TestStore) {
    let upstream = mock_server().await;
    let elsewhere = ResponseTemplate::new(302).insert_header("location", "/busy");
    Mock::given(method("GET"))
        .respond_with(
            move |request: &wiremock::Request| {
                if request.url.path() == "/busy" { too_many() } else { elsewhere.clone() }
            },
        )
        .mount(&upstream)
        .await;
    // Each is redirected, and the first that is answered with 429 closes the way for those that hold a token already.
    let process = Process::with_users(test, &upstream.uri(), &KEYS, "").await;
    let counts = process.refresh().await;
    let busy = asked(&upstream).await.iter().filter(|path| *path == "/busy").count() as u64;
    assert_eq!((counts.failed, counts.waits.len()), (busy, usize::from(busy < 5)), "{counts:?}");
    for key in KEYS {
        let current = test.current("users", key).await;
        assert_eq!(current.leased_until, None, "what was held back is given back");
    }
}

async fn a_walk_that_goes_first_after_a_pause_keeps_nobody_waiting_for_its_end(test: &TestStore) {
    // The first request is answered with 429; after that the second page comes when the other source has been asked for.
    let asked = watch::Sender::new(false);
    let of_server = asked.clone();
    let server = RawServer::start(move |mut connection| {
        let asked = of_server.clone();
        async move {
            let head = connection.head().await.unwrap_or_default();
            let body = if head.starts_with("GET /extra/") {
                asked.send_replace(true);
                "x"
            } else if head.contains("after=2") {
                _ = asked.subscribe().wait_for(|asked| *asked).await;
                r#"{"data":[{"id":2}]}"#
            } else {
                r#"{"data":[{"id":1}],"after":"2"}"#
            };
            let status = if connection.number == 0 { "429 Slow Down\r\nRetry-After: 3600" } else { "200 OK" };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            connection.say((head + body).as_bytes()).await;
        }
    })
    .await;
    let origin = server.url("").as_str().trim_end_matches('/').to_owned();
    let toml = format!(
        "[defaults]\nrefresh_every = \"1d\"\n[sources.users]\nkind = \"collection\"\nurl = \"{origin}/users\"\n\
         items = \"$.data[*]\"\nitem_key = \"$.id\"\npaginate = {{ by = \"cursor\", param = \"after\", next = \"$.after\" }}\n"
    );
    let process = Process::with_config(test, &toml).await;
    assert_eq!(process.refresh().await.failed, 1);
    assert!(test.store.wait(&SourceName::new("users").unwrap()).await.unwrap().is_some(), "it wants to be left alone");

    let more = format!("[sources.extra]\nurl = \"{origin}/extra/{{key}}\"\nkeys = [\"1\"]\n");
    // What is new is due later than the walk.
    test.clock.advance(AN_HOUR + Duration::from_secs(1));
    let process = Process::with_config(test, &(toml + &more)).await;
    let walk = test.store.open_walk(process.ids[1].source).await.unwrap();
    let claim = test.claim_one(process.ids[1].upstream).await;
    test.store.release(&[(claim.token, claim.resource)]).await.unwrap();
    assert_eq!(claim.resource, walk, "the walk goes first");
    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.waits), (3, vec![]), "two members, and the other source's key");
}

async fn after_a_pause_one_request_goes_first(test: &TestStore) {
    let upstream = mock_server().await;
    Mock::given(method("GET")).respond_with(too_many()).mount(&upstream).await;
    let process = Process::with_config(test, &serial(&upstream.uri())).await;
    process.refresh().await;

    let mut held = HeldServer::start().await;
    // The same upstream by its name, at another address, and with as much at once as there is.
    let toml = super::users(&held.origin(), &KEYS, "upstream = \"u\"\n[upstreams.u]");
    let moved = toml.clone();
    test.execute(&format!("UPDATE {{upstream}} SET name = 'u' WHERE name = '{}'", upstream.uri())).await.unwrap();
    let process = Process::with_config(test, &moved).await;
    test.clock.advance(AN_HOUR);
    let running = process.start(Until::Stopped);
    held.arrival().await;
    assert_eq!(held.requests(), 1);
    held.answer(1);
    for _ in 1..KEYS.len() {
        held.arrival().await;
    }
    assert_eq!(held.requests(), 5);
    held.answer(5);
    process.stop.cancel();
    super::soon(running).await.unwrap();
}
