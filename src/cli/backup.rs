//! `headpond backup`.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to put the copy.
    file: PathBuf,
    /// Put it in the place of a file that is there.
    #[arg(long)]
    replace: bool,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let file = args.file.display();
    if !args.replace && args.file.exists() {
        return Err(CliError::usage(format!("{file} is there already; name another file, or say --replace")));
    }
    let config = assemble::config(config_path)?;
    let (store, _) = assemble::store(&config, Schema::AsItIs).await?;
    let backed_up = store.backup(&args.file).await;
    let database = store.describe();
    store.close().await;
    println!("{file}: {}, a copy of {database}", ByteSize::b(backed_up?));
    Ok(Exit::Well)
}
