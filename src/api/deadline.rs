//! How long a request may take to be answered.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::watch;

use super::error::ApiError;
use super::settings::Settings;

/// Answers with a 503 in place of a handler that takes longer than the `request_timeout` that held when the request came.
pub async fn deadline(
    State(settings): State<watch::Receiver<Arc<Settings>>>,
    request: Request,
    next: Next,
) -> Response {
    let limit = settings.borrow().request_timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::TimedOut.into_response(),
    }
}
