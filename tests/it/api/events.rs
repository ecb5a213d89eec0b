//! The change feed as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use headpond::announce::Announcement;
use headpond::api::{ApiState, router};
use headpond::config;
use headpond::store::PruneRules;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::Service;

use super::pond::{JSON, Pond, reading, state};
use super::serving::{Served, Wire, settings};
use crate::support::events::{Event, EventReader};
use crate::support::outcomes::{HOUR, content, status};
use crate::support::program::eventually;
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    changes_come_as_soon_as_they_are_committed,
    a_client_goes_on_where_it_was,
    resources_come_with_their_changes_whatever_lines_they_have,
    a_heartbeat_passes_over_what_is_for_others,
    a_client_whose_place_is_pruned_is_told_to_read_the_list_again,
    a_slow_client_is_told_where_to_go_on_and_misses_nothing,
    a_process_that_ends_says_so_and_is_not_held_up,
    new_settings_end_what_was_allowed_by_the_old_ones,
    there_are_no_more_streams_than_may_be,
);

/// A client of the feed.
struct Client {
    wire: Wire,
    reader: EventReader,
    come: std::collections::VecDeque<Event>,
}

impl Client {
    /// Connects, with these header lines and this query, and must be let in.
    async fn of(served: &Served, query: &str, fields: &str) -> Self {
        let mut wire = served.connect().await;
        let accept = "Accept: text/event-stream";
        wire.send(format!("GET /v1/-/changes{query} HTTP/1.1\r\nHost: x\r\n{accept}\r\n{fields}\r\n")).await;
        let head = wire.head().await;
        assert_eq!((head.status(), head.field("content-type")), (200, Some("text/event-stream")), "{}", head.head);
        assert_eq!((head.field("cache-control"), head.field("content-encoding")), (Some("no-store"), None));
        Self { wire, reader: EventReader::default(), come: [].into() }
    }

    /// The next block; `None` when the stream has ended.
    async fn block(&mut self) -> Option<Event> {
        while self.come.is_empty() {
            let chunk = self.wire.chunk().await;
            if chunk.is_empty() {
                return None;
            }
            self.come.extend(self.reader.push(std::str::from_utf8(&chunk).unwrap()));
        }
        self.come.pop_front()
    }

    /// The number, key and kind of the next change, which must come.
    async fn change(&mut self) -> (String, String, String) {
        let event = self.block().await.unwrap();
        assert_eq!(event.name, "", "{event:?}");
        let change = event.json();
        let text = |member: &str| change[member].as_str().unwrap().to_owned();
        assert_eq!(text("cursor"), event.id);
        (text("cursor").split_once('-').unwrap().0.to_owned(), text("key"), text("kind"))
    }

    /// The last event: its name and data. Nothing comes after it.
    async fn farewell(&mut self) -> (String, Value) {
        let mut last = self.block().await.unwrap();
        while let Some(next) = self.block().await {
            assert_eq!(last.name, "", "nothing comes after {last:?}");
            last = next;
        }
        (last.name.clone(), last.json())
    }
}

fn change(number: &str, key: &str, kind: &str) -> (String, String, String) {
    (number.into(), key.into(), kind.into())
}

async fn pond(test: &TestStore) -> Pond<'_> {
    let pond = Pond::with_keys(test, &["a", "b"]).await;
    pond.gets("a", &[JSON], "1").await;
    pond.gets("b", &[JSON], "1").await;
    pond
}

async fn changes_come_as_soon_as_they_are_committed(test: &TestStore) {
    let pond = pond(test).await;
    let mut client = Client::of(&pond.served, "", "").await;
    assert_eq!(client.change().await, change("1", "a", "created"));
    assert_eq!(client.change().await, change("2", "b", "created"));
    pond.gets("a", &[JSON], "2").await;
    assert_eq!(client.change().await, change("3", "a", "changed"));
    pond.gets("a", &[JSON], "2").await;
    pond.sees("b", status(410)).await;
    assert_eq!(client.change().await, change("4", "b", "gone"), "what brings nothing new is no change");
    pond.gets("b", &[JSON], "1").await;
    assert_eq!(client.change().await, change("5", "b", "returned"));
}

