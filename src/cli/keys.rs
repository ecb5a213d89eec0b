//! `headpond keys`.

use serde::Serialize;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};
use super::progress;
use super::refresh::unknown_source;
use crate::clock::Clock;
use crate::config::{Config, KeyFormat, Source};
use crate::domain::origin::Hand;
use crate::domain::resource::{Key, Params, SourceId};
use crate::refresh::origins::file;
use crate::refresh::origins::spool::{Spool, usable};
use crate::refresh::origins::sync::AT_ONCE;
use crate::store::{Authority, KeysChanged, ListedKey, Removed, Store};

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the polled keys of a source, and where each comes from.
    List {
        /// The source.
        source: String,
        /// Only those that come from there: config, api, cli, file, query, source, file:2, …
        #[arg(long, value_name = "ORIGIN")]
        from: Option<String>,
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Have keys polled.
    Add {
        /// The source.
        source: String,
        /// The keys.
        #[arg(required = true)]
        keys: Vec<String>,
        /// A parameter that `url` needs, like lat=52.52; for all of these keys.
        #[arg(long = "param", value_name = "NAME=VALUE")]
        params: Vec<String>,
    },
    /// Remove keys that were added by hand: here, by `import`, or over the API. Their data stays until its retention ends.
    Remove {
        /// The source.
        source: String,
        /// The keys.
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Have all keys of a file polled.
    Import {
        /// The source.
        source: String,
        /// The file; without one, or with -, stdin.
        file: Option<PathBuf>,
        /// How it is written: txt (a key a line), csv (a head with `key` and parameters), jsonl (a key or an object a line).
        /// By default what the file's name says; for stdin, txt.
        #[arg(long, value_name = "FORMAT")]
        format: Option<String>,
        /// Print what was done as JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    fn source(&self) -> &str {
        match self {
            Self::List { source, .. }
            | Self::Add { source, .. }
            | Self::Remove { source, .. }
            | Self::Import { source, .. } => source,
        }
    }
}

pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    let name = args.command.source();
    let found = config.sources.iter().find(|source| source.name.as_str() == name);
    let source = found.ok_or_else(|| unknown_source(&config, name))?;
    let schema = if matches!(args.command, Command::List { .. }) { Schema::AsItIs } else { Schema::Migrate };
    let (store, clock) = assemble::store(&config, schema).await?;
    let done = carry_out(&config, source, store.as_ref(), clock.as_ref(), &args.command).await;
    store.close().await;
    done
}

async fn carry_out(
    config: &Config,
    source: &Source,
    store: &dyn Store,
    clock: &dyn Clock,
    command: &Command,
) -> Result<Exit, CliError> {
    match command {
        Command::List { from, json, .. } => match store.source(&source.name).await? {
            Some(id) => list(store, id, from.as_deref(), *json).await,
            None => Err(CliError::failed(format!("{}: nothing was registered yet", source.name))),
        },
        Command::Add { keys, params, .. } => {
            let params = params.iter().map(|param| named(param)).collect::<Result<Params, _>>()?;
            let usable =
                |key: &String| usable(source, Some(key), &params).map_err(|why| CliError::usage(format!("key {why}")));
            let keys =
                keys.iter().map(|key| Ok((usable(key)?, params.clone()))).collect::<Result<Vec<_>, CliError>>()?;
            let id = registered(config, source, store, clock).await?;
            let changed = store.add_by_hand(id, Hand::Cli, &keys).await?;
            say(&told(keys.len() as u64, changed))?;
            erased(store, id, &keys).await
        }
        Command::Remove { keys, .. } => match store.source(&source.name).await? {
            Some(id) => remove(store, id, keys).await,
            None => Err(CliError::failed(format!("{}: nothing was registered yet", source.name))),
        },
        Command::Import { file, format, json, .. } => {
            let spool = gather(source.clone(), file.clone(), format.as_deref()).await?;
            let id = registered(config, source, store, clock).await?;
            import(store, id, spool, *json).await
        }
    }
}

/// The id of a source, made known if it isn't; nothing that a running `serve` has set is changed.
pub(super) async fn registered(
    config: &Config,
    source: &Source,
    store: &dyn Store,
    clock: &dyn Clock,
) -> Result<SourceId, CliError> {
    if let Some(id) = store.source(&source.name).await? {
        return Ok(id);
    }
    let owned = store.config_owner(clock.now()).await?.is_some();
    let authority = if owned { Authority::Adds } else { Authority::Owns };
    assemble::register_sources(store, config, authority).await?;
    let id = store.source(&source.name).await?;
    id.ok_or_else(|| CliError::failed(format!("{}: it could not be registered", source.name)))
}

/// A parameter as it is given: NAME=VALUE.
fn named(param: &str) -> Result<(String, String), CliError> {
    match param.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(CliError::usage(format!("--param {param}: write it like lat=52.52"))),
    }
}

/// Names those that are not polled all the same.
async fn erased(store: &dyn Store, source: SourceId, keys: &[(Key, Params)]) -> Result<Exit, CliError> {
    let keys: Vec<Key> = keys.iter().map(|(key, _)| key.clone()).collect();
    let mut exit = Exit::Well;
    for (key, _) in keys.iter().zip(store.find(source, &keys).await?).filter(|(_, id)| id.is_none()) {
        exit = Exit::Failed;
        say(&format!("{key}: not polled, since it is erased; `headpond erase --allow` undoes that"))?;
    }
    Ok(exit)
}

