//! The weather service: a forecast for two days, hour by hour, for each of a few cities. A new one comes out each hour.

use std::path::Path;

use axum::Router;
use axum::extract;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::stage::{Failed, Result, with_etag};

/// Cities, with their mean temperature in tenths of a degree.
const CITIES: [(&str, i64); 6] =
    [("berlin", 101), ("lisbon", 174), ("oslo", 63), ("prishtina", 108), ("skopje", 129), ("tirana", 161)];
const HOURS: i64 = 48;

/// Its routes. It keeps nothing.
#[allow(clippy::unnecessary_wraps, reason = "a service that keeps something may find it unreadable")]
pub fn router(_: &Path) -> Result<Router> {
    Ok(Router::new().route("/forecast/{city}", get(forecast)))
}

async fn forecast(extract::Path(city): extract::Path<String>, headers: HeaderMap) -> Result<Response, Failed> {
    let Some((name, mean)) = CITIES.into_iter().find(|(name, _)| *name == city) else {
        return Ok((StatusCode::NOT_FOUND, "no such city\n").into_response());
    };
    let hour = Utc::now().timestamp().div_euclid(3600);
    // The hour before is in it too: there are readers whose clocks are slow.
    let hours = (hour - 1..hour + HOURS).map(|hour| at(mean, hour)).collect::<Option<Vec<_>>>();
    let forecast =
        json!({ "city": name, "issued_at": time(hour), "hours": hours.ok_or("a time beyond all calendars")? });
    Ok(with_etag(&headers, 600, forecast.to_string()))
}

/// The weather in this hour since 1970: warm in the afternoon, and otherwise what the dice say.
fn at(mean: i64, hour: i64) -> Option<Value> {
    let dice = blake3::hash(&(mean * 1_000_003 + hour).to_le_bytes());
    let [first, second, third, ..] = dice.as_bytes().map(i64::from);
    let warmth = 60 - (hour.rem_euclid(24) - 15).abs() * 10;
    let sky = ["clear", "clouds", "rain"].get(usize::try_from(third % 3).ok()?)?;
    let tenths =
        |tenths: i64| format!("{}{}.{}", if tenths < 0 { "-" } else { "" }, tenths.abs() / 10, tenths.abs() % 10);
    let number = |text: String| serde_json::from_str::<Value>(&text).ok();
    Some(json!({
        "time": time(hour)?,
        "temperature": number(tenths(mean + warmth + first % 30))?,
        "wind": number(tenths(second % 120))?,
        "sky": sky,
    }))
}

fn time(hour: i64) -> Option<String> {
    let time = DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::try_hours(hour)?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Secs, true))
}
