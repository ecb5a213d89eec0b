//! `GET /v1/-/changes`: the change feed.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Uri, header};
use serde::Serialize;

use super::ApiState;
use super::access::Reader;
use super::error::ApiError;
use super::parameters::Parameters;
use crate::domain::change::{Change, Cursor};
use crate::store::Changes;

/// A page of the feed. `next` is where to go on, also when there is nothing new. Changes of sources that the reader may not
/// read are left out, so a page can be short, or empty, before the end: at the end `next` is `since` again.
#[derive(Debug, Serialize)]
struct Page {
    changes: Vec<Change>,
    next: Cursor,
}

/// Answers with the changes after `since`, or from the feed's beginning, at most `limit` of them.
///
/// # Errors
/// A wrong parameter, a place that the feed doesn't have, or a failing store.
pub async fn changes(State(api): State<ApiState>, reader: Reader, uri: Uri) -> Result<Response, ApiError> {
    let parameters = Parameters::of(&uri, &["limit", "since"])?;
    let since = parameters.get("since", SINCE, |value| value.parse().ok())?;
    match api.store.changes(since, parameters.limit()?).await? {
        Changes::Page { mut changes, next } => {
            changes.retain(|change| reader.sees(&change.source));
            Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(Page { changes, next })).into_response())
        }
        Changes::Unknown => Err(ApiError::UnknownCursor),
    }
}

const SINCE: &str = "it must be the `next` of an earlier answer or the `cursor` of a change, unchanged.";
