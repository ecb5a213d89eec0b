//! `headpond explain`.

use std::path::Path;

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};
use super::refresh::unknown_source;
use crate::api::explain::Explanation;
use crate::clock::Clock;
use crate::domain::resource::Key;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The source.
    source: String,
    /// The key.
    key: String,
    /// Print it as JSON: what the read API answers under /explain.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    let source = config.sources.iter().find(|source| source.name.as_str() == args.source);
    let source = source.ok_or_else(|| unknown_source(&config, &args.source))?;
    let key = Key::new(&args.key).map_err(|error| CliError::usage(format!("key {:?}: {error}", args.key)))?;
    let (store, clock) = assemble::store(&config, Schema::AsItIs).await?;
    let (now, current) = (clock.now(), store.current(&source.name, &key).await);
    let status = store.status(now).await;
    store.close().await;
    let unknown = || CliError::failed(format!("{}/{} is not known", args.source, args.key));
    let explanation = Explanation::of(source, key.clone(), &current?.ok_or_else(unknown)?, &status?, now);
    if args.json {
        let text = serde_json::to_string_pretty(&explanation).map_err(|error| CliError::failed(error.to_string()))?;
        println!("{text}");
        return Ok(Exit::Well);
    }
    for said in &explanation.says {
        println!("{:<10}{}", said.about, said.says);
    }
    Ok(Exit::Well)
}
