//! One request outside of the schedule: what `try` and `check --connect` ask. Nothing of the answer is stored.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use http::HeaderMap;
use secrecy::ExposeSecret;
use url::Url;

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};
use crate::clock::{Clock, SystemClock};
use crate::config::{Ask, Config, Source};
use crate::domain::collection::{Page, end, page};
use crate::domain::content::Unfit;
use crate::domain::decision::{Outcome, Previous, decide, put_off};
use crate::domain::failure::Failure;
use crate::domain::observation::Seen;
use crate::domain::resource::{Key, Params, ResourceId};
use crate::domain::schedule::Slot;
use crate::store::{self, Inspected, SchemaState, Store, StoreError};
use crate::upstream::{Exchange, FetchRequest, Fetcher, Gate, OpenGate, TokenGate};

/// What to ask of a source.
pub(super) struct Question<'c> {
    pub(super) source: &'c Source,
    key: Key,
    pub(super) ask: Ask,
}

/// What came, and what would follow if it were the first answer.
pub(super) struct Answer {
    pub(super) exchange: Exchange,
    /// What came besides the key's item, where one request asks for many.
    pub(super) odd: Option<String>,
    pub(super) outcome: Outcome,
    /// The first page of a collection, if one came.
    pub(super) page: Option<Page>,
}

impl<'c> Question<'c> {
    /// About a key: one of the configuration's, or, where the template needs no parameters, any; without one, the first.
    pub(super) fn about(source: &'c Source, key: Option<&str>) -> Result<Self, CliError> {
        if let Some(collection) = &source.collection {
            if let Some(key) = key {
                let why = format!("{} is a collection, which is asked for as a whole: leave {key:?} out", source.name);
                return Err(CliError::usage(why));
            }
            let base = source.url.expand(&Key::of_walk(), &Params::new());
            let base = base.map_err(|error| CliError::usage(format!("{}: {error}", source.name)))?;
            return Ok(Self {
                source,
                key: Key::of_walk(),
                ask: Ask { url: collection.url(&base, None, None), body: None },
            });
        }
        let (key, params) = named_key(source, key)?;
        let ask = source.ask(&key, &params).map_err(|error| CliError::usage(format!("key {key}: {error}")))?;
        Ok(Self { source, key, ask })
    }

    /// Asks, with a token of its upstream if someone counts them.
    pub(super) async fn ask(&self, config: &Config, counting: &Counting) -> Result<Answer, CliError> {
        let clock: Arc<dyn Clock> = match counting {
            Counting::By { clock, .. } => Arc::<SystemClock>::clone(clock),
            Counting::Nobody(_) => Arc::new(SystemClock::new()),
        };
        let fetcher = match config.upstreams.get(&self.source.upstream) {
            Some(upstream) => Fetcher::to(&self.source.upstream, upstream, Arc::clone(&clock)),
            None => Fetcher::new(Arc::clone(&clock)),
        };
        let fetcher = fetcher.map_err(|error| CliError::usage(error.to_string()))?;
        let gate = counting.gate(config, self.source).await?;
        let request = FetchRequest {
            url: &self.ask.url,
            body: self.ask.body.as_ref(),
            settings: &self.source.request,
            validators: None,
        };
        let exchange = fetcher.exchange(&request, gate.as_ref()).await;
        let exchange = exchange.map_err(|halt| CliError::failed(halt.to_string()))?;
        let keys = self.source.keys.len() as u64;
        let previous = Previous::nothing(Slot::of(ResourceId(1), keys, fastrand::u64(..)));
        let mut observation = exchange.observation.clone();
        let mut odd = None;
        if let Some(batch) = &self.source.batch {
            let shares = batch.shares(observation.seen.clone(), &[&self.key]);
            odd = shares.odd;
            observation.seen = shares.seen.into_iter().next().unwrap_or(observation.seen);
        }
        let policy = &self.source.policy;
        let page = match (&self.source.collection, &observation.seen) {
            (Some(collection), Seen::Content { headers, body }) => {
                Some(page::read(collection, &policy.body, headers, body))
            }
            _ => None,
        };
        let now = clock.now();
        let (outcome, page) = match page {
            Some(Err(Unfit { kind, detail, .. })) => {
                let failure = Failure { kind, status: Some(200), detail };
                (put_off(policy, &previous, (failure, &HeaderMap::new()), now, fastrand::f64()), None)
            }
            Some(Ok(page)) => (end::ended(policy, &previous, (None, None), now, fastrand::f64()), Some(page)),
            None => (decide(policy, &previous, observation, now, fastrand::f64()), None),
        };
        Ok(Answer { exchange, odd, outcome, page })
    }

