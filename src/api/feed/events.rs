//! The feed as server-sent events (WHATWG HTML §9.2), which a browser's `EventSource` reads, and takes up again where it was
//! by `Last-Event-ID`.
//!
//! Nothing is queued for a client: the next page is looked up when the last one has left for the socket, so that what a
//! stream holds is bounded by a page, and one that falls behind goes on where it was. A client that lets a page wait for
//! longer than [`SLOW`] is told where to resume, and its place is given to another; one that takes nothing at all is closed
//! as every such connection is. Nobody is ever taken further than what was sent.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, Uri, header};
use serde_json::json;
use tokio::sync::watch;

use super::entry::{Entry, Items};
use super::follower::{Follower, Look};
use super::tail::Growth;
use super::{SINCE, Wanted, allow};
use crate::api::ApiState;
use crate::api::accept::EVENT_STREAM;
use crate::api::access::Reader;
use crate::api::error::ApiError;
use crate::api::parameters::Parameters;
use crate::api::settings::Settings;
use crate::api::streams::Place;
use crate::domain::change::Cursor;
use crate::domain::time::later;
use crate::store::Bodies;

/// Changes that are sent at once.
const PAGE: u32 = 100;
/// Bytes of bodies that are sent at once.
const PAGE_BYTES: u64 = 1 << 20;
/// After how long without a change something is sent all the same, so that both sides know that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client may let a page wait.
const SLOW: Duration = Duration::from_secs(30);
/// After how many milliseconds a client connects again.
const RETRY: u32 = 2_000;

/// Where a client that connects again has been.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Keeps nginx from holding events back.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

/// Answers with the changes after the last event's, or after `since`, and those that come.
///
/// # Errors
/// As [`changes`](super::changes()), and when there are too many streams.
pub(super) async fn events(api: ApiState, request: &HeaderMap, uri: &Uri) -> Result<Response, ApiError> {
    let mut settings = api.settings.clone();
    settings.mark_unchanged();
    let reader = Reader::of(&api, request);
    let wanted = Wanted::of(&Parameters::of(uri, &["include", "since", "source"])?)?;
    allow(&api, &reader, wanted.source.as_ref()).await?;
    let since = last_event_id(request)?.or(wanted.since);
    let place = api.stream("feed")?;
    // Listening begins before the first look, so that nothing falls between the two.
    let growth = api.growth();
    let mut follower = Follower::new(&api, reader, wanted.source, since);
    let first = follower.look(PAGE).await?;
    let events = Events {
        api,
        follower,
        growth,
        settings,
        items: wanted.items,
        next: Some(first),
        sent: since,
        left_at: None,
        _place: place,
    };
    let texts = stream::unfold(Some(events), |events| async move {
        let mut events = events?;
        let (text, goes_on) = match events.text().await {
            Ok(text) => (text, true),
            Err(end) => (events.farewell(end), false),
        };
        Some((Ok::<_, Infallible>(Bytes::from(text)), goes_on.then_some(events)))
    });
    let body = Body::from_stream(texts.fuse());
    Ok(([(header::CONTENT_TYPE, EVENT_STREAM), (header::CACHE_CONTROL, "no-store"), UNBUFFERED], body).into_response())
}

fn last_event_id(request: &HeaderMap) -> Result<Option<Cursor>, ApiError> {
    let Some(id) = request.get(LAST_EVENT_ID).filter(|id| !id.is_empty()) else { return Ok(None) };
    let cursor = id.to_str().ok().and_then(|id| id.parse().ok());
    cursor.map(Some).ok_or(ApiError::BadField { field: "Last-Event-ID", expected: SINCE })
}

/// One client's stream.
struct Events {
    api: ApiState,
    follower: Follower,
    growth: Growth,
    settings: watch::Receiver<Arc<Settings>>,
    /// Whether the resources come with their changes.
    items: bool,
    /// What has been looked up and not been sent.
    next: Option<Look>,
    /// Up to where everything was sent.
    sent: Option<Cursor>,
    /// When the last page left for the socket; `None` before the first.
    left_at: Option<DateTime<Utc>>,
    _place: Place,
}

/// Why a stream ends. The client connects again by itself, but for [`Lost`](Self::Lost).
#[derive(Debug, Clone, Copy)]
enum End {
    /// This process ends.
    Stopping,
    /// The configuration was read again: whether the reader may go on is looked up when he asks again.
    Reloaded,
    /// The client is slow.
    Slow,
    /// The database can't be used at the moment.
    Unavailable,
    /// The place that the client was at is no longer in the feed.
    Lost,
}

