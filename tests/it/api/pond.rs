//! A read API over a real store, whose contents come about as they do in production: by claims and decisions.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::TimeDelta;
use headpond::announce::{Announcement, Announcer};
use headpond::api::access::Access;
use headpond::api::cors::Cors;
use headpond::api::demand::Demands;
use headpond::api::feed::Tail;
use headpond::api::settings::{Settings, Upstreams};
use headpond::api::streams::Streams;
use headpond::api::waiting::Waiting;
use headpond::api::{ApiState, router};
use headpond::clock::Clock;
use headpond::config;
use headpond::domain::observation::{Seen, Via};
use headpond::domain::policy::{Heed, Policy};
use headpond::domain::resource::{Params, SourceName};
use headpond::store::{Authority, Claim, ClaimRequest, Registered, Selection, Store, Together};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::serving::{Answer, Served, settings};
use crate::support::outcomes::{content, policy};
use crate::support::store::{LEASE, TestStore, UNLIMITED, key, start};

pub const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

/// One source, `weather`, refreshed every hour and stale after two; served on a port of its own.
pub struct Pond<'a> {
    pub test: &'a TestStore,
    pub source: Registered,
    pub announcer: Announcer,
    pub tail: Tail,
    pub streams: Streams,
    pub served: Served,
}

impl<'a> Pond<'a> {
    pub async fn with_keys(test: &'a TestStore, keys: &[&str]) -> Self {
        Self::with_settings(test, keys, settings()).await
    }

    pub async fn with_settings(test: &'a TestStore, keys: &[&str], settings: config::Server) -> Self {
        let source = test.source("weather", UNLIMITED).await;
        let keys: Vec<_> = keys.iter().map(|name| (key(name), Params::new())).collect();
        test.store.add_keys(source.source, &keys, Authority::Owns).await.unwrap();
        let state = state(Arc::clone(&test.store), Arc::clone(&test.clock) as _, &settings);
        let (announcer, tail, streams) = (state.announcer.clone(), state.tail.clone(), state.streams.clone());
        Self { test, source, announcer, tail, streams, served: Served::start(router(state), settings).await }
    }

    /// The upstream is asked for the key and answers with this content.
    pub async fn gets(&self, key: &str, fields: &[(&'static str, &str)], body: &str) {
        self.sees(key, content(body, fields)).await;
    }

    /// The upstream is asked for the key, due or not, and this comes.
    pub async fn sees(&self, key: &str, seen: Seen) {
        let claim = self.claim(key).await;
        self.test.settle(&claim, seen).await;
        self.announcer.announce(Announcement::Settled([claim.resource].into()));
    }

    /// The same, where the upstream's terms are respected.
    pub async fn sees_respectfully(&self, key: &str, seen: Seen) {
        let claim = self.claim(key).await;
        let policy = Policy { cache_control: Heed::Respect, ..policy() };
        let settled = self.test.settled_by(&policy, &claim, seen, Via::default());
        self.test.store.apply(&[settled]).await.unwrap();
    }

    /// Leases the key's resource, due or not.
    pub async fn claim(&self, name: &str) -> Claim {
        let found = self.test.store.find(self.source.source, &[key(name)]).await.unwrap();
        let request = ClaimRequest {
            worker: "test".into(),
            upstream: self.source.upstream,
            at_most: 1,
            which: Selection::Resources(found.into_iter().flatten().collect()),
            due_by: Some(start() + TimeDelta::days(1000)),
            lease_for: LEASE,
            together: Together::new(),
        };
        self.test.store.claim(&request).await.unwrap().claims.remove(0)
    }

    /// Sends a GET for this path, which must be a valid one, with these header lines.
    pub async fn get(&self, path: &str, fields: &[&str]) -> Answer {
        self.ask("GET", path, fields).await
    }

    pub async fn ask(&self, method: &str, path: &str, fields: &[&str]) -> Answer {
        let lines = [&["Host: pond"], fields, &["", ""]].concat().join("\r\n");
        self.served.exchange(method, format!("{method} {path} HTTP/1.1\r\n{lines}")).await
    }

    /// Sends these bytes, which are a GET.
    pub async fn exchange(&self, request: &[u8]) -> Answer {
        self.served.exchange("GET", request).await
    }

    /// The head of what these bytes are answered with.
    pub async fn raw(&self, request: &[u8]) -> Answer {
        self.served.exchange("HEAD", request).await
    }

    /// What a JSON route answers.
    pub async fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path, &[]).await;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        assert_eq!(answer.field("content-type"), Some("application/json"), "{path}");
        // Only the pages of a list have an ETag, and are kept for it.
        let kept = if answer.field("etag").is_some() { "no-cache" } else { "no-store" };
        assert_eq!(answer.field("cache-control"), Some(kept), "{path}");
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// The address of a path, for other clients.
    pub fn address(&self, path: &str) -> String {
        format!("http://{}{path}", self.served.address)
    }
}

/// Serves what this store holds by that clock.
pub async fn serve(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: config::Server) -> Served {
    Served::start(router(state(store, clock, &settings)), settings).await
}

/// What these settings of a server say about reading `weather`.
pub fn reading(settings: &config::Server) -> Settings {
    Settings {
        sources: BTreeSet::from([SourceName::new("weather").unwrap()]),
        asked: std::collections::BTreeMap::new(),
        access: Access::of(settings, std::iter::empty()),
        cors: Cors::of(&settings.cors_origins),
        request_timeout: settings.request_timeout,
        upstreams: Upstreams::Asked,
        max_streams: settings.max_streams,
    }
}

/// What the handlers work with, over this store and by that clock.
pub fn state(store: Arc<dyn Store>, clock: Arc<dyn Clock>, settings: &config::Server) -> ApiState {
    ApiState {
        store,
        clock,
        announcer: Announcer::new(),
        settings: watch::channel(Arc::new(reading(settings))).1,
        waiting: Waiting::default(),
        tail: Tail::default(),
        streams: Streams::default(),
        demands: Demands::default(),
        reads: Arc::default(),
        stopping: CancellationToken::new(),
        metrics: None,
        reloads: mpsc::channel(1).0,
    }
}

/// The path of a key with everything encoded that may be.
pub fn path_of(key: &str) -> String {
    key.bytes().fold("/v1/weather/".to_owned(), |path, byte| format!("{path}%{byte:02X}"))
}

/// The same key in this parameter of its source.
pub fn query_of(parameter: &str, key: &str) -> String {
    key.bytes().fold(format!("/v1/weather?{parameter}="), |path, byte| format!("{path}%{byte:02X}"))
}
