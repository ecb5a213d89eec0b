//! A list of a source, page by page.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use url::form_urlencoded;

use super::ApiState;
use super::collection::{NO_STORE, bodies, unknown};
use super::error::ApiError;
use super::feed::CURSOR;
use super::item::Item;
use super::parameters::Parameters;
use crate::domain::change::Cursor;
use crate::domain::read_state::ReadState;
use crate::domain::resource::{Key, SourceName};
use crate::store::{Bodies, ListRequest};

/// A page of a list. Whether there is another one is said by `Link`.
#[derive(Debug, Serialize)]
struct Page<'a> {
    items: Vec<Item<'a>>,
    /// Where the feed was before the first page was read: what changes while the list is read is in the feed behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Cursor>,
}

/// What a list is of, and how it is shown.
struct Wanted {
    request: ListRequest,
    /// Of the first page; the links hand it on.
    cursor: Option<Cursor>,
}

impl Wanted {
    async fn of(api: &ApiState, parameters: &Parameters) -> Result<Self, ApiError> {
        let state = parameters.get("state", "it must be fresh, stale, pending or gone.", ReadState::parse)?;
        let request = ListRequest {
            after: parameters.checked("after", |key| Key::new(key).map_err(|reason| format!("{reason}.")))?,
            limit: parameters.limit()?,
            state: state.map(|state| (state, api.clock.now())),
            bodies: bodies(parameters)?,
        };
        let given = parameters
            .get("cursor", "it is handed on by `Link` from the first page, unchanged.", |value| value.parse().ok())?;
        // Only before the first page: whoever begins in the middle has not seen what is before.
        let cursor = match request.after {
            None => Some(api.store.feed_end().await?),
            Some(_) => given,
        };
        Ok(Self { request, cursor })
    }
}

/// Answers with a page.
///
/// # Errors
/// A wrong parameter, an unknown source, or a failing store.
pub(super) async fn list(api: &ApiState, source: SourceName, parameters: &Parameters) -> Result<Response, ApiError> {
    // The keys of a source that the config no longer has are polled no more, so that none of them would be listed.
    if !api.settings().sources.contains(&source) {
        return Err(unknown(&source));
    }
    let Wanted { request, cursor } = Wanted::of(api, parameters).await?;
    let Some(page) = api.store.list(&source, &request).await? else { return Err(unknown(&source)) };
    let now = request.state.map_or_else(|| api.clock.now(), |(_, now)| now);
    let items = page.items.iter().map(|listed| Item::of(listed, request.bodies, now)).collect();
    let mut fields = HeaderMap::new();
    if let Some(next) = page.next {
        fields.insert(header::LINK, next_link(&next, &request, cursor));
    }
    fields.extend(cursor.map(|cursor| (CURSOR, value_of(cursor))));
    Ok((NO_STORE, fields, axum::Json(Page { items, cursor })).into_response())
}

fn value_of(cursor: Cursor) -> HeaderValue {
    // Digits and a hyphen are always a valid value.
    HeaderValue::try_from(cursor.to_string()).unwrap_or(HeaderValue::from_static(""))
}

/// Where the next page is (RFC 8288 §3): a reference to the same path with another query, which a proxy that changes the
/// path or the host can't break.
fn next_link(after: &Key, request: &ListRequest, cursor: Option<Cursor>) -> HeaderValue {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &request.limit.to_string());
    if let Some((state, _)) = request.state {
        query.append_pair("state", state.as_str());
    }
    if request.bodies == Bodies::LeftOut {
        query.append_pair("data", "false");
    }
    if let Some(cursor) = cursor {
        query.append_pair("cursor", &cursor.to_string());
    }
    query.append_pair("after", after.as_str());
    // Nothing but ASCII is left of it.
    HeaderValue::try_from(format!("<?{}>; rel=\"next\"", query.finish())).unwrap_or(HeaderValue::from_static(""))
}
