//! `POST /v1/{source}/{key}/erase` and `/allow`: nothing is to be kept of a key, and that it may be kept again.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Uri, header};
use serde::Serialize;

use super::ApiState;
use super::access::Admin;
use super::error::ApiError;
use super::parameters::Parameters;
use super::resource_path::ResourcePath;
use crate::announce::Announcement;
use crate::domain::resource::{Key, SourceId, SourceName};
use crate::store::{Allowed, Erased};

/// What was done.
#[derive(Debug, Serialize)]
struct Done {
    source: SourceName,
    key: Key,
    /// Whether nothing is kept of it from now on.
    erased: bool,
    /// Whether it is polled.
    polled: bool,
}

/// Erases all that there is of a key, which stays so; of one that was never seen with `unseen=true`. Doing so again changes
/// nothing.
///
/// # Errors
/// An unknown key or source, a parameter, or a failing store.
pub async fn erase(State(api): State<ApiState>, _: Admin, path: ResourcePath, uri: Uri) -> Result<Response, ApiError> {
    let parameters = Parameters::of(&uri, &["unseen"])?;
    let unseen = parameters.get("unseen", "it must be true or false.", |value| value.parse().ok())?;
    let source = api.source_id(&path).await?;
    let fates = api.store.erase(source, std::slice::from_ref(&path.key), unseen.unwrap_or(false)).await?;
    match fates.first() {
        Some(Erased::Now(id)) => api.announcer.announce(Announcement::Settled([*id].into())),
        Some(Erased::Before | Erased::Unseen) => {}
        Some(Erased::Unknown) | None => return Err(ApiError::UnknownKey(path)),
    }
    Ok(done(path, true, false))
}

/// Lets an erased key be fetched again, at once if it is listed.
///
/// # Errors
/// A key that is not erased, an unknown source, a parameter, or a failing store.
pub async fn allow(State(api): State<ApiState>, _: Admin, path: ResourcePath, uri: Uri) -> Result<Response, ApiError> {
    Parameters::of(&uri, &[])?;
    let source = api.source_id(&path).await?;
    match api.store.allow(source, std::slice::from_ref(&path.key)).await?.first() {
        Some(Allowed::Polled) => {
            api.announcer.announce(Announcement::Wanted);
            Ok(done(path, false, true))
        }
        Some(Allowed::Unlisted) => Ok(done(path, false, false)),
        Some(Allowed::NotErased) | None => Err(ApiError::NotErased(path)),
    }
}

fn done(path: ResourcePath, erased: bool, polled: bool) -> Response {
    let done = Done { source: path.source, key: path.key, erased, polled };
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(done)).into_response()
}

impl ApiState {
    /// Also one that the configuration no longer has.
    async fn source_id(&self, path: &ResourcePath) -> Result<SourceId, ApiError> {
        let id = self.store.source(&path.source).await?;
        id.ok_or_else(|| ApiError::UnknownSource { source: path.source.to_string() })
    }
}