    /// Its method and URL for people. The query is never shown, nor is a body, and the path only if all of the template is
    /// written in the configuration file: each may hold a secret.
    pub(super) fn shown(&self) -> String {
        let url = shown_url(&self.ask.url, self.source.url.has_secret_path());
        format!("{} {url}", self.source.request.method)
    }
}

impl Answer {
    /// Whether it would be stored.
    pub(super) fn exit(&self) -> Exit {
        let is_well = match &self.page {
            Some(page) => page.left_out.is_none(),
            None => matches!(self.outcome, Outcome::Replaced(_)),
        };
        if is_well { Exit::Well } else { Exit::Failed }
    }
}

/// In place of a path that nobody is shown.
pub(super) const HIDDEN_PATH: &str = "/…";

pub(super) fn shown_url(url: &Url, hides_path: bool) -> String {
    let path = if hides_path { HIDDEN_PATH } else { url.path() };
    format!("{}{path}", url.origin().ascii_serialization())
}

/// The key with its parameters.
fn named_key(source: &Source, key: Option<&str>) -> Result<(Key, Params), CliError> {
    let Some(key) = key else {
        let first = source.keys.first().cloned();
        return first.ok_or_else(|| CliError::usage(format!("source {} lists no keys: name one", source.name)));
    };
    if let Some(listed) = source.keys.iter().find(|(listed, _)| listed.as_str() == key) {
        return Ok(listed.clone());
    }
    let key = Key::new(key).map_err(|error| CliError::usage(format!("key {key:?}: {error}")))?;
    Ok((key, Params::new()))
}

/// Looks at the database.
pub(super) async fn inspect(config: &Config) -> Result<Inspected, StoreError> {
    store::inspect(config.database.url.expose_secret()).await
}

/// Who counts requests, so that the limits of upstreams hold for these too.
pub(super) enum Counting {
    /// The database.
    By { store: Arc<dyn Store>, clock: Arc<SystemClock> },
    /// Nobody, for this reason.
    Nobody(String),
}

impl Counting {
    /// The database, if it is there and up to date. It is neither made nor brought up to date for this.
    pub(super) async fn by(config: &Config, inspected: &Result<Inspected, StoreError>) -> Self {
        match inspected.as_ref().map(|inspected| inspected.schema) {
            Ok(SchemaState::UpToDate) => match assemble::store(config, Schema::AsItIs).await {
                Ok((store, clock)) => Self::By { store, clock },
                Err(error) => Self::Nobody(error.to_string()),
            },
            Ok(SchemaState::Absent) => Self::Nobody("there is no database yet".into()),
            Ok(SchemaState::Outdated) => Self::Nobody("the database is not up to date".into()),
            Err(error) => Self::Nobody(error.to_string()),
        }
    }

    /// By the database's clock, if there is one.
    pub(super) fn now(&self) -> DateTime<Utc> {
        match self {
            Self::By { clock, .. } => clock.now(),
            Self::Nobody(_) => SystemClock::new().now(),
        }
    }

    /// Why a request to the source's upstream is not counted, if it has a limit that would ask for it.
    pub(super) fn missing(&self, config: &Config, source: &Source) -> Option<&str> {
        let limits = &config.upstreams.get(&source.upstream)?.limits;
        match self {
            Self::Nobody(why) if limits.requests_per_second.is_some() => Some(why),
            _ => None,
        }
    }

    async fn gate(&self, config: &Config, source: &Source) -> Result<Box<dyn Gate>, CliError> {
        let (Self::By { store, clock }, Some(upstream)) = (self, config.upstreams.get(&source.upstream)) else {
            return Ok(Box::new(OpenGate));
        };
        let clock: Arc<dyn Clock> = Arc::<SystemClock>::clone(clock);
        Ok(match store.upstream(&source.upstream).await? {
            Some(id) => Box::new({
                let named = (id, source.upstream.as_str());
                TokenGate::for_one(Arc::clone(store), clock, named, &upstream.limits)
            }),
            // Nobody polls it yet.
            None => Box::new(OpenGate),
        })
    }

    /// Lets go of the database.
    pub(super) async fn close(self) {
        if let Self::By { store, .. } = self {
            store.close().await;
        }
    }
}
