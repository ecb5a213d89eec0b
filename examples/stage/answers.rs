//! How the examples' services answer.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};

/// JSON with an ETag and a lifetime in seconds; 304 for whoever has it already.
pub fn with_etag(asked: &HeaderMap, lifetime: u32, json: String) -> Response {
    let etag = format!("\"{}\"", blake3::hash(json.as_bytes()).to_hex());
    let about = [(header::ETAG, etag.clone()), (header::CACHE_CONTROL, format!("max-age={lifetime}"))];
    let conditions = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    if conditions.flat_map(|value| value.split(',')).any(|known| known.trim() == etag) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

/// A fault of ours, such as a database that is not there: 500.
pub struct Failed(String);

impl<E: std::fmt::Display> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.0 + "\n").into_response()
    }
}
