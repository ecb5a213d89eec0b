//! `GET /v1/{source}/{key}/history` and `?version=N`: contents that were replaced and are kept for a while.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::Serialize;

use super::ApiState;
use super::conditional::{Preconditions, evaluate};
use super::error::ApiError;
use super::freshness_headers::{VERSION, entity_tag, http_date_value};
use super::meta::Text;
use super::parameters::Parameters;
use super::problem::Problem;
use super::resource_path::ResourcePath;
use crate::domain::resource::{Key, SourceName};
use crate::store::{Current, KeptVersion, StoredContent};

/// The parameter that names one.
pub(super) const PARAMETER: &str = "version";

/// All versions whose content is there, the newest first.
#[derive(Debug, Serialize)]
struct History {
    source: SourceName,
    key: Key,
    versions: Vec<Told>,
}

/// A version, without its body.
#[derive(Debug, Serialize)]
struct Told {
    version: u64,
    /// Since when it was current.
    changed_at: DateTime<Utc>,
    /// Until when; `null` when it is current.
    until: Option<DateTime<Utc>>,
    /// Whether the resource was, or is, gone then, and not replaced.
    gone: bool,
    /// As in its ETag field.
    etag: String,
    content_type: Option<Text>,
    /// Bytes of the body.
    size: u64,
}

impl Told {
    /// What is stored as the resource's content now, if there is any.
    fn current(current: &Current) -> Option<Self> {
        let content = current.content.as_ref()?;
        let size = content.body.len() as u64;
        Some(Self::of(current.version, content, current.gone_since, current.gone_since.is_some(), size))
    }

    fn kept(kept: &KeptVersion) -> Self {
        Self::of(kept.version, &kept.content, Some(kept.until), kept.is_gone, kept.size)
    }

    fn of(version: u64, content: &StoredContent, until: Option<DateTime<Utc>>, gone: bool, size: u64) -> Self {
        let content_type = content.headers.get(header::CONTENT_TYPE).map(|value| Text::of(value.as_bytes()));
        let etag = format!("\"{}\"", content.etag);
        Self { version, changed_at: content.changed_at, until, gone, etag, content_type, size }
    }
}

/// A version that can't be answered with.
#[derive(Debug)]
pub struct NoVersion {
    path: ResourcePath,
    version: u64,
    /// The newest that there ever was.
    newest: u64,
    /// Those that are there.
    kept: Vec<u64>,
}

impl NoVersion {
    pub(super) fn problem(self) -> Problem {
        let Self { path, version, newest, kept } = self;
        let there = match kept.as_slice() {
            [] => "None is there.".into(),
            some => format!("Those are there: {}.", some.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
        };
        let problem = if version > newest {
            let detail = format!("There never was a version {version} of this resource. {there}");
            Problem::new(StatusCode::NOT_FOUND, "unknown-version", "Unknown version", detail)
        } else {
            let detail = format!("Version {version} of this resource is not kept any more, or never was. {there}");
            Problem::new(StatusCode::GONE, "version-not-kept", "Version not kept", detail)
        };
        problem.with("source", path.source.as_str()).with("key", path.key.as_str()).with("versions", kept)
    }
}

/// Answers with the versions whose content is there, the current one included.
///
/// # Errors
/// An unknown key or source, a parameter, or a failing store.
pub async fn history(State(api): State<ApiState>, path: ResourcePath, uri: Uri) -> Result<Response, ApiError> {
    Parameters::of(&uri, &[])?;
    let current = api.current(&path).await?;
    let kept = api.kept(&path, &current).await?;
    let versions = Told::current(&current).into_iter().chain(kept.iter().map(Told::kept)).collect();
    let history = History { source: path.source, key: path.key, versions };
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(history)).into_response())
}

/// The version that a request asks for, if it does.
///
/// # Errors
/// [`ApiError::BadParameter`] for what is no version.
pub(super) fn asked(parameters: &Parameters) -> Result<Option<u64>, ApiError> {
    parameters.get(PARAMETER, "it must be a whole number of at least 1.", |value| {
        let is_plain = value.bytes().all(|byte| byte.is_ascii_digit());
        value.parse().ok().filter(|version| is_plain && *version > 0)
    })
}

impl ApiState {
    /// What is kept of the contents before the current one, newest first. Read after it: what replaced that meanwhile is left
    /// out, so that no version comes twice.
    async fn kept(&self, path: &ResourcePath, current: &Current) -> Result<Vec<KeptVersion>, ApiError> {
        let mut kept = self.store.history(&path.source, &path.key).await?;
        kept.retain(|one| one.version < current.version);
        Ok(kept)
    }

    /// The answer to a request for one version of a resource, be it gone or not: nothing is waited for, and no upstream's terms
    /// are asked, since it does not pass for what is current.
    ///
    /// # Errors
    /// An unknown key or source, [`ApiError::Version`], a failed precondition, or a failing store.
    pub(super) async fn read_version(
        &self,
        path: ResourcePath,
        version: u64,
        request: &HeaderMap,
    ) -> Result<Response, ApiError> {
        let current = self.current(&path).await?;
        let content = if version == current.version {
            current.content.clone()
        } else {
            self.store.version(&path.source, &path.key, version).await?
        };
        if let Some(content) = content {
            return answer(content, version, request);
        }
        let now = current.content.is_some().then_some(current.version);
        let kept = self.kept(&path, &current).await?.into_iter().map(|kept| kept.version);
        let kept = now.into_iter().chain(kept).collect();
        Err(ApiError::Version(Box::new(NoVersion { path, version, newest: current.version, kept })))
    }
}

fn answer(content: StoredContent, version: u64, request: &HeaderMap) -> Result<Response, ApiError> {
    let (mut fields, body, status) = match evaluate(request, &content.etag.to_string(), content.changed_at) {
        Preconditions::Send => (content.headers, Body::from(content.body), StatusCode::OK),
        Preconditions::NotModified => {
            let length = (header::CONTENT_LENGTH, HeaderValue::from(content.body.len()));
            (HeaderMap::from_iter([length]), Body::empty(), StatusCode::NOT_MODIFIED)
        }
        Preconditions::Failed => return Err(ApiError::PreconditionFailed),
    };
    fields.insert(header::ETAG, entity_tag(content.etag));
    fields.insert(header::LAST_MODIFIED, http_date_value(content.changed_at));
    // It never changes, but it may have to be forgotten.
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    fields.insert(VERSION, HeaderValue::from(version));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    Ok(response)
}
