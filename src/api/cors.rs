//! Which web pages may read (the Fetch standard's CORS protocol).

use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, header};
use tower::{Layer, Service};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::ApiState;
use super::feed::CURSOR;
use super::freshness_headers::{CACHE_STATUS, FETCHED_AT, LAST_FAILURE, STALE_AFTER, STATE, VERSION};
use super::prefer::{PREFER, PREFERENCE_APPLIED};
use crate::config::CorsOrigins;

/// How long a browser may remember what it may send. Longer than any of them does.
const PREFLIGHT_LASTS: Duration = Duration::from_secs(86_400);

/// What a page may send besides what all pages may.
const ALLOWED: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_UNMODIFIED_SINCE,
    PREFER,
];

/// What a page may see besides what all pages may.
const EXPOSED: [HeaderName; 12] = [
    header::AGE,
    CACHE_STATUS,
    CURSOR,
    header::ETAG,
    FETCHED_AT,
    LAST_FAILURE,
    header::LINK,
    PREFERENCE_APPLIED,
    header::RETRY_AFTER,
    STALE_AFTER,
    STATE,
    VERSION,
];

/// What the config says about it. By default no page may.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    named: Vec<HeaderValue>,
    layer: Option<CorsLayer>,
}

impl Cors {
    /// What the config says.
    #[must_use]
    pub fn of(origins: &CorsOrigins) -> Self {
        // No credentials: tokens are sent by scripts that have them, not by browsers that remember them.
        let layer = CorsLayer::new().allow_headers(ALLOWED).expose_headers(EXPOSED).max_age(PREFLIGHT_LASTS);
        let reading = [Method::GET, Method::HEAD];
        match origins {
            CorsOrigins::All => {
                Self { named: Vec::new(), layer: Some(layer.allow_origin(AllowOrigin::any()).allow_methods(reading)) }
            }
            CorsOrigins::These(named) if named.is_empty() => Self::default(),
            CorsOrigins::These(named) => Self {
                named: named.clone(),
                layer: Some(layer.allow_origin(AllowOrigin::list(named.iter().cloned())).allow_methods(
                    reading.into_iter().chain([Method::POST, Method::PUT, Method::DELETE]).collect::<Vec<_>>(),
                )),
            },
        }
    }

    /// Whether the config names this origin.
    #[must_use]
    pub fn names(&self, origin: &HeaderValue) -> bool {
        self.named.contains(origin)
    }
}

/// Answers preflights, and says in all other answers which pages may see them.
pub async fn cors(State(api): State<ApiState>, request: Request, next: Next) -> Response {
    let is_preflight = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    match &api.settings().cors.layer {
        // The layer takes any OPTIONS for a preflight.
        Some(layer) if request.method() != Method::OPTIONS || is_preflight => {
            layer.layer(next).call(request).await.into_response()
        }
        _ => next.run(request).await,
    }
}
