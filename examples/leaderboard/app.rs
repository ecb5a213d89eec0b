//! The app. The scores are its own; names and avatars are Headpond's copy in the same database, and one query joins them.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use sqlx::Row;

use crate::stage::{Database, Failed, Result, on};

const SCORES: &str = "CREATE TABLE scores (user_id text PRIMARY KEY, points bigint NOT NULL)";

const ADD: &str = "
    INSERT INTO scores (user_id, points) VALUES ($1, $2)
    ON CONFLICT (user_id) DO UPDATE SET points = scores.points + excluded.points";

/// `users` is a view of Headpond's. `state` is `fresh` or `stale` at the moment of reading. The join is an outer one because who
/// has just signed up can have points before the next poll brings the name.
const TOP: &str = "
    SELECT s.user_id, s.points, u.name, u.avatar, u.state
    FROM scores AS s LEFT JOIN users AS u ON u.key = s.user_id
    ORDER BY s.points DESC, s.user_id LIMIT 20";

/// Makes what is the app's own in the database.
pub async fn migrate(database: &Database) -> Result {
    on!(database, pool => { sqlx::query(SCORES).execute(pool).await?; });
    Ok(())
}

/// Its routes.
pub fn router(database: Database) -> Router {
    Router::new().route("/leaderboard", get(top)).route("/scores", post(add)).with_state(database)
}

#[derive(Debug, Serialize)]
struct Player {
    user: String,
    points: i64,
    name: Option<String>,
    avatar: Option<String>,
    /// Whether the name and the avatar may be out of date: the page shows them, with a mark.
    is_stale: bool,
}

async fn top(State(database): State<Database>) -> Result<Json<Vec<Player>>, Failed> {
    let mut players = Vec::new();
    on!(&database, pool => {
        for row in sqlx::query(TOP).fetch_all(pool).await? {
            players.push(Player {
                user: row.try_get("user_id")?,
                points: row.try_get("points")?,
                name: row.try_get("name")?,
                avatar: row.try_get("avatar")?,
                is_stale: row.try_get::<Option<String>, _>("state")?.as_deref() == Some("stale"),
            });
        }
    });
    Ok(Json(players))
}

#[derive(Debug, Deserialize)]
struct Score {
    user: String,
    points: i64,
}

async fn add(State(database): State<Database>, Json(score): Json<Score>) -> Result<StatusCode, Failed> {
    on!(&database, pool => { sqlx::query(ADD).bind(&score.user).bind(score.points).execute(pool).await?; });
    Ok(StatusCode::NO_CONTENT)
}
