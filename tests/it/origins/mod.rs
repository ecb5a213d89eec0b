//! Keys that live somewhere else than in the configuration, followed by a running `serve`.

mod copies;
mod files;
mod hands;
mod queries;

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::{Headpond, Serving, eventually, get_json};
use crate::support::store::Database;

/// No test waits longer for what must come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An upstream that has everything.
pub async fn upstream() -> MockServer {
    let server = MockServer::start().await;
    let all = ResponseTemplate::new(200).set_body_json(serde_json::json!({ "well": true }));
    Mock::given(any()).respond_with(all).mount(&server).await;
    server
}

/// A configuration with the source `cities`; `more` says where its keys come from.
pub fn config(database: &Database, origin: &str, more: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n\
         [sources.cities]\nurl = \"{origin}/cities/{{key}}\"\nrefresh_every = \"1h\"\n{more}\n",
        database.url()
    )
}

/// The keys of a source that are polled, and have been fetched.
pub async fn fetched(serving: &Serving, source: &str) -> BTreeSet<String> {
    let (_, list) = get_json(&serving.url(&format!("/v1/{source}?limit=1000&state=fresh"))).await;
    list["items"].as_array().into_iter().flatten().map(|item| item["key"].as_str().unwrap().to_owned()).collect()
}

/// Waits until exactly these keys of a source are polled and fetched.
pub async fn has(serving: &Serving, source: &str, keys: &[&str]) {
    let wanted: BTreeSet<_> = keys.iter().map(|key| (*key).to_owned()).collect();
    eventually(&format!("{source}: {keys:?}"), PATIENCE, async || {
        (fetched(serving, source).await == wanted).then_some(())
    })
    .await;
}

/// How an origin stands.
pub async fn origin(serving: &Serving, source: &str, name: &str) -> Value {
    let (_, status) = get_json(&serving.url("/v1/-/status")).await;
    let sources = status["sources"].as_array().unwrap();
    let source = sources.iter().find(|one| one["name"] == source).unwrap();
    let origins = source["origins"].as_array().unwrap();
    origins.iter().find(|one| one["name"] == name).cloned().unwrap_or(Value::Null)
}

/// Waits until something is wrong with an origin that says this.
pub async fn problem(serving: &Serving, source: &str, name: &str, words: &str) -> String {
    eventually(&format!("{name}: {words}"), PATIENCE, async || {
        let problem = origin(serving, source, name).await["problem"].as_str()?.to_owned();
        problem.contains(words).then_some(problem)
    })
    .await
}

/// Waits until nothing is wrong with an origin.
pub async fn is_well(serving: &Serving, source: &str, name: &str) {
    eventually(&format!("{name} is well"), PATIENCE, async || {
        origin(serving, source, name).await["problem"].is_null().then_some(())
    })
    .await;
}

/// Replaces a file as a whole, as editors and deployments do.
pub fn replace(headpond: &Headpond, name: &str, text: &str) {
    let aside = headpond.path(&format!("{name}.new"));
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(aside, headpond.path(name)).unwrap();
}
