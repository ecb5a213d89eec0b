//! `POST /v1/{source}/{key}/refresh`: makes a key due, for an operator.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::Serialize;

use super::ApiState;
use super::access::Admin;
use super::error::ApiError;
use super::meta::{Beside, Meta};
use super::parameters::Parameters;
use super::prefer::{applied, wait};
use super::resource_path::ResourcePath;
use super::waiting::Mark;
use crate::announce::{Announcement, ResourceListener};
use crate::domain::read_state::ReadState;
use crate::domain::resource::{Key, SourceName};
use crate::domain::schedule::Due;
use crate::domain::time::later;
use crate::store::{Current, Selection};

/// What was accepted.
#[derive(Debug, Serialize)]
struct Accepted {
    source: SourceName,
    key: Key,
    /// The state in which it is served meanwhile.
    state: ReadState,
    due: Option<Due>,
    /// Until when it is being fetched, if it is.
    leased_until: Option<DateTime<Utc>>,
}

/// Makes the key due before all others, also one that failed or is gone, and answers 202 at once; with `Prefer: wait=N`, 200
/// with its /meta if the outcome comes within N seconds.
///
/// However often it is asked for, one request will do that has not begun yet. One that is under way may bring what was
/// before whatever the operator knows of, so it is followed by another.
///
/// # Errors
/// An unknown key, or one that is not polled any more.
pub async fn refresh(
    State(api): State<ApiState>,
    _: Admin,
    path: ResourcePath,
    uri: Uri,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    Parameters::of(&uri, &[])?;
    let before = api.current(&path).await?;
    let (asked, _) = before.comes_with();
    let mut news = api.announcer.listen_to(asked);
    let now = api.clock.now();
    if api.store.want(&Selection::Resources(vec![asked]), now).await? == 0 {
        return Err(ApiError::NotPolled(path));
    }
    api.announcer.announce(Announcement::Wanted);
    let Some(patience) = wait(&request).map(|wait| api.patience(wait)) else { return api.accepted(path, &uri).await };
    let outcome = tokio::select! {
        biased;
        outcome = api.outcome_after(&path, Mark::of(&before), &mut news) => Some(outcome?),
        () = api.no_longer(later(now, patience)) => None,
    };
    let mut response = match outcome {
        Some(current) => {
            let refusal = api.store.refusal(&path.source, &path.key).await?;
            let beside = Beside { refusal: refusal.as_ref(), wait: api.store.wait(&path.source).await? };
            let meta = Meta::of(path.source, path.key, current, beside, api.clock.now());
            ([(header::CACHE_CONTROL, "no-store")], axum::Json(meta)).into_response()
        }
        None => api.accepted(path, &uri).await?,
    };
    response.headers_mut().extend([applied(patience)]);
    Ok(response)
}

impl ApiState {
    async fn accepted(&self, path: ResourcePath, uri: &Uri) -> Result<Response, ApiError> {
        let current = self.current(&path).await?;
        let accepted = Accepted {
            state: ReadState::of(current.gone_since, current.freshness, self.clock.now()),
            source: path.source,
            key: path.key,
            due: current.due,
            leased_until: current.leased_until,
        };
        let mut response =
            (StatusCode::ACCEPTED, [(header::CACHE_CONTROL, "no-store")], axum::Json(accepted)).into_response();
        // RFC 9110 §15.3.3: where to look at how it goes. In the spelling of the request, so encoded as it must be.
        let meta =
            uri.path().strip_suffix("/refresh").map(|resource| HeaderValue::try_from(format!("{resource}/meta")));
        response.headers_mut().extend(meta.and_then(Result::ok).map(|meta| (header::LOCATION, meta)));
        Ok(response)
    }

    /// What is known of the resource when there has been an outcome and nobody wants another.
    async fn outcome_after(
        &self,
        path: &ResourcePath,
        before: Mark,
        news: &mut ResourceListener,
    ) -> Result<Current, ApiError> {
        loop {
            let current = self.current(path).await?;
            let is_there = Mark::of(&current) != before && current.wanted_at.is_none();
            if is_there || current.due.is_none() {
                return Ok(current);
            }
            news.next().await;
        }
    }
}
