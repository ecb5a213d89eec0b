//! What the read API reports of itself, and `GET /metrics`.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Uri, header};

use super::ApiState;
use super::error::ApiError;
use super::parameters::Parameters;
use crate::clock::monotonic;
use crate::domain::read_state::ReadState;
use crate::store::{Pause, Status};
use crate::telemetry::metrics;

/// The text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers with everything that this process has reported so far, and with how sources and upstreams stand in the
/// database. Without the database, the latter is as it was when last asked for.
///
/// # Errors
/// An unknown route where no metrics are kept.
pub async fn metrics(State(api): State<ApiState>, uri: Uri) -> Result<Response, ApiError> {
    Parameters::of(&uri, &[])?;
    let Some(metrics) = &api.metrics else { return Err(ApiError::UnknownRoute { path: uri.path().to_owned() }) };
    match api.store.status(api.clock.now()).await {
        Ok(status) => report(&status),
        Err(error) => tracing::warn!(%error, "the metrics tell how things stood earlier"),
    }
    let fields = [(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-store")];
    Ok((fields, metrics.render()).into_response())
}

fn report(status: &Status) {
    for source in &status.sources {
        let (name, counts) = (source.name.as_str(), source.counts);
        let by_state = [
            (ReadState::Fresh, counts.fresh),
            (ReadState::Stale, counts.stale),
            (ReadState::Pending, counts.pending),
            (ReadState::Gone, counts.gone),
        ];
        for (state, number) in by_state {
            metrics::resources(name, state.as_str(), number);
        }
        metrics::failing(name, counts.failing);
    }
    for upstream in &status.upstreams {
        let backlog = upstream.backlog;
        let overdue = backlog.oldest_due_at.and_then(|due_at| (status.at - due_at).to_std().ok());
        metrics::backlog(&upstream.name, backlog.resources, overdue.unwrap_or_default(), upstream.in_flight);
    }
    for upstream in &status.upstreams {
        let until = upstream.pauses.iter().filter_map(Pause::until).max();
        let paused = until.and_then(|until| (until - status.at).to_std().ok()).unwrap_or_default();
        metrics::governed(&upstream.name, upstream.pace, paused);
        for (budget, requests) in &upstream.budgets {
            metrics::budget(&upstream.name, &humantime::format_duration(budget.per).to_string(), *requests);
        }
        let unpaid = upstream.pauses.iter().map(|pause| match pause {
            Pause::Budget { resources, .. } => *resources,
            _ => 0,
        });
        metrics::unpaid(&upstream.name, unpaid.sum());
    }
    metrics::database_size(status.disk.bytes);
}

/// Reports how long each request took, by its route.
pub async fn measured(request: Request, next: Next) -> Response {
    let began = monotonic();
    // What matches no route has a path of the client's choice, which must not become a label.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    metrics::answered(route, response.status().as_u16(), monotonic() - began);
    response
}
