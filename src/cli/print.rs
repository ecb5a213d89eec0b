//! `headpond print`.

use std::path::Path;

use super::assemble;
use super::outcome::{CliError, Exit};
use crate::api::openapi;

/// Arguments of `print`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The HTTP API as an OpenAPI 3.1 document, which names the sources of the configuration.
    Openapi,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    match args.what {
        What::Openapi => {
            let config = assemble::config(config_path)?;
            let sources = config.sources.iter().map(|source| (&source.name, source.table()));
            println!("{:#}", openapi::document(sources));
        }
    }
    Ok(Exit::Well)
}
