//! `PUT` and `DELETE /v1/{source}/{key}`: keys that are added and removed one by one, by whoever administers.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};
use serde::Serialize;
use serde_json::{Map, Value};

use super::ApiState;
use super::access::Admin;
use super::error::ApiError;
use super::parameters::Parameters;
use super::resource_path::ResourcePath;
use crate::announce::Announcement;
use crate::config::Source;
use crate::domain::origin::Hand;
use crate::domain::resource::{Key, Params, SourceName, scalar};
use crate::domain::template::KEY;
use crate::store::{KeysChanged, Removed};

/// The largest body, in bytes.
const LARGEST: usize = 64 * 1024;

const EXPECTED: &str = "it must be a JSON object of parameters, whose values are texts, numbers or truth values, as in \
                        {\"lat\": 52.52}, or nothing at all.";

/// What was added.
#[derive(Debug, Serialize)]
struct Put {
    source: SourceName,
    key: Key,
    /// As they are written in URLs.
    params: Params,
}

/// What was removed.
#[derive(Debug, Serialize)]
struct StillThere {
    source: SourceName,
    key: Key,
    /// Where it still comes from, so that it is polled on.
    origins: Vec<String>,
}

/// Has the key polled, with these parameters: 201 when it was not, else 200. Doing so again changes nothing.
///
/// # Errors
/// A body that is no object of parameters; a key that the source can't ask for.
pub async fn put(
    State(api): State<ApiState>,
    _: Admin,
    path: ResourcePath,
    uri: Uri,
    body: Body,
) -> Result<Response, ApiError> {
    Parameters::of(&uri, &[])?;
    let bytes = to_bytes(body, LARGEST).await.map_err(|_| ApiError::BadBody { expected: EXPECTED })?;
    let params = params(&bytes).ok_or(ApiError::BadBody { expected: EXPECTED })?;
    if let Err(erased @ ApiError::Missing(_)) = api.current(&path).await {
        return Err(erased);
    }
    let source = api.asked(&path)?;
    if let Err(error) = source.ask(&path.key, &params) {
        return Err(ApiError::UnusableKey { path, why: error.to_string() });
    }
    let id = api.store.source(&path.source).await?.ok_or_else(|| unknown(&path))?;
    let keys = [(path.key.clone(), params.clone())];
    let KeysChanged { added, revived, .. } = api.store.add_by_hand(id, Hand::Api, &keys).await?;
    api.announcer.announce(Announcement::Wanted);
    let status = if added + revived > 0 { StatusCode::CREATED } else { StatusCode::OK };
    let put = Put { source: path.source, key: path.key, params };
    Ok((status, [(header::CACHE_CONTROL, "no-store")], axum::Json(put)).into_response())
}

/// Removes a key that was added by hand, here or at the command line: 204 when it is polled no longer, 200 when it still
/// comes from elsewhere. Its data is served until its retention ends.
///
/// # Errors
/// An unknown key, or one that comes only from elsewhere.
pub async fn delete(State(api): State<ApiState>, _: Admin, path: ResourcePath, uri: Uri) -> Result<Response, ApiError> {
    Parameters::of(&uri, &[])?;
    api.asked(&path)?;
    let id = api.store.source(&path.source).await?.ok_or_else(|| unknown(&path))?;
    let removed = api.store.remove_keys(id, std::slice::from_ref(&path.key)).await?;
    match removed.into_iter().next() {
        Some(Removed::Retired) => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(Removed::StillIn(origins)) => {
            let left = StillThere { source: path.source, key: path.key, origins };
            Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(left)).into_response())
        }
        Some(Removed::OnlyIn(origins)) => Err(ApiError::ListedElsewhere { path, origins }),
        Some(Removed::Unknown) | None => Err(ApiError::UnknownKey(path)),
    }
}

fn unknown(path: &ResourcePath) -> ApiError {
    ApiError::UnknownSource { source: path.source.to_string() }
}

impl ApiState {
    /// The source as the configuration has it.
    fn asked(&self, path: &ResourcePath) -> Result<Arc<Source>, ApiError> {
        self.settings().asked.get(&path.source).map(Arc::clone).ok_or_else(|| unknown(path))
    }
}

/// Parameters from a body; `None` when it is something else.
fn params(body: &[u8]) -> Option<Params> {
    if body.trim_ascii().is_empty() {
        return Some(Params::new());
    }
    let members: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let params: Params =
        members.into_iter().map(|(name, value)| Some((name, scalar(&value)?))).collect::<Option<_>>()?;
    // It is in the path already.
    (!params.contains_key(KEY)).then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_an_object_of_scalars_or_nothing() {
        assert_eq!(params(b""), Some(Params::new()));
        assert_eq!(params(b" {} "), Some(Params::new()));
        let read = params(br#"{ "lat": 52.520, "name": "K\u00f6ln", "new": true }"#).unwrap();
        let expected = [("lat", "52.520"), ("name", "Köln"), ("new", "true")];
        assert_eq!(read, expected.map(|(name, value)| (name.into(), value.into())).into());
        for wrong in ["[]", "7", "{", "{\"a\":null}", "{\"a\":[1]}", "{\"a\":{}}", "{\"key\":\"b\"}", "\u{feff}{}"] {
            assert_eq!(params(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
