//! `headpond try`: one real request, shown with what would follow from it.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::assemble;
use super::outcome::{CliError, Exit};
use super::refresh::unknown_source;
use crate::clock::{Clock, SystemClock};
use crate::config::Source;
use crate::domain::decision::{Freshness, Outcome, Previous, decide};
use crate::domain::observation::Seen;
use crate::domain::resource::{Key, Params, ResourceId};
use crate::domain::schedule::{Due, Slot};
use crate::upstream::{Exchange, FetchRequest, Fetcher, OpenGate, shown};

/// The response fields that a decision can depend on.
const MATTERING: [HeaderName; 12] = [
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
    header::LINK,
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
    let url = source.url.expand(&key, &params).map_err(|error| CliError::usage(format!("key {key}: {error}")))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let fetcher = Fetcher::new(Arc::clone(&clock)).map_err(|error| CliError::usage(error.to_string()))?;
    let request = FetchRequest { url: &url, settings: &source.request, validators: None };
    let exchange = fetcher.exchange(&request, &OpenGate).await?;
    let mut text = shown_exchange(url.path(), source, &exchange);
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

/// The request as it was sent and the answer's fields that mattered. A query may hold a secret: it is not shown.
fn shown_exchange(path: &str, source: &Source, exchange: &Exchange) -> String {
    let mut text = format!("GET {}{path}\n", source.url.origin());
    for (name, value) in shown(&exchange.sent) {
        line(&mut text, &format!("  {name}: {value}"));
    }
    for hop in &exchange.redirects {
        line(&mut text, &format!("{} to {}", hop.status.as_u16(), hop.path));
    }
    match exchange.status {
        Some(status) => line(&mut text, &format!("\n{status}")),
        None => line(&mut text, "\nno answer"),
    }
    if let Some(headers) = answered(&exchange.observation.seen) {
        for name in MATTERING {
            for value in headers.get_all(&name) {
                line(&mut text, &format!("  {name}: {}", shown_value(&name, value)));
            }
        }
    }
    text.push('\n');
    text
}

/// A field's value as it may be shown: where it has URLs, without their queries, which may repeat a secret of our request.
fn shown_value(name: &HeaderName, value: &HeaderValue) -> String {
    let value = String::from_utf8_lossy(value.as_bytes());
    if ![header::LOCATION, header::LINK].contains(name) {
        return value.into_owned();
    }
    let mut parts = value.split('?');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for query in parts {
        text.push_str("?(hidden)");
        // In a Link field the URL ends there.
        text.push_str(query.find('>').and_then(|end| query.get(end..)).unwrap_or_default());
    }
    text
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
