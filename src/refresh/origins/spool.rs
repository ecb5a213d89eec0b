//! What was gathered: keys in a temporary file, and a mark that tells them from others.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Seek, Write};

use super::NotGathered;
use crate::config::Source;
use crate::domain::resource::{Key, Params};

/// Keys that were gathered.
#[derive(Debug)]
pub struct Spool {
    lines: BufReader<File>,
    /// How many lines there are.
    pub keys: u64,
    /// The same keys with the same parameters, in whatever order, have the same mark.
    pub mark: String,
    /// What was not taken in.
    pub left_out: LeftOut,
}

/// What was found besides usable keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub count: u64,
    /// What was wrong with the first one.
    pub first: Option<String>,
}

impl LeftOut {
    /// One more.
    pub fn note(&mut self, why: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(why);
    }

    /// In words for people; `None` when there is nothing to tell.
    #[must_use]
    pub fn told(&self) -> Option<String> {
        let first = self.first.as_ref()?;
        Some(match self.count {
            1 => format!("1 was left out: {first}"),
            count => format!("{count} were left out, the first because: {first}"),
        })
    }
}

/// Writes keys into a temporary file that is gone with its last handle.
#[derive(Debug)]
pub struct Spooler {
    lines: BufWriter<File>,
    keys: u64,
    // Added up, so that the order doesn't count.
    sum: [u64; 2],
    /// What was not taken in.
    pub left_out: LeftOut,
}

/// The mark of keys that need not be gathered.
#[must_use]
pub fn mark_of<'k>(keys: impl IntoIterator<Item = &'k (Key, Params)>) -> String {
    let (mut count, mut sum) = (0, [0; 2]);
    for (key, params) in keys {
        count += 1;
        sum = added(sum, line(key, params).as_bytes());
    }
    mark(count, sum)
}

fn mark(count: u64, [high, low]: [u64; 2]) -> String {
    format!("{count}-{high:016x}{low:016x}")
}

fn added([high, low]: [u64; 2], line: &[u8]) -> [u64; 2] {
    let hash = blake3::hash(line);
    let part = |at: usize| hash.as_bytes().iter().skip(at).take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    [high.wrapping_add(part(0)), low.wrapping_add(part(8))]
}

fn line(key: &Key, params: &Params) -> String {
    serde_json::json!([key, params]).to_string()
}

impl Spooler {
    /// An empty one.
    ///
    /// # Errors
    /// When there can be no temporary file.
    pub fn new() -> io::Result<Self> {
        let lines = BufWriter::new(tempfile::tempfile()?);
        Ok(Self { lines, keys: 0, sum: [0; 2], left_out: LeftOut::default() })
    }

    /// Adds a key, if the source can ask for it.
    ///
    /// # Errors
    /// When the file can't be written. What is wrong with the key is no error: it is left out.
    pub fn add(&mut self, source: &Source, key: Option<&str>, params: &Params) -> io::Result<()> {
        match usable(source, key, params) {
            Ok(key) => self.put(&key, params),
            Err(why) => {
                self.left_out.note(|| why);
                Ok(())
            }
        }
    }

    /// Adds a key that is known to be usable.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn put(&mut self, key: &Key, params: &Params) -> io::Result<()> {
        let line = line(key, params);
        self.keys += 1;
        self.sum = added(self.sum, line.as_bytes());
        self.lines.write_all(line.as_bytes())?;
        self.lines.write_all(b"\n")
    }

    /// What was gathered.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn done(self) -> io::Result<Spool> {
        let mut file = self.lines.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let mark = mark(self.keys, self.sum);
        Ok(Spool { lines: BufReader::new(file), keys: self.keys, mark, left_out: self.left_out })
    }
}

/// The key, if the source can ask for it.
///
/// # Errors
/// What is wrong with it.
pub fn usable(source: &Source, key: Option<&str>, params: &Params) -> Result<Key, String> {
    let Some(text) = key else { return Err("there is no key (NULL)".into()) };
    let shown = || text.chars().take(60).collect::<String>();
    let key = Key::new(text).map_err(|error| format!("{:?}: {error}", shown()))?;
    match source.ask(&key, params) {
        Ok(_) => Ok(key),
        Err(error) => Err(format!("{:?}: {error}", shown())),
    }
}

impl Spool {
    /// The same, unless all that was found is unusable: then something is wrong with the place, and not with what it has.
    ///
    /// # Errors
    /// What is wrong with the first one.
    pub fn unless_useless(self) -> Result<Self, NotGathered> {
        match self.left_out.told() {
            Some(told) if self.keys == 0 => Err(NotGathered::Problem(format!(
                "nothing that it has can be a key, so its keys stay as they were; {told}"
            ))),
            _ => Ok(self),
        }
    }

    /// The next keys, so many at the most; none at the end.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn next(&mut self, at_most: usize) -> io::Result<Vec<(Key, Params)>> {
        let mut keys = Vec::with_capacity(at_most.min(usize::try_from(self.keys).unwrap_or(at_most)));
        let mut line = String::new();
        while keys.len() < at_most && self.lines.read_line(&mut line)? > 0 {
            let (key, params): (String, Params) = serde_json::from_str(&line)?;
            keys.push((Key::new(key).map_err(io::Error::other)?, params));
            line.clear();
        }
        Ok(keys)
    }
}
