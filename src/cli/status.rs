//! `headpond status`.

use std::path::Path;

use bytesize::ByteSize;
use chrono::{DateTime, TimeDelta, Utc};

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};
use super::table::{Table, span};
use super::webhooks;
use crate::api::status::{Report, keep};
use crate::clock::Clock;
use crate::config::Config;
use crate::domain::limit::Limits;
use crate::domain::origin::CONFIG;
use crate::domain::resource::SourceName;
use crate::store::{Disk, LastFailure, NextDue, Overdue, Pause, SourceStatus, Status, UpstreamStatus};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print it as JSON: what the read API answers under /v1/-/status.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    let (store, clock) = assemble::store(&config, Schema::AsItIs).await?;
    let status = store.status(clock.now()).await;
    let database = store.describe();
    store.close().await;
    let mut status = status?;
    keep(&mut status, |name| config.sources.iter().any(|source| source.name == *name));
    if args.json {
        let report = serde_json::to_string_pretty(&Report::of(status));
        println!("{}", report.map_err(|error| CliError::failed(error.to_string()))?);
    } else {
        print!("{}", text(&status, &config, &database));
    }
    Ok(Exit::Well)
}

/// All of it for people.
fn text(status: &Status, config: &Config, database: &str) -> String {
    let serve = status.owner.as_ref().map_or("no serve runs".into(), |worker| format!("serve runs as {worker}"));
    let database = format!("{serve}; {database}, {}\n", size(status.disk));
    if status.sources.is_empty() {
        return format!("nothing was ever registered: `headpond serve` or `headpond refresh` does that\n{database}");
    }
    let is_known = |name: &SourceName| status.sources.iter().any(|known| known.name == *name);
    let unknown = config.sources.iter().map(|source| &source.name).filter(|name| !is_known(name));
    let unknown = unknown.map(|name| format!("{name}: in the configuration, and not registered yet\n"));
    let unknown = unknown.collect::<String>();
    let origins = origins(status).map_or(String::new(), |table| format!("{table}\n"));
    let history = history(status).map_or(String::new(), |table| format!("{table}\n"));
    let webhooks = webhooks::table(&status.webhooks, status.at).map_or(String::new(), |table| format!("{table}\n"));
    format!("{}\n{origins}{history}{}\n{webhooks}{unknown}{database}", sources(status), upstreams(status))
}

fn sources(status: &Status) -> Table {
    let mut table = Table::new(&[
        "source",
        ">keys",
        ">fresh",
        ">stale",
        ">pending",
        ">gone",
        ">failing",
        "oldest",
        "next due",
        "last failure",
    ]);
    for source in &status.sources {
        let SourceStatus { counts, .. } = source;
        table.row([
            source.name.to_string(),
            counts.keys.to_string(),
            counts.fresh.to_string(),
            counts.stale.to_string(),
            counts.pending.to_string(),
            counts.gone.to_string(),
            counts.failing.to_string(),
            source.oldest_fetched_at.map_or("-".into(), |at| ago(status.at, at)),
            next_due(status.at, source.next_due),
            source.last_failure.as_ref().map_or("-".into(), |failure| last_failure(status.at, failure)),
        ]);
    }
    table
}

/// Where keys come from, if any come from elsewhere than the configuration itself.
fn origins(status: &Status) -> Option<Table> {
    let mut all = status.sources.iter().flat_map(|source| &source.origins);
    all.find(|origin| origin.name != CONFIG)?;
    let mut table = Table::new(&["source", "keys from", ">keys", "what", "taken in", "problem"]);
    for source in &status.sources {
        for origin in source.origins.iter().filter(|origin| origin.keys > 0 || !origin.about.is_empty()) {
            let since = |at: &DateTime<Utc>| ago(status.at, *at);
            table.row([
                source.name.to_string(),
                origin.name.clone(),
                origin.keys.to_string(),
                if origin.about.is_empty() { "-".into() } else { shortened(&origin.about) },
                origin.synced_at.as_ref().map_or("never".into(), since),
                origin.problem.as_ref().map_or("-".into(), |(problem, at)| format!("{}, {problem}", since(at))),
            ]);
        }
    }
    Some(table)
}

