//! Which resource a path names.

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;

use super::error::ApiError;
use crate::domain::resource::{Key, SourceName};

/// The `{source}/{key}` of a path, percent-decoded once: `a%2Fb` names the key `a/b`, and `a%252Fb` the key `a%2Fb`.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        if source == "-" {
            return Err(ApiError::UnknownRoute { path: parts.uri.path().to_owned() });
        }
        Ok(Self {
            source: SourceName::new(source.as_str()).map_err(|_| ApiError::UnknownSource { source })?,
            key: Key::new(key).map_err(|reason| ApiError::BadKey { reason })?,
        })
    }
}
