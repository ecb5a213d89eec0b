//! `headpond init`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::outcome::{CliError, Exit};

/// The file that is written: the documented example.
const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) fn run(config_path: &Path, _: &Args) -> Result<Exit, CliError> {
    let shown = config_path.display();
    // Never over an existing file: it may be someone's configuration.
    let mut file = OpenOptions::new().write(true).create_new(true).open(config_path).map_err(|error| {
        CliError::usage(match error.kind() {
            ErrorKind::AlreadyExists => format!("{shown} is there already; --config names another file"),
            _ => format!("{shown} can't be written: {error}"),
        })
    })?;
    file.write_all(EXAMPLE.as_bytes()).map_err(|error| CliError::usage(format!("{shown}: {error}")))?;
    println!(
        "wrote {shown}: write your name and contact into user_agent, then run `headpond check` and `headpond serve`"
    );
    Ok(Exit::Well)
}