/// What is kept of contents that were replaced, if there is any.
fn history(status: &Status) -> Option<Table> {
    let mut kept = status.sources.iter().filter(|source| source.history.versions > 0).peekable();
    kept.peek()?;
    let mut table = Table::new(&["source", ">replaced contents kept", ">size"]);
    for SourceStatus { name, history, .. } in kept {
        let size = ByteSize::b(history.bytes).display().iec().to_string();
        table.row([name.to_string(), history.versions.to_string(), size]);
    }
    Some(table)
}

/// The beginning of a long text.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

fn upstreams(status: &Status) -> Table {
    let mut table = Table::new(&["upstream", "limit", ">in flight", ">due", "oldest due", "pauses"]);
    for upstream in &status.upstreams {
        let UpstreamStatus { limits, backlog, .. } = upstream;
        let more = if backlog.is_more { "more than " } else { "" };
        table.row([
            upstream.name.clone(),
            limit(limits),
            upstream.in_flight.to_string(),
            format!("{more}{}", backlog.resources),
            oldest_due(status.at, *backlog),
            pauses(status.at, upstream),
        ]);
    }
    table
}

fn ago(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    format!("{} ago", span(now - at))
}

fn next_due(now: DateTime<Utc>, next: NextDue) -> String {
    match next {
        NextDue::Never => "-".into(),
        NextDue::At(at) if at > now => format!("in {}", span(at - now)),
        NextDue::At(at) if now - at < TimeDelta::seconds(1) => "now".into(),
        NextDue::At(at) => format!("now, {} late", span(now - at)),
        NextDue::NotBefore(at) if at > now => format!("in more than {}", span(at - now)),
        NextDue::NotBefore(_) => "behind much that is due".into(),
    }
}

fn last_failure(now: DateTime<Utc>, LastFailure { key, at, failure }: &LastFailure) -> String {
    format!("{}, {key}: {}: {}", ago(now, *at), failure.kind, failure.detail)
}

fn limit(limits: &Limits) -> String {
    let rate = limits.requests_per_second.map_or(String::new(), |rate| format!("{rate} requests/s, "));
    let budgets: Vec<_> = limits.budgets.iter().map(|budget| format!("{budget}, ")).collect();
    let budgets = budgets.concat();
    format!("{rate}{budgets}{} at once", limits.max_concurrent)
}

fn oldest_due(now: DateTime<Utc>, backlog: Overdue) -> String {
    backlog.oldest_due_at.map_or("-".into(), |at| format!("{} late", span(now - at)))
}

fn pauses(now: DateTime<Utc>, UpstreamStatus { pauses, pace, .. }: &UpstreamStatus) -> String {
    let slowed = (*pace < 1.0).then(|| format!("slowed down to {:.0} %", pace * 100.0));
    let said = pauses.iter().map(|pause| match pause {
        Pause::Quiet { source, until, why, answered, resources } => {
            let what = source.as_ref().map_or("left alone".into(), |source| format!("{source} is left alone"));
            let span = span(*until - now);
            format!("{what} for {span}: {why}, as {answered} was answered; {resources} keys wait")
        }
        Pause::Budget { budget, until, resources } => {
            let span = span(*until - now);
            format!("the budget of {budget} has nothing left for {span}; {resources} keys wait")
        }
        Pause::Outage { answers, resources } => {
            format!("out of reach for {answers} answers in a row, {resources} keys wait")
        }
        Pause::RetryAfter { resources } => format!("{resources} keys wait for its Retry-After"),
    });
    let said = said.chain(slowed).collect::<Vec<_>>().join("; ");
    if said.is_empty() { "-".into() } else { said }
}

fn size(Disk { bytes, free, log }: Disk) -> String {
    let of = |bytes| ByteSize::b(bytes).display().iec();
    let beside: Vec<_> =
        [free.map(|free| format!("{} of it free", of(free))), log.map(|log| format!("log {}", of(log)))]
            .into_iter()
            .flatten()
            .collect();
    let beside = if beside.is_empty() { String::new() } else { format!(" ({})", beside.join(", ")) };
    format!("{}{beside}", of(bytes))
}
