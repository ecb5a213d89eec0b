//! `GET /v1/{source}/{key}/meta`: what is known of a resource besides its content.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{Uri, header};
use serde::Serialize;

use super::ApiState;
use super::error::ApiError;
use super::parameters::Parameters;
use super::resource_path::ResourcePath;
use crate::domain::failure::{Failing, FailureKind};
use crate::domain::read_state::ReadState;
use crate::domain::resource::{Key, SourceName};
use crate::domain::schedule::Due;
use crate::domain::validators::Validators;
use crate::store::Current;

/// Everything known of a resource; what doesn't apply is `null`.
#[derive(Debug, Serialize)]
pub struct Meta {
    source: SourceName,
    key: Key,
    state: ReadState,
    version: u64,
    fetched_at: Option<DateTime<Utc>>,
    stale_after: Option<DateTime<Utc>>,
    changed_at: Option<DateTime<Utc>>,
    /// As in the content's ETag field.
    etag: Option<String>,
    content_type: Option<Text>,
    upstream: Upstream,
    due: Option<Due>,
    leased_until: Option<DateTime<Utc>>,
    gone_since: Option<DateTime<Utc>>,
    failing: Option<FailingNow>,
}

/// The upstream's validators.
#[derive(Debug, Serialize)]
struct Upstream {
    etag: Option<Text>,
    last_modified: Option<Text>,
}

/// Bytes from a header as text; those that aren't UTF-8 can't be shown in JSON, and it is said that they can't.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Text {
    /// It is text.
    Exact(String),
    /// It was none.
    Lossy {
        /// With U+FFFD in the place of what can't be shown.
        lossy: String,
    },
}

impl Text {
    /// What these bytes say.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match String::from_utf8_lossy(bytes) {
            std::borrow::Cow::Borrowed(text) => Self::Exact(text.to_owned()),
            std::borrow::Cow::Owned(lossy) => Self::Lossy { lossy },
        }
    }
}

/// The run of failures that the resource is in.
#[derive(Debug, Serialize)]
struct FailingNow {
    kind: FailureKind,
    status: Option<u16>,
    detail: String,
    at: DateTime<Utc>,
    since: DateTime<Utc>,
    count: u32,
}

/// Answers 200 for every known key, whatever its state.
///
/// # Errors
/// An unknown key or source, or a failing store.
pub async fn meta(State(api): State<ApiState>, path: ResourcePath, uri: Uri) -> Result<Response, ApiError> {
    Parameters::of(&uri, &[])?;
    let current = api.current(&path).await?;
    let meta = Meta::of(path.source, path.key, current, api.clock.now());
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(meta)).into_response())
}

impl Meta {
    /// What is known of a resource at `now`.
    #[must_use]
    pub fn of(source: SourceName, key: Key, current: Current, now: DateTime<Utc>) -> Self {
        let content = current.content.as_ref();
        Self {
            source,
            key,
            state: ReadState::of(current.gone_since, current.freshness, now),
            version: current.version,
            fetched_at: current.freshness.map(|freshness| freshness.fetched_at),
            stale_after: current.freshness.map(|freshness| freshness.stale_after),
            changed_at: content.map(|content| content.changed_at),
            etag: content.map(|content| format!("\"{}\"", content.etag)),
            content_type: content
                .and_then(|content| content.headers.get(header::CONTENT_TYPE))
                .map(|value| Text::of(value.as_bytes())),
            upstream: Upstream::of(&current.validators),
            due: current.due,
            leased_until: current.leased_until,
            gone_since: current.gone_since,
            failing: current.failing.map(FailingNow::of),
        }
    }
}

impl Upstream {
    fn of(validators: &Validators) -> Self {
        let text = |bytes: &Option<Bytes>| bytes.as_deref().map(Text::of);
        Self { etag: text(&validators.etag), last_modified: text(&validators.last_modified) }
    }
}

impl FailingNow {
    fn of(Failing { last, at, since, count }: Failing) -> Self {
        Self { kind: last.kind, status: last.status, detail: last.detail, at, since, count }
    }
}
