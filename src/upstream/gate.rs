//! When a request may be sent: a token for each, and no request that would outlast its lease.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, StatusCode};

use super::{LONGEST_WAIT, Quiet, SETTLE};
use crate::clock::{Clock, monotonic};
use crate::domain::governor::{Hearing, Said};
use crate::domain::limit::Limits;
use crate::domain::resource::UpstreamId;
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::WaitsForGrant;

/// How often a token that came too late to be used is exchanged for another. On a database that takes longer than
/// the [send window](Limits::send_window) to commit every token is late; such a database can't grant fast enough to bunch requests by much, and
/// waiting for a punctual token would never end.
const LATE_TOKENS: u32 = 3;

/// Lets the requests of one exchange pass.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Returns when the first request may be sent, knowing that the exchange may take `timeout` from then on.
    async fn first(&self, timeout: Duration) -> Result<(), NoPass>;

    /// Returns when one more request may be sent, if that is before `deadline`.
    async fn hop(&self, deadline: Instant) -> Result<(), NoPass>;

    /// Hears what a request was answered, as soon as the header is there.
    fn hears(&self, status: StatusCode, headers: &HeaderMap) -> Advice {
        _ = (status, headers);
        Advice::default()
    }

    /// Hears that the body of the answer says that it was asked too often.
    fn hears_words(&self, status: StatusCode, headers: &HeaderMap) {
        _ = (status, headers);
    }
}

/// What follows from an answer's header for the rest of the exchange.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advice {
    /// Before when a redirect is not to be followed.
    pub follow_after: Option<DateTime<Utc>>,
    /// Whether it says that the upstream was asked too often.
    pub is_limit: bool,
}

/// Why a request may not be sent.
#[derive(Debug, thiserror::Error)]
pub enum NoPass {
    /// There is no token in time, or too little is left of the lease. A sentence that says so.
    #[error("{0}")]
    TooLate(String),
    /// The upstream wants to be left alone until then.
    #[error("the upstream wants to be left alone until {0}")]
    Quiet(DateTime<Utc>),
    /// The database could not be asked for a token.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an exchange came to no end that says anything about the resource.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The upstream wants to be left alone until then: what was asked for is to be asked for after that.
    #[error("the upstream wants to be left alone until {0}")]
    Quiet(DateTime<Utc>),
    /// The database could not be asked for a token: our own fault.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl NoPass {
    /// Why it was too late for the resource that was to be asked for; anything else says nothing about that.
    pub(super) fn too_late(self) -> Result<String, Halt> {
        match self {
            Self::TooLate(why) => Ok(why),
            Self::Quiet(until) => Err(Halt::Quiet(until)),
            Self::Store(error) => Err(Halt::Store(error)),
        }
    }
}

/// Lets everything pass: for requests that no limit is kept for.
#[derive(Debug, Clone, Copy)]
pub struct OpenGate;

#[async_trait]
impl Gate for OpenGate {
    async fn first(&self, _: Duration) -> Result<(), NoPass> {
        Ok(())
    }

    async fn hop(&self, _: Instant) -> Result<(), NoPass> {
        Ok(())
    }
}

/// Pays for requests with an upstream's tokens.
#[derive(Debug)]
pub struct TokenGate {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    upstream: UpstreamId,
    /// The upstream's name.
    name: String,
    /// The token that the claim brought along counts from here; `None` when there was no claim.
    granted: Option<Instant>,
    /// By when the exchange must be over; `None` is never.
    over_by: Option<Instant>,
    /// How old a token may be; its age doesn't matter where no rate is kept.
    window: Option<Duration>,
    /// Who listens to the answers.
    ears: Option<Ears>,
}

/// Listens to the answers of one exchange, for all who ask the upstream.
#[derive(Debug)]
struct Ears {
    quiet: Quiet,
    hearing: Hearing,
    // A std mutex: held for a look.
    said: Mutex<Said>,
}

impl TokenGate {
    /// A gate for a claimed resource. `granted` is the moment at which the database counted the token and the lease
    /// ([`Claim::granted_at`](crate::store::Claim::granted_at)), and `lease_for` is what the claim asked for.
    #[must_use]
    pub fn for_claim(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        upstream: (UpstreamId, &str),
        limits: &Limits,
        granted: Instant,
        lease_for: Duration,
    ) -> Self {
        let over_by = granted.checked_add(lease_for.saturating_sub(SETTLE));
        Self { granted: Some(granted), over_by, ..Self::for_one(store, clock, upstream, limits) }
    }

    /// A gate for one more exchange under a lease that was made longer at `renewed`, by which no token came along.
    #[must_use]
    pub fn for_page(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        upstream: (UpstreamId, &str),
        limits: &Limits,
        renewed: Instant,
        lease_for: Duration,
    ) -> Self {
        let over_by = renewed.checked_add(lease_for.saturating_sub(SETTLE));
        Self { over_by, ..Self::for_one(store, clock, upstream, limits) }
    }

    /// A gate for an exchange without a claim: its first request is paid for as all others are.
    #[must_use]
    pub fn for_one(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        upstream: (UpstreamId, &str),
        limits: &Limits,
    ) -> Self {
        let window = limits.is_counted().then(|| limits.send_window());
        let (upstream, name) = upstream;
        Self { store, clock, upstream, name: name.to_owned(), granted: None, over_by: None, window, ears: None }
    }

    /// The same, listening to the answers, and to what others were answered meanwhile.
    #[must_use]
    pub fn listening(self, hearing: Hearing, quiet: Quiet) -> Self {
        Self { ears: Some(Ears { quiet, hearing, said: Mutex::new(Said::Nothing) }), ..self }
    }

