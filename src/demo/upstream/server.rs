//! Connections of the simulated upstream. It can do what no router can: close one without an answer.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{Upstream, is_about_itself};

/// Why a connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the simulated upstream is off")]
struct Off;

/// Serves until `stop` is cancelled; then all connections are closed at once.
pub(super) async fn serve(listener: TcpListener, upstream: Arc<Upstream>, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            // Takes finished connections out of the set.
            Some(_) = connections.join_next() => {}
            // An error concerns one connection that went away again.
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(attend(stream, Arc::clone(&upstream), router.clone()));
            }
        }
    }
    connections.shutdown().await;
}

async fn attend(stream: TcpStream, upstream: Arc<Upstream>, router: Router) {
    // An error costs speed alone.
    _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Arc::clone(&upstream), router.clone()));
    let connection = http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
    // However it ends, the client sees it.
    _ = connection.await;
}

/// The router's answer, or [`Off`], which makes the HTTP library drop the connection.
async fn answer(
    request: Request<Incoming>,
    upstream: Arc<Upstream>,
    mut router: Router,
) -> Result<Response<Body>, Off> {
    if is_about_itself(request.uri().path()) {
        return router.call(request).await.map_err(never);
    }
    upstream.stats.came();
    if upstream.is_off() {
        upstream.stats.went(None);
        return Err(Off);
    }
    let response = router.call(request).await.map_err(never)?;
    // It may have been turned off while it was at it.
    let status = (!upstream.is_off()).then(|| response.status());
    upstream.stats.went(status);
    status.map(|_| response).ok_or(Off)
}

fn never(never: Infallible) -> Off {
    match never {}
}