async fn a_client_goes_on_where_it_was(test: &TestStore) {
    let pond = pond(test).await;
    let cursor = |page: &Value, index: usize| page["changes"][index]["cursor"].as_str().unwrap().to_owned();
    let page = pond.json("/v1/-/changes").await;
    let (first, second) = (cursor(&page, 0), cursor(&page, 1));
    for (query, fields) in [
        (format!("?since={first}"), String::new()),
        (String::new(), format!("Last-Event-ID: {first}\r\n")),
        (format!("?since={second}"), format!("Last-Event-ID: {first}\r\n")),
        (format!("?since={first}"), "Last-Event-ID:\r\n".into()),
    ] {
        let mut client = Client::of(&pond.served, &query, &fields).await;
        assert_eq!(client.change().await, change("2", "b", "created"), "{query} {fields}");
    }
    let events = "Accept: text/event-stream";
    let answer = pond.get("/v1/-/changes", &[events, "Last-Event-ID: yesterday"]).await;
    assert_eq!((answer.status(), &answer.problem("bad-field")["field"]), (400, &json!("Last-Event-ID")));
    for (path, fields, kind) in [
        ("/v1/-/changes?since=9-00000000", vec![events], "unknown-cursor"),
        ("/v1/-/changes", vec![events, "Last-Event-ID: 1-00000000"], "unknown-cursor"),
        ("/v1/-/changes?limit=5", vec![events], "bad-parameter"),
        ("/v1/-/changes?source=nothing", vec![events], "unknown-source"),
    ] {
        pond.get(path, &fields).await.problem(kind);
    }
    eventually("nothing left behind", HOUR, async || (pond.streams.open() == 0).then_some(())).await;
}

async fn resources_come_with_their_changes_whatever_lines_they_have(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a"]).await;
    pond.gets("a", &[JSON], "{\r\n \"t\": 1.50,\n\r \"u\": \"\\n\"\r\n}").await;
    let mut client = Client::of(&pond.served, "?include=data&source=weather", "").await;
    let event = client.block().await.unwrap();
    let data = &event.json()["item"]["data"];
    assert_eq!((data["t"].to_string().as_str(), &data["u"]), ("1.50", &json!("\n")));
}

async fn a_heartbeat_passes_over_what_is_for_others(test: &TestStore) {
    let pond = pond(test).await;
    let users = test.source_with_keys("users", 1).await;
    let mut client = Client::of(&pond.served, "?source=users", "").await;
    let hello = client.block().await.unwrap();
    assert_eq!((hello.data.as_str(), &hello.id[..2]), ("", "2-"), "nothing yet, and the way behind it is known");
    pond.gets("a", &[JSON], "2").await;
    let beat = {
        // The heart may not have begun to wait for its next beat: the time goes on until it is there.
        let mut beat = std::pin::pin!(client.block());
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                beat = &mut beat => break beat.unwrap(),
                _ = ticks.tick() => test.clock.advance(Duration::from_secs(16)),
            }
        }
    };
    assert_eq!((beat.data.as_str(), &beat.id[..2]), ("", "3-"));
    test.settle_all(users.upstream, |_| content("\"ada\"", &[JSON])).await;
    pond.announcer.announce(Announcement::LookAround);
    // More beats may come before it.
    let told = loop {
        let block = client.block().await.unwrap();
        if !block.data.is_empty() {
            break block;
        }
    };
    assert_eq!((&told.id[..2], &told.json()["key"]), ("4-", &json!("k0")));
}

async fn a_client_whose_place_is_pruned_is_told_to_read_the_list_again(test: &TestStore) {
    let pond = pond(test).await;
    let mut client = Client::of(&pond.served, "", "").await;
    assert_eq!(client.change().await.0, "1");
    assert_eq!(client.change().await.0, "2");
    let (mut newest, everything) = (2, Duration::ZERO);
    let farewell = loop {
        // Two at once, so that the entry which the client has seen last is not the newest, and nobody tells it. If the stream was
        // just looking by itself, it has seen them all the same, and two more will do.
        for _ in 0..2 {
            newest += 1;
            test.settle(&pond.claim("a").await, content(&newest.to_string(), &[JSON])).await;
        }
        test.clock.advance(Duration::from_secs(1));
        let rules = PruneRules { now: test.now(), retired: HOUR, changes: everything, applied: HOUR };
        assert!(test.store.prune(&rules).await.unwrap() >= 2);
        pond.announcer.announce(Announcement::LookAround);
        let mut event = client.block().await.unwrap();
        while event.name.is_empty() && !event.id.starts_with(&format!("{newest}-")) {
            event = client.block().await.unwrap();
        }
        if !event.name.is_empty() {
            break event;
        }
    };
    assert_eq!((farewell.name.as_str(), farewell.json()), ("resync", json!({ "because": "unknown-cursor" })));
    assert!(client.block().await.is_none(), "nothing comes after it");
    let last = format!("Last-Event-ID: {}", client.reader.last_id);
    pond.get("/v1/-/changes", &["Accept: text/event-stream", &last]).await.problem("unknown-cursor");
}

