//! The document while it is read: where things are in it, and what was found wrong so far.

use std::ops::Range;

use chrono::{DateTime, Utc};

use super::environment::Environment;
use super::error::ConfigError;
use super::overrides::Variable;

/// What reading a configuration needs and collects.
pub(super) struct Reader<'a> {
    /// The file, as it was named.
    pub file: &'a str,
    /// What is in it, and behind it the values of variables.
    pub text: &'a str,
    /// Where those are.
    pub variables: &'a [Variable],
    /// Where `${…}` looks.
    pub environment: &'a dyn Environment,
    /// The present time, for cron rules.
    pub now: DateTime<Utc>,
    /// What is wrong.
    pub errors: Vec<ConfigError>,
    /// What is probably not meant.
    pub warnings: Vec<ConfigError>,
    lines: Vec<usize>,
}

/// A setting's place in the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// The setting's whole name.
    pub path: String,
    /// Where it is, in bytes.
    pub span: Range<usize>,
    /// How much of the text there may be shown.
    pub shows: Shows,
}

/// How much of a value an error may show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// There is no value at this place, only a name.
    Name,
    /// The value as it is written.
    Value,
    /// A URL without its query, where credentials often are.
    Url,
    /// Nothing, unless it is written as a reference to somewhere else.
    Secret,
}

impl Spot {
    /// The same place for another name.
    pub(super) fn named(&self, path: impl Into<String>) -> Self {
        Self { path: path.into(), span: self.span.clone(), shows: Shows::Name }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str, text: &'a str, environment: &'a dyn Environment, now: DateTime<Utc>) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, variables: &[], environment, now, errors: Vec::new(), warnings: Vec::new(), lines }
    }

    /// Notes what is wrong. `remedy` says what would be right; it may be empty where the problem says it already.
    pub(super) fn error(&mut self, at: &Spot, problem: impl Into<String>, remedy: impl Into<String>) {
        let error = self.describe(at, problem.into(), remedy.into());
        self.errors.push(error);
    }

    /// Notes what is probably not meant.
    pub(super) fn warn(&mut self, at: &Spot, problem: impl Into<String>, remedy: impl Into<String>) {
        let warning = self.describe(at, problem.into(), remedy.into());
        self.warnings.push(warning);
    }

    /// Line and column of a byte of the document, both from 1, columns in characters.
    pub(super) fn place(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.as_bytes().get(start..at).unwrap_or_default();
        (line, String::from_utf8_lossy(before).chars().count() + 1)
    }

    /// Where a byte is, in words: line and column, or the variable.
    pub(super) fn place_in_words(&self, at: usize) -> String {
        if let Some(variable) = self.variable(at) {
            return format!("in {}", variable.name);
        }
        let (line, column) = self.place(at);
        format!("at {line}:{column}")
    }

    /// The variable whose value has this byte.
    fn variable(&self, at: usize) -> Option<&'a Variable> {
        self.variables.iter().find(|variable| (variable.span.start..=variable.span.end).contains(&at))
    }

    /// Whether a value comes from a variable and may be a secret.
    pub(super) fn is_hidden(&self, span: &Range<usize>, shows: Shows) -> bool {
        matches!(shows, Shows::Url | Shows::Secret) && self.variable(span.start).is_some()
    }

    /// The document between two bytes.
    pub(super) fn written(&self, span: Range<usize>) -> &'a str {
        self.text.get(span).unwrap_or_default()
    }

    fn describe(&self, at: &Spot, problem: String, remedy: String) -> ConfigError {
        let variable = self.variable(at.span.start);
        let value = shown(self.written(at.span.clone()), at.shows);
        ConfigError {
            file: variable.map_or(self.file, |variable| &variable.name).into(),
            place: variable.is_none().then(|| self.place(at.span.start)),
            setting: at.path.clone(),
            value: value.filter(|_| !self.is_hidden(&at.span, at.shows)),
            problem,
            remedy: (!remedy.is_empty()).then_some(remedy),
        }
    }
}

/// The value as an error may show it: one line, not too long, no secrets.
fn shown(written: &str, shows: Shows) -> Option<String> {
    match shows {
        Shows::Name => None,
        Shows::Secret if !is_reference(written) => None,
        Shows::Url if written.contains('@') => None,
        Shows::Url => match written.split_once('?') {
            Some((before, _)) => Some(shorten(&format!("{before}?…"))),
            None => Some(shorten(written)),
        },
        Shows::Value | Shows::Secret => Some(shorten(written)),
    }
}

fn shorten(written: &str) -> String {
    const LONGEST: usize = 80;
    let line = written.lines().next().unwrap_or_default();
    let cut = line.char_indices().nth(LONGEST).map_or(line.len(), |(at, _)| at);
    let short = line.get(..cut).unwrap_or_default();
    if short.len() < written.len() && !short.ends_with('…') { format!("{short}…") } else { short.to_owned() }
}

/// Whether a value is written as one `${…}` and nothing else.
fn is_reference(written: &str) -> bool {
    let inner = written.trim_matches(['"', '\'']);
    inner.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(|name| !name.contains(['$', '}']))
}
