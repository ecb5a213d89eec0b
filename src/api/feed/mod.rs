//! `GET /v1/-/changes`: the change feed.
//!
//! Whoever has read a list goes on from its cursor: what was committed before the list's first page is in the list or in the
//! feed after the cursor, often in both, and nothing is in neither. Each change has the version of its resource, so that
//! what is in both is told apart.

mod entry;
mod events;
mod follower;
mod tail;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, Uri, header};
use serde::Serialize;

use self::entry::{Entry, Items};
use self::follower::Follower;
pub use self::tail::Tail;
use super::ApiState;
use super::accept::{EVENT_STREAM, asks_for};
use super::access::Reader;
use super::error::ApiError;
use super::parameters::Parameters;
use super::prefer::{applied, wait};
use crate::domain::change::Cursor;
use crate::domain::resource::SourceName;
use crate::domain::time::later;
use crate::store::Bodies;

/// The place in the feed from which to follow what has been listed.
pub const CURSOR: HeaderName = HeaderName::from_static("headpond-cursor");

/// Bytes of bodies in one answer: it is put together in memory, and takes a few times as much there.
const MOST_BYTES: u64 = 8 << 20;

/// A page of the feed. `next` is where to go on, also when there is nothing new. Changes of sources that the reader may not
/// read are left out, so a page can be short, or empty, before the end: at the end `next` is `since` again.
#[derive(Debug, Serialize)]
struct Page<'a> {
    changes: Vec<Entry<'a>>,
    next: Cursor,
}

/// What a request wants of the feed.
struct Wanted {
    since: Option<Cursor>,
    source: Option<SourceName>,
    /// Whether the resources come with their changes.
    items: bool,
}

/// Answers with the changes after `since`, or from the feed's beginning, at most `limit` of them. With `Prefer: wait=N` it
/// waits for the first, if there is none; with `Accept: text/event-stream` it goes on with all that come.
///
/// # Errors
/// A wrong parameter, a source that the reader may not read or that isn't there, a place that the feed doesn't have, or a
/// failing store.
pub async fn changes(State(api): State<ApiState>, request: HeaderMap, uri: Uri) -> Result<Response, ApiError> {
    if asks_for(&request, EVENT_STREAM) {
        return events::events(api, &request, &uri).await;
    }
    let reader = Reader::of(&api, &request);
    let parameters = Parameters::of(&uri, &["include", "limit", "since", "source"])?;
    let wanted = Wanted::of(&parameters)?;
    allow(&api, &reader, wanted.source.as_ref()).await?;
    let limit = parameters.limit()?;
    let patience = wait(&request).map(|wait| api.patience(wait));
    let mut follower = Follower::new(&api, reader, wanted.source, wanted.since);
    let mut look = match patience {
        Some(patience) => follower.wait_for(limit, later(api.clock.now(), patience)).await?,
        None => follower.look(limit).await?,
    };
    let items = if wanted.items { Some(Items::of(&api, &mut look, MOST_BYTES).await?) } else { None };
    let now = api.clock.now();
    let entries = Entry::all(&look.changes, items.as_ref(), Bodies::UpTo(MOST_BYTES), now);
    let page = axum::Json(Page { changes: entries, next: look.place });
    let applied: HeaderMap = patience.map(applied).into_iter().collect();
    Ok(([(header::CACHE_CONTROL, "no-store")], applied, page).into_response())
}

impl Wanted {
    fn of(parameters: &Parameters) -> Result<Self, ApiError> {
        let include = parameters.get("include", "it can be `data`.", |value| (value == "data").then_some(()))?;
        let name = |value: &str| SourceName::new(value).map_err(|_| value.to_owned());
        let source = parameters.get("source", "", |value| Some(name(value)))?.transpose();
        Ok(Self {
            since: parameters.get("since", SINCE, |value| value.parse().ok())?,
            source: source.map_err(|source| ApiError::UnknownSource { source })?,
            items: include.is_some(),
        })
    }
}

const SINCE: &str = "it must be the `next` of an earlier answer, or the `cursor` of a list or a change, unchanged.";

/// Lets a reader through who may read this: a source that is there, or the feed as a whole.
async fn allow(api: &ApiState, reader: &Reader, source: Option<&SourceName>) -> Result<(), ApiError> {
    reader.check(source)?;
    match source {
        // One that the config no longer has is in the feed for as long as its changes are kept.
        Some(name) if !api.settings().sources.contains(name) && api.store.source(name).await?.is_none() => {
            Err(ApiError::UnknownSource { source: name.to_string() })
        }
        _ => Ok(()),
    }
}
