//! The app: `GET /weather/{city}` tells the weather of this hour, or of another (`?at=2026-05-01T10:00:00Z`).
//!
//! It asks Headpond whether there is such a city, which makes cities known that nobody has asked for before, and finds the hour in
//! the table. If Headpond is not there, the table still is.

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, SecondsFormat, Utc};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use sqlx::Row;
use url::Url;

use crate::stage::{Database, Failed, on};

/// The last row that has begun. Times are texts on SQLite …
const SQLITE: &str = "
    SELECT strftime('%Y-%m-%dT%H:%M:%SZ', time) AS hour, temperature, wind, sky, state, fetched_at
    FROM weather WHERE key = $1 AND time <= strftime('%Y-%m-%dT%H:%M:%S.000000Z', $2)
    ORDER BY time DESC LIMIT 1";
/// … and `timestamptz` on Postgres.
const POSTGRES: &str = r#"
    SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS hour, temperature, wind, sky, state,
        to_char(fetched_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS fetched_at
    FROM weather WHERE key = $1 AND time <= $2::timestamptz
    ORDER BY time DESC LIMIT 1"#;

#[derive(Clone)]
pub struct App {
    pub database: Database,
    /// Where Headpond answers.
    pub headpond: Url,
    pub client: reqwest::Client,
}

/// Its routes.
pub fn router(app: App) -> Router {
    Router::new().route("/weather/{city}", get(weather)).with_state(app)
}

#[derive(Debug, Deserialize)]
struct Asked {
    at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize)]
struct Weather {
    city: String,
    hour: String,
    temperature: f64,
    wind: f64,
    sky: String,
    /// `fresh`, or `stale` when the forecast is older than it should be.
    state: String,
    fetched_at: String,
}

async fn weather(
    State(app): State<App>,
    Path(city): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    if let Some(answer) = app.unknown(&city).await? {
        return Ok(answer);
    }
    let at = asked.at.unwrap_or_else(Utc::now).to_rfc3339_opts(SecondsFormat::Secs, true);
    let sql = match app.database {
        Database::Sqlite(_) => SQLITE,
        Database::Postgres(_) => POSTGRES,
    };
    let found = on!(&app.database, pool => match sqlx::query(sql).bind(&city).bind(&at).fetch_optional(pool).await? {
        Some(row) => Some(Weather {
            city,
            hour: row.try_get("hour")?,
            temperature: row.try_get("temperature")?,
            wind: row.try_get("wind")?,
            sky: row.try_get("sky")?,
            state: row.try_get("state")?,
            fetched_at: row.try_get("fetched_at")?,
        }),
        None => None,
    });
    Ok(match found {
        Some(weather) => Json(weather).into_response(),
        None => (StatusCode::NOT_FOUND, "no forecast for this hour\n").into_response(),
    })
}

impl App {
    /// What to answer if Headpond has no forecast for this city.
    async fn unknown(&self, city: &str) -> Result<Option<Response>, Failed> {
        let mut url = self.headpond.clone();
        url.path_segments_mut().map_err(|()| "not a base")?.extend(["v1", "weather", city]);
        let Ok(answer) = self.client.head(url).send().await else { return Ok(None) };
        Ok(match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Some((StatusCode::NOT_FOUND, "no such city\n").into_response()),
            // Never fetched so far, and the weather service is away.
            StatusCode::SERVICE_UNAVAILABLE => {
                let later = answer.headers().get(header::RETRY_AFTER).cloned().into_iter();
                let later = later.map(|later| (header::RETRY_AFTER, later)).collect::<http::HeaderMap>();
                Some((StatusCode::SERVICE_UNAVAILABLE, later, "not yet known\n").into_response())
            }
            _ => None,
        })
    }
}