impl End {
    fn of(error: &ApiError) -> Self {
        match error {
            ApiError::UnknownCursor => Self::Lost,
            error => {
                tracing::warn!(?error, "a stream of the feed ends");
                Self::Unavailable
            }
        }
    }
}

impl Events {
    /// What is sent next: changes, as soon as there are some, or a heartbeat.
    async fn text(&mut self) -> Result<String, End> {
        let now = self.api.clock.now();
        if self.left_at.is_some_and(|left_at| later(left_at, SLOW) < now) {
            return Err(End::Slow);
        }
        let is_first = self.left_at.is_none();
        let look = self.next_look(later(now, self.heartbeat())).await?;
        let mut text = if is_first { format!("retry: {RETRY}\n") } else { String::new() };
        self.write(&mut text, look).await?;
        self.left_at = Some(self.api.clock.now());
        Ok(text)
    }

    /// The next changes; none when it is time for a heartbeat.
    async fn next_look(&mut self, heartbeat_at: DateTime<Utc>) -> Result<Look, End> {
        if let Some(first) = self.next.take() {
            return Ok(first);
        }
        loop {
            if self.settings.has_changed().unwrap_or(false) {
                return Err(End::Reloaded);
            }
            let look = self.follower.look(PAGE).await.map_err(|error| End::of(&error))?;
            let is_waiting = look.changes.is_empty() && look.is_at_the_end;
            if self.api.stopping.is_cancelled() {
                return Err(End::Stopping);
            }
            if !is_waiting || self.api.clock.now() >= heartbeat_at {
                return Ok(look);
            }
            tokio::select! {
                () = self.growth.next() => {}
                () = changed(&mut self.settings) => {}
                () = self.api.no_longer(heartbeat_at) => {}
            }
        }
    }

    async fn write(&mut self, text: &mut String, mut look: Look) -> Result<(), End> {
        let items = if self.items {
            Some(Items::of(&self.api, &mut look, PAGE_BYTES).await.map_err(|error| End::of(&error))?)
        } else {
            None
        };
        self.follower.go_on_from(look.place);
        for entry in Entry::all(&look.changes, items.as_ref(), Bodies::UpTo(PAGE_BYTES), self.api.clock.now()) {
            let data = serde_json::to_string(&entry).map_err(|_| End::Unavailable)?;
            write_event(text, entry.cursor(), None, &data);
        }
        if look.changes.is_empty() {
            // A heartbeat. Without data it is no event, but moves the id on behind what is passed over.
            _ = write!(
                text,
                ": {}\nid: {}\n\n",
                if self.left_at.is_none() { "hello" } else { "still here" },
                look.place
            );
        }
        self.sent = Some(look.place);
        Ok(())
    }

    /// The last that is sent: why it ends, and where to go on.
    fn farewell(&self, end: End) -> String {
        let because = match end {
            End::Stopping => "stopping",
            End::Reloaded => "reloaded",
            End::Slow => "slow",
            End::Unavailable => "unavailable",
            End::Lost => return "event: resync\ndata: {\"because\":\"unknown-cursor\"}\n\n".into(),
        };
        let mut text = String::new();
        if let Some(place) = self.sent {
            write_event(&mut text, place, Some("end"), &json!({ "because": because, "next": place }).to_string());
        }
        text
    }

    /// Twice as often as is needed for a connection not to be taken for dead ([`Patience::answer`]).
    ///
    /// [`Patience::answer`]: crate::api::patience::Patience::answer
    fn heartbeat(&self) -> Duration {
        HEARTBEAT.min(self.api.settings().request_timeout / 2)
    }
}

async fn changed(settings: &mut watch::Receiver<Arc<Settings>>) {
    if settings.changed().await.is_err() {
        // Nobody is there to change them.
        std::future::pending::<()>().await;
    }
    settings.mark_changed();
}

/// An event without a name is a `message` for an `EventSource`.
fn write_event(text: &mut String, id: Cursor, name: Option<&str>, data: &str) {
    // Writing to a String can't fail.
    _ = writeln!(text, "id: {id}");
    if let Some(name) = name {
        _ = writeln!(text, "event: {name}");
    }
    // Where JSON came with line breaks between its parts, each of its lines is one of data, and the reader joins them.
    for line in data.split(['\r', '\n']) {
        _ = writeln!(text, "data: {line}");
    }
    text.push('\n');
}
