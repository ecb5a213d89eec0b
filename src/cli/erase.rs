//! `headpond erase`.

use std::path::Path;

use super::assemble::{self, Schema};
use super::keys::registered;
use super::outcome::{CliError, Exit};
use super::refresh::unknown_source;
use crate::domain::resource::{Key, SourceId, SourceName};
use crate::store::{Allowed, Erased, Store};

/// Keys of one transaction.
const AT_ONCE: usize = 500;

/// Arguments of `erase`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The source.
    source: String,
    /// The keys.
    #[arg(required = true)]
    keys: Vec<String>,
    /// Let the keys be fetched again that were erased.
    #[arg(long)]
    allow: bool,
    /// Also of keys that were never seen, nothing is to be kept.
    #[arg(long, conflicts_with = "allow")]
    unseen: bool,
}

pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    let keys = args.keys.iter().map(|key| named(key)).collect::<Result<Vec<_>, _>>()?;
    let name = SourceName::new(&args.source).map_err(|e| CliError::usage(format!("{:?}: {e}", args.source)))?;
    let (store, clock) = assemble::store(&config, Schema::Migrate).await?;
    let known = match store.source(&name).await? {
        Some(id) => Some(id),
        None => match config.sources.iter().find(|source| source.name == name) {
            Some(source) => Some(registered(&config, source, store.as_ref(), clock.as_ref()).await?),
            None => None,
        },
    };
    let done = match known {
        Some(id) if args.allow => allow(store.as_ref(), id, &keys).await,
        Some(id) => erase(store.as_ref(), id, &keys, args.unseen).await,
        None => Err(unknown_source(&config, &args.source)),
    };
    store.close().await;
    done
}

fn named(key: &str) -> Result<Key, CliError> {
    Key::new(key).map_err(|error| CliError::usage(format!("key {key:?}: {error}")))
}

async fn erase(store: &dyn Store, source: SourceId, keys: &[Key], unseen: bool) -> Result<Exit, CliError> {
    let mut exit = Exit::Well;
    for part in keys.chunks(AT_ONCE) {
        for (key, fate) in part.iter().zip(store.erase(source, part, unseen).await?) {
            say(
                key,
                match fate {
                    Erased::Now(_) => "erased",
                    Erased::Before => "was erased before",
                    Erased::Unseen => "never seen; nothing will be kept of it",
                    Erased::Unknown => {
                        exit = Exit::Failed;
                        "there is no such key, so nothing was erased; with --unseen nothing will be kept of it"
                    }
                },
            );
        }
    }
    Ok(exit)
}

async fn allow(store: &dyn Store, source: SourceId, keys: &[Key]) -> Result<Exit, CliError> {
    let mut exit = Exit::Well;
    for part in keys.chunks(AT_ONCE) {
        for (key, fate) in part.iter().zip(store.allow(source, part).await?) {
            say(
                key,
                match fate {
                    Allowed::Polled => "allowed; it is due now",
                    Allowed::Unlisted => "allowed; it comes back when something lists it or someone reads it",
                    Allowed::NotErased => {
                        exit = Exit::Failed;
                        "it is not erased"
                    }
                },
            );
        }
    }
    Ok(exit)
}

#[expect(clippy::print_stdout, reason = "the command's result")]
fn say(key: &Key, what: &str) {
    println!("{key}: {what}");
}
