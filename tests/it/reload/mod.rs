//! `serve` reads its configuration again: the real binary, told by SIGHUP or by an administrator.

mod refused;
mod taken_over;

use std::time::Duration;

use serde_json::Value;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::{Serving, eventually, get};
use crate::support::store::Database;

const PATIENCE: Duration = Duration::from_secs(60);

/// The configuration of these sources; each is a name, an origin with a path, a list of keys, and more settings.
fn config(database: &str, sources: &[(&str, &str, &str, &str)]) -> String {
    let sources: Vec<String> = sources
        .iter()
        .map(|(name, url, keys, more)| {
            format!("[sources.{name}]\nurl = \"{url}/{{key}}\"\nkeys = {keys}\nrefresh_every = \"1h\"\n{more}\n")
        })
        .collect();
    format!("[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{database}\"\n{}", sources.concat())
}

async fn upstream() -> MockServer {
    MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await
}

/// Answers requests for a path with this text.
async fn answer(server: &MockServer, at: &str, body: &str) {
    let found = ResponseTemplate::new(200).set_body_string(body);
    Mock::given(method("GET")).and(path(at)).respond_with(found).mount(server).await;
}

/// How often a path was asked for.
async fn asked(server: &MockServer, at: &str) -> usize {
    let requests = server.received_requests().await.unwrap();
    requests.iter().filter(|request| request.url.path() == at).count()
}

/// Waits until a path is answered with this text.
async fn reads(serving: &Serving, at: &str, body: &str) {
    eventually(&format!("{body} at {at}"), PATIENCE, async || {
        let text = get(&serving.url(at)).await.unwrap().text().await.unwrap();
        (text == body).then_some(())
    })
    .await;
}

/// Reloads by the API, which must go well; returns the warnings.
async fn reload(serving: &Serving) -> Vec<Value> {
    let (status, answer) = serving.post("/v1/-/reload", None).await;
    assert_eq!(status, 200, "{answer}");
    answer["warnings"].as_array().unwrap().clone()
}

/// How many resources of the database have content.
async fn fetched(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM {content}").await
}
