//! `headpond try`: one real request, shown with what would follow from it.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use http::header::{self, HeaderMap};
use url::Url;

use super::assemble;
use super::outcome::{CliError, Exit};
use super::refresh::unknown_source;
use crate::clock::{Clock, SystemClock};
use crate::config::Source;
use crate::domain::decision::{Freshness, Outcome, Previous, decide};
use crate::domain::observation::Seen;
use crate::domain::resource::{Key, Params, ResourceId};
use crate::domain::schedule::{Due, Slot};
use crate::upstream::{Exchange, FetchRequest, Fetchers, OpenGate, shown};

/// The response fields that a decision can depend on. No others are shown: what they say may repeat the query.
const MATTERING: [header::HeaderName; 11] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::ETAG,
    header::LAST_MODIFIED,
    header::CACHE_CONTROL,
    header::EXPIRES,
    header::DATE,
    header::AGE,
    header::RETRY_AFTER,
    header::LOCATION,
    header::VARY,
];

/// How much of a body is shown.
const SHOWN_BYTES: usize = 500;

/// Arguments of `try`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The source.
    source: String,
    /// One of its keys; without it, the first that the configuration lists.
    key: Option<String>,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    let source = config
        .sources
        .iter()
        .find(|source| source.name.as_str() == args.source)
        .ok_or_else(|| unknown_source(&config, &args.source))?;
    let (key, params) = named_key(source, args.key.as_deref())?;
    let ask = source.ask(&key, &params).map_err(|error| CliError::usage(format!("key {key}: {error}")))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let fetchers = Fetchers::of(&config, &clock).map_err(|error| CliError::usage(error.to_string()))?;
    let request = FetchRequest { url: &ask.url, body: ask.body.as_ref(), settings: &source.request, validators: None };
    let exchange = fetchers.to(&source.upstream).exchange(&request, &OpenGate).await?;
    let mut text = shown_exchange(&ask.url, source, &exchange);
    let previous = Previous::nothing(Slot::of(ResourceId(1), source.keys.len() as u64, fastrand::u64(..)));
    let outcome = decide(&source.policy, &previous, exchange.observation, clock.now(), fastrand::f64());
    text.push_str(&shown_outcome(&outcome));
    print!("{text}");
    Ok(if matches!(outcome, Outcome::Replaced(_)) { Exit::Well } else { Exit::Failed })
}

/// The key with its parameters: one of the configuration's, or, where the template needs no parameters, any.
fn named_key(source: &Source, key: Option<&str>) -> Result<(Key, Params), CliError> {
    let Some(key) = key else {
        let first = source.keys.first().cloned();
        return first.ok_or_else(|| CliError::usage(format!("source {} lists no keys: name one", source.name)));
    };
    if let Some(listed) = source.keys.iter().find(|(listed, _)| listed.as_str() == key) {
        return Ok(listed.clone());
    }
    let key = Key::new(key).map_err(|error| CliError::usage(format!("key {key:?}: {error}")))?;
    Ok((key, Params::new()))
}

/// The request's header fields as they were sent and the answer's that mattered. Of URLs, the request's own and those that
/// redirects lead to, the query is never shown, and the path only if all of the template is written in the configuration:
/// either may hold a secret.
fn shown_exchange(url: &Url, source: &Source, exchange: &Exchange) -> String {
    let hides_path = source.url.has_secret_path();
    let mut text = format!("{} {}\n", source.request.method, shown_url(url, hides_path));
    for (name, value) in shown(&exchange.sent) {
        line(&mut text, &format!("  {name}: {value}"));
    }
    for hop in &exchange.redirects {
        let path = if hides_path { HIDDEN_PATH } else { &hop.path };
        line(&mut text, &format!("{} to {}{path}", hop.status.as_u16(), hop.origin.as_deref().unwrap_or_default()));
    }
    match exchange.status {
        Some(status) => line(&mut text, &format!("\n{status}")),
        None => line(&mut text, "\nno answer"),
    }
    if let Some(headers) = answered(&exchange.observation.seen) {
        for name in MATTERING {
            for value in headers.get_all(&name) {
                let value = String::from_utf8_lossy(value.as_bytes());
                let value = if name == header::LOCATION {
                    url.join(&value).map_or_else(|_| "no URL".into(), |to| shown_url(&to, hides_path).into())
                } else {
                    value
                };
                line(&mut text, &format!("  {name}: {value}"));
            }
        }
    }
    text.push('\n');
    text
}

/// In place of a path that nobody is shown.
const HIDDEN_PATH: &str = "/…";

fn shown_url(url: &Url, hides_path: bool) -> String {
    let path = if hides_path { HIDDEN_PATH } else { url.path() };
    format!("{}{path}", url.origin().ascii_serialization())
}

fn answered(seen: &Seen) -> Option<&HeaderMap> {
    match seen {
        Seen::Content { headers, .. } | Seen::NotModified { headers } | Seen::Refused { headers, .. } => Some(headers),
        Seen::Unreachable { .. } => None,
    }
}

fn shown_outcome(outcome: &Outcome) -> String {
    let mut text = String::new();
    match outcome {
        Outcome::Replaced(replacement) => {
            let body = &replacement.snapshot.body;
            line(&mut text, &format!("{}: it would be stored, {} bytes", replacement.kind.as_str(), body.len()));
            line(&mut text, &fresh(replacement.freshness));
            let start = body.get(..SHOWN_BYTES.min(body.len())).unwrap_or_default();
            let more = if body.len() > SHOWN_BYTES { " …" } else { "" };
            text.push_str(&due(replacement.due));
            line(&mut text, &format!("\n{}{more}", String::from_utf8_lossy(start)));
            return text;
        }
        Outcome::Confirmed { freshness, .. } => line(&mut text, &format!("confirmed; {}", fresh(*freshness))),
        Outcome::Reset { .. } => line(&mut text, "reset: it would be asked for again without conditions"),
        Outcome::Deferred(deferral) => {
            let failure = &deferral.failing.last;
            line(&mut text, &format!("failed: {}: {}", failure.kind, failure.detail));
        }
        Outcome::Gone(_) => line(&mut text, "gone: there is no such resource upstream"),
    }
    text.push_str(&due(outcome.due()));
    text
}

fn fresh(freshness: Freshness) -> String {
    format!("stale after {}", freshness.stale_after.to_rfc3339())
}

fn due(due: Due) -> String {
    format!("next due {} because of {}\n", due.at.to_rfc3339(), due.because.as_str())
}

fn line(text: &mut String, line: &str) {
    // Writing to a String can't fail.
    _ = writeln!(text, "{line}");
}
