//! Bodies that were refused because they did not fit their table, and fit now: they are taken as if they came once more,
//! without a request.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, header};

use crate::announce::Announcement;
use crate::config::Source;
use crate::domain::content::{inspect, typed};
use crate::domain::decision::decide;
use crate::domain::governor::Said;
use crate::domain::observation::{Observation, Seen, Via};
use crate::domain::policy::Heed;
use crate::domain::refused::MOST_KEPT;
use crate::domain::resource::{Key, SourceId};
use crate::refresh::Refresher;
use crate::store::{Claim, ClaimRequest, GoneBudget, Refusal, Selection, Settled, StoreError, Together};

/// How many are claimed at once.
const AT_ONCE: usize = 64;

/// Takes those of a source; returns how many, and how many must wait, since claims of their upstream are not given now.
pub(super) async fn adopt(refresher: &Refresher, id: SourceId, source: &Source) -> Result<(usize, usize), StoreError> {
    // What the upstream said about storing and answering is not kept with a refused body.
    if source.policy.cache_control == Heed::Respect {
        return Ok((0, 0));
    }
    let mut fitting = Vec::new();
    for key in refresher.store.misfits(id).await? {
        let refusal = refresher.store.refusal(&source.name, &key).await?;
        fitting.extend(refusal.and_then(|refusal| fits(source, &refusal)).map(|_| key));
    }
    let mut adopted = 0;
    for chunk in fitting.chunks(AT_ONCE) {
        adopted += take(refresher, id, source, chunk).await?;
    }
    Ok((adopted, fitting.len().saturating_sub(adopted)))
}

/// The body as it came, if all of it is kept and it fits now.
fn fits(source: &Source, refusal: &Refusal) -> Option<(HeaderMap, Bytes)> {
    let body = refusal.refused.body.clone().filter(|body| body.len() < MOST_KEPT)?;
    let content_type = refusal.refused.content_type.as_deref().and_then(|value| HeaderValue::from_bytes(value).ok());
    let headers: HeaderMap = content_type.into_iter().map(|value| (header::CONTENT_TYPE, value)).collect();
    let rules = &source.policy.body;
    let snapshot = inspect(&headers, body.clone(), rules).ok()?;
    typed(&snapshot, &body, rules).ok()?;
    Some((headers, body))
}

/// Claims these, so that nobody asks for them meanwhile, and settles them.
async fn take(refresher: &Refresher, id: SourceId, source: &Source, keys: &[Key]) -> Result<usize, StoreError> {
    let store = &refresher.store;
    let resources: Vec<_> = store.find(id, keys).await?.into_iter().flatten().collect();
    let Some(upstream) = refresher.roster.upstreams().iter().find(|upstream| upstream.sources.contains(&id)) else {
        return Ok(0);
    };
    let request = ClaimRequest {
        worker: refresher.worker.clone(),
        upstream: upstream.id,
        at_most: u32::try_from(resources.len()).unwrap_or(u32::MAX),
        which: Selection::Resources(resources),
        due_by: Some(DateTime::<Utc>::MAX_UTC),
        lease_for: upstream.lease_for,
        together: Together::new(),
    };
    let (mut batch, mut others) = (Vec::new(), Vec::new());
    for claim in store.claim(&request).await?.claims {
        // It may have been settled since it was looked at.
        let refusal = store.refusal(&source.name, &claim.key).await?;
        let holds = refresher.roster.source_of(&claim).is_some();
        match refusal.filter(|_| holds).and_then(|refusal| Some((fits(source, &refusal)?, refusal.at))) {
            Some(((headers, body), at)) => batch.push(settled(refresher, source, &claim, (headers, body, at))),
            None => others.push((claim.token, claim.resource)),
        }
    }
    store.release(&others).await?;
    store.apply(&batch).await?;
    refresher.announcer.announce(Announcement::Settled(batch.iter().map(|one| one.resource).collect()));
    Ok(batch.len())
}

fn settled(
    refresher: &Refresher,
    source: &Source,
    claim: &Claim,
    (headers, body, at): (HeaderMap, Bytes, DateTime<Utc>),
) -> Settled {
    let now = refresher.clock.now();
    let seen = Seen::Content { headers, body };
    let observation = Observation { requested_at: at, answered_at: at, conditional: false, seen, via: Via::default() };
    Settled {
        token: claim.token,
        resource: claim.resource,
        // A wish that came after that answer is still to be fulfilled.
        requested_at: at,
        decided_at: now,
        outcome: decide(&source.policy, &claim.previous, observation, now, fastrand::f64()),
        gone_budget: GoneBudget { share: source.max_delete_share, period: source.policy.cadence.interval(now) },
        signal: source.policy.hearing(claim.source).signal(Said::Nothing),
    }
}
