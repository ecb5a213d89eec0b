//! One exchange with an upstream, from the gate to the last byte.

mod seen;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Method, Request, Response};
use url::Url;

use self::seen::{left_for_later, not_reached, refused, speaks_of_the_resource, without_token};
use super::auth::{Auth, Shown};
use super::client::{BadClient, Clients};
use super::gate::{Gate, Halt};
use super::progress::{Phase, Progress};
use super::{body, redirect, request, trouble};
use crate::clock::{Clock, monotonic};
use crate::config::{RedirectHost, RequestSettings, Transport, Upstream};
use crate::domain::failure::{Failure, FailureKind};
use crate::domain::governor::is_redirect;
use crate::domain::observation::{Observation, Seen, Via};
use crate::domain::validators::Validators;

/// Sends the requests of one upstream, and keeps its connections.
#[derive(Debug, Clone)]
pub struct Fetcher {
    clients: Clients,
    auth: Auth,
    clock: Arc<dyn Clock>,
}

/// What to ask, and how.
#[derive(Clone, Copy)]
pub struct FetchRequest<'a> {
    /// Where the resource is. Redirects are followed within its origin, and to the hosts that the settings name.
    pub url: &'a Url,
    /// What is sent along, if anything is.
    pub body: Option<&'a Bytes>,
    /// Method, header fields, deadline and cap.
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
    /// The origin that it led to, if that is another one.
    pub origin: Option<String>,
    /// The path that it led to; without its query, which may hold a secret.
    pub path: String,
}

impl Fetcher {
    /// Sets up a plain HTTP client: directly, and without credentials.
    ///
    /// # Errors
    /// [`BadClient`] when this machine's network library can't be set up.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, BadClient> {
        Ok(Self { clients: Clients::new(&Transport::default())?, auth: Auth::Fixed(Shown::Nothing), clock })
    }

    /// For the upstream of this name alone, with clients of its own.
    ///
    /// # Errors
    /// [`BadClient`] when the network library can't be set up as the upstream says.
    pub fn to(name: &str, upstream: &Upstream, clock: Arc<dyn Clock>) -> Result<Self, BadClient> {
        let clients = Clients::new(&upstream.transport).map_err(|error| error.of_upstream(name))?;
        Ok(Self::with(clients, name, upstream, clock))
    }

    /// For the upstream of this name.
    pub(super) fn with(clients: Clients, name: &str, upstream: &Upstream, clock: Arc<dyn Clock>) -> Self {
        let auth = Auth::new(name, upstream, &clients.own, &clock);
        Self { clients, auth, clock }
    }

    /// Asks for a resource. Whatever the upstream or the network does is in the observation.
    ///
    /// # Errors
    /// [`Halt`] when the gate could not ask the database, or lets nobody pass for now: that says nothing about the resource.
    /// Nothing was sent then, or a redirect was left unfollowed.
    pub async fn fetch(&self, request: &FetchRequest<'_>, gate: &dyn Gate) -> Result<Observation, Halt> {
        Ok(self.exchange(request, gate).await?.observation)
    }

    /// As [`fetch`](Self::fetch), with what was sent and how it went.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub async fn exchange(&self, request: &FetchRequest<'_>, gate: &dyn Gate) -> Result<Exchange, Halt> {
        // On a POST, If-None-Match would mean "do it only if there is none" (RFC 9110 §13.1.2).
        let validators = request.validators.filter(|_| request.settings.method == Method::GET);
        let sent = request::headers(request.settings, validators);
        let shown = match self.auth.shown(request.url, gate).await {
            Ok(shown) => shown,
            Err(none) => return Ok(self.not_begun(sent, without_token(none)?)),
        };
        let passed = gate.first(request.settings.timeout).await;
        let requested_at = self.clock.now();
        let mut going = Going::new(self, request, gate, sent, shown);
        let seen = match passed {
            Ok(()) => match tokio::time::timeout_at(going.deadline.into(), going.run()).await {
                Ok(seen) => seen?,
                Err(_) => going.timed_out(request.settings.timeout),
            },
            Err(no_pass) => not_reached(FailureKind::Limited, None, no_pass.too_late()?),
        };
        let Going { redirects, status, mut sent, shown, .. } = going;
        let conditional = request::is_conditional(&sent);
        shown.put_into(&mut request.url.clone(), &mut sent);
        let via = Via {
            authorized: sent.contains_key(header::AUTHORIZATION),
            transformed: status == Some(StatusCode::NON_AUTHORITATIVE_INFORMATION),
            moved_to: redirect::moved_to(&redirects),
        };
        let observation = Observation { requested_at, answered_at: self.clock.now(), conditional, seen, via };
        tracing::debug!(status = status.map(|status| status.as_u16()), redirects = redirects.len(), "exchange over");
        Ok(Exchange { sent, redirects, status, observation })
    }

    /// Takes the credentials out of a URL that the upstream sent, where these are a part of URLs: they are put in again with the
    /// request, and belong into no database.
    pub fn take_credentials_out_of(&self, url: &mut Url) {
        self.auth.take_out_of(url);
    }

    /// An exchange of which nothing was sent.
    fn not_begun(&self, sent: HeaderMap, seen: Seen) -> Exchange {
        let now = self.clock.now();
        let conditional = request::is_conditional(&sent);
        let observation = Observation { requested_at: now, answered_at: now, conditional, seen, via: Via::default() };
        Exchange { sent, redirects: Vec::new(), status: None, observation }
    }
}

