//! `headpond import`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::assemble::{self, Schema};
use super::keys::registered;
use super::outcome::{CliError, Exit};
use super::progress;
use super::refresh::unknown_source;
use crate::clock::Clock;
use crate::config::{Config, Source};
use crate::domain::archive::{Entry, Head, Line, Restored, VERSION};
use crate::domain::origin::Hand;
use crate::domain::resource::{Key, Params, SourceId};
use crate::refresh::origins::spool::usable;
use crate::store::{Import, Store};

/// How many resources, and how many bytes of bodies, go into one transaction.
const AT_ONCE: (usize, usize) = (500, 8 << 20);

/// How a file that zstd has compressed begins (RFC 8878 §3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Arguments of `import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The archive, plain or compressed by zstd; without one, or with -, stdin.
    file: Option<PathBuf>,
    /// Only this source; may be said several times.
    #[arg(long = "source", value_name = "SOURCE")]
    sources: Vec<String>,
    /// Also have those keys polled that come from nowhere else, as `keys add` does.
    #[arg(long)]
    add_keys: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) async fn run(config_path: &Path, args: &Args) -> Result<Exit, CliError> {
    let config = assemble::config(config_path)?;
    if let Some(unknown) = args.sources.iter().find(|name| source_of(&config, name).is_none()) {
        return Err(unknown_source(&config, unknown));
    }
    let (store, clock) = assemble::store(&config, Schema::Migrate).await?;
    let manner = Manner { only: &args.sources, adds_keys: args.add_keys };
    let done = load(&config, store.as_ref(), clock.as_ref(), args.file.as_deref(), manner).await;
    store.close().await;
    let counts = done?;
    if args.json {
        let text = serde_json::to_string(&counts).map_err(|error| CliError::failed(error.to_string()))?;
        println!("{text}");
    } else {
        println!("{counts}");
    }
    Ok(Exit::Well)
}

/// How an archive is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner<'a> {
    /// The sources that are taken in; all when there are none.
    pub(super) only: &'a [String],
    /// Whether keys that come from nowhere else are polled too.
    pub(super) adds_keys: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    stored: u64,
    confirmed: u64,
    kept: u64,
    history_left: u64,
    keys_alone: u64,
    edited: u64,
    left_out: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { stored, confirmed, kept, history_left, keys_alone, edited, left_out } = self;
        write!(f, "{stored} stored, {confirmed} confirmed, {kept} kept as they are: what is there is as new")?;
        for (count, what) in [
            (history_left, "of those with a history that was left"),
            (keys_alone, "without content"),
            (edited, "edited by hand: they are fetched anew"),
            (left_out, "of other sources left out"),
        ] {
            if *count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// Takes an archive in, batch by batch. What is in the database when it fails stays there, and does no harm when the same
/// archive is taken in again.
pub(super) async fn load(
    config: &Config,
    store: &dyn Store,
    clock: &dyn Clock,
    file: Option<&Path>,
    manner: Manner<'_>,
) -> Result<Counts, CliError> {
    let file = file.filter(|file| *file != Path::new("-"));
    let place = file.map_or("stdin".to_owned(), |file| file.display().to_string());
    let lines = open(file).map_err(|error| CliError::usage(format!("{place}: {error}")))?;
    let mut importer = Importer {
        config,
        store,
        clock,
        manner,
        ids: BTreeMap::new(),
        batch: Batch::default(),
        counts: Counts::default(),
    };
    let bar = progress::bar(0);
    let mut archive = Archive::default();
    let mut result = Ok(());
    for line in lines {
        let read = line.map_err(|error| CliError::usage(error.to_string()));
        let taken = match read.and_then(|text| archive.read(&text)) {
            Ok(Some(line)) => importer.take(*line).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = taken {
            result = Err(CliError::usage(format!("{place}:{}: {error}", archive.lines)));
            break;
        }
        bar.inc(1);
    }
    importer.flush().await?;
    bar.finish_and_clear();
    result.and_then(|()| archive.end().map_err(|problem| CliError::usage(format!("{place}: {problem}")))).map_err(
        |error| CliError::usage(format!("{error}\n{} before that; import it again when it is mended", importer.counts)),
    )?;
    Ok(importer.counts)
}

/// The lines of a file or of stdin.
fn open(file: Option<&Path>) -> io::Result<Box<dyn Iterator<Item = io::Result<String>> + Send>> {
    let raw: Box<dyn io::Read + Send> = match file {
        Some(file) => Box::new(File::open(file)?),
        None => Box::new(io::stdin()),
    };
    let mut raw = BufReader::new(raw);
    if raw.fill_buf()?.starts_with(&ZSTD) {
        return Ok(Box::new(BufReader::new(zstd::Decoder::with_buffer(raw)?).lines()));
    }
    Ok(Box::new(raw.lines()))
}

/// An archive as far as it was read.
#[derive(Debug, Default)]
struct Archive {
    lines: u64,
    resources: u64,
    has_head: bool,
    ends_with: Option<u64>,
}

impl Archive {
    /// The resource on the next line, if there is one.
    fn read(&mut self, text: &str) -> Result<Option<Box<Line>>, CliError> {
        self.lines += 1;
        if text.trim().is_empty() {
            return Ok(None);
        }
        if self.ends_with.is_some() {
            return Err(CliError::usage("there is more after the archive's last line"));
        }
        match Entry::parse(text).map_err(CliError::usage)? {
            Entry::Head(Head { headpond_archive, .. }) if headpond_archive > VERSION => Err(CliError::usage(format!(
                "the archive is of format {headpond_archive}, and this program reads formats up to {VERSION}: install a \
                 newer headpond"
            ))),
            Entry::Head(_) if self.lines > 1 => Err(CliError::usage("an archive begins here, inside of another")),
            Entry::Head(_) => {
                self.has_head = true;
                Ok(None)
            }
            Entry::Tail(tail) => {
                self.ends_with = Some(tail.resources);
                Ok(None)
            }
            Entry::Line(line) => {
                self.resources += 1;
                Ok(Some(line))
            }
        }
    }

    /// Whether it is whole.
    fn end(&self) -> Result<(), String> {
        match self.ends_with {
            None if self.has_head => {
                Err(format!("it was cut short: its last line is missing after {} resources", self.resources))
            }
            Some(said) if said != self.resources => {
                Err(format!("it has {} resources, and its last line says {said}", self.resources))
            }
            _ => Ok(()),
        }
    }
}

/// Resources of one source that go into the database together.
#[derive(Default)]
struct Batch {
    source: Option<SourceId>,
    resources: Vec<Restored>,
    /// Keys that are polled because someone added them.
    added: Vec<(Hand, (Key, Params))>,
    keys: BTreeSet<Key>,
    bytes: usize,
}

impl Batch {
    fn has_room_for(&self, source: SourceId, restored: &Restored) -> bool {
        self.source.is_none_or(|own| own == source)
            && self.resources.len() < AT_ONCE.0
            && self.bytes < AT_ONCE.1
            // Of a key that comes twice the second one is looked at when the first is stored.
            && !self.keys.contains(&restored.key)
    }

    fn add(&mut self, source: SourceId, hands: Vec<Hand>, restored: Restored) {
        let key = (restored.key.clone(), restored.params.clone());
        self.added.extend(hands.into_iter().map(|hand| (hand, key.clone())));
        self.source = Some(source);
        self.keys.insert(restored.key.clone());
        let present = restored.content.iter().map(|content| content.snapshot.body.len());
        let past = restored.history.iter().map(|past| past.snapshot.body.len());
        self.bytes += present.chain(past).sum::<usize>();
        self.resources.push(restored);
    }
}

struct Importer<'a> {
    config: &'a Config,
    store: &'a dyn Store,
    clock: &'a dyn Clock,
    manner: Manner<'a>,
    ids: BTreeMap<String, SourceId>,
    batch: Batch,
    counts: Counts,
}

fn source_of<'c>(config: &'c Config, name: &str) -> Option<&'c Source> {
    config.sources.iter().find(|source| source.name.as_str() == name)
}