async fn a_slow_client_is_told_where_to_go_on_and_misses_nothing(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "b", "c"]).await;
    let large = "x".repeat(1 << 20);
    for key in ["a", "b", "c"] {
        pond.gets(key, &[], &large).await;
    }
    // Not over a socket, whose buffers would take in more than is told of.
    let mut router = router(state(Arc::clone(&test.store), Arc::clone(&test.clock) as _, &settings()));
    let (mut numbers, mut last_id, mut ends) = (Vec::new(), String::new(), 0);
    while numbers.len() < 3 {
        let request = http::Request::get("/v1/-/changes?include=data").header("accept", "text/event-stream");
        let request = request.header("last-event-id", &last_id).body(axum::body::Body::empty()).unwrap();
        let mut body = Service::call(&mut router, request).await.unwrap().into_body();
        let mut reader = EventReader::default();
        while let Some(frame) = body.frame().await {
            for event in reader.push(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap()) {
                if event.name == "end" {
                    assert_eq!(event.json(), json!({ "because": "slow", "next": event.id }));
                    ends += 1;
                } else {
                    assert_eq!(event.json()["item"]["data"].as_str().unwrap().len(), 1 << 20);
                    numbers.push(event.id.split_once('-').unwrap().0.to_owned());
                }
            }
            if numbers.len() == 3 {
                break;
            }
            // It takes the next page only then.
            test.clock.advance(Duration::from_secs(if ends == 0 { 31 } else { 29 }));
        }
        last_id = reader.last_id;
    }
    assert_eq!((numbers, ends), (vec!["1".into(), "2".into(), "3".into()], 1), "each once");
}

/// A server of its own over what the store holds.
async fn serve(test: &TestStore, change: impl FnOnce(ApiState) -> ApiState) -> (Served, ApiState) {
    let state = change(state(Arc::clone(&test.store), Arc::clone(&test.clock) as _, &settings()));
    (Served::start(router(state.clone()), settings()).await, state)
}

async fn a_process_that_ends_says_so_and_is_not_held_up(test: &TestStore) {
    let pond = pond(test).await;
    let (mut served, state) = serve(test, |state| state).await;
    let mut client = Client::of(&served, "", "").await;
    client.change().await;
    let second = client.change().await;
    state.stopping.cancel();
    served.stop();
    let (name, data) = client.farewell().await;
    assert_eq!((name.as_str(), &data["because"]), ("end", &json!("stopping")));
    assert!(data["next"].as_str().unwrap().starts_with(&format!("{}-", second.0)));
    served.ended().await;
    drop(pond);
}

async fn new_settings_end_what_was_allowed_by_the_old_ones(test: &TestStore) {
    let _pond = pond(test).await;
    let (present, receiver) = watch::channel(Arc::new(reading(&settings())));
    present.send_replace(Arc::new(reading(&settings())));
    let (served, _) = serve(test, |state| ApiState { settings: receiver, ..state }).await;
    let mut client = Client::of(&served, "", "").await;
    client.change().await;
    client.change().await;
    let with_token = config::Server { read_tokens: vec!["a-token-of-sixteen".to_owned().into()], ..settings() };
    present.send_replace(Arc::new(reading(&with_token)));
    let (name, data) = client.farewell().await;
    assert_eq!((name.as_str(), &data["because"]), ("end", &json!("reloaded")));
    let request = "GET /v1/-/changes HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
    served.exchange("GET", request).await.problem("unauthorized");
}

async fn there_are_no_more_streams_than_may_be(test: &TestStore) {
    let pond = Pond::with_settings(test, &["a"], config::Server { max_streams: 2, ..settings() }).await;
    let first = Client::of(&pond.served, "", "").await;
    let _second = Client::of(&pond.served, "", "").await;
    let refused = pond.get("/v1/-/changes", &["Accept: text/event-stream"]).await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("5")));
    refused.problem("too-many-streams");
    assert_eq!(pond.get("/v1/-/changes", &[]).await.status(), 200, "pages are read all the same");
    drop(first);
    eventually("a place", HOUR, async || (pond.streams.open() == 1).then_some(())).await;
    Client::of(&pond.served, "", "").await;
}
