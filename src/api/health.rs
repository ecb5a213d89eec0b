//! `GET /healthz` and `GET /readyz`: for whatever starts, watches and routes to this process.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;

use super::ApiState;
use super::error::ApiError;
use super::settings::Upstreams;

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
}

/// Answers 200 as long as the process answers at all. It asks nothing of the store: a process that lost its database
/// recovers by itself and gains nothing from being restarted.
pub async fn alive() -> Response {
    healthy("up")
}

/// Answers 200 when the store can be reached and every source has tried each key that it started with.
///
/// # Errors
/// A 503 that says which of the two is missing.
pub async fn ready(State(api): State<ApiState>) -> Result<Response, ApiError> {
    // What is to be tried never will be, where upstreams are left alone.
    let is_tried = api.store.is_ready().await?;
    if is_tried || api.settings().upstreams == Upstreams::LeftAlone {
        Ok(healthy("ready"))
    } else {
        Err(ApiError::NotReady)
    }
}

fn healthy(status: &'static str) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(Health { status })).into_response()
}
