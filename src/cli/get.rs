//! `headpond get`.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};
use crate::api::meta::{Beside, Meta};
use crate::clock::Clock;
use crate::domain::read_state::ReadState;
use crate::domain::refused::Refused;
use crate::domain::resource::{Key, SourceName};
use crate::store::{Current, Refusal, Store, StoredContent};

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The source.
    source: String,
    /// The key.
    key: String,
    /// Read this SQLite file; no configuration is needed then.
    #[arg(long, value_name = "FILE")]
    database: Option<PathBuf>,
    /// Print what is known about the copy instead of its content, as JSON.
    #[arg(long)]
    meta: bool,
    /// Print the body that was refused last instead, if nothing usable has come since.
    #[arg(long, conflicts_with = "meta")]
    refused: bool,
    /// Print this version of the content, where the source keeps contents that were replaced.
    #[arg(long, value_name = "N", conflicts_with_all = ["meta", "refused"], value_parser = clap::value_parser!(u64).range(1..))]
    version: Option<u64>,
}

pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let named = format!("{}/{}", args.source, args.key);
    let source = SourceName::new(&args.source).map_err(|e| CliError::usage(format!("{:?}: {e}", args.source)))?;
    let key = Key::new(&args.key).map_err(|error| CliError::usage(format!("key {:?}: {error}", args.key)))?;
    let (store, clock) = match &args.database {
        Some(file) => assemble::store_in_file(file).await.map_err(|error| error.about("--database"))?,
        None => assemble::store(&assemble::config(config_path)?, Schema::AsItIs).await?,
    };
    let current = store.current(&source, &key).await?;
    let refusal = if args.meta || args.refused { store.refusal(&source, &key).await? } else { None };
    let kept = match args.version {
        Some(version) => Some(kept(store.as_ref(), &source, &key, version).await?),
        None => None,
    };
    let wait = if args.meta { store.wait(&source).await? } else { None };
    store.close().await;
    let current = current.ok_or_else(|| CliError::failed(format!("{named} is not known")))?;
    if current.erased_at.is_some() {
        return Err(CliError::failed(format!("{named} is erased")));
    }
    if args.meta {
        let meta = Meta::of(source, key, current, Beside { refusal: refusal.as_ref(), wait }, clock.now());
        let text = serde_json::to_string_pretty(&meta).map_err(|error| CliError::failed(error.to_string()))?;
        return write(format!("{text}\n").as_bytes());
    }
    if args.refused {
        return refused(&named, refusal.as_ref());
    }
    if let Some(kept) = kept {
        return version(&named, args.version.unwrap_or_default(), &current, &kept);
    }
    let state = ReadState::of(current.gone_since, current.freshness, clock.now());
    body(&named, state, &current)
}

/// Prints the content; what a reader of it should know goes to stderr, so that the body can be piped.
fn body(named: &str, state: ReadState, current: &Current) -> Result<Exit, CliError> {
    let content = match (state, &current.content) {
        (ReadState::Fresh | ReadState::Stale, Some(content)) => content,
        (ReadState::Gone, _) => return Err(CliError::failed(format!("{named} is gone upstream"))),
        _ => return Err(CliError::failed(format!("{named} was never fetched"))),
    };
    if let (ReadState::Stale, Some(freshness)) = (state, &current.freshness) {
        let because = current.failing.as_ref().map(|failing| format!(": {}", failing.last.detail)).unwrap_or_default();
        eprintln!("{named} is stale, fetched at {}{because}", freshness.fetched_at.to_rfc3339());
    }
    write(&content.body)
}

/// A version that was replaced, if it is kept, and those that are.
struct Kept {
    content: Option<StoredContent>,
    versions: Vec<u64>,
}

async fn kept(store: &dyn Store, source: &SourceName, key: &Key, version: u64) -> Result<Kept, CliError> {
    let content = store.version(source, key, version).await?;
    let versions = store.history(source, key).await?.iter().map(|kept| kept.version).collect();
    Ok(Kept { content, versions })
}

/// Prints a version of the content, be it current or kept.
fn version(named: &str, version: u64, current: &Current, kept: &Kept) -> Result<Exit, CliError> {
    let now = current.content.as_ref().filter(|_| current.version == version);
    if let Some(content) = now.or(kept.content.as_ref()) {
        return write(&content.body);
    }
    let now = current.content.is_some().then_some(current.version);
    let there: Vec<_> = now.iter().chain(&kept.versions).map(u64::to_string).collect();
    let there = if there.is_empty() { "none is there".into() } else { format!("there are {}", there.join(", ")) };
    Err(CliError::failed(format!("{named} has no version {version}, or keeps it no longer: {there}")))
}

/// Prints a refused body; what it is goes to stderr.
fn refused(named: &str, refusal: Option<&Refusal>) -> Result<Exit, CliError> {
    let Some(Refusal { at, refused }) = refusal else {
        return Err(CliError::failed(format!(
            "{named}: no body was refused since its last good answer, or it is not kept any more"
        )));
    };
    let Refused { status, content_type, size, body } = refused;
    let content_type = String::from_utf8_lossy(content_type.as_deref().unwrap_or(b"without Content-Type"));
    let came =
        format!("{named} was refused at {}: {status}, {}, {size} bytes", at.to_rfc3339(), content_type.escape_debug());
    match body {
        Some(body) => {
            eprintln!("{came}");
            write(body)
        }
        None => Err(CliError::failed(format!(
            "{came}, of which none are kept: the source drops parts, and in what is not JSON they can't be found"
        ))),
    }
}

fn write(bytes: &[u8]) -> Result<Exit, CliError> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|error| CliError::failed(format!("can't write to stdout: {error}")))?;
    Ok(Exit::Well)
}
