//! One exchange with an upstream, from the gate to the last byte.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode, header};
use reqwest::{Client, Method, Request, Response};
use url::Url;

use super::client::{self, BadClient};
use super::gate::{Gate, NoPass};
use super::progress::{Phase, Progress};
use super::{body, redirect, request, trouble};
use crate::clock::{Clock, monotonic};
use crate::config::RequestSettings;
use crate::domain::failure::{Failure, FailureKind};
use crate::domain::observation::{Observation, Seen, Via};
use crate::domain::validators::Validators;
use crate::store::StoreError;

/// Sends requests. One per process: it keeps the connections to all upstreams.
#[derive(Debug, Clone)]
pub struct Fetcher {
    client: Client,
    clock: Arc<dyn Clock>,
}

/// What to ask, and how.
#[derive(Clone, Copy)]
pub struct FetchRequest<'a> {
    /// Where the resource is. Redirects are followed within its origin only.
    pub url: &'a Url,
    /// Header fields, deadline and cap.
    pub settings: &'a RequestSettings,
    /// What makes it conditional, if anything was kept.
    pub validators: Option<&'a Validators>,
}

impl fmt::Debug for FetchRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL's path and query may hold a secret.
        let origin = self.url.origin().ascii_serialization();
        f.debug_struct("FetchRequest").field("origin", &origin).field("settings", self.settings).finish_non_exhaustive()
    }
}

/// An exchange with what a person wants to see of it besides its result.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The fields that were sent with each hop; secret ones are marked as sensitive (see [`shown`](super::shown)).
    pub sent: HeaderMap,
    /// The answers that led elsewhere.
    pub redirects: Vec<Hop>,
    /// The status of the last answer, if one came.
    pub status: Option<StatusCode>,
    /// The result.
    pub observation: Observation,
}

/// A redirect that was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The status that sent us on.
    pub status: StatusCode,
    /// The path that it led to, on the same origin; without its query, which may hold a secret.
    pub path: String,
}

impl Fetcher {
    /// Sets up the HTTP client.
    ///
    /// # Errors
    /// [`BadClient`] when this machine's network library can't be set up.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, BadClient> {
        Self::trusting(clock, &[])
    }

    /// Sets up the HTTP client to trust these certificates (PEM) besides the machine's authorities.
    ///
    /// # Errors
    /// [`BadClient`] when one isn't a certificate.
    pub fn trusting(clock: Arc<dyn Clock>, certificates: &[Vec<u8>]) -> Result<Self, BadClient> {
        Ok(Self { client: client::build(certificates)?, clock })
    }

    /// Asks for a resource. Whatever the upstream or the network does is in the observation.
    ///
    /// # Errors
    /// [`StoreError`] when the gate could not ask the database: our own fault, which says nothing about the resource.
    /// Nothing was sent then, or a redirect was left unfollowed.
    pub async fn fetch(&self, request: &FetchRequest<'_>, gate: &dyn Gate) -> Result<Observation, StoreError> {
        Ok(self.exchange(request, gate).await?.observation)
    }

    /// As [`fetch`](Self::fetch), with what was sent and how it went.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub async fn exchange(&self, request: &FetchRequest<'_>, gate: &dyn Gate) -> Result<Exchange, StoreError> {
        let timeout = request.settings.timeout;
        let sent = request::headers(request.settings, request.validators);
        let passed = gate.first(timeout).await;
        let requested_at = self.clock.now();
        let mut going = Going {
            client: &self.client,
            gate,
            sent: &sent,
            max_body: request.settings.max_body,
            deadline: after(timeout),
            progress: Progress::default(),
            url: request.url.clone(),
            earlier: Vec::new(),
            redirects: Vec::new(),
            status: None,
        };
        let seen = match passed {
            Ok(()) => match tokio::time::timeout_at(going.deadline.into(), going.run()).await {
                Ok(seen) => seen?,
                Err(_) => going.timed_out(timeout),
            },
            Err(NoPass::TooLate(detail)) => not_reached(FailureKind::Limited, None, detail),
            Err(NoPass::Store(error)) => return Err(error),
        };
        let Going { redirects, status, .. } = going;
        let conditional = request::is_conditional(&sent);
        let via = Via {
            authorized: sent.contains_key(header::AUTHORIZATION),
            transformed: status == Some(StatusCode::NON_AUTHORITATIVE_INFORMATION),
            moved_to: redirect::moved_to(&redirects).map(str::to_owned),
        };
        let observation = Observation { requested_at, answered_at: self.clock.now(), conditional, seen, via };
        tracing::debug!(status = status.map(|status| status.as_u16()), redirects = redirects.len(), "exchange over");
        Ok(Exchange { sent, redirects, status, observation })
    }
}

