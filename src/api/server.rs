//! The HTTP server: connections in, bounded in number, size and time, and out again when the process ends.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tower::Service;

use super::crowd::{Crowd, make_room};
use super::patience::{Patience, Watch, Watched};
use crate::config;

/// Bytes of a request line and its headers: room for a thousand keys of up to 60 bytes in one query, or for a key of 2 KiB,
/// which takes up to 6 KiB percent-encoded. (No URL can be longer than 64 KiB in any case.)
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// How often to look whether there is a connection that can give way, when there was none for the newest.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long to wait when no connection can be accepted, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `shutdown`; then accepts no more, lets requests under way finish within `shutdown_grace`, and drops
/// what is left. When `max_connections` are there, one that is idle has to go for each that comes; without such a one, all
/// further ones wait in the kernel's queue.
///
/// The settings may change meanwhile, all but `max_connections`: a connection has the timeouts of when it began.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    settings: watch::Receiver<config::Server>,
    shutdown: impl Future<Output = ()>,
) {
    let server = Server::new(router, settings.clone());
    let graceful = GracefulShutdown::new();
    let mut crowd = Crowd::of_at_most(make_room(settings.borrow().max_connections));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(()) = crowd.ended() => {}
            stream = accept(&listener), if crowd.is_open() => {
                let watch = Watch::new(server.patience());
                crowd.join(watch.clone(), server.clone().attend(stream, watch, graceful.watcher()));
            }
            () = tokio::time::sleep(LOOK_AGAIN), if crowd.is_overfull() => crowd.dismiss_one(),
        }
    }
    drop(listener);
    let grace = settings.borrow().shutdown_grace;
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("dropping connections that did not finish within shutdown_grace");
    }
    crowd.close().await;
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
        Self { router, http, settings }
    }

    fn patience(&self) -> Patience {
        let settings = self.settings.borrow();
        Patience {
            headers: settings.header_timeout,
            // The router answers within request_timeout (`deadline`); after that the client must take what comes.
            answer: settings.request_timeout.saturating_add(settings.idle_timeout),
            idle: settings.idle_timeout,
        }
    }

    async fn attend(self, stream: TcpStream, watch: Watch, watcher: Watcher) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection can't have TCP_NODELAY");
        }
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
