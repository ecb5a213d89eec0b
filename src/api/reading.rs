//! What a reader asks for, and how far the store, or waiting, meets it.
//!
//! The request's Cache-Control says which copy is good enough, and `Prefer: wait=N` for how long the reader will wait for it.
//! The answer, by the state in which the key is:
//!
//! | the request says | fresh | stale | pending | gone |
//! |---|---|---|---|---|
//! | nothing of both | 200 | 200 | 503 | 410 |
//! | `Prefer: wait=N` | waits, 200 | waits, 200 | waits, 200 or 503 | 410 |
//! | `max-age=N` | 200; waits if its age is more than N, then 200 or 504 | waits, 200 or 504 | waits, 200 or 503 | 410 |
//! | `max-age=N, max-stale[=M]` | as above | 200; waits if its age is more than N or it is stale for more than M, then 200 or 504 | as above | 410 |
//! | `min-fresh=N` | 200; waits if it is fresh for less than N, then 200 or 504 | waits, 200 or 504 | as above | 410 |
//! | `max-stale[=M]` | 200 | 200; waits if it is stale for more than M, then 200 or 504 | as above | 410 |
//! | `no-cache` (or `Pragma: no-cache` alone) | waits, 200 or 504 | waits, 200 or 504 | as above | 410 |
//! | `only-if-cached` and any of these | never waits: 200 or 504 | never waits: 200 or 504 | 504 | 410 |
//!
//! Where 410 stands, it is 404 for a key under which the upstream never had anything. Neither is waited for: absence is
//! looked at again by `gone_recheck`, or when an operator asks. 304 and 412 come where 200 stands, by the preconditions.
//!
//! A copy that the upstream's terms withhold, where they are respected, is waited for as under `no-cache`, whatever the
//! request says; it is answered if the upstream confirms it or its terms allow to answer with it after all, and else there
//! is 504. One that is answered within its `stale-while-revalidate` becomes due, and nobody waits for that (RFC 5861 §3).
//!
//! Where the source has `on_demand`, a key that nobody listed is pending from its first read on, and pending keys are waited for
//! whatever the request says, for as long as the source's `wait`; so is one that is gone, once it was told so for `negative_for`.
//! Where it has `poll = false`, a stale copy is answered, and becomes due.
//!
//! *Waits* means: the key becomes due before all others, and the answer comes with its next outcome, be that a failure. It
//! comes without one when the time is over, which is N seconds, or 10 without `Prefer`, and always less than
//! `request_timeout`; and at once when this process is told to stop. Then the copy that there is, is answered if it keeps the
//! bounds. Whoever may read may wait; upstreams are safe from it, because no reader
//!
//! - causes a second request where one is under way or in line. All who wait for a key, in all processes, share one. So do
//!   those who come up to two seconds after its outcome with nothing but `Prefer`; a bound that the copy does not keep gets its
//!   own request then;
//! - cuts short a backoff or a Retry-After: where that lasts longer than the reader would wait, the answer comes at once;
//! - goes round the upstream's limits. A browser's reload, which says `max-age=0` or `no-cache`, costs the upstream no more
//!   than one request for the key at a time, and `max-age=0` no more than one a second, since ages are whole seconds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;

use super::ApiState;
use super::bounds::Bounds;
use super::error::ApiError;
use super::prefer;
use super::resource_path::ResourcePath;
use super::settings::Settings;
use super::waiting::{Content, Waited};
use crate::config::OnDemand;
use crate::domain::decision::Freshness;
use crate::domain::read_state::{Leave, ReadState, may_answer};
use crate::domain::schedule::Because;
use crate::domain::time::later;
use crate::store::Current;

/// How long a bound is waited for when the request doesn't say.
const DEFAULT_WAIT: Duration = Duration::from_secs(10);

/// What a request asks for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Demand {
    /// Which copy is good enough.
    pub bounds: Bounds,
    /// For how long the reader waits for a better one.
    wait: Option<Duration>,
}

impl Demand {
    /// What a request's headers ask for.
    #[must_use]
    pub fn of(request: &HeaderMap) -> Self {
        let bounds = Bounds::of(request);
        // Who must not cause a request has nothing to wait for.
        let wait = prefer::wait(request).filter(|_| !bounds.only_if_cached);
        Self { bounds, wait }
    }

