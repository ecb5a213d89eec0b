//! `keys_from` of a source: keys that live somewhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::Source;
use super::fields::Fields;
use super::kinds::{INTERVAL, NAME, PATH, POSITIVE_SPAN};
use super::nearest::nearest;
use super::reader::{Reader, Shows, Spot};
use super::section::Section;
use super::settings as set;
use super::value::{Value, Wants, Wrong, dotted};
use crate::domain::json_path::JsonPath;
use crate::domain::origin::FIRST_OF_OTHERS;

/// How often a query is run, and how long it may take, where that is not said.
const EVERY: Duration = Duration::from_secs(5 * 60);
const TIMEOUT: Duration = Duration::from_secs(30);

const FILE: [&str; 2] = ["file", "format"];
const QUERY: [&str; 3] = ["query", "every", "timeout"];
const SOURCE: [&str; 4] = ["source", "items", "key", "params"];

/// A place where keys come from.
#[derive(Clone, PartialEq, Eq)]
pub struct KeysFrom {
    /// Its name among the origins of its source: `file`, `query` or `source`, with a number from the second one on, so that
    /// another file or query in its place is the same origin with other keys.
    pub name: String,
    /// Where it stands among them.
    pub place: i64,
    /// What it is, in a line for people. Of a query into which something was put from outside the configuration file, only
    /// that there is one.
    pub about: String,
    /// What it is.
    pub what: KeyPlace,
}

/// What keys come from.
#[derive(Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// A file, which is watched.
    File {
        /// Where it is.
        path: PathBuf,
        /// How it is written.
        format: KeyFormat,
    },
    /// A query on the database that the copies are in.
    Query {
        /// The statement.
        sql: String,
        /// How often it is run.
        every: Duration,
        /// How long it may take.
        timeout: Duration,
    },
    /// The copies of another source.
    Source(FanOut),
}

/// Keys within the copies of another source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FanOut {
    /// Its name.
    pub source: String,
    /// The items of a copy.
    pub items: JsonPath,
    /// The key within an item.
    pub key: JsonPath,
    /// Parameters within an item.
    pub params: BTreeMap<String, JsonPath>,
}

/// How a file of keys is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// One key a line.
    Text,
    /// A head with the column `key` and columns for parameters.
    Csv,
    /// A key, or an object with `key` and parameters, a line.
    JsonLines,
}

impl KeyFormat {
    /// The format of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "txt" => Some(Self::Text),
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }

    /// The format that a file's name says.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        Self::parse(&path.extension()?.to_str()?.to_ascii_lowercase())
    }
}

impl fmt::Debug for KeysFrom {
    /// Without the query, into which a secret may have been put.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeysFrom").field("name", &self.name).field("about", &self.about).finish_non_exhaustive()
    }
}

impl KeyPlace {
    /// What it is, in a line for people.
    fn about(&self) -> String {
        match self {
            Self::File { path, .. } => path.display().to_string(),
            Self::Query { sql, .. } => sql.split_whitespace().collect::<Vec<_>>().join(" "),
            Self::Source(FanOut { source, items, .. }) => format!("{source} {}", items.as_str()),
        }
    }
}

