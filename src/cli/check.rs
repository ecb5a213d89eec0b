//! `headpond check`.

use std::path::Path;

use futures_util::future::join_all;

use super::assemble;
use super::outcome::{CliError, Exit};
use super::plan;
use super::probe::shown_page;
use super::question::{Answer, Counting, Question, inspect};
use crate::clock::Clock;
use crate::config::{Config, Shortfall, Source, needed};
use crate::domain::decision::Outcome;
use crate::refresh::tables;
use crate::store::{Inspected, SchemaState, StoreError};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also look at the database and at what would become of typed tables, and make one request to each upstream, for the first key of one of its sources. Nothing
    /// is stored, made or brought up to date.
    #[arg(long)]
    connect: bool,
    /// Also say what it comes to from now on: requests in the next hour and day by upstream, the busiest minute, the time to
    /// the first full copy, and which keys and tables it would add or remove. The database is looked at, and nobody is asked.
    #[arg(long)]
    plan: bool,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    println!("{}: good", config_path.display());
    for (name, upstream) in &config.upstreams {
        let rate = match upstream.limits.requests_per_second {
            Some(rate) => format!("{rate} requests/s, burst {}", upstream.limits.burst),
            None => "no limit on requests/s".into(),
        };
        let budgets: Vec<_> = upstream.limits.budgets.iter().map(|budget| format!(", {budget}")).collect();
        let budgets = budgets.concat();
        println!("upstream {name}: {rate}{budgets}, {} at once", upstream.limits.max_concurrent);
    }
    for source in &config.sources {
        let elsewhere = source.keys_from.iter().map(|from| format!(", those of {} {}", from.name, from.about));
        let elsewhere: Vec<_> = elsewhere.collect();
        println!(
            "source {}: {} keys{}, {}, from {}",
            source.name,
            source.keys.len(),
            elsewhere.concat(),
            source.policy.cadence,
            source.url.origin()
        );
    }
    if args.connect || args.plan { looked_at(&config, args).await } else { Ok(Exit::Well) }
}

#[expect(clippy::print_stdout, reason = "the command's result")]
async fn looked_at(config: &Config, args: &Args) -> Result<Exit, CliError> {
    let inspected = inspect(config).await;
    let (database, line) = database(&inspected);
    println!("database: {line}");
    let counting = Counting::by(config, &inspected).await;
    let exit = compared(config, &counting, args).await;
    counting.close().await;
    Ok(if database == Exit::Well { exit? } else { database })
}

/// What would become of what there is; if asked for, what an upstream answers.
#[expect(clippy::print_stdout, reason = "the command's result")]
async fn compared(config: &Config, counting: &Counting, args: &Args) -> Result<Exit, CliError> {
    let mut exit = tables(config, counting).await?;
    if args.plan {
        plan::show(config, counting, counting.now()).await?;
    }
    budgets(config, counting).await?;
    if args.connect {
        // They are different upstreams: none has to wait for another.
        let answers = join_all(config.upstreams.keys().map(|upstream| ask(config, counting, upstream))).await;
        for (answer, line) in answers {
            println!("{line}");
            if answer != Exit::Well {
                exit = answer;
            }
        }
    }
    Ok(exit)
}

/// What would become of typed tables; not well if that is refused.
#[expect(clippy::print_stdout, reason = "the command's result")]
async fn tables(config: &Config, counting: &Counting) -> Result<Exit, CliError> {
    let Counting::By { store, .. } = counting else { return Ok(Exit::Well) };
    let plan = tables::plan(store.as_ref(), config).await?;
    for line in plan.lines() {
        println!("{line}");
    }
    let is_refused = !plan.refusals(config.database.allow_table_changes).is_empty();
    Ok(if is_refused { Exit::Failed } else { Exit::Well })
}

/// Says of each budget that is too small for the keys in the database how far that stretches the intervals.
#[expect(clippy::print_stdout, reason = "the command's result")]
async fn budgets(config: &Config, counting: &Counting) -> Result<(), CliError> {
    let Counting::By { store, clock } = counting else { return Ok(()) };
    let now = clock.now();
    let status = store.status(now).await?;
    for (name, upstream) in &config.upstreams {
        let members = config.sources.iter().filter(|source| source.upstream == *name).map(|source| {
            let stored = status.sources.iter().find(|known| known.name == source.name);
            (source, stored.map_or(0, |known| known.counts.keys).max(source.keys.len() as u64))
        });
        let needed = needed(members, now);
        for budget in upstream.limits.budgets.iter() {
            if let Some(shortfall) = Shortfall::of(budget, upstream.limits.send_window(), &needed) {
                println!("upstream {name}: {shortfall}");
            }
        }
    }
    Ok(())
}

fn database(inspected: &Result<Inspected, StoreError>) -> (Exit, String) {
    match inspected {
        Ok(inspected) => {
            let schema = match inspected.schema {
                SchemaState::Absent => "not there yet: `serve`, `refresh` or `migrate` will make it",
                SchemaState::Outdated => "not up to date: `serve`, `refresh` or `migrate` will bring it up to date",
                SchemaState::UpToDate => "up to date",
            };
            (Exit::Well, format!("{}, {schema}", inspected.description))
        }
        Err(error) => (Exit::Failed, error.to_string()),
    }
}

/// Asks an upstream for the first key that there is, or a collection's first page.
async fn ask(config: &Config, counting: &Counting, upstream: &str) -> (Exit, String) {
    let of_upstream =
        |source: &&Source| source.upstream == upstream && (!source.keys.is_empty() || source.collection.is_some());
    let Some(source) = config.sources.iter().find(of_upstream) else {
        return (Exit::Well, format!("upstream {upstream}: no source of it has keys, so there is nothing to ask"));
    };
    let asked = async {
        let question = Question::about(source, None)?;
        let answer = question.ask(config, counting).await?;
        Ok::<_, CliError>((answer.exit(), format!("{} → {}", question.shown(), in_a_line(&answer))))
    };
    let (exit, line) = asked.await.unwrap_or_else(|error| (Exit::Failed, error.to_string()));
    let uncounted = counting.missing(config, source).map(|why| format!(" (not counted against its limits: {why})"));
    (exit, format!("upstream {upstream}: {line}{}", uncounted.unwrap_or_default()))
}

fn in_a_line(answer: &Answer) -> String {
    let status = answer.exchange.status.map_or_else(|| "no answer".into(), |status| status.to_string());
    let follows = match &answer.outcome {
        _ if answer.page.is_some() => answer.page.as_ref().map(shown_page).unwrap_or_default(),
        Outcome::Replaced(replacement) => format!("would be stored, {} bytes", replacement.snapshot.body.len()),
        Outcome::Deferred(deferral) => {
            let failure = &deferral.failing.last;
            format!("failed: {}: {}", failure.kind, failure.detail)
        }
        Outcome::Gone(_) => "there is no such resource".into(),
        // Not without a copy that they could be about.
        Outcome::Confirmed { .. } | Outcome::Reset { .. } => "nothing to store".into(),
    };
    let due = answer.outcome.due();
    format!("{status}, {follows}; next due {} because of {}", due.at.to_rfc3339(), due.because.as_str())
}
