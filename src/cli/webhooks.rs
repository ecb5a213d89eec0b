//! `headpond webhooks`.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};
use super::table::{Table, span};
use crate::api::status::Webhook;
use crate::clock::Clock;
use crate::store::{Store, WebhookState};

/// Arguments of `webhooks`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Tell how webhooks stand.
    List {
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send to a webhook again that was given up, from where it was; or soon to one that is left alone for a while.
    Resume {
        /// Its name.
        name: String,
    },
}

pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    let (store, clock) = assemble::store(&config, Schema::AsItIs).await?;
    let done = carry_out(store.as_ref(), &args.command, clock.now()).await;
    store.close().await;
    done
}

#[expect(clippy::print_stdout, reason = "the command's result")]
async fn carry_out(store: &dyn Store, command: &Command, now: DateTime<Utc>) -> Result<Exit, CliError> {
    match command {
        Command::List { json: true } => {
            let webhooks: Vec<_> = store.webhooks().await?.into_iter().map(Webhook::of).collect();
            let text = serde_json::to_string_pretty(&webhooks);
            println!("{}", text.map_err(|error| CliError::failed(error.to_string()))?);
        }
        Command::List { json: false } => match table(&store.webhooks().await?, now) {
            Some(table) => print!("{table}"),
            None => println!("no webhooks: serve has not been started with any"),
        },
        Command::Resume { name } => {
            if !store.resume_webhook(name).await? {
                let known: Vec<_> = store.webhooks().await?.into_iter().map(|webhook| webhook.name).collect();
                let known =
                    if known.is_empty() { "there are none".into() } else { format!("known are {}", known.join(", ")) };
                return Err(CliError::usage(format!("webhook {name}: there is no such webhook; {known}")));
            }
            println!("{name}: sent to again");
        }
    }
    Ok(Exit::Well)
}

/// How they stand, for people; `None` when there are none.
pub(super) fn table(webhooks: &[WebhookState], now: DateTime<Utc>) -> Option<Table> {
    webhooks.first()?;
    let mut table = Table::new(&["webhook", ">delivered", ">behind", ">queued", "state", "last problem"]);
    for webhook in webhooks {
        let state = match (webhook.dead_since, webhook.paused_until.filter(|until| *until > now)) {
            (Some(since), _) => format!("dead since {} ago", span(now - since)),
            (None, Some(until)) => format!("left alone for {}", span(until - now)),
            (None, None) => "sending".into(),
        };
        let problem = webhook.error.as_ref();
        table.row([
            webhook.name.clone(),
            webhook.delivered.to_string(),
            webhook.behind.to_string(),
            webhook.queued.to_string(),
            state,
            problem.map_or("-".into(), |(what, at)| format!("{} ago: {what}", span(now - *at))),
        ]);
    }
    Some(table)
}