/// Reads the setting: one table or a list of them.
pub(super) fn read(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<Vec<KeysFrom>> {
    let all: Vec<_> = match value.node.get_ref() {
        DeValue::Array(elements) => {
            elements.iter().map(|node| one(reader, Value { node, ..value }, wants)).collect::<Vec<_>>()
        }
        _ => vec![one(reader, value, wants)],
    };
    let all: Vec<(KeyPlace, bool)> = all.into_iter().collect::<Option<_>>()?;
    let mut met = BTreeMap::new();
    let named = (FIRST_OF_OTHERS..).zip(all).map(|(place, (what, is_secret))| {
        let kind = match what {
            KeyPlace::File { .. } => FILE[0],
            KeyPlace::Query { .. } => QUERY[0],
            KeyPlace::Source(_) => SOURCE[0],
        };
        let number = met.entry(kind).and_modify(|number| *number += 1).or_insert(1);
        let name = if *number == 1 { kind.to_owned() } else { format!("{kind}:{number}") };
        let about = if is_secret { "a query".into() } else { what.about() };
        KeysFrom { name, place, about, what }
    });
    Some(named.collect())
}

/// Reads one, and says whether it is to be kept from people.
fn one(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<(KeyPlace, bool)> {
    let table = value.table(reader, wants)?;
    let given: Vec<_> = [FILE[0], QUERY[0], SOURCE[0]].into_iter().filter(|kind| table.contains_key(*kind)).collect();
    match given[..] {
        ["file"] => {
            let fields = Fields::open(reader, value, wants, &FILE)?;
            file(reader, &fields).map(|file| (file, false))
        }
        ["query"] => {
            let fields = Fields::open(reader, value, wants, &QUERY)?;
            query(reader, &fields)
        }
        ["source"] => {
            let fields = Fields::open(reader, value, wants, &SOURCE)?;
            fan_out(reader, &fields).map(|fan_out| (KeyPlace::Source(fan_out), false))
        }
        [] => {
            reader.error(&value.spot().named(value.path), "says neither file nor query nor source", wants.remedy());
            None
        }
        _ => {
            let remedy = "write a table for each: keys_from = [{ … }, { … }]";
            reader.error(&value.spot().named(value.path), format!("{} are in one table", given.join(" and ")), remedy);
            None
        }
    }
}

fn file(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<KeyPlace> {
    const WANTS: Wants = Wants { noun: "the path of a file of keys", example: "\"cities.csv\"" };
    const FORMAT: Wants = Wants { noun: "one of \"txt\", \"csv\" and \"jsonl\"", example: "\"csv\"" };
    let format = fields.optional(reader, "format", |reader, value| {
        let parse = |text: &str| KeyFormat::parse(text).ok_or_else(|| Wrong::from("there is no such format"));
        value.parsed(reader, &FORMAT, parse)
    });
    let read = fields.required(reader, "file", |reader, value| {
        let text = value.text(reader, &WANTS)?.text;
        let path = PathBuf::from(&text);
        let said = format.as_ref().and_then(|format| *format);
        if text.is_empty() {
            reader.error(&value.spot(), "is empty", WANTS.remedy());
            return None;
        }
        if format.is_some() && said.or(KeyFormat::of(&path)).is_none() {
            let remedy = "add format = \"txt\", \"csv\" or \"jsonl\"";
            reader.error(&value.spot(), "its name doesn't say how it is written", remedy);
        }
        let format = said.or(KeyFormat::of(&path))?;
        Some(KeyPlace::File { path: beside(reader.file, path), format })
    });
    format?;
    read
}

/// A path as it is meant: relative to the configuration file's directory.
fn beside(config: &str, path: PathBuf) -> PathBuf {
    match Path::new(config).parent() {
        Some(directory) if path.is_relative() && !directory.as_os_str().is_empty() => directory.join(path),
        _ => path,
    }
}

fn query(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<(KeyPlace, bool)> {
    const WANTS: Wants = Wants { noun: "a query for keys", example: "\"SELECT user_id FROM participants\"" };
    let sql = fields.required(reader, "query", |reader, value| {
        let is_secret = value.text(reader, &WANTS)?.expanded;
        let sql =
            value.parsed(reader, &WANTS, |text| match text.split_whitespace().next().map(str::to_ascii_lowercase) {
                None => Err("is empty".into()),
                Some(word) if ["select", "with", "values"].contains(&word.as_str()) || word.starts_with('(') => {
                    Ok(text.to_owned())
                }
                Some(_) => Err(Wrong::with_remedy("not a SELECT, and all else could change the data", WANTS.remedy())),
            });
        Some((sql?, is_secret))
    });
    let every = fields.optional(reader, "every", |reader, value| (INTERVAL.read)(reader, value, &INTERVAL.wants));
    let timeout =
        fields.optional(reader, "timeout", |reader, value| (POSITIVE_SPAN.read)(reader, value, &POSITIVE_SPAN.wants));
    let (sql, is_secret) = sql?;
    let query = KeyPlace::Query { sql, every: every?.unwrap_or(EVERY), timeout: timeout?.unwrap_or(TIMEOUT) };
    Some((query, is_secret))
}

fn fan_out(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<FanOut> {
    const PARAMS: Wants = Wants { noun: "a table of parameters and JSONPaths", example: "{ lat = \"$.latitude\" }" };
    let source = fields.required(reader, "source", |reader, value| (NAME.read)(reader, value, &NAME.wants));
    let items = fields.required(reader, "items", |reader, value| (PATH.read)(reader, value, &PATH.wants));
    let key = fields.required(reader, "key", |reader, value| (PATH.read)(reader, value, &PATH.wants));
    let params = fields.optional(reader, "params", |reader, value| {
        let table = value.table(reader, &PARAMS)?;
        let paths = table.iter().map(|(name, node)| {
            let path = dotted(value.path, name.get_ref());
            let read = (PATH.read)(reader, Value { path: &path, node, ..value }, &PATH.wants);
            Some((name.get_ref().to_string(), read?))
        });
        paths.collect::<Vec<_>>().into_iter().collect::<Option<BTreeMap<_, _>>>()
    });
    Some(FanOut { source: source?.text, items: items?, key: key?, params: params?.unwrap_or_default() })
}

/// Notes sources that take keys from one that there isn't, or in a circle from each other.
pub(super) fn check_fan_out(reader: &mut Reader<'_>, sources: &[Source], tables: &BTreeMap<String, Section<'_>>) {
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    for source in sources {
        let Some(at) = tables.get(source.name.as_str()).and_then(|table| table.value(&set::KEYS_FROM)) else {
            continue;
        };
        let at = Spot { path: at.path.into(), span: at.node.span(), shows: Shows::Name };
        for parent in source.parents() {
            if !names.contains(&parent) {
                let remedy = match nearest(parent, names.iter().copied()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("add a table [sources.{parent}]"),
                };
                reader.error(&at, format!("there is no source {parent:?}"), remedy);
            }
        }
        if let Some(circle) = circle(sources, source.name.as_str()) {
            let problem = format!("sources take their keys in a circle: {}", circle.join(" ← "));
            reader.error(&at, problem, "let one of them have its keys from somewhere else");
        }
    }
}

/// The way by which a source's keys come from itself, if there is one.
fn circle<'s>(sources: &'s [Source], start: &'s str) -> Option<Vec<&'s str>> {
    let parents = |name: &str| {
        let source = sources.iter().find(|source| source.name.as_str() == name);
        source.map(|source| source.parents().collect::<Vec<_>>()).unwrap_or_default()
    };
    let (mut ways, mut met) = (vec![vec![start]], BTreeSet::new());
    while let Some(way) = ways.pop() {
        for parent in parents(way.last()?) {
            let longer: Vec<_> = way.iter().copied().chain([parent]).collect();
            if parent == start {
                return Some(longer);
            }
            if met.insert(parent) {
                ways.push(longer);
            }
        }
    }
    None
}

impl Source {
    /// The sources that it takes keys from.
    fn parents(&self) -> impl Iterator<Item = &str> {
        self.keys_from.iter().filter_map(|one| match &one.what {
            KeyPlace::Source(fan_out) => Some(fan_out.source.as_str()),
            KeyPlace::File { .. } | KeyPlace::Query { .. } => None,
        })
    }
}
