//! The access tokens of one upstream (RFC 6749 §4.4): one at a time, kept in memory, and asked for again in time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderValue;
use tokio::sync::{Mutex, OwnedMutexGuard};
use url::Url;

use super::super::gate::Gate;
use super::NoToken;
use super::answer::Given;
use super::endpoint::{Endpoint, Refusal};
use crate::clock::{Clock, monotonic};
use crate::domain::failure::{Failure, FailureKind};
use crate::domain::retry_after::retry_after;
use crate::domain::time::later;
use crate::telemetry::metrics;

/// How long before its end a token is replaced; one that lives less than five times as long, when a fifth is left.
const SPARE: Duration = Duration::from_secs(30);

/// The wait after a first failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that follows from failures.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The longest Retry-After that is obeyed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// How long a refused token is not replaced once more, after its predecessor was refused too.
const DOUBT: Duration = Duration::from_secs(60);

/// One upstream's tokens.
pub(in crate::upstream) struct Tokens {
    endpoint: Arc<Endpoint>,
    clock: Arc<dyn Clock>,
    // An async mutex, since it is held while the endpoint is asked: all others then wait for that one answer.
    state: Arc<Mutex<State>>,
    /// The latest token that the upstream took. Apart from the state, which may be held for seconds.
    taken: AtomicU64,
}

/// A token as it is sent.
#[derive(Clone)]
pub(in crate::upstream) struct AccessToken {
    /// The Authorization field, marked as sensitive.
    pub value: HeaderValue,
    /// The how many-th it is.
    number: u64,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// How many there have been.
    given: u64,
    trouble: Option<Trouble>,
    /// Until when a refusal brings no new token, unless the last one was good for something.
    doubted_until: Option<DateTime<Utc>>,
}

struct Held {
    token: AccessToken,
    renew_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
}

/// The endpoint did not give a token.
struct Trouble {
    failure: Failure,
    count: u32,
    /// It isn't asked before.
    until: DateTime<Utc>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("settings", &self.endpoint.settings).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(endpoint: Endpoint, clock: Arc<dyn Clock>) -> Self {
        Self { endpoint: Arc::new(endpoint), clock, state: Arc::default(), taken: AtomicU64::new(0) }
    }

    /// The token to send to `url` now.
    pub(super) async fn get(&self, url: &Url, gate: &dyn Gate) -> Result<AccessToken, NoToken> {
        let state = Arc::clone(&self.state).lock_owned().await;
        match state.usable(self.clock.now()) {
            Some(usable) => usable.map_err(NoToken::Failed),
            None => self.ask(state, url, gate).await,
        }
    }

    /// Another token after one was refused; `None` when a new one would probably be refused as well.
    pub(super) async fn another(
        &self,
        refused: &AccessToken,
        url: &Url,
        gate: &dyn Gate,
    ) -> Result<Option<AccessToken>, NoToken> {
        let mut state = Arc::clone(&self.state).lock_owned().await;
        let now = self.clock.now();
        if let Some(held) = &state.held
            && held.token.number > refused.number
        {
            return Ok(Some(held.token.clone()));
        }
        let is_doubted = self.taken.load(Ordering::Relaxed) < state.given;
        if is_doubted && state.doubted_until.is_some_and(|until| now < until) {
            return Ok(None);
        }
        state.doubted_until = Some(later(now, DOUBT));
        state.held = None;
        if let Some(Err(failure)) = state.usable(now) {
            return Err(NoToken::Failed(failure));
        }
        self.ask(state, url, gate).await.map(Some)
    }

    /// Notes that a token was good for something.
    pub(super) fn was_taken(&self, token: &AccessToken) {
        self.taken.fetch_max(token.number, Ordering::Relaxed);
    }

    /// Asks the endpoint. Where it is on the upstream's own origin, its request is one of those that the limits count.
    async fn ask(&self, state: OwnedMutexGuard<State>, url: &Url, gate: &dyn Gate) -> Result<AccessToken, NoToken> {
        if self.endpoint.settings.token_url.origin() == url.origin() {
            gate.hop(monotonic() + self.endpoint.timeout).await.map_err(NoToken::NoPass)?;
        }
        let (endpoint, clock) = (Arc::clone(&self.endpoint), Arc::clone(&self.clock));
        // In a task of its own: whoever asks may be out of time before the answer comes, and others wait for it too.
        let asking = tokio::spawn(ask_for(endpoint, state, clock));
        asking.await.unwrap_or_else(|_| Err(failure("asking for it ended abnormally"))).map_err(NoToken::Failed)
    }
}

impl State {
    /// What there is without asking: a token, or the reason why nobody asks now.
    fn usable(&self, now: DateTime<Utc>) -> Option<Result<AccessToken, Failure>> {
        let waiting = self.trouble.as_ref().filter(|trouble| now < trouble.until);
        match (&self.held, waiting) {
            (Some(held), _) if now < held.renew_at => Some(Ok(held.token.clone())),
            // It could not be renewed in time, and is good for a while yet.
            (Some(held), Some(_)) if now < held.ends_at => Some(Ok(held.token.clone())),
            (_, Some(trouble)) => Some(Err(trouble.failure.clone())),
            _ => None,
        }
    }

    fn give(&mut self, given: Given, asked_at: DateTime<Utc>) -> AccessToken {
        self.given += 1;
        let token = AccessToken { value: given.value, number: self.given };
        let spare = SPARE.min(given.life / 5);
        self.held = Some(Held {
            token: token.clone(),
            renew_at: later(asked_at, given.life.saturating_sub(spare)),
            ends_at: later(asked_at, given.life),
        });
        self.trouble = None;
        token
    }

    /// Notes a failure. The last token is used until its end if there is one.
    fn fail(&mut self, refusal: &Refusal, now: DateTime<Utc>) -> Result<AccessToken, Failure> {
        let count = self.trouble.as_ref().map_or(0, |trouble| trouble.count);
        let wait = FIRST_WAIT.saturating_mul(1 << count.min(6)).min(LONGEST_WAIT);
        let until = retry_after(&refusal.headers, now, LONGEST_RETRY_AFTER).unwrap_or_default().max(later(now, wait));
        let failure = failure(&refusal.detail);
        self.trouble = Some(Trouble { failure: failure.clone(), count: count.saturating_add(1), until });
        self.usable(now).unwrap_or(Err(failure))
    }
}

/// Asks, and puts what comes into the state, which nobody else sees meanwhile.
async fn ask_for(
    endpoint: Arc<Endpoint>,
    mut state: OwnedMutexGuard<State>,
    clock: Arc<dyn Clock>,
) -> Result<AccessToken, Failure> {
    let asked_at = clock.now();
    let answered = endpoint.ask().await;
    metrics::asked_for_token(&endpoint.upstream, answered.is_ok());
    match answered {
        Ok(given) => {
            tracing::debug!(upstream = endpoint.upstream, life = ?given.life, "a new access token");
            Ok(state.give(given, asked_at))
        }
        Err(refusal) => {
            tracing::warn!(upstream = endpoint.upstream, why = refusal.detail, "no access token");
            state.fail(&refusal, clock.now())
        }
    }
}

fn failure(why: &str) -> Failure {
    let detail = format!("no access token could be had of the token endpoint: {why}");
    Failure { kind: FailureKind::Credentials, status: None, detail }
}