    /// What the answers said so far.
    #[must_use]
    pub fn said(&self) -> Said {
        self.ears.as_ref().map_or(Said::Nothing, |ears| *ears.said())
    }

    /// Notes what an answer says, for what follows in this exchange and in others.
    fn note(&self, ears: &Ears, heard: Said) {
        if let Some((covers, until)) = heard.quiet() {
            ears.quiet.note(self.upstream, covers, until);
        }
        let mut said = ears.said();
        *said = said.and_then(heard);
    }

    /// Says what of an answer's fields could not be heeded.
    fn tell_malformed(&self, hearing: &Hearing, headers: &HeaderMap, now: DateTime<Utc>) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let malformed = hearing.left(headers, now).malformed;
        if !malformed.is_empty() {
            let fields = malformed.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
            tracing::debug!(upstream = self.name, fields, "fields of an answer that make no sense are ignored");
        }
    }

    /// Whether nobody was asked to wait meanwhile.
    fn is_open(&self) -> Result<(), NoPass> {
        let Some(ears) = &self.ears else { return Ok(()) };
        let until = ears.quiet.until(self.upstream, Some(ears.hearing.source), self.clock.now());
        until.map_or(Ok(()), |until| Err(NoPass::Quiet(until)))
    }

    /// Looks once more whether the upstream wants to be left alone, and takes the request for sent if not.
    fn may_send(&self) -> Result<(), NoPass> {
        self.is_open()?;
        let Some(ears) = &self.ears else { return Ok(()) };
        let mut said = ears.said();
        if *said == Said::Nothing {
            *said = Said::Silence;
        }
        Ok(())
    }

    /// Whether a token from then may still be used.
    fn is_punctual(&self, granted: Instant) -> bool {
        self.window.is_none_or(|window| monotonic().saturating_duration_since(granted) <= window)
    }

    /// Takes a token, unless there is a pause: that there is none then is no failure of what waits for it.
    async fn take_or_wait(&self, deadline: Instant) -> Result<(), NoPass> {
        self.is_open()?;
        let taken = self.take(deadline).await;
        self.is_open()?;
        taken
    }

    /// Takes a token and returns in time to use it.
    async fn take(&self, deadline: Instant) -> Result<(), NoPass> {
        let _waits = WaitsForGrant::of(&self.name);
        for _ in 0..LATE_TOKENS {
            let asked = self.take_one(deadline).await?;
            if self.is_punctual(asked) {
                return Ok(());
            }
        }
        if monotonic() > deadline {
            return Err(NoPass::TooLate("the database takes too long to grant a request".into()));
        }
        tracing::warn!(window = ?self.window, "the database grants requests too slowly: limits can't be kept exactly");
        Ok(())
    }

    /// Takes a token, and says when the call began that brought it.
    async fn take_one(&self, deadline: Instant) -> Result<Instant, NoPass> {
        let began = monotonic();
        loop {
            let asked = monotonic();
            if asked > deadline {
                return Err(waited(began));
            }
            let Err(next_at) = self.store.take_token(self.upstream).await? else { return Ok(asked) };
            // A wait that can't end in time isn't begun: others could use this request's place.
            let wait = (next_at - self.clock.now()).to_std().unwrap_or_default();
            if wait > deadline.saturating_duration_since(monotonic()) {
                return Err(NoPass::TooLate(format!(
                    "no request may be sent for another {} by the upstream's limits, which is too late",
                    humantime::format_duration(whole_millis(wait))
                )));
            }
            if tokio::time::timeout_at(deadline.into(), self.clock.sleep_until(next_at)).await.is_err() {
                return Err(waited(began));
            }
        }
    }
}

#[async_trait]
impl Gate for TokenGate {
    async fn first(&self, timeout: Duration) -> Result<(), NoPass> {
        let now = monotonic();
        let spare = match self.over_by {
            Some(over_by) => over_by.saturating_duration_since(now).checked_sub(timeout),
            None => Some(LONGEST_WAIT),
        };
        let Some(spare) = spare else { return Err(waited(self.granted.unwrap_or(now))) };
        if !self.granted.is_some_and(|granted| self.is_punctual(granted)) {
            self.take_or_wait(now + spare).await?;
        }
        self.may_send()
    }

    async fn hop(&self, deadline: Instant) -> Result<(), NoPass> {
        self.take_or_wait(deadline).await?;
        self.may_send()
    }

    fn hears(&self, status: StatusCode, headers: &HeaderMap) -> Advice {
        let Some(ears) = &self.ears else { return Advice::default() };
        let (now, hearing) = (self.clock.now(), &ears.hearing);
        self.tell_malformed(hearing, headers, now);
        self.note(ears, hearing.of(status, headers, now));
        let follow_after = hearing.follow_after(status, headers, now);
        Advice { follow_after, is_limit: hearing.is_limit(status, headers, now) }
    }

    fn hears_words(&self, status: StatusCode, headers: &HeaderMap) {
        if let Some(ears) = &self.ears {
            self.note(ears, ears.hearing.of_words(status, headers, self.clock.now()));
        }
    }
}

impl Ears {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn waited(since: Instant) -> NoPass {
    NoPass::TooLate(format!(
        "waited for {} to be allowed to send, which leaves too little time for the request",
        humantime::format_duration(whole_millis(monotonic() - since))
    ))
}

fn whole_millis(span: Duration) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}
