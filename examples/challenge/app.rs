//! The app: `GET /getChallengeDetails?challenge=C` tells who takes part, with names and avatars.
//!
//! Who takes part is in a table of its own. Names and avatars are the user service's, and come from Headpond: all of them in one
//! read, however many they are, and whether or not the user service is there.

use std::collections::HashMap;

use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use sqlx::Row;

use crate::stage::{Database, Failed, Result, on};

const PARTICIPANTS: &str =
    "CREATE TABLE participants (challenge text, user_id text, joined bigint, PRIMARY KEY (challenge, user_id))";

const JOIN: &str = "
    INSERT INTO participants (challenge, user_id, joined)
    SELECT $1, $2, count(*) FROM participants WHERE challenge = $1
    ON CONFLICT (challenge, user_id) DO NOTHING";

const WHO: &str = "SELECT user_id FROM participants WHERE challenge = $1 ORDER BY joined LIMIT 1000";

#[derive(Clone)]
pub struct App {
    pub database: Database,
    /// The URL of Headpond's list of users.
    pub users: String,
    pub client: reqwest::Client,
}

/// Makes what is the app's own in the database.
pub async fn migrate(database: &Database) -> Result {
    on!(database, pool => { sqlx::query(PARTICIPANTS).execute(pool).await?; });
    Ok(())
}

/// Its routes.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/getChallengeDetails", get(get_challenge_details))
        .route("/joinChallenge", post(join_challenge))
        .with_state(app)
}

#[derive(Debug, Deserialize)]
struct Asked {
    challenge: String,
}

#[derive(Debug, Serialize)]
struct Challenge {
    challenge: String,
    participants: Vec<Participant>,
}

/// Someone whose name was never fetched has none: the page shows the id.
#[derive(Debug, Serialize)]
struct Participant {
    user: String,
    name: Option<String>,
    avatar: Option<String>,
}

async fn get_challenge_details(State(app): State<App>, Query(asked): Query<Asked>) -> Result<Json<Challenge>, Failed> {
    let mut who: Vec<String> = Vec::new();
    on!(&app.database, pool => {
        for row in sqlx::query(WHO).bind(&asked.challenge).fetch_all(pool).await? {
            who.push(row.try_get("user_id")?);
        }
    });
    let mut profiles = app.profiles(&who).await?;
    let participants = who.into_iter().map(|user| {
        let Profile { name, avatar } = profiles.remove(&user).unwrap_or_default();
        Participant { user, name, avatar }
    });
    Ok(Json(Challenge { participants: participants.collect(), challenge: asked.challenge }))
}

/// What Headpond answers, as far as it is of interest here: of each item also `state`, `fetched_at` and more, and in `absent` the
/// keys that it does not know.
#[derive(Debug, Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Debug, Deserialize)]
struct Item {
    key: String,
    /// The copy, if there is one already.
    data: Option<Profile>,
}

#[derive(Debug, Default, Deserialize)]
struct Profile {
    name: Option<String>,
    avatar: Option<String>,
}

impl App {
    /// The profiles of these users, by their ids. Up to 1,000 can be asked for at once.
    async fn profiles(&self, users: &[String]) -> Result<HashMap<String, Profile>, Failed> {
        if users.is_empty() {
            return Ok(HashMap::new());
        }
        let keys: Vec<_> = users.iter().map(|user| utf8_percent_encode(user, NON_ALPHANUMERIC).to_string()).collect();
        let answer = self.client.get(format!("{}?keys={}", self.users, keys.join(","))).send().await?;
        let list: List = serde_json::from_slice(&answer.error_for_status()?.bytes().await?)?;
        Ok(list.items.into_iter().filter_map(|item| Some((item.key, item.data?))).collect())
    }
}

#[derive(Debug, Deserialize)]
struct Join {
    challenge: String,
    user: String,
}

async fn join_challenge(State(app): State<App>, Json(join): Json<Join>) -> Result<StatusCode, Failed> {
    on!(&app.database, pool => { sqlx::query(JOIN).bind(&join.challenge).bind(&join.user).execute(pool).await?; });
    Ok(StatusCode::NO_CONTENT)
}
