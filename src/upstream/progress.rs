//! How far an exchange has come, so that a timeout can say what it was waiting for.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use tower::{Layer, Service};

/// What an exchange is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A connection: name, TCP and TLS.
    Connection,
    /// The answer's header.
    Header,
    /// The rest of the body.
    Body,
    /// A token of the limits, for one more request.
    Token,
    /// Another access token.
    Credentials,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "while connecting",
            Self::Header => "while waiting for the answer's headers",
            Self::Body => "while reading the body",
            Self::Token => "while waiting to be allowed one more request",
            Self::Credentials => "while waiting for an access token",
        })
    }
}

/// The phase of one exchange, shared with the connector that works for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    pub(super) fn is_now(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        let number = self.0.load(Ordering::Relaxed);
        let others = [Phase::Header, Phase::Body, Phase::Token, Phase::Credentials];
        others.into_iter().find(|phase| *phase as u8 == number).unwrap_or(Phase::Connection)
    }

    /// Runs a request so that a connection made for it is seen by this progress.
    pub(super) async fn watch<F: Future>(&self, request: F) -> F::Output {
        // A pooled connection needs no connecting; the connector says so if one is made.
        self.is_now(Phase::Header);
        CURRENT.scope(self.clone(), request).await
    }
}

tokio::task_local! {
    // The client's connector is told a host only, not for which request it connects. It is called within the request's
    // own task.
    static CURRENT: Progress;
}

/// Puts [`Watched`] around the client's connector.
#[derive(Debug, Clone, Copy)]
pub(super) struct WatchConnecting;

impl<S> Layer<S> for WatchConnecting {
    type Service = Watched<S>;

    fn layer(&self, connector: S) -> Watched<S> {
        Watched { connector }
    }
}

/// A connector that marks the phase of the exchange that it works for.
#[derive(Debug, Clone)]
pub(super) struct Watched<S> {
    connector: S,
}

impl<S, D> Service<D> for Watched<S>
where
    S: Service<D>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, destination: D) -> Self::Future {
        let progress = CURRENT.try_with(Progress::clone).unwrap_or_default();
        progress.is_now(Phase::Connection);
        let connecting = self.connector.call(destination);
        Box::pin(async move {
            let connected = connecting.await?;
            progress.is_now(Phase::Header);
            Ok(connected)
        })
    }
}
