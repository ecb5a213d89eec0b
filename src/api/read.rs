//! `GET /v1/{source}/{key}`: the snapshot.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use super::ApiState;
use super::bounds::Bound;
use super::conditional::{Preconditions, evaluate};
use super::error::ApiError;
use super::freshness_headers::{
    CACHE_STATUS, cache_status, entity_tag, freshness_fields, http_date_value, last_modified, seconds_until,
    state_fields, time_fields,
};
use super::history;
use super::missing::{Missing, MissingBecause};
use super::parameters::Parameters;
use super::prefer::applied;
use super::reading::{Demand, Reading, Way};
use super::resource_path::ResourcePath;
use crate::domain::decision::Freshness;
use crate::domain::read_state::{ReadState, may_answer};
use crate::store::{Current, StoreError, StoredContent};
use crate::telemetry::metrics;

/// The longest Retry-After for what was never fetched: a key can become due earlier than planned.
const LONGEST_RETRY_AFTER: u64 = 60;

/// Answers with the content that the store holds now; HEAD is the same without the body.
///
/// # Errors
/// What keeps the content from being there: see [`ApiError`].
pub async fn read(
    State(api): State<ApiState>,
    path: ResourcePath,
    uri: Uri,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    match history::asked(&Parameters::of(&uri, &[history::PARAMETER])?)? {
        Some(version) => api.read_version(path, version, &request).await,
        None => read_copy(&api, path, &request).await,
    }
}

/// The answer to a request for this resource, however its URL names it.
///
/// # Errors
/// What keeps the content from being there: see [`ApiError`].
pub async fn read_copy(api: &ApiState, path: ResourcePath, request: &HeaderMap) -> Result<Response, ApiError> {
    let demand = Demand::of(request);
    let reading = api.reading(&path, &demand).await?;
    let answer = answer(path, reading, &demand, request, api.clock.now());
    let mut response = answer.into_response();
    response.headers_mut().extend(api.applied_wait(&demand).map(applied));
    Ok(response)
}

impl ApiState {
    /// What the store holds of a resource.
    ///
    /// # Errors
    /// That the key is erased; [`ApiError::UnknownKey`], or [`ApiError::UnknownSource`] when the config has no such source either: a source that
    /// was taken out of the config is served until its data is pruned, as is a key.
    pub async fn current(&self, path: &ResourcePath) -> Result<Current, ApiError> {
        match self.store.current(&path.source, &path.key).await? {
            Some(Current { erased_at: Some(since), .. }) => {
                Err(ApiError::missing(path.clone(), MissingBecause::Erased { since }))
            }
            Some(current) => Ok(current),
            None if self.settings().sources.contains(&path.source) => Err(ApiError::UnknownKey(path.clone())),
            None => Err(ApiError::UnknownSource { source: path.source.to_string() }),
        }
    }
}

/// The answer to a request for a resource of which this is known at `now`.
fn answer(
    path: ResourcePath,
    reading: Reading,
    demand: &Demand,
    request: &HeaderMap,
    now: DateTime<Utc>,
) -> Result<Response, ApiError> {
    let Reading { current, way } = reading;
    let state = ReadState::of(current.gone_since, current.freshness, now);
    metrics::read(path.source.as_str(), state.as_str());
    let mut fields = state_fields(state, current.version, current.failing.as_ref());
    if matches!(state, ReadState::Gone | ReadState::Pending) {
        fields.extend(cache_status(way, None, now).map(|status| (CACHE_STATUS, status)));
    }
    let missing = |path, because, fields| Err(ApiError::Missing(Box::new(Missing { path, because, fields })));
    match (state, current.gone_since, current.content, current.freshness) {
        (ReadState::Gone, Some(since), ..) if current.version > 0 => {
            missing(path, MissingBecause::Gone { since }, fields)
        }
        (ReadState::Gone, ..) => missing(path, MissingBecause::Absent, fields),
        // Retired before it was ever fetched: nothing is there, and nothing will come.
        (ReadState::Pending, ..) if current.due.is_none() => Err(ApiError::UnknownKey(path)),
        (ReadState::Pending, ..) if demand.bounds.only_if_cached => {
            missing(path, MissingBecause::Bound(Bound::OnlyIfCached), fields)
        }
        (ReadState::Pending, ..) => {
            let retry_after = seconds_until(current.due.map(|due| due.at), now, LONGEST_RETRY_AFTER);
            missing(path, MissingBecause::Pending { retry_after }, fields)
        }
        (ReadState::Fresh | ReadState::Stale, _, Some(content), Some(freshness)) => {
            if let Some(bound) = demand.bounds.broken_by(freshness, way.has_confirmed(), now) {
                fields.extend(time_fields(freshness));
                return missing(path, MissingBecause::Bound(bound), fields);
            }
            let leave = demand.leave(way.has_confirmed());
            if let Err(why) = may_answer(current.terms.as_ref(), freshness, current.failing.as_ref(), leave, now) {
                fields.extend(time_fields(freshness));
                return missing(path, MissingBecause::Withheld(why), fields);
            }
            let upstreams_word = current.validators.last_modified;
            let modified = last_modified(upstreams_word.as_deref(), content.changed_at, now);
            Copy { content, freshness, modified, way, fields }.answer(request, now)
        }
        (ReadState::Fresh | ReadState::Stale, ..) => Err(ApiError::Store(StoreError::Corrupt {
            table: "content",
            column: "resource_id",
            row: current.resource.0,
            problem: "the resource has freshness but no content".into(),
        })),
    }
}

/// A copy to answer with.
struct Copy {
    content: StoredContent,
    freshness: Freshness,
    modified: DateTime<Utc>,
    way: Way,
    fields: HeaderMap,
}

impl Copy {
    fn answer(self, request: &HeaderMap, now: DateTime<Utc>) -> Result<Response, ApiError> {
        let preconditions = evaluate(request, &self.content.etag.to_string(), self.modified);
        let (status, mut fields, body) = match preconditions {
            Preconditions::Send => (StatusCode::OK, self.content.headers, Body::from(self.content.body)),
            // RFC 9110 §15.4.5: what a cache needs to freshen its copy, and no other metadata of the content. The length
            // must be the content's or left out (§8.6); the framework would put that of the empty body.
            Preconditions::NotModified => {
                let length = (header::CONTENT_LENGTH, HeaderValue::from(self.content.body.len()));
                (StatusCode::NOT_MODIFIED, HeaderMap::from_iter([length]), Body::empty())
            }
            Preconditions::Failed => return Err(ApiError::PreconditionFailed),
        };
        if status == StatusCode::OK {
            fields.insert(header::LAST_MODIFIED, http_date_value(self.modified));
        }
        fields.insert(header::ETAG, entity_tag(self.content.etag));
        fields.extend(freshness_fields(self.freshness, now));
        if let Some(status) = cache_status(self.way, Some(self.freshness), now) {
            fields.insert(CACHE_STATUS, status);
        }
        fields.extend(self.fields);
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        Ok(response)
    }
}
