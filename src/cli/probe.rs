//! `headpond try`: one real request, shown with what would follow from it.

use std::fmt::Write;
use std::path::Path;

use http::header::{self, HeaderMap};

use super::assemble;
use super::outcome::{CliError, Exit};
use super::question::{Counting, HIDDEN_PATH, Question, inspect, shown_url};
use super::refresh::unknown_source;
use crate::domain::collection::Page;
use crate::domain::decision::{Freshness, Outcome};
use crate::domain::observation::Seen;
use crate::domain::project::{Cell, Typed};
use crate::domain::schedule::Due;
use crate::upstream::{Exchange, shown};

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

/// How many keys of a page are shown.
const SHOWN_KEYS: usize = 5;

/// Arguments of `try`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The source.
    source: String,
    /// One of its keys; without it, the first that the configuration lists, or a collection's first page.
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
    let question = Question::about(source, args.key.as_deref())?;
    let counting = Counting::by(&config, &inspect(&config).await).await;
    if let Some(why) = counting.missing(&config, source) {
        eprintln!("not counted against the limits of upstream {}: {why}", source.upstream);
    }
    let answer = question.ask(&config, &counting).await;
    counting.close().await;
    let answer = answer?;
    let follows = match &answer.page {
        Some(page) => format!("{}\n{}", shown_page(page), due(answer.outcome.due())),
        None => shown_outcome(&answer.outcome),
    };
    let odd = answer.odd.as_ref().map(|odd| format!("ignored in the answer: {odd}\n")).unwrap_or_default();
    print!("{}{odd}{follows}", shown_exchange(&question, &answer.exchange));
    Ok(answer.exit())
}

/// The request's header fields as they were sent and the answer's that mattered. Of URLs that redirects lead to, no more is
/// shown than of the request's own.
fn shown_exchange(question: &Question<'_>, exchange: &Exchange) -> String {
    let hides_path = question.source.url.has_secret_path();
    let mut text = format!("{}\n", question.shown());
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
                    question
                        .ask
                        .url
                        .join(&value)
                        .map_or_else(|_| "no URL".into(), |to| shown_url(&to, hides_path).into())
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
            replacement.typed.iter().for_each(|typed| rows(&mut text, typed));
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

/// What is on a collection's first page. Where the next one is, nobody is shown: that may repeat the query.
pub(super) fn shown_page(page: &Page) -> String {
    let keys: Vec<_> = page.items.iter().take(SHOWN_KEYS).map(|item| item.key.as_str()).collect();
    let more = if page.items.len() > SHOWN_KEYS { ", …" } else { "" };
    let left_out = page.left_out.as_ref().map(|why| format!("; {why}")).unwrap_or_default();
    let next = if page.next.is_some() && !page.is_last { "; it leads to another page" } else { "" };
    format!("a page of {} items: {}{more}{left_out}{next}", page.size, keys.join(", "))
}

/// How many rows of a copy are shown.
const SHOWN_ROWS: usize = 3;

fn rows(text: &mut String, Typed { table, rows }: &Typed) {
    line(text, &format!("\n{} rows of table {}", rows.len(), table.name));
    for row in rows.iter().take(SHOWN_ROWS) {
        let values = table.row().zip(row).map(|(column, cell)| format!("{} = {}", column.name, value(cell)));
        line(text, &format!("  {}", values.collect::<Vec<_>>().join(", ")));
    }
    if rows.len() > SHOWN_ROWS {
        line(text, "  …");
    }
}

fn value(cell: &Cell) -> String {
    match cell {
        Cell::Null => "NULL".into(),
        Cell::Text(text) => format!("{text:?}"),
        Cell::Integer(integer) => integer.to_string(),
        Cell::Real(real) => real.to_string(),
        Cell::Boolean(flag) => flag.to_string(),
    }
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
