//! Asking for a page, and reading what comes.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;

use super::Walking;
use crate::clock::monotonic;
use crate::domain::collection::{Page, Paginate, page};
use crate::domain::content::Unfit;
use crate::domain::failure::FailureKind;
use crate::domain::governor::Hearing;
use crate::domain::observation::{Observation, Seen};
use crate::domain::schedule::Because;
use crate::domain::time::later;
use crate::domain::validators::Validators;
use crate::refresh::flight::{LOOKED_AT_HERE, Ticket};
use crate::telemetry::metrics;
use crate::upstream::{Exchange, FetchRequest, Halt, TokenGate};

/// How often a token is waited for anew, and how long between: a walk that is broken off has done its requests in vain where
/// it can't go on later.
const WAITS: (u32, Duration) = (60, Duration::from_secs(5));

impl Walking<'_> {
    /// Asks for the page, and waits for a token, or for the end of a pause, as long as it takes. `None` when the lease is lost
    /// meanwhile.
    pub(super) async fn ask(&mut self, validators: Option<&Validators>) -> Result<Option<Observation>, Halt> {
        let url = self.walk.url();
        let validators = validators.filter(|validators| !validators.is_empty());
        let request = FetchRequest { url: &url, body: None, settings: &self.source.request, validators };
        for _ in 0..WAITS.0 {
            match self.exchange(&request).await {
                Err(Halt::Quiet(_)) | Ok((_, true)) if !self.ticket.stop.is_cancelled() => {}
                asked => return asked.map(|(observation, _)| Some(observation)),
            }
            let clock = &self.refresher.clock;
            let waited = clock.sleep_until(later(clock.now(), WAITS.1));
            _ = self.ticket.stop.run_until_cancelled(waited).await;
            let renewed = monotonic();
            if !self.refresher.store.renew(self.claim.token, self.lease_until()).await? {
                return Ok(None);
            }
            self.renewed = renewed;
        }
        self.exchange(&request).await.map(|(observation, _)| Some(observation))
    }

    /// Asks once, and says whether nothing was sent because there was no token in time.
    async fn exchange(&mut self, request: &FetchRequest<'_>) -> Result<(Observation, bool), Halt> {
        let gate = self.gate();
        let exchanged = self.refresher.fetchers.to(&self.source.upstream).exchange(request, &gate).await;
        self.said = self.said.and_then(gate.said());
        let Exchange { status, observation, .. } = exchanged?;
        let took = (observation.answered_at - observation.requested_at).to_std().unwrap_or_default();
        metrics::exchanged(&self.source.upstream, status.map(|status| status.as_u16()), took);
        self.has_token = false;
        let is_late =
            matches!(&observation.seen, Seen::Unreachable { failure } if failure.kind == FailureKind::Limited);
        Ok((observation, is_late && status.is_none()))
    }

    fn gate(&self) -> TokenGate {
        let Ticket { upstream, limits, lease_for, .. } = &self.ticket;
        let (store, clock) = (Arc::clone(&self.refresher.store), Arc::clone(&self.refresher.clock));
        let named = (*upstream, self.source.upstream.as_str());
        let gate = if self.has_token {
            TokenGate::for_claim(store, clock, named, limits, self.renewed, *lease_for)
        } else {
            TokenGate::for_page(store, clock, named, limits, self.renewed, *lease_for)
        };
        // What was waited for is the walk's first page.
        let has_waited = self.claim.previous.because == Because::RetryAfter && self.has_token;
        let hearing = Hearing { has_waited, ..self.source.policy.hearing(self.claim.source) };
        gate.listening(hearing, self.refresher.quiet.clone())
    }

    pub(super) fn lease_until(&self) -> DateTime<Utc> {
        later(self.refresher.clock.now(), self.ticket.lease_for)
    }

    /// Reads a page; on a thread for long work when it is large.
    pub(super) async fn read(&self, headers: &HeaderMap, body: bytes::Bytes) -> Result<Page, Unfit> {
        let mut read = if body.len() > LOOKED_AT_HERE {
            let (collection, source, headers) = (Arc::clone(self.collection), Arc::clone(self.source), headers.clone());
            let reading =
                tokio::task::spawn_blocking(move || page::read(&collection, &source.policy.body, &headers, &body));
            reading.await.unwrap_or_else(|error| {
                let detail = format!("looking at the page ended abnormally: {error}");
                Err(Unfit { kind: FailureKind::Unparsable, detail, body: None })
            })?
        } else {
            page::read(self.collection, &self.source.policy.body, headers, &body)?
        };
        if matches!(self.collection.paginate, Paginate::LinkHeader | Paginate::JsonLink { .. })
            && let Some(mut to) = read.next.as_deref().and_then(|link| self.walk.url().join(link).ok())
        {
            self.refresher.fetchers.to(&self.source.upstream).take_credentials_out_of(&mut to);
            read.next = Some(to.into());
        }
        Ok(read)
    }
}
