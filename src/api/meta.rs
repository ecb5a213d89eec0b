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
use crate::domain::governor::Wait;
use crate::domain::read_state::ReadState;
use crate::domain::resource::{Key, SourceName};
use crate::domain::schedule::Due;
use crate::domain::terms::Terms;
use crate::domain::validators::Validators;
use crate::store::{Current, Refusal};

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
    /// What it waits for though it is due.
    waits: Option<Waits>,
    leased_until: Option<DateTime<Utc>>,
    gone_since: Option<DateTime<Utc>>,
    failing: Option<FailingNow>,
    /// A body that came and was refused, if nothing usable has come since; `headpond get --refused` shows it.
    refused: Option<RefusedNow>,
}

/// What keeps something due from being asked for.
#[derive(Debug, Serialize)]
struct Waits {
    because: &'static str,
    /// For a person.
    why: String,
    /// Until when, at the earliest.
    until: DateTime<Utc>,
}

/// What is known beside what a reader sees.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    /// The body that was refused last.
    pub refusal: Option<&'a Refusal>,
    /// What keeps its source's due resources from being asked for.
    pub wait: Option<Wait>,
}

/// A refused body, without the body.
#[derive(Debug, Serialize)]
struct RefusedNow {
    at: DateTime<Utc>,
    status: u16,
    content_type: Option<Text>,
    /// How many bytes came.
    size: u64,
    /// How many of them are kept: `null` where they may not be.
    kept: Option<usize>,
}

impl RefusedNow {
    fn of(Refusal { at, refused }: &Refusal) -> Self {
        Self {
            at: *at,
            status: refused.status,
            content_type: refused.content_type.as_deref().map(Text::of),
            size: refused.size,
            kept: refused.body.as_ref().map(Bytes::len),
        }
    }
}

/// What the upstream said with the copy.
#[derive(Debug, Serialize)]
struct Upstream {
    etag: Option<Text>,
    last_modified: Option<Text>,
    /// Whether something in between changed the content: it came with status 203.
    transformed: bool,
    /// The path under which the resource is for good, by a 301 or 308: the config's url is old.
    moved_to: Option<String>,
    /// On which terms the copy may be answered, where they are respected.
    terms: Option<Terms>,
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
    let refusal = api.store.refusal(&path.source, &path.key).await?;
    let wait = api.store.wait(&path.source).await?;
    let beside = Beside { refusal: refusal.as_ref(), wait };
    let meta = Meta::of(path.source, path.key, current, beside, api.clock.now());
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(meta)).into_response())
}

impl Meta {
    /// What is known of a resource at `now`.
    #[must_use]
    pub fn of(source: SourceName, key: Key, current: Current, beside: Beside<'_>, now: DateTime<Utc>) -> Self {
        let content = current.content.as_ref();
        let is_held_up = current.due.is_some_and(|due| due.at <= now) && current.leased_until.is_none();
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
            upstream: Upstream::of(&current.validators, current.transformed, current.moved_to, current.terms),
            due: current.due,
            waits: beside.wait.filter(|_| is_held_up).map(Waits::of),
            leased_until: current.leased_until,
            gone_since: current.gone_since,
            failing: current.failing.map(FailingNow::of),
            refused: beside.refusal.map(RefusedNow::of),
        }
    }
}

impl Waits {
    fn of(Wait { until, why }: Wait) -> Self {
        Self { because: why.as_str(), why: why.to_string(), until }
    }
}

impl Upstream {
    fn of(validators: &Validators, transformed: bool, moved_to: Option<String>, terms: Option<Terms>) -> Self {
        let text = |bytes: &Option<Bytes>| bytes.as_deref().map(Text::of);
        let (etag, last_modified) = (text(&validators.etag), text(&validators.last_modified));
        Self { etag, last_modified, transformed, moved_to, terms }
    }
}

impl FailingNow {
    fn of(Failing { last, at, since, count }: Failing) -> Self {
        Self { kind: last.kind, status: last.status, detail: last.detail, at, since, count }
    }
}