/// An exchange under way. It outlives a timeout, so that it can tell how far it came.
struct Going<'a> {
    client: &'a Client,
    gate: &'a dyn Gate,
    sent: &'a HeaderMap,
    max_body: u64,
    deadline: Instant,
    progress: Progress,
    url: Url,
    earlier: Vec<Url>,
    redirects: Vec<Hop>,
    status: Option<StatusCode>,
}

impl Going<'_> {
    /// Sends requests until one is answered by something else than a redirect that can be followed.
    async fn run(&mut self) -> Result<Seen, StoreError> {
        loop {
            let mut response = match self.send().await {
                Ok(response) => response,
                Err(failure) => return Ok(Seen::Unreachable { failure }),
            };
            self.status = Some(response.status());
            self.progress.is_now(Phase::Body);
            if !redirect::is_redirect(response.status()) {
                return Ok(self.take(response).await);
            }
            body::drain(&mut response, self.deadline).await;
            let to = match redirect::next(&self.url, &self.earlier, response.headers()) {
                Ok(to) => to,
                Err(detail) => return Ok(refused(&mut response, FailureKind::Redirect, detail)),
            };
            self.redirects.push(Hop { status: response.status(), path: to.path().to_owned() });
            self.earlier.push(std::mem::replace(&mut self.url, to));
            self.progress.is_now(Phase::Token);
            match self.gate.hop(self.deadline).await {
                Ok(()) => {}
                Err(NoPass::TooLate(detail)) => {
                    return Ok(not_reached(FailureKind::Limited, self.status, format!("at a redirect: {detail}")));
                }
                Err(NoPass::Store(error)) => return Err(error),
            }
        }
    }

    /// Sends one request, and returns when the header of the answer is there.
    async fn send(&self) -> Result<Response, Failure> {
        let mut request = Request::new(Method::GET, self.url.clone());
        request.headers_mut().clone_from(self.sent);
        let is_tls = self.url.scheme() == "https";
        let sending = self.progress.watch(self.client.execute(request));
        sending.await.map_err(|error| trouble::without_answer(error, is_tls))
    }

    /// What the last answer is, its body read if it is wanted.
    async fn take(&self, mut response: Response) -> Seen {
        let status = response.status();
        let (kind, what) = match status.as_u16() {
            200 | 203 => return self.content(response).await,
            304 => return Seen::NotModified { headers: std::mem::take(response.headers_mut()) },
            404 => (FailureKind::NotFound, "the upstream says that there is no such resource"),
            410 => (FailureKind::NotFound, "the upstream says that the resource is gone"),
            429 => (FailureKind::RateLimited, "the upstream says that it was asked too often"),
            400..=499 => (FailureKind::ClientError, "the upstream refused the request"),
            500..=599 => (FailureKind::ServerError, "the upstream failed to answer"),
            _ => (FailureKind::UnexpectedStatus, "the upstream answered with a status that has no meaning here"),
        };
        body::drain(&mut response, self.deadline).await;
        refused(&mut response, kind, format!("{what} ({})", status.as_u16()))
    }

    async fn content(&self, mut response: Response) -> Seen {
        match body::read(&mut response, self.max_body).await {
            Ok(body) => Seen::Content { headers: std::mem::take(response.headers_mut()), body },
            Err(failure) if failure.kind == FailureKind::TooLarge => {
                refused(&mut response, failure.kind, failure.detail)
            }
            Err(failure) => Seen::Unreachable { failure },
        }
    }

    fn timed_out(&self, timeout: Duration) -> Seen {
        let limit = humantime::format_duration(timeout);
        let detail = format!("the timeout of {limit} passed {}", self.progress.phase());
        not_reached(FailureKind::Timeout, self.status, detail)
    }
}

fn refused(response: &mut Response, kind: FailureKind, detail: String) -> Seen {
    let status = response.status();
    let failure = Failure { kind, status: Some(status.as_u16()), detail };
    Seen::Refused { status, headers: std::mem::take(response.headers_mut()), failure }
}

fn not_reached(kind: FailureKind, status: Option<StatusCode>, detail: String) -> Seen {
    Seen::Unreachable { failure: Failure { kind, status: status.map(|status| status.as_u16()), detail } }
}

/// The moment that comes after this span; for spans beyond any clock, a day from now.
fn after(span: Duration) -> Instant {
    let now = monotonic();
    now.checked_add(span).unwrap_or(now + Duration::from_secs(86_400))
}
