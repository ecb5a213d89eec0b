//! A whole source as one item in each line (`application/x-ndjson`).
//!
//! It is read page by page as the client takes it, each page in a short transaction of its own: no snapshot of the database is
//! held open for a slow client, and no more than a page is held in memory. What changes meanwhile may be in it or not; the
//! cursor with which it begins leads to what is not.

use std::io;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};

use super::ApiState;
use super::accept::NDJSON;
use super::error::ApiError;
use super::item::Item;
use super::list::{Wanted, list_fields};
use super::parameters::Parameters;
use super::streams::Place;
use crate::domain::resource::SourceName;
use crate::store::{Bodies, ListRequest, Listing};

/// Items of one read.
const ROWS: u32 = 500;
/// Bytes of bodies of one read.
const BYTES: u64 = 1 << 20;

/// Answers with all items of a source from `after` on.
///
/// # Errors
/// A wrong parameter, an unknown source, too many streams, or a store that fails at the first read.
pub(super) async fn ndjson(api: &ApiState, source: SourceName, parameters: &Parameters) -> Result<Response, ApiError> {
    for name in ["cursor", "limit"] {
        parameters.checked(name, |_| Err::<(), _>(format!("a list in lines has no pages, and so no `{name}`.")))?;
    }
    let Wanted { mut request, cursor } = Wanted::of(api, parameters).await?;
    request.limit = ROWS;
    if request.bodies != Bodies::LeftOut {
        request.bodies = Bodies::UpTo(BYTES);
    }
    let first = api.page(&source, &request).await?;
    let lines = Lines { place: api.stream("list")?, api: api.clone(), source, request, next: Some(first) };
    let texts = stream::unfold(Some(lines), |lines| async move {
        let mut lines = lines?;
        match lines.next().await {
            Ok(Some(text)) => Some((Ok(text), Some(lines))),
            Ok(None) => None,
            // The answer is broken off, so that nobody takes a part for the whole.
            Err(error) => Some((Err(error), None)),
        }
    });
    // An encoder asks once more after the end.
    let body = Body::from_stream(texts.fuse());
    let mut fields = list_fields(cursor);
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok((fields, body).into_response())
}

/// What is left of a source.
struct Lines {
    api: ApiState,
    source: SourceName,
    request: ListRequest,
    /// A page that has been read and not been sent.
    next: Option<Listing>,
    #[expect(dead_code, reason = "it is held")]
    place: Place,
}

impl Lines {
    /// The lines of the next page; `None` after the last one.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let listing = match self.next.take() {
                Some(first) => first,
                None if self.request.after.is_none() => return Ok(None),
                None => self.read().await?,
            };
            self.request.after.clone_from(&listing.next);
            // A page of one state can be empty before the end.
            if !listing.items.is_empty() {
                return self.text(&listing).map(Some);
            }
            if self.request.after.is_none() {
                return Ok(None);
            }
        }
    }

    async fn read(&mut self) -> io::Result<Listing> {
        if let Some((_, now)) = &mut self.request.state {
            *now = self.api.clock.now();
        }
        self.api.page(&self.source, &self.request).await.map_err(|error| {
            tracing::warn!(source = %self.source, ?error, "a list in lines is broken off");
            io::Error::other("the source could not be read on")
        })
    }

    fn text(&self, listing: &Listing) -> io::Result<Bytes> {
        let (mut text, now) = (Vec::new(), self.api.clock.now());
        for listed in &listing.items {
            let begin = text.len();
            serde_json::to_writer(&mut text, &Item::of(listed, self.request.bodies, now))?;
            // JSON that came in several lines has their ends between its parts only, where a space means the same.
            for byte in text.iter_mut().skip(begin).filter(|byte| matches!(**byte, b'\n' | b'\r')) {
                *byte = b' ';
            }
            text.push(b'\n');
        }
        Ok(text.into())
    }
}
