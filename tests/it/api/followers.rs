//! Whoever reads a list and follows the feed from its cursor has what the store has, whatever happened meanwhile and however
//! often he lost his connection.
//!
//! For each seed a source of its own is worked on by several processes, with random answers of its upstream, while
//! followers read its list and the feed: by pages, waiting for them, and as events. They drop answers that they have not
//! taken in yet, and connections in the middle. In the end each follower's copy is the store's list, and what he was told
//! is what the feed has, each change once and in its order.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;
use fastrand::Rng;
use futures_util::future::{join, join_all};
use futures_util::{StreamExt, stream};
use headpond::announce::Announcer;
use headpond::api::settings::Settings;
use headpond::api::{ApiState, router};
use headpond::domain::change::Cursor;
use headpond::domain::observation::Seen;
use headpond::domain::resource::{Params, ResourceId, SourceName};
use headpond::refresh::follow::follow;
use headpond::store::{Authority, Changes, ClaimRequest, Registered, Selection, Store};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::SEEDS;
use super::pond::{JSON, reading, state};
use super::serving::{Served, settings};
use crate::support::events::EventReader;
use crate::support::outcomes::{content, not_modified, status, unreachable};
use crate::support::program::client;
use crate::support::store::{TestStore, UNLIMITED, ask, key, on_each_database};

on_each_database!(followers_end_with_what_the_store_has);

/// Seeds that are under way at the same time.
const AT_ONCE: usize = 8;
/// What is changed last of all: whoever has seen it has seen everything.
const LAST: &str = "the last";

/// What one seed happens in.
struct World<'a> {
    test: &'a TestStore,
    /// Handles of two processes.
    stores: [Arc<dyn Store>; 2],
    client: reqwest::Client,
    address: String,
}

async fn followers_end_with_what_the_store_has(test: &TestStore) {
    let name = |seed: u64| SourceName::new(format!("s{seed}")).unwrap();
    let settings_of_api = Settings { sources: (0..SEEDS).map(name).collect(), ..reading(&settings()) };
    let state = ApiState {
        settings: watch::channel(Arc::new(settings_of_api)).1,
        ..state(Arc::clone(&test.store), Arc::clone(&test.clock) as _, &settings())
    };
    let (stop, announcer): (_, Announcer) = (CancellationToken::new(), state.announcer.clone());
    let following = tokio::spawn(follow(Arc::clone(&test.store), announcer, stop.clone()));
    let served = Served::start(router(state), settings()).await;
    let world = World {
        test,
        stores: [Arc::clone(&test.store), test.another().await],
        client: client(),
        address: format!("http://{}", served.address),
    };
    let told: Vec<usize> =
        stream::iter(0..SEEDS).map(|seed| world.run(seed, name(seed))).buffer_unordered(AT_ONCE).collect().await;
    println!("{SEEDS} seeds, {} changes told to followers", told.iter().sum::<usize>());
    assert!(told.iter().sum::<usize>() > told.len() * 5, "too little happened: {told:?}");
    stop.cancel();
    following.await.unwrap();
    world.stores[1].close().await;
}