fn told(keys: u64, KeysChanged { added, revived, updated }: KeysChanged) -> String {
    let same = keys.saturating_sub(added + revived);
    format!("{added} added, {revived} polled again, {same} were polled already, {updated} with other parameters now")
}

/// A line of `keys list --json`.
#[derive(Serialize)]
struct Line<'k> {
    key: &'k Key,
    params: &'k Params,
    origins: &'k [String],
}

async fn list(store: &dyn Store, source: SourceId, from: Option<&str>, json: bool) -> Result<Exit, CliError> {
    let mut after = None;
    loop {
        let page = store.keys(source, after.as_ref(), u32::try_from(AT_ONCE).unwrap_or(u32::MAX)).await?;
        let Some(last) = page.last() else { return Ok(Exit::Well) };
        after = Some(last.key.clone());
        let mut text = String::new();
        for listed in
            page.iter().filter(|listed| from.is_none_or(|from| listed.origins.iter().any(|name| name == from)))
        {
            text.push_str(&line(listed, json)?);
            text.push('\n');
        }
        if !write(text.as_bytes())? {
            return Ok(Exit::Well);
        }
    }
}

fn line(ListedKey { key, params, origins }: &ListedKey, json: bool) -> Result<String, CliError> {
    if json {
        let line = Line { key, params, origins };
        return serde_json::to_string(&line).map_err(|error| CliError::failed(error.to_string()));
    }
    let params: Vec<_> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(format!("{key}\t{}\t{}", origins.join(","), params.join(" ")).trim_end().to_owned())
}

/// Writes to stdout, and says whether anyone reads on.
fn write(bytes: &[u8]) -> Result<bool, CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(CliError::failed(format!("can't write to stdout: {error}"))),
    }
}

fn say(line: &str) -> Result<Exit, CliError> {
    write(format!("{line}\n").as_bytes()).map(|_| Exit::Well)
}

async fn remove(store: &dyn Store, source: SourceId, keys: &[String]) -> Result<Exit, CliError> {
    let keys: Vec<Key> = keys
        .iter()
        .map(|key| Key::new(key).map_err(|error| CliError::usage(format!("key {key:?}: {error}"))))
        .collect::<Result<_, _>>()?;
    let removed = store.remove_keys(source, &keys).await?;
    let mut exit = Exit::Well;
    for (key, removed) in keys.iter().zip(removed) {
        let said = match removed {
            Removed::Retired => format!("{key}: no longer polled"),
            Removed::StillIn(origins) => {
                format!("{key}: removed, and still polled, since it comes from {}", origins.join(", "))
            }
            Removed::OnlyIn(origins) => {
                exit = Exit::Failed;
                format!("{key}: not removed: it comes from {}, take it out there", origins.join(", "))
            }
            Removed::Unknown => {
                exit = Exit::Failed;
                format!("{key}: there is no such key")
            }
        };
        say(&said)?;
    }
    Ok(exit)
}

/// Reads and checks all of a file or stdin.
async fn gather(source: Source, path: Option<PathBuf>, format: Option<&str>) -> Result<Spool, CliError> {
    let path = path.filter(|path| path != Path::new("-"));
    let by_name = || path.as_deref().map_or(Some(KeyFormat::Text), KeyFormat::of);
    let known = match format {
        Some(format) => KeyFormat::parse(format),
        None => by_name(),
    };
    let format = known.ok_or_else(|| CliError::usage("--format: say txt, csv or jsonl"))?;
    let shown = path.as_ref().map_or("stdin".to_owned(), |path| path.display().to_string());
    let read = tokio::task::spawn_blocking(move || {
        let input: Box<dyn Read> = match &path {
            Some(path) => Box::new(File::open(path).map_err(|error| error.to_string())?),
            None => Box::new(io::stdin()),
        };
        file::read(&source, input, format).map_err(|error| error.to_string())
    });
    let read = read.await.map_err(|error| CliError::failed(error.to_string()))?;
    read.map_err(|problem| CliError::usage(format!("{shown}: {problem}")))
}

/// What `import` did, as JSON.
#[derive(Serialize)]
struct Imported {
    keys: u64,
    added: u64,
    revived: u64,
    updated: u64,
}

async fn import(store: &dyn Store, source: SourceId, mut spool: Spool, json: bool) -> Result<Exit, CliError> {
    let bar = progress::bar(spool.keys);
    let mut total = KeysChanged::default();
    loop {
        let keys = spool.next(AT_ONCE).map_err(|error| CliError::failed(error.to_string()))?;
        if keys.is_empty() {
            break;
        }
        let KeysChanged { added, revived, updated } = store.add_by_hand(source, Hand::Cli, &keys).await?;
        total.added += added;
        total.revived += revived;
        total.updated += updated;
        bar.inc(keys.len() as u64);
    }
    bar.finish_and_clear();
    if !json {
        return say(&told(spool.keys, total));
    }
    let KeysChanged { added, revived, updated } = total;
    let text = serde_json::to_string(&Imported { keys: spool.keys, added, revived, updated });
    say(&text.map_err(|error| CliError::failed(error.to_string()))?)
}