    /// What the reader adds to what the upstream allows.
    #[must_use]
    pub fn leave(&self, has_validated: bool) -> Leave {
        Leave { has_validated, max_stale: self.bounds.max_stale }
    }

    /// Whether the copy may be answered at `now`, by the request and by the upstream's terms.
    fn is_met_by(&self, current: &Current, freshness: Freshness, now: DateTime<Utc>) -> bool {
        let (terms, failing) = (current.terms.as_ref(), current.failing.as_ref());
        self.bounds.broken_by(freshness, false, now).is_none()
            && may_answer(terms, freshness, failing, self.leave(false), now).is_ok()
    }

    /// Why what is known of the resource at `now` is not good enough, if it isn't.
    fn lack(&self, known: &Known, now: DateTime<Utc>) -> Option<Lack> {
        let current = &known.current;
        let broken = |freshness: Freshness| !self.is_met_by(current, freshness, now);
        let (is_bounded, has_more) = match ReadState::of(current.gone_since, current.freshness, now) {
            // Absence is an answer, for a while; what is retired stays as it is.
            ReadState::Gone if known.made_known_at.is_some() || known.was_gone_for_long(now) => {
                (true, Lack::Everything)
            }
            ReadState::Gone => return None,
            ReadState::Pending if current.due.is_none() => return None,
            ReadState::Pending => (self.bounds.are_some() || known.on_demand.is_some(), Lack::Everything),
            ReadState::Fresh => (current.freshness.is_some_and(broken), Lack::Request),
            ReadState::Stale => {
                (known.made_known_at.is_some() || current.freshness.is_some_and(broken), Lack::Freshness)
            }
        };
        let waits = !self.bounds.only_if_cached && (is_bounded || self.wait.is_some());
        waits.then_some(has_more)
    }
}

/// What is known of a resource, and what its source says of readers.
struct Known {
    current: Current,
    /// Where keys exist for their readers.
    on_demand: Option<OnDemand>,
    /// When this reader made it known, if he did.
    made_known_at: Option<DateTime<Utc>>,
}

impl Known {
    /// Where an answer comes from that was in the store when this reader looked: from a request all the same, if he made the key
    /// known, and what it brought was there before he could wait for it.
    fn way_of_first_read(&self, current: &Current) -> Way {
        let Some(made_known_at) = self.made_known_at else { return Way::Stored };
        // As precisely as times are stored.
        let is_since = |at: DateTime<Utc>| at.timestamp_micros() >= made_known_at.timestamp_micros();
        let brought_content = current.freshness.is_some_and(|freshness| is_since(freshness.fetched_at));
        if !(brought_content || current.gone_since.is_some_and(is_since)) {
            return Way::Stored;
        }
        Way::Fetched {
            lack: Lack::Everything,
            is_confirmed: brought_content,
            is_shared: false,
            status: brought_content.then_some(200),
            is_stored: brought_content,
        }
    }

    /// Whether it is gone, and readers have been told so for as long as they may be.
    fn was_gone_for_long(&self, now: DateTime<Utc>) -> bool {
        let Some(rules) = &self.on_demand else { return false };
        let is_put_off = self.current.due.is_some_and(|due| due.because == Because::GoneRecheck);
        is_put_off && self.current.hastened_at.is_none_or(|at| later(at, rules.negative_for) <= now)
    }

    /// Whether whoever answers with this copy should ask for it again: it is stale, nobody else does or the upstream's terms
    /// are respected, and that would not be put off.
    fn is_to_be_revalidated(&self, is_polled: bool, now: DateTime<Utc>) -> bool {
        let current = &self.current;
        let is_put_off = current.due.is_none_or(|due| due.because.spares_the_upstream() && due.at > now);
        let is_coming = current.wanted_at.is_some() || current.leased_until.is_some();
        (!is_polled || current.terms.is_some())
            && !is_put_off
            && !is_coming
            && ReadState::of(current.gone_since, current.freshness, now) == ReadState::Stale
    }
}

/// What a stored copy lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// There is none.
    Everything,
    /// It is stale.
    Freshness,
    /// It is fresh, and the request asks for more.
    Request,
}

impl Lack {
    /// Why the request had to go further than the store, in the words of RFC 9211 §2.2.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "uri-miss",
            Self::Freshness => "stale",
            Self::Request => "request",
        }
    }
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the store, as it was there or because nothing better came in time.
    Stored,
    /// From a request that was waited for.
    Fetched {
        /// Why it was.
        lack: Lack,
        /// Whether the upstream confirmed or replaced the copy.
        is_confirmed: bool,
        /// Whether others share the request.
        is_shared: bool,
        /// The status that the upstream answered with, where that can be told.
        status: Option<u16>,
        /// Whether content came that was stored.
        is_stored: bool,
    },
}

