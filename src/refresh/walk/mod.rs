//! One claim of a collection: from page to page, each of which is stored before the next is asked for.

mod ask;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use http::HeaderMap;

use super::Refresher;
use super::committer::{Committer, Decided};
use super::flight::{Ticket, granted};
use super::tally::{Verdict, Walked};
use super::turns;
use crate::announce::Announcement;
use crate::clock::monotonic;
use crate::config::Source;
use crate::domain::collection::{Collection, Kind, Page, Paginate, Remembered, Turn, UnderWay, Walk, end};
use crate::domain::decision::{Outcome, put_off};
use crate::domain::failure::{Failure, FailureKind};
use crate::domain::governor::{self, Said};
use crate::domain::observation::{Observation, Seen};
use crate::domain::resource::Params;
use crate::domain::schedule::{Because, Due, NEVER};
use crate::domain::validators::Validators;
use crate::store::{
    Claim, Ended, GoneBudget, HowItEnded, Missing, PageContent, PageFate, StoreError, WalkEnd, WalkLease, WalkPage,
    held_back,
};
use crate::upstream::Halt;

/// How long to wait before trying to store again what could not be stored for a passing reason, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Walks a claimed collection, and waits for the commit of its end.
///
/// # Errors
/// When the store failed for other reasons than that it is away for a while; the lease then runs out by itself.
pub(super) async fn fly(
    refresher: &Refresher,
    committer: &Committer,
    source: Arc<Source>,
    claim: Claim,
    ticket: Ticket,
) -> Result<Verdict, StoreError> {
    let claim = Arc::new(claim);
    let Some(collection) = source.collection.clone().filter(|_| claim.key.is_of_walk()) else {
        // A member, or the walk of what was a collection once: neither is ever asked for by itself.
        let outcome = Outcome::Reset { due: Due { at: NEVER, because: Because::Walk } };
        let signal = source.policy.hearing(claim.source).signal(Said::Nothing);
        let decided = Decided { at: refresher.clock.now(), outcome, signal };
        return Ok(committer.settle(claim, source, decided).await);
    };
    let mut walking = Walking::begin(refresher, &source, &collection, &claim, ticket).await?;
    let end = walking.walk_on().await?;
    let (mut walked, said) = (walking.walked, walking.said);
    match end {
        End::Settled(outcome) => {
            walked.failure = failure_of(&outcome);
            let signal = source.policy.hearing(claim.source).signal(said);
            let decided = Decided { at: refresher.clock.now(), outcome: *outcome, signal };
            Ok(match committer.settle(claim, source, decided).await {
                Verdict::Unchanged | Verdict::Failed(_) => Verdict::Walked(walked),
                other => other,
            })
        }
        End::Stopped => {
            refresher.store.release(&[(claim.token, claim.resource)]).await?;
            Ok(Verdict::Walked(walked))
        }
        End::Lost => Ok(Verdict::Lost),
    }
}

fn failure_of(outcome: &Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Deferred(deferral) => Some(deferral.failing.last.clone()),
        _ => None,
    }
}

/// How a walk ends.
enum End {
    /// With what follows for it.
    Settled(Box<Outcome>),
    /// It was told to stop. It goes on with the next claim.
    Stopped,
    /// Another worker has it by now.
    Lost,
}

/// What follows a page.
enum Then {
    Next,
    /// The same once more, without conditions.
    Again,
    End(End),
}

/// A walk under way.
struct Walking<'a> {
    refresher: &'a Refresher,
    source: &'a Arc<Source>,
    collection: &'a Arc<Collection>,
    claim: &'a Claim,
    ticket: Ticket,
    lease: WalkLease,
    walk: Walk<'a>,
    /// From which time on changes were asked for before.
    since: Option<String>,
    /// How many members the last walk of all held back.
    held: u64,
    /// When the lease was last made longer, and whether the claim's own token is still to be used.
    renewed: Instant,
    has_token: bool,
    /// Whether the page is asked for again, since a 304 was of no use.
    is_asked_again: bool,
    /// What the answers said about the upstream that is not stored yet.
    said: Said,
    /// Before when the pages want not to be asked for again.
    not_before: Option<DateTime<Utc>>,
    walked: Walked,
}

