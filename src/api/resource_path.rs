//! Which resource a path names.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::error::ApiError;
use crate::domain::resource::{Key, SourceName};

/// The `{source}/{key}` of a path, percent-decoded once: `a%2Fb` names the key `a/b`, and `a%252Fb` the key `a%2Fb`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResourcePath {
    /// The source.
    pub source: SourceName,
    /// The key.
    pub key: Key,
}

impl<S: Send + Sync> FromRequestParts<S> for ResourcePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // The route gives both texts, so the only thing that can be wrong is their encoding.
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((source, key)) = path.map_err(|_| ApiError::UnreadablePath)?;
        let source = source_name(source, parts)?;
        Ok(Self { source, key: Key::new(key).map_err(|reason| ApiError::BadKey { reason })? })
    }
}

/// The `{source}` of a path that names no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePath(pub SourceName);

impl<S: Send + Sync> FromRequestParts<S> for SourcePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(source) = path.map_err(|_| ApiError::UnreadablePath)?;
        source_name(source, parts).map(Self)
    }
}

fn source_name(source: String, request: &Parts) -> Result<SourceName, ApiError> {
    if source == "-" {
        return Err(ApiError::UnknownRoute { path: request.uri.path().to_owned() });
    }
    SourceName::new(source.as_str()).map_err(|_| ApiError::UnknownSource { source })
}
