//! `headpond migrate`.

use std::path::Path;

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};

/// Arguments of `migrate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) async fn run(config_path: &Path, _: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    let (store, _) = assemble::store(&config, Schema::Migrate).await?;
    println!("up to date: {}", store.describe());
    store.close().await;
    Ok(Exit::Well)
}
