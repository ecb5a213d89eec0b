//! `GET /v1/{source}/{key}/explain`: why a resource is as it is, in sentences.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::{Uri, header};
use serde::Serialize;

use super::ApiState;
use super::error::ApiError;
use super::parameters::Parameters;
use super::resource_path::ResourcePath;
use crate::config::Source;
use crate::domain::policy::Heed;
use crate::domain::read_state::{Leave, ReadState, may_answer};
use crate::domain::resource::Key;
use crate::domain::schedule::{Because, Due};
use crate::store::{Current, Pause, SourceStatus, Status, UpstreamStatus};

/// What there is to say about a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    source: String,
    key: Key,
    /// In this order.
    pub says: Vec<Says>,
}

/// A sentence and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Says {
    /// `reader`, `copy`, `freshness`, `schedule`, `failures`, `upstream`, `keys`.
    pub about: &'static str,
    /// A sentence.
    pub says: String,
}

/// Answers for every known key, whatever its state.
///
/// # Errors
/// An unknown key or source, or a failing store.
pub async fn explain(State(api): State<ApiState>, path: ResourcePath, uri: Uri) -> Result<Response, ApiError> {
    Parameters::of(&uri, &[])?;
    let current = api.current(&path).await?;
    let now = api.clock.now();
    let status = api.store.status(now).await?;
    let settings = api.settings();
    let unknown = || ApiError::UnknownSource { source: path.source.to_string() };
    let source = settings.asked.get(&path.source).ok_or_else(unknown)?;
    let explanation = Explanation::of(source, path.key.clone(), &current, &status, now);
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(explanation)).into_response())
}

impl Explanation {
    /// What follows from the configuration and from what is stored.
    #[must_use]
    pub fn of(source: &Source, key: Key, current: &Current, status: &Status, now: DateTime<Utc>) -> Self {
        let case = Case { source, current, now };
        let known = status.sources.iter().find(|known| known.name == source.name);
        let upstream = status.upstreams.iter().find(|upstream| upstream.name == source.upstream);
        let sentences = [
            ("reader", Some(case.reader())),
            ("copy", Some(case.copy())),
            ("freshness", case.freshness()),
            ("freshness", case.conflict()),
            ("schedule", Some(case.schedule())),
            ("schedule", Some(case.due())),
            ("failures", case.failures()),
            ("upstream", upstream.map(|upstream| case.upstream(upstream))),
            ("keys", known.map(neighbours)),
        ];
        let says = sentences.into_iter().filter_map(|(about, says)| Some(Says { about, says: says? })).collect();
        Self { source: source.name.to_string(), key, says }
    }
}

/// A resource at a moment.
struct Case<'a> {
    source: &'a Source,
    current: &'a Current,
    now: DateTime<Utc>,
}