impl World<'_> {
    /// Returns how many changes the followers were told of.
    async fn run(&self, seed: u64, source: SourceName) -> usize {
        let mut dice = Rng::with_seed(seed);
        let registered = self.test.source(source.as_str(), UNLIMITED).await;
        let names: Vec<String> = (0..dice.usize(1..6)).map(|n| format!("k{n}")).chain([LAST.into()]).collect();
        let keys: Vec<_> = names.iter().map(|name| (key(name), Params::new())).collect();
        self.test.store.add_keys(registered.source, &keys, Authority::Owns).await.unwrap();
        let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
        let mut ids: Vec<_> =
            self.test.store.find(registered.source, &keys).await.unwrap().into_iter().flatten().collect();
        let last = ids.pop().unwrap();
        let workers: Vec<_> = (0..dice.usize(2..5)).map(|n| self.work(registered, &ids, n, dice.fork())).collect();
        let working = async {
            join_all(workers).await;
            self.settle(registered, &[last], 0, |_| content("\"end\"", &[JSON])).await;
        };
        let followers = (0..3).map(|n| Follower::new(self, &source, seed, n, dice.fork()).follow());
        let ((), copies) = join(working, join_all(followers.collect::<Vec<_>>())).await;
        let mut told = 0;
        for copy in &copies {
            copy.is_what_the_store_has(self.test).await;
            told += copy.told.len();
        }
        told
    }

    /// One process's refreshes.
    async fn work(&self, source: Registered, ids: &[ResourceId], number: usize, mut dice: Rng) {
        for _ in 0..dice.usize(3..9) {
            let which: Vec<_> = ids.iter().filter(|_| dice.bool()).copied().collect();
            self.settle(source, &which, number % 2, |_| answer(&mut dice)).await;
            if dice.bool() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What is free of these is leased and settled, as if it was due.
    async fn settle(
        &self,
        source: Registered,
        which: &[ResourceId],
        process: usize,
        mut seen: impl FnMut(usize) -> Seen,
    ) {
        let request = ClaimRequest {
            which: Selection::Resources(which.to_vec()),
            due_by: Some(self.test.now() + TimeDelta::days(1000)),
            ..ask(source.upstream, 100)
        };
        let store = &self.stores[process];
        let claims = store.claim(&request).await.unwrap().claims;
        let batch: Vec<_> =
            claims.iter().enumerate().map(|(index, claim)| self.test.settled(claim, seen(index))).collect();
        if !batch.is_empty() {
            store.apply(&batch).await.unwrap();
        }
    }
}

/// What an upstream may answer with: mostly something, and seldom something else than the last time.
fn answer(dice: &mut Rng) -> Seen {
    match dice.u8(..12) {
        0 => status(410),
        1 => status(404),
        2 => status(500),
        3 => unreachable(),
        4 => not_modified(),
        _ => content(&format!("{{\"n\":{}}}", dice.u8(..4)), &[JSON]),
    }
}

/// How a resource stands in a copy.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    version: u64,
    is_gone: bool,
    /// Where data come with the changes.
    data: Option<Value>,
}

/// Someone who keeps a copy.
struct Follower<'a> {
    world: &'a World<'a>,
    source: SourceName,
    label: String,
    dice: Rng,
    /// As events; otherwise by pages.
    by_events: bool,
    with_data: bool,
    copy: BTreeMap<String, Known>,
    began: Option<Cursor>,
    place: Option<Cursor>,
    /// Number, key, kind and version of each change that was taken in.
    told: Vec<(i64, String, String, u64)>,
}

impl<'a> Follower<'a> {
    fn new(world: &'a World<'a>, source: &SourceName, seed: u64, number: usize, mut dice: Rng) -> Self {
        let (by_events, with_data) = (number == 0 || dice.bool(), dice.bool());
        Self {
            world,
            source: source.clone(),
            label: format!("seed {seed}, follower {number}, events {by_events}, data {with_data}"),
            dice,
            by_events,
            with_data,
            copy: BTreeMap::new(),
            began: None,
            place: None,
            told: Vec::new(),
        }
    }

    async fn follow(mut self) -> Self {
        // Some begin before anything has happened, some in the middle of it.
        for _ in 0..self.dice.usize(..60) {
            tokio::task::yield_now().await;
        }
        self.list().await;
        if self.copy.get(LAST).is_some_and(|last| last.version > 0) {
            // Everything has happened: what there is to be told is there, if there is anything.
            while self.page(false).await > 0 {}
        } else {
            while !self.has_been_told_the_last() {
                if self.by_events { self.events().await } else { _ = self.page(true).await }
            }
        }
        self
    }

