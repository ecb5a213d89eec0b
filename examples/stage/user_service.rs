//! The service that knows the users: of each an id, a name and an avatar. It keeps them in a file.
//!
//! | route | |
//! |---|---|
//! | `GET /users?page=N` | 50 users and, as `Link`, the way to the next page |
//! | `GET /users?ids=a,b,c` | these |
//! | `PUT /users/{id}` | another name or avatar |

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{self, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::{Failed, Result, with_etag};

/// How many users there are.
pub const USERS: usize = 120;
/// How many of them are on a page.
const PAGE: usize = 50;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct User {
    id: String,
    name: String,
    avatar: String,
}

struct Users {
    file: PathBuf,
    all: Mutex<BTreeMap<String, User>>,
}

/// Its routes. What is in the directory from an earlier run, it knows.
pub fn router(directory: &Path) -> Result<Router> {
    let file = directory.join("users.json");
    let all = if file.exists() { serde_json::from_slice(&std::fs::read(&file)?)? } else { first_users() };
    let users = Users { file, all: Mutex::new(all) };
    let routes = Router::new().route("/users", get(list)).route("/users/{id}", put(change));
    Ok(routes.with_state(Arc::new(users)))
}

fn first_users() -> BTreeMap<String, User> {
    const FIRST: [&str; 12] =
        ["Arta", "Ben", "Chiara", "Dren", "Emine", "Farid", "Greta", "Hana", "Ivo", "Jehona", "Kofi", "Lule"];
    const LAST: [&str; 10] =
        ["Abe", "Berisha", "Costa", "Diallo", "Engel", "Ferrari", "Gashi", "Hoxha", "Ito", "Jansen"];
    let names = FIRST.iter().flat_map(|first| LAST.iter().map(move |last| format!("{first} {last}")));
    let users = names.take(USERS).enumerate().map(|(number, name)| {
        let id = format!("u{}", number + 1);
        let avatar = format!("/avatars/{id}-1.png");
        (id.clone(), User { id, name, avatar })
    });
    users.collect()
}

#[derive(Debug, Deserialize)]
struct Asked {
    page: Option<usize>,
    ids: Option<String>,
}

async fn list(
    State(users): State<Arc<Users>>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Response, Failed> {
    let all = users.all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(ids) = asked.ids {
        let found: Vec<_> = ids.split(',').filter_map(|id| all.get(id)).collect();
        return Ok(with_etag(&headers, 60, serde_json::json!({ "data": found }).to_string()));
    }
    let page = asked.page.unwrap_or(1).max(1);
    let found: Vec<_> = all.values().skip((page - 1).saturating_mul(PAGE)).take(PAGE).collect();
    let is_last = page.saturating_mul(PAGE) >= all.len();
    let mut answer = with_etag(&headers, 60, serde_json::json!({ "data": found }).to_string());
    if !is_last {
        answer.headers_mut().insert(header::LINK, format!("</users?page={}>; rel=\"next\"", page + 1).parse()?);
    }
    Ok(answer)
}

#[derive(Debug, Deserialize)]
struct Change {
    name: Option<String>,
    avatar: Option<String>,
}

async fn change(
    State(users): State<Arc<Users>>,
    extract::Path(id): extract::Path<String>,
    Json(change): Json<Change>,
) -> Result<Response, Failed> {
    let mut all = users.all.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(user) = all.get_mut(&id) else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    user.name = change.name.unwrap_or_else(|| user.name.clone());
    user.avatar = change.avatar.unwrap_or_else(|| user.avatar.clone());
    let answer = Json(user.clone()).into_response();
    std::fs::write(&users.file, serde_json::to_vec(&*all)?)?;
    Ok(answer)
}
