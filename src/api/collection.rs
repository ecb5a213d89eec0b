//! `GET /v1/{source}`: a list page by page, the resources of `keys=`, or the one of `key=`.

use std::collections::HashSet;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Uri, header};
use serde::Serialize;
use url::form_urlencoded;

use super::ApiState;
use super::error::ApiError;
use super::item::Item;
use super::parameters::Parameters;
use super::read::read_copy;
use super::resource_path::{ResourcePath, SourcePath};
use crate::domain::read_state::ReadState;
use crate::domain::resource::{Key, SourceName};
use crate::store::{Bodies, ListRequest};

/// Keys that may be named in one request.
const MOST_KEYS: usize = 1000;

/// Bytes of bodies in one answer: it is put together in memory, and takes a few times as much there.
const MOST_BYTES: u64 = 8 << 20;

/// A page of a list. Whether there is another one is said by `Link`.
#[derive(Debug, Serialize)]
struct Page<'a> {
    items: Vec<Item<'a>>,
}

/// An answer to `keys=`. Each key that was named is in one of the three.
#[derive(Debug, Serialize)]
struct Batch<'a> {
    /// In the order in which they were named.
    items: Vec<Item<'a>>,
    /// There are no such keys.
    absent: Vec<Key>,
    /// Their bodies would have been too many bytes for one answer: to be asked for again.
    rest: Vec<Key>,
}

/// Answers with a list, with the resources of `keys`, or like [`read`](super::read::read) with that of `key`.
///
/// # Errors
/// A wrong parameter, an unknown source, a failing store, and for `key` what [`read_copy`] says.
pub async fn collection(
    State(api): State<ApiState>,
    SourcePath(source): SourcePath,
    uri: Uri,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let parameters = Parameters::of(&uri, &["after", "data", "key", "keys", "limit", "state"])?;
    parameters.only_with("key", &[])?;
    parameters.only_with("keys", &["data"])?;
    if let Some(key) = parameters.get("key", "", |key| Some(Key::new(key)))? {
        let path = ResourcePath { source, key: key.map_err(|reason| ApiError::BadKey { reason })? };
        return read_copy(&api, path, &request).await;
    }
    match keys(&parameters)? {
        Some(keys) => batch(&api, source, &keys, bodies(&parameters)?).await,
        None => list(&api, source, &parameters).await,
    }
}

async fn batch(api: &ApiState, source: SourceName, keys: &[Key], bodies: Bodies) -> Result<Response, ApiError> {
    let Some(batch) = api.store.batch(&source, keys, bodies).await? else { return Err(unknown(&source)) };
    let now = api.clock.now();
    let items = batch.items.iter().map(|listed| Item::of(listed, bodies, now)).collect();
    Ok((NO_STORE, axum::Json(Batch { items, absent: batch.absent, rest: batch.rest })).into_response())
}

async fn list(api: &ApiState, source: SourceName, parameters: &Parameters) -> Result<Response, ApiError> {
    let (now, limit, bodies) = (api.clock.now(), parameters.limit()?, bodies(parameters)?);
    let state = parameters.get("state", "it must be fresh, stale, pending or gone.", ReadState::parse)?;
    let after = parameters.checked("after", |key| Key::new(key).map_err(|reason| format!("{reason}.")))?;
    // The keys of a source that the config no longer has are polled no more, so that none of them would be listed.
    if !api.settings().sources.contains(&source) {
        return Err(unknown(&source));
    }
    let request = ListRequest { after, limit, state: state.map(|state| (state, now)), bodies };
    let Some(page) = api.store.list(&source, &request).await? else { return Err(unknown(&source)) };
    let items = page.items.iter().map(|listed| Item::of(listed, bodies, now)).collect();
    let link = page.next.map(|next| next_link(&next, limit, state, bodies));
    let fields: HeaderMap = link.into_iter().map(|link| (header::LINK, link)).collect();
    Ok((NO_STORE, fields, axum::Json(Page { items })).into_response())
}

const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

fn unknown(source: &SourceName) -> ApiError {
    ApiError::UnknownSource { source: source.to_string() }
}

/// Where the next page is (RFC 8288 §3): a reference to the same path with another query, which a proxy that changes the
/// path or the host can't break.
fn next_link(after: &Key, limit: u32, state: Option<ReadState>, bodies: Bodies) -> HeaderValue {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &limit.to_string());
    if let Some(state) = state {
        query.append_pair("state", state.as_str());
    }
    if bodies == Bodies::LeftOut {
        query.append_pair("data", "false");
    }
    query.append_pair("after", after.as_str());
    // Nothing but ASCII is left of it.
    HeaderValue::try_from(format!("<?{}>; rel=\"next\"", query.finish())).unwrap_or(HeaderValue::from_static(""))
}

fn bodies(parameters: &Parameters) -> Result<Bodies, ApiError> {
    let data = parameters.get("data", "it must be true or false.", |value| value.parse().ok())?;
    Ok(if data.unwrap_or(true) { Bodies::UpTo(MOST_BYTES) } else { Bodies::LeftOut })
}

/// The keys of `keys`.
fn keys(parameters: &Parameters) -> Result<Option<Vec<Key>>, ApiError> {
    let mut seen = HashSet::new();
    parameters.list("keys", |number, key| {
        let key =
            Key::new(key).map_err(|reason| format!("{reason} (number {number}; a `,` in a key is written %2C)."))?;
        if number > MOST_KEYS {
            Err(format!("at most {MOST_KEYS} keys can be named at once."))
        } else if seen.insert(key.clone()) {
            Ok(key)
        } else {
            Err(format!("each key may be named once (number {number} has been before)."))
        }
    })
}
