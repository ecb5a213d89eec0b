//! A read API over a real store, whose contents come about as they do in production: by claims and decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use headpond::api::{ApiState, router};
use headpond::clock::{Clock, ManualClock};
use headpond::domain::decision::decide;
use headpond::domain::failure::{Failure, FailureKind};
use headpond::domain::limit::Limits;
use headpond::domain::observation::{Observation, Seen};
use headpond::domain::policy::{GoneRules, Policy};
use headpond::domain::resource::{Key, ResourceId, SourceName};
use headpond::domain::schedule::{Backoff, Cadence};
use headpond::store::{
    self, Claim, ClaimRequest, Fate, GoneBudget, Registered, Selection, Settled, SourceSpec, Store, StoreOptions,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tempfile::TempDir;

use super::serving::{Answer, Served, settings};

const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The database that a test runs on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Database {
    Sqlite,
}

/// One source, `weather`, refreshed every hour and stale after two; in a database of its own, served on a port of its own.
pub(crate) struct Pond {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) source: Registered,
    pub(crate) url: String,
    served: Served,
    _folder: TempDir,
}

impl Pond {
    pub(crate) async fn with_keys(database: Database, keys: &[&str]) -> Self {
        let Database::Sqlite = database;
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("pond.db").display());
        let clock = Arc::new(ManualClock::at(noon()));
        let options = StoreOptions { readers: 2, migrate: true, create: true };
        let store = store::connect(&url, &options, clock.clone()).await.unwrap();
        let source = register(store.as_ref(), keys).await;
        let served = Self::serve(store.clone(), clock.clone()).await;
        Self { store, clock, source, url, served, _folder: folder }
    }

    /// Serves what this store holds by that clock.
    pub(crate) async fn serve(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Served {
        let sources = Arc::new(BTreeSet::from([weather()]));
        Served::start(router(ApiState { store, clock, sources }), settings()).await
    }

    /// The upstream is asked for the key and answers with this content.
    pub(crate) async fn gets(&self, key: &str, fields: &[(&'static str, &str)], body: &str) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        self.sees(key, Seen::Content { headers, body: body.to_owned().into() }).await;
    }

    /// The upstream is asked for the key and answers with this status.
    pub(crate) async fn is_refused(&self, key: &str, status: StatusCode) {
        let kind = if status.is_server_error() { FailureKind::ServerError } else { FailureKind::NotFound };
        let failure =
            Failure { kind, status: Some(status.as_u16()), detail: format!("the upstream answered {status}") };
        self.sees(key, Seen::Refused { status, headers: HeaderMap::new(), failure }).await;
    }

    /// The upstream is asked for the key and can't be reached.
    pub(crate) async fn cannot_reach(&self, key: &str) {
        let failure = Failure { kind: FailureKind::Connect, status: None, detail: "connection refused".into() };
        self.sees(key, Seen::Unreachable { failure }).await;
    }

    pub(crate) async fn sees(&self, key: &str, seen: Seen) {
        let claim = self.claim(key).await;
        let now = self.clock.now();
        let conditional = claim.previous.validators().is_some();
        let observation = Observation { requested_at: now, answered_at: now, conditional, seen };
        let settled = Settled {
            token: claim.token,
            resource: claim.resource,
            requested_at: now,
            decided_at: now,
            outcome: decide(&policy(), &claim.previous, observation, now, 0.5),
            gone_budget: GoneBudget { share: 1.0, period: HOUR },
        };
        assert_eq!(self.store.apply(&[settled]).await.unwrap().fates, [Fate::Committed]);
    }

    /// Leases the key's resource for a minute, due or not.
    pub(crate) async fn claim(&self, key: &str) -> Claim {
        let request = ClaimRequest {
            worker: "test".into(),
            upstream: self.source.upstream,
            at_most: 1,
            which: Selection::Resources(vec![self.id(key).await]),
            due_by: Some(noon() + TimeDelta::days(1000)),
            lease_for: MINUTE,
        };
        self.store.claim(&request).await.unwrap().claims.pop().unwrap()
    }

    async fn id(&self, key: &str) -> ResourceId {
        let key = Key::new(key).unwrap();
        self.store.find(self.source.source, &[key]).await.unwrap().pop().unwrap().unwrap()
    }

    /// Sends a GET for this path, which must be a valid one, with these header lines.
    pub(crate) async fn get(&self, path: &str, fields: &[&str]) -> Answer {
        self.ask("GET", path, fields).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, fields: &[&str]) -> Answer {
        let lines = [&["Host: pond"], fields, &["", ""]].concat().join("\r\n");
        self.served.exchange(method, format!("{method} {path} HTTP/1.1\r\n{lines}")).await
    }

    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path, &[]).await;
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        assert_eq!(answer.field("content-type"), Some("application/json"), "{path}");
        assert_eq!(answer.field("cache-control"), Some("no-store"), "{path}");
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// The address of a path, for other clients.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("http://{}{path}", self.served.address)
    }
}

/// When tests begin.
pub(crate) fn noon() -> DateTime<Utc> {
    "2024-05-01T12:00:00Z".parse().unwrap()
}

/// The path of a key with everything encoded that may be.
pub(crate) fn path_of(key: &str) -> String {
    key.bytes().fold("/v1/weather/".to_owned(), |path, byte| format!("{path}%{byte:02X}"))
}

fn weather() -> SourceName {
    SourceName::new("weather").unwrap()
}

async fn register(store: &dyn Store, keys: &[&str]) -> Registered {
    let limits = Limits { requests_per_second: None, burst: 1, max_concurrent: 100 };
    let spec = SourceSpec { name: weather(), upstream: "metno".into(), limits };
    let registered = store.register(&[spec]).await.unwrap().pop().unwrap();
    let keys: Vec<_> = keys.iter().map(|key| (Key::new(*key).unwrap(), BTreeMap::new())).collect();
    store.add_keys(registered.source, &keys).await.unwrap();
    registered
}

fn policy() -> Policy {
    Policy {
        cadence: Cadence::Every(HOUR),
        jitter: Duration::ZERO,
        stale_after: None,
        freshness_cap: DAY,
        backoff: Backoff { initial: MINUTE, cap: HOUR },
        retry_after_cap: DAY,
        gone: GoneRules { after: 3, window: HOUR, recheck: DAY },
        ignore_changes_in: Vec::new(),
    }
}