/// An exchange under way. It outlives a timeout, so that it can tell how far it came.
struct Going<'a> {
    fetcher: &'a Fetcher,
    gate: &'a dyn Gate,
    sent: HeaderMap,
    /// What is shown besides, at each hop on the first one's origin.
    shown: Shown,
    /// Whether a redirect led to another origin. From then on nothing is shown, also if another one leads back.
    is_elsewhere: bool,
    /// The other origins that redirects may lead to.
    redirect_hosts: &'a [RedirectHost],
    /// What the body of a refusal says that is a limit.
    limit_phrases: &'a [String],
    /// Whether that is no longer what it was at first.
    shown_anew: bool,
    method: Method,
    /// What is sent along, and its type.
    content: Option<(Bytes, HeaderValue)>,
    max_body: u64,
    deadline: Instant,
    progress: Progress,
    url: Url,
    earlier: Vec<Url>,
    redirects: Vec<Hop>,
    status: Option<StatusCode>,
}

/// What follows from an answer.
enum Next {
    /// One more request, which is prepared.
    Send,
    /// The end.
    Over(Seen),
}

impl<'a> Going<'a> {
    /// An exchange whose first request may be sent now.
    fn new(
        fetcher: &'a Fetcher,
        request: &FetchRequest<'a>,
        gate: &'a dyn Gate,
        sent: HeaderMap,
        shown: Shown,
    ) -> Self {
        Self {
            fetcher,
            gate,
            sent,
            shown,
            is_elsewhere: false,
            redirect_hosts: &request.settings.redirect_hosts,
            limit_phrases: &request.settings.limit_phrases,
            shown_anew: false,
            method: request.settings.method.clone(),
            content: request.body.cloned().zip(request.settings.body.as_ref().map(|body| body.content_type.clone())),
            max_body: request.settings.max_body,
            deadline: after(request.settings.timeout),
            progress: Progress::default(),
            url: request.url.clone(),
            earlier: Vec::new(),
            redirects: Vec::new(),
            status: None,
        }
    }

    /// Sends requests until one is answered by something else than a redirect that can be followed.
    async fn run(&mut self) -> Result<Seen, Halt> {
        loop {
            let response = match self.send().await {
                Ok(response) => response,
                Err(failure) => return Ok(Seen::Unreachable { failure }),
            };
            self.status = Some(response.status());
            let advice = self.gate.hears(response.status(), response.headers());
            self.progress.is_now(Phase::Body);
            let (next, at) = if response.status() == StatusCode::UNAUTHORIZED {
                (self.show_another(response).await?, "after a 401")
            } else {
                if !self.is_elsewhere && speaks_of_the_resource(response.status()) {
                    self.fetcher.auth.was_taken(&self.shown);
                }
                if !is_redirect(response.status()) {
                    return Ok(self.take(response, advice.is_limit).await);
                }
                if let Some(until) = advice.follow_after {
                    return Ok(left_for_later(response, until, self.deadline).await);
                }
                (self.follow(response).await, "at a redirect")
            };
            if let Next::Over(seen) = next {
                return Ok(seen);
            }
            self.progress.is_now(Phase::Token);
            if let Err(no_pass) = self.gate.hop(self.deadline).await {
                let detail = format!("{at}: {}", no_pass.too_late()?);
                return Ok(not_reached(FailureKind::Limited, self.status, detail));
            }
        }
    }

