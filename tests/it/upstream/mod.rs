//! What goes over the wire, and what is made of what comes back.

mod answers;
mod broken;
mod configured;
mod credentials;
mod elsewhere;
mod gates;
mod oauth;
mod posts;
mod redirects;
mod requests;
mod tls;
mod token_gate;

use std::sync::Arc;
use std::time::Duration;

use headpond::clock::SystemClock;
use headpond::config::RequestSettings;
use headpond::domain::failure::{Failure, FailureKind};
use headpond::domain::observation::{Observation, Seen};
use headpond::domain::validators::Validators;
use headpond::upstream::{FetchRequest, Fetcher, OpenGate};
use http::{HeaderMap, HeaderValue};
use url::Url;
use wiremock::MockServer;

fn settings() -> RequestSettings {
    RequestSettings {
        method: http::Method::GET,
        body: None,
        redirect_hosts: Vec::new(),
        limit_phrases: Vec::new(),
        headers: HeaderMap::new(),
        user_agent: HeaderValue::from_static("headpond-test/1"),
        timeout: Duration::from_secs(20),
        max_body: 1024 * 1024,
    }
}

fn fetcher() -> Fetcher {
    Fetcher::new(Arc::new(SystemClock::new())).unwrap()
}

/// Asks once, with a client of its own.
async fn ask(url: &Url) -> Observation {
    ask_with(url, &settings(), None).await
}

async fn ask_with(url: &Url, settings: &RequestSettings, validators: Option<&Validators>) -> Observation {
    let request = FetchRequest { url, settings, body: None, validators };
    fetcher().fetch(&request, &OpenGate).await.unwrap()
}

/// What was wrong; panics when nothing was.
fn failure(observation: &Observation) -> &Failure {
    match &observation.seen {
        Seen::Refused { failure, .. } | Seen::Unreachable { failure } => failure,
        seen => panic!("this did not fail: {seen:?}"),
    }
}

fn kind(observation: &Observation) -> FailureKind {
    failure(observation).kind
}

/// The body that came; panics when none did.
fn body(observation: &Observation) -> &[u8] {
    match &observation.seen {
        Seen::Content { body, .. } => body,
        seen => panic!("there is no content: {seen:?}"),
    }
}

/// wiremock on a port of its own: its pooled ports would meet connections that other tests' clients keep alive.
async fn mock_server() -> MockServer {
    MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await
}

fn url(server: &MockServer, path: &str) -> Url {
    format!("{}{path}", server.uri()).parse().unwrap()
}
