//! What each route answers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::Serialize;

use super::cities;
use super::edition::Edition;
use super::faults::Fault;
use super::stats::Counts;
use super::users::Profile;
use super::weather::Forecast;
use super::{Upstream, users, weather};
use crate::api::conditional::{Preconditions, evaluate};
use crate::api::error::ApiError;
use crate::api::freshness_headers::{http_date_value, timestamp};
use crate::api::parameters::Parameters;
use crate::domain::time::later;

/// What a 429 asks for, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("3");

pub(super) fn router(upstream: Arc<Upstream>) -> Router {
    Router::new()
        .route("/weather/{city}", get(forecast))
        .route("/users/{user}", get(profile))
        .route_layer(from_fn_with_state(Arc::clone(&upstream), with_faults))
        .route("/off", post(off))
        .route("/on", post(on))
        .route("/stats", get(stats))
        .with_state(upstream)
}

async fn with_faults(State(upstream): State<Arc<Upstream>>, request: Request, next: Next) -> Response {
    match upstream.faults.next() {
        Some(Fault::RateLimited) => {
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, RETRY_AFTER)], "too many requests\n").into_response()
        }
        Some(Fault::Unavailable) => (StatusCode::SERVICE_UNAVAILABLE, "try again\n").into_response(),
        Some(Fault::Slow(wait)) => {
            upstream.clock.sleep_until(later(upstream.clock.now(), wait)).await;
            next.run(request).await
        }
        None => next.run(request).await,
    }
}

async fn forecast(State(upstream): State<Arc<Upstream>>, Path(key): Path<String>, asked: HeaderMap) -> Response {
    let Some((index, city)) = cities::find(&key) else { return unknown("city") };
    let edition = weather::edition(upstream.weather.of(index as u64), upstream.clock.now());
    let max_age = HeaderValue::from_static("public, max-age=5");
    conditional(&asked, edition, max_age, || Forecast::of(city, edition))
}

async fn profile(State(upstream): State<Arc<Upstream>>, Path(key): Path<String>, asked: HeaderMap) -> Response {
    let Some(index) = users::find(&key) else { return unknown("user") };
    let dice = upstream.users.of(index as u64);
    let edition = users::edition(dice, upstream.clock.now());
    let private = HeaderValue::from_static("private, no-cache");
    conditional(&asked, edition, private, || Profile::of(index, dice, edition))
}

fn unknown(what: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("no such {what}\n")).into_response()
}

/// The content, or 304 for who has it already (RFC 9110 §13.2.2).
fn conditional<T: Serialize>(
    asked: &HeaderMap,
    edition: Edition,
    cache_control: HeaderValue,
    content: impl FnOnce() -> T,
) -> Response {
    let tag = format!("{:016x}", edition.dice.number());
    let mut response = match evaluate(asked, &tag, edition.began) {
        Preconditions::Send => Json(content()).into_response(),
        Preconditions::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Preconditions::Failed => return StatusCode::PRECONDITION_FAILED.into_response(),
    };
    // Hexadecimal digits in quotes are a header value.
    let etag = HeaderValue::try_from(format!("\"{tag}\"")).unwrap_or(HeaderValue::from_static("\"\""));
    let fields = [
        (header::ETAG, etag),
        (header::LAST_MODIFIED, http_date_value(edition.began)),
        (header::CACHE_CONTROL, cache_control),
    ];
    response.headers_mut().extend(fields);
    response
}

async fn off(State(upstream): State<Arc<Upstream>>, uri: Uri) -> Result<String, ApiError> {
    let read = |text: &str| humantime::parse_duration(text).ok();
    let span = Parameters::of(&uri, &["for"])?.get("for", "a span of time, like 30s or 1m.", read)?;
    upstream.switch.off_until(later(upstream.clock.now(), span.unwrap_or(Duration::MAX)));
    Ok(match span {
        Some(span) => format!("off for {}; POST /on ends it earlier\n", humantime::format_duration(span)),
        None => "off; POST /on ends it\n".into(),
    })
}

async fn on(State(upstream): State<Arc<Upstream>>) -> &'static str {
    upstream.switch.on();
    "on\n"
}

/// What `/stats` answers.
#[derive(Serialize)]
struct Answered {
    #[serde(flatten)]
    counts: Counts,
    /// `null` while it is on.
    off_until: Option<String>,
}

async fn stats(State(upstream): State<Arc<Upstream>>) -> Json<impl Serialize> {
    let off_until: Option<DateTime<Utc>> = upstream.switch.is_off_until(upstream.clock.now());
    Json(Answered { counts: upstream.stats.counts(), off_until: off_until.map(timestamp) })
}
