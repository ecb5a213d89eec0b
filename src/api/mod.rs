//! The read API: answers readers straight from the store, and never asks an upstream. At the most it makes a key due, and
//! waits until whoever refreshes it has done so.
//!
//! | route | answers |
//! |---|---|
//! | `GET /v1/{source}/{key}` | the snapshot's body as the upstream sent it, with its age and freshness; 304 on validators |
//! | `PUT /v1/{source}/{key}` | has the key polled, with the parameters in the body; 201 or 200 |
//! | `DELETE /v1/{source}/{key}` | removes a key that was added by hand; 204 |
//! | `GET /v1/{source}?key=` | the same, for keys that something on the way would decode |
//! | `GET /v1/{source}` | a list of the source, page by page or in lines |
//! | `GET /v1/{source}?keys=` | many resources at once |
//! | `GET /v1/{source}/{key}/meta` | what is known of the resource: freshness, schedule, failures |
//! | `GET /v1/{source}/{key}/history` | its contents that were replaced and are kept; `?version=` of the resource reads one |
//! | `GET /v1/{source}/{key}/explain` | the same in sentences, with the rules that led to it |
//! | `POST /v1/{source}/{key}/refresh` | makes the key due; 202 |
//! | `POST /v1/{source}/{key}/erase` | nothing is kept of the key, nor will be |
//! | `POST /v1/{source}/{key}/allow` | the key may be fetched again |
//! | `GET /v1/-/changes` | the change feed, page by page or as events |
//! | `GET /v1/-/sources` | how each source stands: its keys by state, what is due, its last failure |
//! | `GET /v1/-/status` | the same, and how upstreams and the database stand |
//! | `POST /v1/-/reload` | that the configuration was read again, or what is wrong with it; for admins |
//! | `GET /healthz` | whether the process is up |
//! | `GET /readyz` | whether the store can be reached and every source has been tried once |
//! | `GET /metrics` | the process's metrics, for Prometheus |
//! | `GET /openapi.json` | all of this as an OpenAPI document |
//! | `GET /docs` | the same, as a page |
//!
//! Source names start with a letter, so `-` is never one. Every error is a problem document (RFC 9457), made in one place,
//! [`error`], but for requests that are no HTTP: those the HTTP library answers itself, with a 400 or 431 without a
//! body.
//!
//! Who may ask for what is said in [`access`]; the health checks are for everyone. Answers are compressed for readers that
//! accept it ([`encoding`]), and shown to web pages that the config names ([`cors`]). Ranges are not served: a body is
//! read whole.
//!
//! Keys that exist because someone reads them are the business of [`demand`].
//!
//! What a request's `Cache-Control` and `Prefer: wait=N` bring about is said in [`mod@reading`].

pub mod accept;
pub mod access;
pub mod bounds;
pub mod collection;
pub mod conditional;
pub mod cors;
pub mod crowd;
pub mod deadline;
pub mod demand;
pub mod encoding;
pub mod erase;
pub mod error;
pub mod explain;
pub mod feed;
pub mod freshness_headers;
pub mod health;
pub mod history;
pub mod item;
pub mod keys;
pub mod list;
pub mod measure;
pub mod meta;
pub mod missing;
pub mod ndjson;
pub mod openapi;
pub mod parameters;
pub mod patience;
pub mod prefer;
pub mod problem;
pub mod read;
pub mod reading;
pub mod refresh;
pub mod reload;
pub mod resource_path;
pub mod rows;
pub mod server;
pub mod settings;
pub mod status;
pub mod streams;
pub mod waiting;

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::http::{Method, Uri};
use axum::middleware::{from_extractor_with_state, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::announce::Announcer;
use crate::clock::Clock;
use crate::store::{Reads, Store};
use demand::Demands;
use error::ApiError;
use settings::Settings;
use waiting::Waiting;

/// What the handlers work with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState {
    /// Where everything is read from.
    pub store: Arc<dyn Store>,
    /// What ages and states are computed by.
    pub clock: Arc<dyn Clock>,
    /// Who tells when something was settled.
    pub announcer: Announcer,
    /// What the config says about reading, which a reload changes.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Readers who wait.
    pub waiting: Waiting,
    /// Readers of keys that nobody listed.
    pub demands: Demands,
    /// What was read of such keys.
    pub reads: Arc<Reads>,
    /// Those who wait at the end of the change feed.
    pub tail: feed::Tail,
    /// Answers that go on for long.
    pub streams: streams::Streams,
    /// Ends all waiting, when this process should end.
    pub stopping: CancellationToken,
    /// Renders the process's metrics; `None` where none are kept.
    pub metrics: Option<PrometheusHandle>,
    /// Where a reload is asked for.
    pub reloads: reload::Reloads,
}

impl ApiState {
    /// The settings that hold now.
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }
}

/// All routes.
pub fn router(state: ApiState) -> Router {
    reading(&state)
        .merge(following())
        .merge(administering())
        .merge(open())
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(state.settings.clone(), deadline::deadline))
        .layer(encoding::compression())
        .layer(from_fn(encoding::variants))
        .layer(from_fn_with_state(state.clone(), cors::cors))
        .layer(from_fn(measure::measured))
        .with_state(state)
}

/// Routes for whoever may read what their path is about. Those that change something take an [`access::Admin`] as well.
fn reading(state: &ApiState) -> Router<ApiState> {
    Router::new()
        .route("/v1/{source}", get(collection::collection))
        .route("/v1/{source}/{key}", get(read::read).put(keys::put).delete(keys::delete))
        .route("/v1/{source}/{key}/meta", get(meta::meta))
        .route("/v1/{source}/{key}/history", get(history::history))
        .route("/v1/{source}/{key}/explain", get(explain::explain))
        .route("/v1/{source}/{key}/refresh", post(refresh::refresh))
        .route("/v1/{source}/{key}/erase", post(erase::erase))
        .route("/v1/{source}/{key}/allow", post(erase::allow))
        .route("/v1/-/sources", get(status::sources))
        .route("/v1/-/status", get(status::status))
        .route("/metrics", get(measure::metrics))
        .route_layer(from_extractor_with_state::<access::Reader, _>(state.clone()))
}

/// Routes whose handlers look themselves whether their [`access::Reader`] may read what the parameters are about.
fn following() -> Router<ApiState> {
    Router::new().route("/v1/-/changes", get(feed::changes))
}

/// Routes whose handlers take an [`access::Admin`].
fn administering() -> Router<ApiState> {
    Router::new().route("/v1/-/reload", post(reload::reload))
}

/// Routes for everyone.
fn open() -> Router<ApiState> {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(openapi::openapi))
        .route("/docs", get(openapi::docs))
}

async fn unknown_route(uri: Uri) -> ApiError {
    ApiError::UnknownRoute { path: uri.path().to_owned() }
}

async fn method_not_allowed(method: Method) -> ApiError {
    ApiError::MethodNotAllowed { method }
}

/// The panic itself has been reported by the panic hook; its message is not for readers.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::Panicked.into_response()
}