impl<'a> Walking<'a> {
    async fn begin(
        refresher: &'a Refresher,
        source: &'a Arc<Source>,
        collection: &'a Arc<Collection>,
        claim: &'a Claim,
        ticket: Ticket,
    ) -> Result<Self, StoreError> {
        let fingerprint = claim.fingerprint.unwrap_or_else(|| source.fingerprint());
        let lease = WalkLease { token: claim.token, walk: claim.resource, source: claim.source, fingerprint };
        let known = refresher.store.walk(claim.source, fingerprint).await?;
        let now = refresher.clock.now();
        let url = source.url.expand(&claim.key, &Params::new());
        let base = url.map_err(|error| StoreError::Rejected(format!("the collection has no URL: {error}")))?;
        let walk = Walk::begin(collection, base, &known, now, source.policy.cadence.interval(now));
        let (since, held) = (known.since, known.held);
        let renewed = granted(refresher, claim);
        Ok(Self {
            refresher,
            source,
            collection,
            claim,
            ticket,
            lease,
            walk,
            since,
            held,
            renewed,
            has_token: true,
            is_asked_again: false,
            said: Said::Nothing,
            not_before: None,
            walked: Walked::default(),
        })
    }

    async fn walk_on(&mut self) -> Result<End, StoreError> {
        while !self.walk.is_over() {
            if self.ticket.stop.is_cancelled() {
                return Ok(End::Stopped);
            }
            let then = self.page().await?;
            self.is_asked_again = matches!(then, Then::Again);
            if let Then::End(end) = then {
                return Ok(end);
            }
        }
        self.finish().await
    }

    /// Asks for a page and stores what comes.
    async fn page(&mut self) -> Result<Then, StoreError> {
        let remembered = match self.walk.under_way.kind {
            Kind::All => self.refresher.store.walk_page(self.claim.source, self.walk.under_way.pages).await?,
            Kind::Changes => None,
        };
        let remembered = remembered.filter(|remembered| !self.is_asked_again && self.walk.knows(remembered));
        let observation = match self.ask(remembered.as_ref().map(|remembered| &remembered.validators)).await {
            Ok(Some(observation)) => observation,
            Ok(None) => return Ok(Then::End(End::Lost)),
            // It goes on after the pause.
            Err(Halt::Quiet(_)) => return Ok(Then::End(End::Stopped)),
            Err(Halt::Store(error)) => return Err(error),
        };
        let Observation { answered_at, conditional, seen, .. } = observation;
        let not_before = seen.headers().and_then(|headers| self.source.policy.not_before(headers, answered_at));
        self.not_before = self.not_before.max(not_before);
        match seen {
            Seen::Content { headers, body } => match self.read(&headers, body).await {
                Ok(page) => self.store(answered_at, page, &headers).await,
                Err(unfit) => {
                    let failure = Failure { kind: unfit.kind, status: Some(200), detail: unfit.detail };
                    self.failed(failure, &headers).await
                }
            },
            Seen::NotModified { headers } => match remembered.filter(|_| conditional) {
                Some(remembered) if remembered.validators.recognise(&Validators::of(&headers)) => {
                    self.store_same(answered_at, &remembered).await
                }
                Some(_) => Ok(Then::Again),
                None => {
                    let detail = "the upstream answered 304 to a request without conditions".into();
                    let failure = Failure { kind: FailureKind::UnusableNotModified, status: Some(304), detail };
                    self.failed(failure, &headers).await
                }
            },
            Seen::Refused { headers, failure, .. } => self.failed(failure, &headers).await,
            Seen::Unreachable { failure } => self.failed(failure, &HeaderMap::new()).await,
        }
    }

