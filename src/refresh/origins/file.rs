//! Keys from a file: one a line, CSV with a head, or JSON lines.
//!
//! The file is read twice over in the sense that matters: all of it is read and checked before any of it counts. A line that
//! is wrong, a file without keys, or one that changes while it is read is refused as a whole, since it is most likely one
//! that is being written.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::NotGathered;
use super::spool::{Spool, Spooler, usable};
use crate::config::{KeyFormat, Source};
use crate::domain::resource::{Params, scalar};
use crate::domain::template::KEY;

/// The longest line, in bytes: whatever is longer is no list of keys.
const LONGEST_LINE: u64 = 1024 * 1024;

/// What tells a file's contents from others without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    modified: (i64, i64),
    // Of the file's attributes too: whether it may be read is one.
    changed: (i64, i64),
    size: u64,
    inode: (u64, u64),
}

impl Stamp {
    /// The present one.
    ///
    /// # Errors
    /// What is wrong with the file, in words.
    pub fn of(path: &Path) -> Result<Self, String> {
        let found = std::fs::metadata(path).map_err(|error| unreadable(&error))?;
        if !found.is_file() {
            return Err("it is not a file".into());
        }
        Ok(Self::from(&found))
    }
}

impl From<&Metadata> for Stamp {
    fn from(found: &Metadata) -> Self {
        Self {
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
            size: found.size(),
            inode: (found.dev(), found.ino()),
        }
    }
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file; its keys stay as they were".into(),
        _ => format!("it can't be read ({error}); its keys stay as they were"),
    }
}

/// Reads and checks a whole file, on a thread for long work.
///
/// # Errors
/// What is wrong with it: the line, and what would be right.
pub async fn gather(source: Arc<Source>, path: PathBuf, format: KeyFormat) -> Result<Spool, NotGathered> {
    let read = tokio::task::spawn_blocking(move || read_file(&source, &path, format)).await;
    read.unwrap_or_else(|error| Err(NotGathered::Problem(format!("reading it ended: {error}"))))
}

fn read_file(source: &Source, path: &Path, format: KeyFormat) -> Result<Spool, NotGathered> {
    let problem = |problem: String| NotGathered::Problem(format!("{}: {problem}", path.display()));
    let before = Stamp::of(path).map_err(problem)?;
    let file = File::open(path).map_err(|error| problem(unreadable(&error)))?;
    let spool = read(source, file, format).map_err(|error| match error {
        NotGathered::Problem(said) => problem(said),
        other @ NotGathered::Store(_) => other,
    })?;
    if Stamp::of(path).map_err(problem)? != before {
        return Err(problem("it changed while it was read; it is read again".into()));
    }
    if spool.keys == 0 {
        return Err(problem(
            "there are no keys in it, as in one that is being written; its keys stay as they were. To have none, take it \
             out of keys_from"
                .into(),
        ));
    }
    Ok(spool)
}

/// Reads and checks all that comes. It blocks.
///
/// # Errors
/// The line that is wrong, and how; or what hinders reading.
pub fn read(source: &Source, input: impl Read, format: KeyFormat) -> Result<Spool, NotGathered> {
    let mut spooler = Spooler::new().map_err(|error| NotGathered::spool(&error))?;
    let mut put = |line: u64, key: Option<&str>, params: &Params| {
        let key = usable(source, key, params).map_err(|why| wrong(line, &why))?;
        spooler.put(&key, params).map_err(|error| NotGathered::spool(&error))
    };
    match format {
        KeyFormat::Csv => csv(input, &mut put)?,
        KeyFormat::Text => lines(input, |line, text| put(line, Some(text), &Params::new()))?,
        KeyFormat::JsonLines => lines(input, |line, text| {
            let (key, params) = entry(text).map_err(|why| wrong(line, &why))?;
            put(line, Some(&key), &params)
        })?,
    }
    spooler.done().map_err(|error| NotGathered::spool(&error))
}

fn wrong(line: u64, why: &str) -> NotGathered {
    NotGathered::Problem(format!("line {line}: {why}; nothing of it is taken until that is right"))
}

/// Hands each line over, without blanks around it, that isn't empty.
fn lines(input: impl Read, mut each: impl FnMut(u64, &str) -> Result<(), NotGathered>) -> Result<(), NotGathered> {
    let mut input = BufReader::new(input);
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        let read = (&mut input).take(LONGEST_LINE + 1).read_until(b'\n', &mut bytes);
        let read = read.map_err(|error| NotGathered::Problem(unreadable(&error)))?;
        if read == 0 {
            break;
        }
        if read as u64 > LONGEST_LINE {
            return Err(wrong(number, "it is longer than 1 MiB"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong(number, "it is not UTF-8 text"))?;
        // Some editors begin a file with a mark of its encoding.
        let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text }.trim();
        if !text.is_empty() {
            each(number, text)?;
        }
    }
    Ok(())
}

/// A line of JSON: a key, or an object with one.
fn entry(text: &str) -> Result<(String, Params), String> {
    const WANTS: &str = "write it like \"berlin\" or { \"key\": \"berlin\", \"lat\": 52.52 }";
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON ({error})"))?;
    let Value::Object(members) = value else {
        return scalar(&value).map(|key| (key, Params::new())).ok_or_else(|| format!("not a key; {WANTS}"));
    };
    let mut params = Params::new();
    for (name, value) in members {
        let text = scalar(&value).ok_or_else(|| format!("{name:?} is neither text nor number; {WANTS}"))?;
        params.insert(name, text);
    }
    let key = params.remove(KEY).ok_or_else(|| format!("there is no \"key\"; {WANTS}"))?;
    Ok((key, params))
}

/// Reads CSV (RFC 4180) with a head. An empty cell is a parameter that isn't there.
fn csv(
    input: impl Read,
    put: &mut impl FnMut(u64, Option<&str>, &Params) -> Result<(), NotGathered>,
) -> Result<(), NotGathered> {
    let since = Arc::new(AtomicU64::new(0));
    let input = Bounded { input, since: Arc::clone(&since) };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let head = reader.headers().map_err(|error| csv_problem(&error))?.clone();
    let names: Vec<&str> = head.iter().map(|name| name.trim_start_matches('\u{feff}')).collect();
    let Some(place) = names.iter().position(|name| *name == KEY) else {
        return Err(wrong(1, "the head has no column `key`; the first line names the columns"));
    };
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|error| csv_problem(&error))? {
        since.store(0, Ordering::Relaxed);
        let line = record.position().map_or(0, csv::Position::line);
        let cells = names.iter().zip(&record).enumerate().filter(|(at, (_, cell))| *at != place && !cell.is_empty());
        let params = cells.map(|(_, (name, cell))| ((*name).to_owned(), cell.to_owned())).collect();
        put(line, record.get(place), &params)?;
    }
    Ok(())
}

fn csv_problem(error: &csv::Error) -> NotGathered {
    let line = error.position().map(csv::Position::line);
    let said = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("there are {len} columns, and the head has {expected_len}")
        }
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8 text".into(),
        csv::ErrorKind::Io(error) => return NotGathered::Problem(unreadable(error)),
        _ => error.to_string(),
    };
    wrong(line.unwrap_or(1), &said)
}

/// An input that breaks off when a record does not end: a quote that is never closed would take in all that follows.
struct Bounded<R> {
    input: R,
    since: Arc<AtomicU64>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        if self.since.fetch_add(read as u64, Ordering::Relaxed) > LONGEST_LINE {
            return Err(io::Error::other("a row is longer than 1 MiB; is a quote not closed?"));
        }
        Ok(read)
    }
}
