//! `POST /v1/-/reload`: the configuration is read again.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Uri, header};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::ApiState;
use super::access::Admin;
use super::error::ApiError;
use super::parameters::Parameters;

/// Someone who asked for a reload, and waits to be told how it went.
pub type Reply = oneshot::Sender<Result<Reloaded, NotReloaded>>;

/// Where reloads are asked for. Who does them is not the read API's affair.
pub type Reloads = mpsc::Sender<Reply>;

/// The configuration was read again, and holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// What is probably not meant, and what holds only after a restart: a sentence for each.
    pub warnings: Vec<String>,
}

/// The configuration was not read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotReloaded {
    /// The file is wrong: a sentence for each error, without any secret. The old configuration stays in force.
    Invalid(Vec<String>),
    /// Something was in the way. A sentence that says what, and which configuration is in force.
    Unavailable(String),
}

/// Answers when the reload is done. Requests that come while one goes on are answered by one more.
///
/// # Errors
/// 422 with all errors of the file; 503 when the database is away.
pub async fn reload(_: Admin, State(api): State<ApiState>, uri: Uri) -> Result<Response, ApiError> {
    Parameters::of(&uri, &[])?;
    let (reply, told) = oneshot::channel();
    api.reloads.send(reply).await.map_err(|_| ending())?;
    let reloaded = told.await.map_err(|_| ending())?.map_err(ApiError::NotReloaded)?;
    Ok(([(header::CACHE_CONTROL, "no-store")], axum::Json(reloaded)).into_response())
}

fn ending() -> ApiError {
    ApiError::NotReloaded(NotReloaded::Unavailable("this process is about to end".into()))
}