    async fn get(&self, path: &str, fields: &[(&str, String)]) -> reqwest::Response {
        let mut request = self.world.client.get(format!("{}{path}", self.world.address));
        for (name, value) in fields {
            request = request.header(*name, value);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{}: {path}", self.label);
        answer
    }

    /// Reads the list, and where it begins in the feed.
    async fn list(&mut self) {
        let mut path = format!("/v1/{}?limit={}", self.source, self.dice.usize(1..4));
        loop {
            let answer = self.get(&path, &[]).await;
            let next = answer.headers().get("link").map(|link| {
                let link = link.to_str().unwrap().split_once(">;").unwrap().0.trim_start_matches('<').to_owned();
                format!("/v1/{}{link}", self.source)
            });
            let page: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            for item in page["items"].as_array().unwrap() {
                self.copy.insert(item["key"].as_str().unwrap().into(), known(item, self.with_data));
            }
            let cursor = page["cursor"].as_str().unwrap().parse().unwrap();
            assert!(self.began.is_none_or(|began| began == cursor), "{}: of the first page", self.label);
            self.began = Some(cursor);
            match next {
                Some(next) => path = next,
                None => break,
            }
        }
        self.place = self.began;
    }

    fn has_been_told_the_last(&self) -> bool {
        self.told.last().is_some_and(|(_, key, ..)| key == LAST)
    }

    fn query(&self) -> String {
        let data = if self.with_data { "&include=data" } else { "" };
        format!("/v1/-/changes?source={}&since={}{data}", self.source, self.place.unwrap())
    }

    /// Reads a page; returns how many changes it had.
    async fn page(&mut self, may_wait: bool) -> usize {
        let path = format!("{}&limit={}", self.query(), self.dice.usize(1..5));
        let wait = if may_wait && self.dice.bool() { vec![("prefer", "wait=30".to_owned())] } else { Vec::new() };
        let answer = self.get(&path, &wait).await;
        let page: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        let changes = page["changes"].as_array().unwrap();
        if self.dice.u8(..5) == 0 {
            // The follower was killed before it could store anything of that.
            return changes.len();
        }
        for change in changes {
            self.take(change);
        }
        self.place = Some(page["next"].as_str().unwrap().parse().unwrap());
        changes.len()
    }

    /// Reads events until the connection is lost, or all has been seen.
    async fn events(&mut self) {
        let mut fields = vec![("accept", "text/event-stream".to_owned())];
        let mut path = self.query();
        if self.dice.bool() {
            // As an EventSource does, whose URL stays what it was.
            path = path.replace(&format!("&since={}", self.place.unwrap()), &format!("&since={}", self.began.unwrap()));
            fields.push(("last-event-id", self.place.unwrap().to_string()));
        }
        let mut answer = self.get(&path, &fields).await;
        let (mut reader, mut left) = (EventReader::default(), self.dice.usize(..6));
        while let Some(chunk) = answer.chunk().await.unwrap() {
            for event in reader.push(std::str::from_utf8(&chunk).unwrap()) {
                if left == 0 {
                    return;
                }
                assert_eq!(event.name, "", "{}: {event:?}", self.label);
                if !event.data.is_empty() {
                    let change = event.json();
                    assert_eq!(change["cursor"].as_str(), Some(event.id.as_str()));
                    self.take(&change);
                    left -= 1;
                }
                self.place = Some(event.id.parse().unwrap());
                if self.has_been_told_the_last() {
                    return;
                }
            }
        }
        panic!("{}: the stream ended by itself", self.label);
    }

    /// Takes a change in. What the list showed already comes again, with the version that it had.
    fn take(&mut self, change: &Value) {
        let text = |member: &str| change[member].as_str().unwrap().to_owned();
        let cursor: Cursor = text("cursor").parse().unwrap();
        let (key, kind, version) = (text("key"), text("kind"), change["version"].as_u64().unwrap());
        let known_now = self.copy.get_mut(&key).unwrap_or_else(|| panic!("{}: {key} was not listed", self.label));
        let is_gone = version > 0 && kind == "gone";
        if version > known_now.version || (version == known_now.version && is_gone) {
            *known_now = Known { version, is_gone, data: known_now.data.take() };
        }
        if let Some(item) = change.get("item") {
            *known_now = known(item, self.with_data);
        }
        self.told.push((cursor.number, key, kind, version));
    }

    async fn is_what_the_store_has(&self, test: &TestStore) {
        let mut since = self.began;
        let mut in_feed = Vec::new();
        loop {
            let Changes::Page { changes, next } = test.store.changes(since, 1000).await.unwrap() else { panic!() };
            if changes.is_empty() {
                break;
            }
            in_feed.extend(changes.into_iter().filter(|change| change.source == self.source).map(|change| {
                (change.cursor.number, change.key.as_str().to_owned(), change.kind.as_str().to_owned(), change.version)
            }));
            since = Some(next);
        }
        assert_eq!(self.told, in_feed, "{}: each change once, in order", self.label);
        let list = self.get(&format!("/v1/{}?limit=1000", self.source), &[]).await;
        let list: Value = serde_json::from_slice(&list.bytes().await.unwrap()).unwrap();
        let stored: BTreeMap<String, Known> = (list["items"].as_array().unwrap().iter())
            .map(|item| (item["key"].as_str().unwrap().into(), known(item, self.with_data)))
            .collect();
        assert_eq!(self.copy, stored, "{}: {:#?}", self.label, self.told);
    }
}

fn known(item: &Value, with_data: bool) -> Known {
    let version = item["version"].as_u64().unwrap();
    // What was never there is no copy of anything, whether its upstream says so or was not asked yet.
    let is_gone = version > 0 && item["state"] == "gone";
    Known { version, is_gone, data: with_data.then(|| item["data"].clone()) }
}