impl Case<'_> {
    fn reader(&self) -> String {
        let current = self.current;
        let state = ReadState::of(current.gone_since, current.freshness, self.now);
        let withheld = current.freshness.and_then(|freshness| {
            let leave = Leave::default();
            may_answer(current.terms.as_ref(), freshness, current.failing.as_ref(), leave, self.now).err()
        });
        match (state, withheld) {
            (ReadState::Pending, _) => {
                "A reader now gets 503 with Retry-After: the key is known, and nothing was ever fetched for it.".into()
            }
            (ReadState::Gone, _) if current.version == 0 => {
                "A reader now gets 404: the upstream has never had it.".into()
            }
            (ReadState::Gone, _) => "A reader now gets 410: the upstream has it no more.".into(),
            (_, Some(withheld)) => format!(
                "A reader now gets 504 unless the upstream can be asked in time (cache_control = \"respect\"). {}",
                withheld.sentence()
            ),
            (ReadState::Fresh, None) => "A reader now gets 200 with the copy, which is fresh.".into(),
            (ReadState::Stale, None) => {
                "A reader now gets 200 with the copy, and is told that it is stale: an old copy \
                                         is better than none."
                    .into()
            }
        }
    }

    fn copy(&self) -> String {
        let current = self.current;
        let Some(freshness) = current.freshness else { return "There is no copy.".into() };
        let changed = current
            .content
            .as_ref()
            .map_or(String::new(), |content| format!("; its content is that of {}", self.time(content.changed_at)));
        let validators = match (&current.validators.etag, &current.validators.last_modified) {
            (Some(_), _) => "its ETag",
            (None, Some(_)) => "its Last-Modified",
            (None, None) => "nothing, so it is sent whole each time",
        };
        format!(
            "The copy is version {}, confirmed by the upstream {}{changed}. It is asked after by {validators}.",
            current.version,
            self.time(freshness.fetched_at)
        )
    }

    fn freshness(&self) -> Option<String> {
        let (freshness, policy) = (self.current.freshness?, &self.source.policy);
        let until = self.time(freshness.stale_after);
        let verb = if freshness.stale_after > self.now { "It is fresh until" } else { "It is stale since" };
        let rule = match (self.current.terms, policy.stale_after) {
            (Some(_), _) => "by what the upstream said with it (cache_control = \"respect\", RFC 9111 §4.2)".into(),
            (None, Some(age)) => format!("by stale_after = {}", span(age)),
            (None, None) => "twice the time between two refreshes after it was confirmed, or twice the upstream's own \
                             lifetime where that is longer"
                .into(),
        };
        let heed = match policy.cache_control {
            Heed::Schedule => {
                let cap = span(policy.freshness_cap);
                format!(" What the upstream says of its freshness delays the next refresh alone, by {cap} at the most.")
            }
            Heed::Respect => String::new(),
            Heed::Ignore => " What the upstream says of its freshness is not looked at.".into(),
        };
        Some(format!("{verb} {until}, {rule}.{heed}"))
    }

    /// Where the configuration makes copies stale while all is well.
    fn conflict(&self) -> Option<String> {
        let policy = &self.source.policy;
        let interval = policy.cadence.interval(self.now);
        let age = policy.stale_after.filter(|age| *age < interval && policy.cadence.is_polled())?;
        Some(format!(
            "stale_after = {} is shorter than the {} between two refreshes, so the copy is stale before it is refreshed, even when \
             all is well: raise stale_after, or refresh more often.",
            span(age),
            span(interval)
        ))
    }

    fn schedule(&self) -> String {
        let policy = &self.source.policy;
        if !policy.cadence.is_polled() {
            return "It is refreshed by no schedule (poll = false): whoever reads it when it is stale has it refreshed.".into();
        }
        let jitter = if policy.jitter.is_zero() {
            String::new()
        } else {
            format!(", up to {} later at random", span(policy.jitter))
        };
        format!("It is refreshed {}{jitter}, at a place in that time of its own.", policy.cadence)
    }

    fn due(&self) -> String {
        if let Some(until) = self.current.leased_until {
            return format!("It is being fetched at the moment, until {} at the longest.", self.time(until));
        }
        let Some(Due { at, because }) = self.current.due else {
            return "No place lists the key any more, so it is not refreshed; the copy is kept for `retention`.".into();
        };
        let why = match because {
            Because::New => "it was never fetched",
            Because::Interval => "that is its schedule",
            Because::Freshness => "until then it is fresh by the upstream's own word",
            Because::Backoff => "its latest refresh failed, and the wait doubles with each failure in a row",
            Because::Outage => "its upstream is out of reach; it is due at once when the upstream answers again",
            Because::RetryAfter => "the upstream asked for quiet until then (Retry-After)",
            Because::NotBefore => "the upstream wants it to be asked for no sooner",
            Because::GoneRecheck => "it is gone, and looked for again now and then",
            Because::Manual => "someone asked for it",
            Because::Reset => "a 304 could not be used, so it is fetched whole",
            Because::RetryNow => "its upstream is back",
            Because::Walk => "it comes with the walks of its collection",
            Because::Read => "nobody polls it",
        };
        let waits_for_reader = because == Because::Read || because.spares_the_upstream();
        if waits_for_reader && !self.source.policy.cadence.is_polled() {
            if at > self.now {
                format!("A reader can have it fetched again from {} on: {why}.", self.time(at))
            } else {
                "It is due as soon as someone reads it when it is stale.".into()
            }
        } else if at > self.now {
            format!("It is due {}: {why}.", self.time(at))
        } else {
            format!("It has been due since {}: {why}. It waits for its turn, see `upstream`.", self.time(at))
        }
    }

    fn failures(&self) -> Option<String> {
        let failing = self.current.failing.as_ref()?;
        let times = match failing.count {
            1 => "The latest refresh failed".to_owned(),
            count => format!("{count} refreshes in a row failed since {}, the latest one", self.time(failing.since)),
        };
        Some(format!(
            "{times} {}, as {}: {}. The copy stays as it is.",
            self.time(failing.at),
            failing.last.kind,
            failing.last.detail
        ))
    }

    fn upstream(&self, upstream: &UpstreamStatus) -> String {
        let limits = upstream.limits;
        let rate = limits.requests_per_second.map_or("as many requests as fit".into(), |rate| {
            format!("{rate} requests a second and {} more at once", limits.burst)
        });
        let more = if upstream.backlog.is_more { "more than " } else { "" };
        format!(
            "Upstream {} takes {rate}, {} under way at the same time; {} are, and {more}{} resources are due.{}",
            upstream.name,
            limits.max_concurrent,
            upstream.in_flight,
            upstream.backlog.resources,
            self.pauses(upstream)
        )
    }

    /// What holds the upstream's requests up besides its limits.
    fn pauses(&self, upstream: &UpstreamStatus) -> String {
        let said = upstream.pauses.iter().map(|pause| match pause {
            Pause::Quiet { source, until, why, answered, .. } => {
                let what = source.as_ref().map_or("It".into(), |source| format!("Its source {source}"));
                format!(" {what} is left alone until {}: {why}, as {answered} was answered.", self.time(*until))
            }
            Pause::Budget { budget, until, .. } => {
                format!(
                    " Its budget of {budget} is spread over that time and has nothing left until {}.",
                    self.time(*until)
                )
            }
            Pause::Outage { answers, .. } => format!(" It was out of reach for {answers} answers in a row."),
            Pause::RetryAfter { resources } => format!(" {resources} keys wait for its Retry-After."),
        });
        let slowed = (upstream.pace < 1.0).then(|| format!(" It is asked at {:.0} % of that.", upstream.pace * 100.0));
        said.chain(slowed).collect()
    }

    /// A time, and how far it is from now.
    fn time(&self, at: DateTime<Utc>) -> String {
        let stamp = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let seconds = |delta: TimeDelta| Duration::from_secs(delta.to_std().unwrap_or_default().as_secs());
        if at > self.now {
            format!("{stamp} (in {})", span(seconds(at - self.now)))
        } else {
            format!("{stamp} ({} ago)", span(seconds(self.now - at)))
        }
    }
}

fn neighbours(source: &SourceStatus) -> String {
    let counts = source.counts;
    format!(
        "Of the source's {} keys {} are fresh, {} stale, {} pending and {} gone; {} failed last time.",
        counts.keys, counts.fresh, counts.stale, counts.pending, counts.gone, counts.failing
    )
}

fn span(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}
