//! Answers of an upstream, decided as the program decides them.

use std::time::Duration;

use bytes::Bytes;
use headpond::domain::allowance::Fields;
use headpond::domain::content::BodyRules;
use headpond::domain::decision::decide;
use headpond::domain::failure::{Failure, FailureKind};
use headpond::domain::governor::{PauseScope, Said};
use headpond::domain::observation::{Observation, Seen, Via};
use headpond::domain::policy::{GoneRules, Heed, Policy};
use headpond::domain::schedule::{Backoff, Cadence};
use headpond::store::{Claim, Fate, GoneBudget, Settled};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::store::TestStore;

pub const HOUR: Duration = Duration::from_secs(3600);

/// A source that is refreshed each hour.
pub fn policy() -> Policy {
    Policy {
        cadence: Cadence::Every(HOUR),
        jitter: Duration::ZERO,
        stale_after: None,
        cache_control: Heed::Schedule,
        freshness_cap: 24 * HOUR,
        early_refresh: true,
        backoff: Backoff { initial: Duration::from_secs(60), cap: HOUR },
        allowance: Some(Fields::default()),
        retry_after_cap: 24 * HOUR,
        pause_scope: PauseScope::Upstream,
        stretch: 1.0,
        gone: GoneRules { after: 3, window: HOUR, recheck: 24 * HOUR },
        body: BodyRules::default(),
    }
}

/// A 200 with this text and these header fields.
pub fn content(body: &str, fields: &[(&'static str, &str)]) -> Seen {
    Seen::Content { headers: headers(fields), body: Bytes::copy_from_slice(body.as_bytes()) }
}

/// A 304 without header fields.
pub fn not_modified() -> Seen {
    Seen::NotModified { headers: HeaderMap::new() }
}

/// Another status.
pub fn status(code: u16) -> Seen {
    let kind = match code {
        404 => FailureKind::NotFound,
        500.. => FailureKind::ServerError,
        _ => FailureKind::ClientError,
    };
    let failure = Failure { kind, status: Some(code), detail: format!("the upstream answered {code}") };
    Seen::Refused { status: StatusCode::from_u16(code).unwrap(), headers: HeaderMap::new(), failure }
}

/// A 429 or 503 that asks to wait so many seconds.
pub fn enough(code: u16, seconds: u32) -> Seen {
    let Seen::Refused { status, failure, .. } = status(code) else { unreachable!() };
    Seen::Refused { status, headers: headers(&[("retry-after", &seconds.to_string())]), failure }
}

/// No connection could be made.
pub fn unreachable() -> Seen {
    Seen::Unreachable {
        failure: Failure { kind: FailureKind::Connect, status: None, detail: "connection refused".into() },
    }
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
}

impl TestStore {
    /// What the answer to this claim comes to, asked for and answered now.
    pub fn settled(&self, claim: &Claim, seen: Seen) -> Settled {
        self.settled_by(&policy(), claim, seen, Via::default())
    }

    /// The same by other rules, for an answer that came this way.
    pub fn settled_by(&self, policy: &Policy, claim: &Claim, seen: Seen, via: Via) -> Settled {
        let now = self.now();
        let hearing = policy.hearing(claim.source);
        let said = match &seen {
            Seen::Unreachable { .. } => Said::Silence,
            Seen::Refused { status, headers, .. } => hearing.of(*status, headers, now),
            Seen::Content { headers, .. } => hearing.of(StatusCode::OK, headers, now),
            Seen::NotModified { headers } => hearing.of(StatusCode::NOT_MODIFIED, headers, now),
        };
        let conditional = claim.previous.validators().is_some();
        let observation = Observation { requested_at: now, answered_at: now, conditional, seen, via };
        Settled {
            token: claim.token,
            resource: claim.resource,
            requested_at: claim.granted_at,
            decided_at: now,
            outcome: decide(policy, &claim.previous, observation, now, 0.0),
            gone_budget: GoneBudget { share: 1.0, period: HOUR },
            signal: hearing.signal(said),
        }
    }

    /// Commits one answer, which must be taken.
    pub async fn settle(&self, claim: &Claim, seen: Seen) {
        let applied = self.store.apply(&[self.settled(claim, seen)]).await.unwrap();
        assert_eq!(applied.fates, [Fate::Committed]);
    }

    /// Claims all that is due of an upstream and gives each claim the same answer.
    pub async fn settle_all(&self, upstream: headpond::domain::resource::UpstreamId, seen: impl Fn(&Claim) -> Seen) {
        let claims = self.claim(upstream).await;
        let batch: Vec<_> = claims.iter().map(|claim| self.settled(claim, seen(claim))).collect();
        let applied = self.store.apply(&batch).await.unwrap();
        assert!(applied.fates.iter().all(|fate| *fate == Fate::Committed));
    }
}
