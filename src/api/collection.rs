//! `GET /v1/{source}`: a list page by page or in lines, the resources of `keys=`, or the one of `key=`.

use std::collections::HashSet;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Uri, header};
use serde::Serialize;

use super::ApiState;
use super::accept::{NDJSON, asks_for};
use super::error::ApiError;
use super::history;
use super::item::Item;
use super::list::list;
use super::ndjson::ndjson;
use super::parameters::{Parameters, bad};
use super::read::read_copy;
use super::resource_path::{ResourcePath, SourcePath};
use super::rows;
use crate::domain::resource::{Key, SourceName};
use crate::store::Bodies;

/// The parameters of lists of copies. With any other, the columns of the source's table are meant, if it has one.
const OF_COPIES: [&str; 8] = ["after", "cursor", "data", "key", "keys", "limit", "state", history::PARAMETER];

/// Keys that may be named in one request.
const MOST_KEYS: usize = 1000;

/// Bytes of bodies in one answer: it is put together in memory, and takes a few times as much there.
const MOST_BYTES: u64 = 8 << 20;

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

/// Answers with a list, in lines if these are asked for, with the resources of `keys`, or like [`read`](super::read::read) with that of `key`.
///
/// # Errors
/// A wrong parameter, an unknown source, a failing store, and for `key` what [`read_copy`] says.
pub async fn collection(
    State(api): State<ApiState>,
    SourcePath(source): SourcePath,
    uri: Uri,
    request: HeaderMap,
) -> Result<Response, ApiError> {
    let settings = api.settings();
    let table = settings.asked.get(&source).and_then(|source| source.policy.body.table.as_deref());
    if let Some(table) = table.filter(|_| rows::is_asked(&uri, &OF_COPIES)) {
        return rows::list(&api, (source, table), &uri, &request).await;
    }
    let parameters = Parameters::of(&uri, &OF_COPIES)?;
    parameters.only_with("key", &[history::PARAMETER])?;
    parameters.only_with(history::PARAMETER, &["key"])?;
    parameters.only_with("keys", &["data"])?;
    if let Some(key) = parameters.get("key", "", |key| Some(Key::new(key)))? {
        let path = ResourcePath { source, key: key.map_err(|reason| ApiError::BadKey { reason })? };
        return match history::asked(&parameters)? {
            Some(version) => api.read_version(path, version, &request).await,
            None => read_copy(&api, path, &request).await,
        };
    }
    if let Some(version) = history::asked(&parameters)? {
        return Err(bad(
            history::PARAMETER,
            &version.to_string(),
            "it is the version of one resource: name that by `key`.",
        ));
    }
    match keys(&parameters)? {
        Some(keys) => batch(&api, source, &keys, bodies(&parameters)?).await,
        None if asks_for(&request, NDJSON) => ndjson(&api, source, &parameters).await,
        None => list(&api, source, &parameters, &request).await,
    }
}

async fn batch(api: &ApiState, source: SourceName, keys: &[Key], bodies: Bodies) -> Result<Response, ApiError> {
    let Some(batch) = api.store.batch(&source, keys, bodies).await? else { return Err(unknown(&source)) };
    if api.settings().on_demand(&source).is_some() {
        batch.items.iter().for_each(|listed| api.reads.note(listed.resource));
    }
    let now = api.clock.now();
    let items = batch.items.iter().map(|listed| Item::of(listed, bodies, now)).collect();
    Ok((NO_STORE, axum::Json(Batch { items, absent: batch.absent, rest: batch.rest })).into_response())
}

const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

pub(super) fn unknown(source: &SourceName) -> ApiError {
    ApiError::UnknownSource { source: source.to_string() }
}

pub(super) fn bodies(parameters: &Parameters) -> Result<Bodies, ApiError> {
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
