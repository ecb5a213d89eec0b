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

/// Entries in a page when the request doesn't say.
const DEFAULT_LIMIT: u32 = 100;
/// Entries in a page at the most.
const LARGEST_LIMIT: u32 = 1000;

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
    let limit = parameters.get("limit", LIMIT, limit)?.unwrap_or(DEFAULT_LIMIT);
    match api.store.changes(since, limit).await? {
        Changes::Page { mut changes, next } => {
            changes.retain(|change| reader.sees(&change.source));
            Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(Page { changes, next })).into_response())
        }
        Changes::Unknown => Err(ApiError::UnknownCursor),
    }
}

const SINCE: &str = "it must be the `next` of an earlier answer or the `cursor` of a change, unchanged.";
const LIMIT: &str = "it must be a whole number from 1 to 1000.";

fn limit(value: &str) -> Option<u32> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|limit| digits && (1..=LARGEST_LIMIT).contains(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_between_1_and_1000() {
        for (value, expected) in [
            ("1", Some(1)),
            ("1000", Some(1000)),
            ("0", None),
            ("1001", None),
            ("99999999999999999999", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("1.0", None),
            ("", None),
        ] {
            assert_eq!(limit(value), expected, "{value:?}");
        }
    }
}
