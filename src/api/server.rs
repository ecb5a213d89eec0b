//! The HTTP server: connections in, bounded in number, size and time, and out again when the process ends.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::Service;

use super::error::ApiError;
use super::patience::{Patience, Watch, Watched};
use crate::config;

/// Connections at the same time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 10_000;
/// Bytes of a request line and its headers; a key of 2 KiB takes up to 6 KiB percent-encoded.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// How long to wait when no connection can be accepted, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `shutdown`; then accepts no more, lets requests under way finish within `shutdown_grace`, and drops
/// what is left.
///
/// The settings may change meanwhile: a connection has the timeouts of when it began, and a request its own.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: watch::Receiver<config::Server>,
    shutdown: impl Future<Output = ()>,
) {
    let server = Server::new(router, settings.clone());
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            // Takes finished connections out of the set. A panic in one has been reported by the panic hook.
            Some(_) = connections.join_next() => {}
            stream = accept(&listener), if connections.len() < MAX_CONNECTIONS => {
                _ = connections.spawn(server.clone().attend(stream, graceful.watcher()));
            }
        }
    }
    drop(listener);
    let grace = settings.borrow().shutdown_grace;
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("dropping connections that did not finish within shutdown_grace");
    }
    connections.shutdown().await;
}

/// The next connection. No error ends the server: most concern one connection, and the others pass.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "can't accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What each connection is served with.
#[derive(Clone)]
struct Server {
    router: Router,
    http: http1::Builder,
    settings: watch::Receiver<config::Server>,
}

impl Server {
    fn new(router: Router, settings: watch::Receiver<config::Server>) -> Self {
        let mut http = http1::Builder::new();
        // `patience` says why not hyper's own timer.
        http.header_read_timeout(None).max_header_size(MAX_HEADER_BYTES);
        Self { router: within(router, settings.clone()), http, settings }
    }

    fn patience(&self) -> Patience {
        let settings = self.settings.borrow();
        Patience {
            headers: settings.header_timeout,
            // The router answers within request_timeout; after that the client must take what comes.
            answer: settings.request_timeout.saturating_add(settings.idle_timeout),
            idle: settings.idle_timeout,
        }
    }

    async fn attend(self, stream: TcpStream, watcher: Watcher) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection can't have TCP_NODELAY");
        }
        let watch = Watch::new(self.patience());
        let stream = TokioIo::new(Watched::new(stream, watch.clone()));
        let (router, requests) = (self.router, watch.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let answering = requests.answering();
            let answer = router.clone().call(request);
            async move {
                let response = answer.await?;
                // The closure is never called; it owns the guard until the body has been handed over.
                Ok::<_, Infallible>(response.map(|body| {
                    body.map_err(move |error| {
                        _ = &answering;
                        error
                    })
                }))
            }
        });
        let connection = watcher.watch(self.http.serve_connection(stream, service));
        match watch.attend(connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection broke"),
            Err(_) => tracing::debug!("a connection kept us waiting too long"),
        }
    }
}

/// The router, with a limit to how long a request may take to be answered.
fn within(router: Router, settings: watch::Receiver<config::Server>) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let limit = settings.borrow().request_timeout;
        async move {
            match tokio::time::timeout(limit, next.run(request)).await {
                Ok(response) => response,
                Err(_) => ApiError::TimedOut.into_response(),
            }
        }
    }))
}