impl Importer<'_> {
    async fn take(&mut self, line: Line) -> Result<(), CliError> {
        if !self.manner.only.is_empty() && !self.manner.only.contains(&line.source) {
            self.counts.left_out += 1;
            return Ok(());
        }
        let source = source_of(self.config, &line.source).ok_or_else(|| unknown_source(self.config, &line.source))?;
        let id = self.id_of(source).await?;
        let hands = self.hands(&line)?;
        let restored = line.restore(&source.policy, self.clock.now()).map_err(CliError::usage)?;
        if !hands.is_empty() {
            usable(source, Some(restored.key.as_str()), &restored.params)
                .map_err(|why| CliError::usage(format!("key {why}")))?;
        }
        if !self.batch.has_room_for(id, &restored) {
            self.flush().await?;
        }
        self.counts.edited += u64::from(restored.was_edited);
        self.batch.add(id, hands, restored);
        Ok(())
    }

    /// By whom its key is to be added.
    fn hands(&self, line: &Line) -> Result<Vec<Hand>, CliError> {
        let parse = |name: &String| {
            let hand = Hand::ALL.into_iter().find(|hand| hand.as_str() == name);
            hand.ok_or_else(|| CliError::usage(format!("added_by: {name:?} is neither \"api\" nor \"cli\"")))
        };
        let hands: Vec<_> = line.added_by.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(if hands.is_empty() && self.manner.adds_keys { vec![Hand::Cli] } else { hands })
    }

    async fn id_of(&mut self, source: &Source) -> Result<SourceId, CliError> {
        if let Some(id) = self.ids.get(source.name.as_str()) {
            return Ok(*id);
        }
        let id = registered(self.config, source, self.store, self.clock).await?;
        self.ids.insert(source.name.to_string(), id);
        Ok(id)
    }

    async fn flush(&mut self) -> Result<(), CliError> {
        let Batch { source, resources, added, .. } = std::mem::take(&mut self.batch);
        let Some(source) = source else { return Ok(()) };
        for hand in Hand::ALL {
            let keys: Vec<_> = added.iter().filter(|(by, ..)| *by == hand).map(|(_, key)| key.clone()).collect();
            if !keys.is_empty() {
                self.store.add_by_hand(source, hand, &keys).await?;
            }
        }
        for (fate, restored) in self.store.import(source, &resources).await?.into_iter().zip(&resources) {
            self.counts.history_left += u64::from(fate == Import::Kept && !restored.history.is_empty());
            *match fate {
                Import::Stored => &mut self.counts.stored,
                Import::Confirmed => &mut self.counts.confirmed,
                Import::Kept => &mut self.counts.kept,
                Import::Nothing => &mut self.counts.keys_alone,
            } += 1;
        }
        Ok(())
    }
}
