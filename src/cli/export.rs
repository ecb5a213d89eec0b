//! `headpond export`.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::assemble::{self, Schema};
use super::outcome::{CliError, Exit};
use super::progress;
use super::refresh::unknown_source;
use crate::clock::Clock;
use crate::config::{Config, Source};
use crate::domain::archive::{Head, Line, Past, Tail, VERSION, text_of};
use crate::domain::read_state::ReadState;
use crate::store::{Exported, Store, StoreError};

/// How many resources are read at once: all of their bodies are in memory then.
const AT_ONCE: u32 = 32;

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The sources; all of the configuration when none is named.
    sources: Vec<String>,
    /// Write to this file instead of stdout, compressed by zstd where it ends in .zst. It gets its name once it is complete.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write how old copies are instead of when they were fetched, for fixtures that are to be that old whenever they are read.
    #[arg(long)]
    ages: bool,
    /// Write the contents that were replaced and are kept, too.
    #[arg(long)]
    history: bool,
}

/// What is written.
#[derive(Clone, Copy)]
struct Form {
    ages: bool,
    history: bool,
}

pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    let sources = chosen(&config, &args.sources)?;
    let (store, clock) = assemble::store(&config, Schema::AsItIs).await?;
    let form = Form { ages: args.ages, history: args.history };
    let written = match &args.output {
        None => match write(store.as_ref(), clock.as_ref(), &sources, form, BufWriter::new(io::stdout())).await {
            // Whoever read it has enough.
            Err(NotWritten::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
            written => written.map(|(_, resources)| resources).map_err(|error| error.at("stdout")),
        },
        Some(file) => to_file(store.as_ref(), clock.as_ref(), &sources, form, file).await,
    };
    store.close().await;
    let resources = written?;
    if args.output.is_some() {
        eprintln!("{resources} resources");
    }
    Ok(Exit::Well)
}

/// The sources of these names, or all.
fn chosen<'c>(config: &'c Config, names: &[String]) -> Result<Vec<&'c Source>, CliError> {
    if names.is_empty() {
        return Ok(config.sources.iter().collect());
    }
    let find = |name: &String| config.sources.iter().find(|source| source.name.as_str() == name);
    names.iter().map(|name| find(name).ok_or_else(|| unknown_source(config, name))).collect()
}

/// Why an archive was not written.
enum NotWritten {
    Output(io::Error),
    Ours(CliError),
}

impl NotWritten {
    fn at(self, place: &str) -> CliError {
        match self {
            Self::Output(error) => CliError::usage(format!("{place}: {error}")),
            Self::Ours(error) => error,
        }
    }
}

impl<E: Into<CliError>> From<E> for NotWritten {
    fn from(error: E) -> Self {
        Self::Ours(error.into())
    }
}

async fn to_file(
    store: &dyn Store,
    clock: &dyn Clock,
    sources: &[&Source],
    form: Form,
    file: &Path,
) -> Result<u64, CliError> {
    let place = file.display().to_string();
    let at = |error: io::Error| CliError::usage(format!("{place}: {error}"));
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let draft = tempfile::Builder::new().prefix(".headpond-export-").tempfile_in(directory).map_err(at)?;
    let output = BufWriter::new(draft.reopen().map_err(at)?);
    let (mut output, resources) = if file.extension().is_some_and(|extension| extension == "zst") {
        let output = zstd::Encoder::new(output, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(at)?;
        let written = write(store, clock, sources, form, output).await;
        let (output, resources) = written.map_err(|error| error.at(&place))?;
        (output.finish().map_err(at)?, resources)
    } else {
        write(store, clock, sources, form, output).await.map_err(|error| error.at(&place))?
    };
    output.flush().and_then(|()| output.get_ref().sync_all()).map_err(at)?;
    draft.persist(file).map_err(|error| at(error.error))?;
    Ok(resources)
}

/// Writes an archive, and returns what it was written to and how many resources it has.
async fn write<W: Write>(
    store: &dyn Store,
    clock: &dyn Clock,
    sources: &[&Source],
    form: Form,
    mut output: W,
) -> Result<(W, u64), NotWritten> {
    let status = store.status(clock.now()).await?;
    let expected = status.sources.iter().filter(|known| sources.iter().any(|source| source.name == known.name));
    let bar = progress::bar(expected.map(|known| known.counts.keys).sum());
    line(&mut output, &Head { headpond_archive: VERSION, made_at: clock.now() })?;
    for source in sources {
        let Some(id) = store.source(&source.name).await? else { continue };
        let mut after = None;
        loop {
            let page = store.export(id, after.as_ref(), AT_ONCE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            for exported in &page {
                let mut resource = of(source, exported, clock, form.ages);
                if form.history {
                    resource.history = history(store, source, exported).await?;
                }
                line(&mut output, &resource)?;
            }
            bar.inc(page.len() as u64);
        }
    }
    let resources = bar.position();
    bar.finish_and_clear();
    line(&mut output, &Tail { resources })?;
    output.flush().map_err(NotWritten::Output)?;
    Ok((output, resources))
}

fn line(output: &mut impl Write, line: &impl Serialize) -> Result<(), NotWritten> {
    let mut text = serde_json::to_vec(line).map_err(|error| CliError::failed(error.to_string()))?;
    text.push(b'\n');
    output.write_all(&text).map_err(NotWritten::Output)
}

/// What was its content before; what is pruned meanwhile is left out.
async fn history(store: &dyn Store, source: &Source, exported: &Exported) -> Result<Vec<Past>, StoreError> {
    let mut history = Vec::new();
    for kept in store.history(&source.name, &exported.key).await? {
        let Some(content) = store.version(&source.name, &exported.key, kept.version).await? else { continue };
        let mut past = Past {
            version: kept.version,
            changed_at: kept.changed_at,
            until: kept.until,
            gone: kept.is_gone,
            headers: Vec::new(),
            body: None,
            body_base64: None,
        };
        past.set_content(&content.headers, &content.body);
        history.push(past);
    }
    Ok(history)
}

/// A resource as a line.
fn of(source: &Source, exported: &Exported, clock: &dyn Clock, ages: bool) -> Line {
    let (current, now) = (&exported.current, clock.now());
    let freshness = current.freshness;
    let mut line = Line {
        source: source.name.to_string(),
        key: exported.key.to_string(),
        params: exported.params.clone(),
        added_by: exported.hands.iter().map(|hand| hand.as_str().to_owned()).collect(),
        state: Some(ReadState::of(current.gone_since, freshness, now)),
        gone_since: current.gone_since,
        ..Line::default()
    };
    let Some(content) = &current.content else { return line };
    match freshness {
        Some(freshness) if ages => {
            let age = (now - freshness.fetched_at).to_std().unwrap_or_default().as_secs();
            line.age = Some(humantime::format_duration(Duration::from_secs(age)).to_string());
        }
        Some(freshness) => {
            line.fetched_at = Some(freshness.fetched_at);
            line.stale_after = Some(freshness.stale_after);
        }
        None => {}
    }
    line.version = Some(current.version);
    line.changed_at = (!ages).then_some(content.changed_at);
    line.etag = current.validators.etag.as_deref().map(text_of);
    line.last_modified = current.validators.last_modified.as_deref().map(text_of);
    line.max_age = exported.max_age;
    line.terms = current.terms;
    line.transformed = current.transformed;
    line.moved_to.clone_from(&current.moved_to);
    line.set_headers(&content.headers);
    line.hash = Some(content.etag.to_string());
    line.content_hash = exported.content_hash.map(|hash| hash.to_string());
    line.set_body(&content.body);
    line
}
