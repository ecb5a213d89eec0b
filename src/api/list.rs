//! A list of a source, page by page.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use url::form_urlencoded;

use super::ApiState;
use super::collection::{bodies, unknown};
use super::conditional::is_held;
use super::error::ApiError;
use super::feed::CURSOR;
use super::item::Item;
use super::parameters::Parameters;
use crate::domain::change::Cursor;
use crate::domain::read_state::ReadState;
use crate::domain::resource::{Key, SourceName};
use crate::store::{Bodies, ListRequest, Listing};

/// A page of a list. Whether there is another one is said by `Link`.
#[derive(Debug, Serialize)]
struct Page {
    items: Box<RawValue>,
    /// Where the feed was before the first page was read: what changes while the list is read is in the feed behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Cursor>,
}

/// What a list is of, and where it begins.
pub(super) struct Wanted {
    pub(super) request: ListRequest,
    /// Of the first page; the links hand it on.
    pub(super) cursor: Option<Cursor>,
}

impl Wanted {
    pub(super) async fn of(api: &ApiState, parameters: &Parameters) -> Result<Self, ApiError> {
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

impl ApiState {
    /// A page of a source that the config has.
    ///
    /// # Errors
    /// An unknown source, or a failing store.
    pub(super) async fn page(&self, source: &SourceName, request: &ListRequest) -> Result<Listing, ApiError> {
        // The keys of a source that the config no longer has are polled no more, so that none of them would be listed.
        if !self.settings().sources.contains(source) {
            return Err(unknown(source));
        }
        self.store.list(source, request).await?.ok_or_else(|| unknown(source))
    }
}

/// Answers with a page.
///
/// # Errors
/// A wrong parameter, an unknown source, or a failing store.
pub(super) async fn list(
    api: &ApiState,
    source: SourceName,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let Wanted { request, cursor } = Wanted::of(api, parameters).await?;
    let listing = api.page(&source, &request).await?;
    let now = request.state.map_or_else(|| api.clock.now(), |(_, now)| now);
    let items: Vec<_> = listing.items.iter().map(|listed| Item::of(listed, request.bodies, now)).collect();
    // What is made of our own types is always JSON.
    let items = to_raw_value(&items).map_err(|_| ApiError::Panicked)?;
    let etag = etag_of(&items, listing.next.as_ref());
    let body = serde_json::to_vec(&Page { items, cursor }).map_err(|_| ApiError::Panicked)?;
    let mut fields = list_fields(cursor);
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // The length also of what a 304 stands for (RFC 9110 §8.6).
    fields.insert(header::CONTENT_LENGTH, body.len().into());
    if let Some(next) = listing.next {
        fields.insert(header::LINK, next_link(&next, &request, cursor));
    }
    let is_held = is_held(headers, &etag);
    fields.extend(HeaderValue::try_from(format!("W/\"{etag}\"")).ok().map(|etag| (header::ETAG, etag)));
    if is_held {
        return Ok((StatusCode::NOT_MODIFIED, fields, Body::empty()).into_response());
    }
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((fields, body).into_response())
}

/// Tells a page from another. It is a weak one, since the cursor moves on with each change of whatever source, and does not
/// count: who follows from the older one hears of some changes twice, and misses none.
fn etag_of(items: &RawValue, next: Option<&Key>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(items.get().as_bytes());
    // No JSON ends with it, and no key has it in it.
    hasher.update(b"\0");
    hasher.update(next.map_or("", Key::as_str).as_bytes());
    hasher.finalize().to_hex().chars().take(32).collect()
}

/// What every list says: where to follow from, and that there are other forms of it.
pub(super) fn list_fields(cursor: Option<Cursor>) -> HeaderMap {
    let mut fields = HeaderMap::from_iter([(header::VARY, HeaderValue::from_static("accept"))]);
    // Digits and a hyphen are always a valid value.
    fields.extend(cursor.and_then(|cursor| Some((CURSOR, HeaderValue::try_from(cursor.to_string()).ok()?))));
    fields
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