    async fn store(&mut self, at: DateTime<Utc>, page: Page, headers: &HeaderMap) -> Result<Then, StoreError> {
        let (under_way, wrong) = match self.walk.after(&page) {
            Turn::On(under_way) => (Some(under_way), None),
            Turn::Wrong(wrong) => (None, Some(wrong)),
        };
        let may_be_remembered = self.may_be_remembered(page.next.as_deref());
        let remembered = under_way.as_ref().filter(|_| self.walk.under_way.kind == Kind::All && may_be_remembered);
        let remembered = remembered.map(|under_way| Remembered {
            step: self.walk.step().cloned(),
            validators: Validators::of(headers),
            next: under_way.next.clone(),
            hash: page.hash,
        });
        let stored = under_way.clone().filter(|_| may_be_remembered);
        let hash = page.hash;
        let then = self.commit(at, PageContent::Items(page.items, remembered), stored).await?;
        match (then, under_way, wrong) {
            (Then::Next, Some(under_way), _) => self.walk.go(under_way, hash),
            (Then::Next, None, Some(wrong)) => {
                let failure = Failure { kind: FailureKind::Pages, status: Some(200), detail: wrong.to_string() };
                return self.failed(failure, &HeaderMap::new()).await;
            }
            (then, ..) => return Ok(then),
        }
        Ok(Then::Next)
    }

    /// A link may repeat what of the URL came from outside the configuration. Then it is not kept: such a walk begins anew when it
    /// was broken off.
    fn may_be_remembered(&self, next: Option<&str>) -> bool {
        let is_link = matches!(self.collection.paginate, Paginate::LinkHeader | Paginate::JsonLink { .. });
        !(is_link && self.source.url.has_secret_path() && (next.is_some() || self.walk.step().is_some()))
    }

    async fn store_same(&mut self, at: DateTime<Utc>, remembered: &Remembered) -> Result<Then, StoreError> {
        let under_way = match self.walk.after_same(remembered) {
            Turn::On(under_way) => under_way,
            Turn::Wrong(wrong) => {
                let failure = Failure { kind: FailureKind::Pages, status: Some(304), detail: wrong.to_string() };
                return self.failed(failure, &HeaderMap::new()).await;
            }
        };
        let then = self.commit(at, PageContent::Same, Some(under_way.clone())).await?;
        if matches!(then, Then::Next) {
            self.walk.go(under_way, remembered.hash);
        }
        Ok(then)
    }

    /// Stores a page. One that was remembered wrongly is asked for again.
    async fn commit(
        &mut self,
        fetched_at: DateTime<Utc>,
        content: PageContent,
        under_way: Option<UnderWay>,
    ) -> Result<Then, StoreError> {
        let now = self.refresher.clock.now();
        let page = WalkPage {
            lease: self.lease,
            lease_until: self.lease_until(),
            number: self.walk.number,
            is_of_all: self.walk.under_way.kind == Kind::All,
            place: self.walk.under_way.pages,
            under_way,
            content,
            freshness: end::freshness(&self.source.policy, self.collection, fetched_at),
            decided_at: now,
            signal: self.source.policy.hearing(self.claim.source).signal(self.said),
        };
        let renewed = monotonic();
        let store = &self.refresher.store;
        match patiently(&self.ticket, || store.store_page(&page)).await {
            Ok(PageFate::Stored(brought, touched, turns)) => {
                self.renewed = renewed;
                self.tell(&turns);
                self.refresher.announcer.announce(Announcement::Settled(touched.into()));
                self.walked.brought.add(brought);
                Ok(Then::Next)
            }
            Ok(PageFate::Forgotten) => Ok(Then::Again),
            Ok(PageFate::LeaseLost) => Ok(Then::End(End::Lost)),
            Err(StoreError::Rejected(why)) => {
                tracing::error!(source = %self.source.name, why, "the database refused a page");
                let detail = "the database refused to store what came; the log says why".into();
                let failure = Failure { kind: FailureKind::Unstorable, status: None, detail };
                self.failed(failure, &HeaderMap::new()).await
            }
            Err(error) => Err(error),
        }
    }