impl Way {
    /// Whether the upstream confirmed or replaced the copy for this answer.
    #[must_use]
    pub fn has_confirmed(self) -> bool {
        matches!(self, Self::Fetched { is_confirmed: true, .. })
    }
}

/// What a reader is to be answered with.
#[derive(Debug)]
pub struct Reading {
    /// What is known of the resource.
    pub current: Current,
    /// Where it comes from.
    pub way: Way,
}

impl ApiState {
    /// How long a reader may wait who asks for this.
    #[must_use]
    pub fn patience(&self, wait: Duration) -> Duration {
        wait.min(self.settings().longest_wait())
    }

    /// What the store holds of a resource: now, if that is good enough, or after waiting for better.
    ///
    /// # Errors
    /// As [`current`](Self::current).
    pub async fn reading(&self, path: &ResourcePath, demand: &Demand) -> Result<Reading, ApiError> {
        let settings = self.settings();
        let known = self.known(path, demand, &settings).await?;
        let now = self.clock.now();
        let Some(lack) = demand.lack(&known, now) else {
            let is_polled = settings.is_polled(&path.source);
            if !demand.bounds.only_if_cached && known.is_to_be_revalidated(is_polled, now) {
                self.ask_again(path, &known.current);
            }
            let way = known.way_of_first_read(&known.current);
            return Ok(Reading { current: known.current, way });
        };
        let Known { ref current, on_demand, .. } = known;
        let otherwise = on_demand.map_or(DEFAULT_WAIT, |rules| rules.wait);
        let deadline = later(now, self.patience(demand.wait.unwrap_or(otherwise)));
        let with_echo = current.freshness.is_some_and(|freshness| demand.is_met_by(current, freshness, now));
        let content = Content { with_echo, gone_for: on_demand.map(|rules| rules.negative_for) };
        match self.wait_for_outcome(path, current, deadline, content).await {
            Waited::Came { came, is_shared } => {
                let (status, is_stored) = (came.status(current), came.current.version > current.version);
                let way = Way::Fetched { lack, is_confirmed: came.is_confirmed, is_shared, status, is_stored };
                // Another outcome may have come on its heels: whoever has seen that must not see this after it.
                let is_older = came.current.version < current.version;
                Ok(Reading { current: if is_older { known.current } else { came.current.clone() }, way })
            }
            Waited::JustCame | Waited::InVain => {
                let current = self.current(path).await?;
                let way = known.way_of_first_read(&current);
                Ok(Reading { current, way })
            }
        }
    }

    /// What the store holds of a resource, which is made known if it may be.
    async fn known(&self, path: &ResourcePath, demand: &Demand, settings: &Settings) -> Result<Known, ApiError> {
        let found = self.current(path).await;
        let Some((source, rules)) = settings.on_demand(&path.source) else {
            return Ok(Known { current: found?, on_demand: None, made_known_at: None });
        };
        let known = |current: Current, made_known_at| {
            self.reads.note(current.resource);
            Ok(Known { current, on_demand: Some(*rules), made_known_at })
        };
        let demand_it = async || {
            let asked_at = self.clock.now();
            self.demand(path, source, rules).await.map(|()| Some(asked_at))
        };
        match found {
            Ok(current) if current.due.is_some() || demand.bounds.only_if_cached => known(current, None),
            Err(ApiError::UnknownKey(path)) if demand.bounds.only_if_cached => Err(ApiError::not_cached(path)),
            // There is something to answer with, also where it can't be polled again now.
            Ok(retired) if retired.content.is_some() => match demand_it().await {
                Ok(at) => known(self.current(path).await?, at),
                Err(_) => known(retired, None),
            },
            Ok(_) | Err(ApiError::UnknownKey(_)) => {
                let at = demand_it().await?;
                known(self.current(path).await?, at)
            }
            Err(error) => Err(error),
        }
    }

    /// The time of `Prefer: wait` as it was applied, if it was.
    #[must_use]
    pub fn applied_wait(&self, demand: &Demand) -> Option<Duration> {
        demand.wait.map(|wait| self.patience(wait))
    }
}