    /// Sends one request, and returns when the header of the answer is there.
    async fn send(&self) -> Result<Response, Failure> {
        if let Some(guard) = &self.fetcher.clients.guard {
            guard.check(&self.url).map_err(|why| trouble::blocked(&why))?;
        }
        let mut url = self.url.clone();
        let (client, mut headers) = if self.is_elsewhere {
            (&self.fetcher.clients.elsewhere, request::for_elsewhere(&self.sent))
        } else {
            let mut headers = self.sent.clone();
            self.shown.put_into(&mut url, &mut headers);
            (&self.fetcher.clients.own, headers)
        };
        let is_tls = url.scheme() == "https";
        let mut request = Request::new(self.method.clone(), url);
        if let Some((body, content_type)) = &self.content {
            headers.insert(header::CONTENT_TYPE, content_type.clone());
            *request.body_mut() = Some(body.clone().into());
        } else if self.method == Method::POST {
            // RFC 9110 §8.6: a POST without content says so.
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        *request.headers_mut() = headers;
        let sending = self.progress.watch(client.execute(request));
        sending.await.map_err(|error| trouble::without_answer(error, is_tls))
    }

    /// Goes where a redirect leads.
    async fn follow(&mut self, mut response: Response) -> Next {
        body::drain(&mut response, self.deadline).await;
        let mut to = match redirect::target(&self.url, response.headers()) {
            Ok(to) => to,
            Err(detail) => return Next::Over(refused(&mut response, FailureKind::Redirect, detail)),
        };
        self.shown.take_out_of(&mut to);
        if let Err(detail) = redirect::may_follow(&self.url, &self.earlier, &to, self.redirect_hosts) {
            return Next::Over(refused(&mut response, FailureKind::Redirect, detail));
        }
        if response.status() == StatusCode::SEE_OTHER {
            // RFC 9110 §15.4.4: what a POST brought about is there to be read. All others mean the same request again.
            (self.method, self.content) = (Method::GET, None);
        }
        if to.origin() != self.url.origin() {
            if self.content.is_some() {
                let detail = "the upstream redirects a request with a body to another origin, which is not sent there";
                return Next::Over(refused(&mut response, FailureKind::Redirect, detail.into()));
            }
            self.is_elsewhere = true;
        }
        let origin = (to.origin() != self.url.origin()).then(|| to.origin().ascii_serialization());
        self.redirects.push(Hop { status: response.status(), origin, path: to.path().to_owned() });
        self.earlier.push(std::mem::replace(&mut self.url, to));
        Next::Send
    }

    /// Has something else to show after a 401, once.
    async fn show_another(&mut self, mut response: Response) -> Result<Next, Halt> {
        if !self.shown_anew && !self.is_elsewhere {
            self.progress.is_now(Phase::Credentials);
            match self.fetcher.auth.after(&self.shown, &self.url, self.gate).await {
                Ok(None) => {}
                Ok(Some(shown)) => {
                    body::drain(&mut response, self.deadline).await;
                    (self.shown, self.shown_anew) = (shown, true);
                    return Ok(Next::Send);
                }
                Err(none) => return Ok(Next::Over(without_token(none)?)),
            }
            self.progress.is_now(Phase::Body);
        }
        Ok(Next::Over(self.take(response, false).await))
    }

    /// What the last answer is, its body read if it is wanted.
    async fn take(&self, mut response: Response, is_limit: bool) -> Seen {
        let status = response.status();
        let is_limit = self.speaks_of_a_limit(&mut response).await || is_limit;
        let (kind, what) = match status.as_u16() {
            403 if is_limit => (FailureKind::RateLimited, "the upstream says that it was asked too often"),
            200 | 203 => return self.content(response).await,
            304 => return Seen::NotModified { headers: std::mem::take(response.headers_mut()) },
            404 => (FailureKind::NotFound, "the upstream says that there is no such resource"),
            410 => (FailureKind::NotFound, "the upstream says that the resource is gone"),
            429 => (FailureKind::RateLimited, "the upstream says that it was asked too often"),
            401 if self.shown_anew && !self.is_elsewhere => {
                (FailureKind::ClientError, "the upstream refused a new access token too")
            }
            400..=499 => (FailureKind::ClientError, "the upstream refused the request"),
            500..=599 => (FailureKind::ServerError, "the upstream failed to answer"),
            _ => (FailureKind::UnexpectedStatus, "the upstream answered with a status that has no meaning here"),
        };
        body::drain(&mut response, self.deadline).await;
        refused(&mut response, kind, format!("{what} ({})", status.as_u16()))
    }

    /// Whether the body of a refusal says that it is a limit.
    async fn speaks_of_a_limit(&self, response: &mut Response) -> bool {
        let status = response.status();
        let may_be = matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
        if !may_be || self.limit_phrases.is_empty() {
            return false;
        }
        let text = body::beginning(response, self.deadline).await;
        let text = String::from_utf8_lossy(&text).to_lowercase();
        let speaks = self.limit_phrases.iter().any(|phrase| text.contains(phrase));
        if speaks {
            self.gate.hears_words(status, response.headers());
        }
        speaks
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

/// The moment that comes after this span; for spans beyond any clock, a day from now.
fn after(span: Duration) -> Instant {
    let now = monotonic();
    now.checked_add(span).unwrap_or(now + Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests;