    /// What the answer said is stored with its page, and lets others be asked for before the walk has come to its end.
    fn tell(&mut self, turns: &[governor::Turn]) {
        self.said = Said::Nothing;
        for turn in turns {
            turns::tell(turn, self.source, self.claim);
        }
        if turns.iter().any(|turn| matches!(turn, governor::Turn::Over(_))) {
            self.refresher.announcer.announce(Announcement::LookAround);
        }
    }

    /// Ends the walk, or its part until it can go on.
    async fn failed(&mut self, mut failure: Failure, headers: &HeaderMap) -> Result<Then, StoreError> {
        let goes_on = end::may_pass(&failure) && self.collection.paginate.can_go_on();
        failure.detail = format!("page {}: {}", self.walk.under_way.pages.saturating_add(1), failure.detail);
        let how = HowItEnded::Failed { goes_on, problem: failure.detail.clone() };
        if !self.end(how).await?.is_stored {
            return Ok(Then::End(End::Lost));
        }
        let (policy, previous) = (&self.source.policy, &self.claim.previous);
        let outcome = put_off(policy, previous, (failure, headers), self.refresher.clock.now(), fastrand::f64());
        Ok(Then::End(End::Settled(Box::new(outcome))))
    }

    async fn finish(&mut self) -> Result<End, StoreError> {
        let now = self.refresher.clock.now();
        let UnderWay { kind, left_out, .. } = self.walk.under_way.clone();
        let held_before = Some(self.held).filter(|held| *held > 0 && kind == Kind::Changes);
        let how = HowItEnded::Complete {
            since: if left_out.is_none() { self.walk.since_now(self.since.as_deref(), now) } else { None },
            missing: (kind == Kind::All && left_out.is_none()).then(|| self.missing(now)),
            problem: left_out.clone().or_else(|| held_before.map(held_back)),
        };
        let ended = self.end(how).await?;
        if !ended.is_stored {
            return Ok(End::Lost);
        }
        self.walked.gone = ended.gone.len() as u64;
        if !ended.gone.is_empty() {
            self.refresher.announcer.announce(Announcement::Settled(ended.gone.into()));
        }
        let held = held_before.unwrap_or(ended.held);
        let problem = match left_out {
            Some(detail) => Some(Failure { kind: FailureKind::Unparsable, status: Some(200), detail }),
            None => (held > 0).then(|| Failure { kind: FailureKind::Held, status: None, detail: held_back(held) }),
        };
        let (policy, previous) = (&self.source.policy, &self.claim.previous);
        Ok(End::Settled(Box::new(end::ended(policy, previous, (problem, self.not_before), now, fastrand::f64()))))
    }

    /// What becomes of members that a walk of all did not see.
    fn missing(&self, now: DateTime<Utc>) -> Missing {
        let interval = self.source.policy.cadence.interval(now);
        let period = self.collection.changes.as_ref().map_or(interval, |changes| changes.sweep_every);
        let budget = GoneBudget { share: self.source.max_delete_share, period };
        Missing { gone_after: self.collection.gone_after, budget }
    }

    async fn end(&self, how: HowItEnded) -> Result<Ended, StoreError> {
        let end = WalkEnd { lease: self.lease, at: self.refresher.clock.now(), how };
        let store = &self.refresher.store;
        patiently(&self.ticket, || store.end_walk(&end)).await
    }
}

/// Does it again for as long as the database is away or busy, and nobody says to stop.
async fn patiently<T, F>(ticket: &Ticket, work: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut wait = RETRY.0;
    loop {
        match work().await {
            Err(error) if error.is_passing() => {
                tracing::warn!(%error, "could not store a page; trying again");
                if ticket.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                    return Err(error);
                }
                wait = (wait * 2).min(RETRY.1);
            }
            done => return done,
        }
    }
}
