//! The keys that a source lists, each checked to make a URL.

use std::collections::{BTreeSet, HashMap};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::domain::body_template::{BodyTemplate, MissingValue};
use crate::domain::resource::{Key, Params};
use crate::domain::template::{BadUrl, KEY, UrlTemplate};

use super::environment::Text;
use super::reader::{Reader, Shows, Spot};
use super::section::did_you_mean;
use super::value::{Value, Wants, dotted};

/// After so many wrong keys of one source the others are only counted.
const MOST_ERRORS: usize = 10;

const KEY_WANTS: Wants =
    Wants { noun: "a key", example: "\"berlin\" or { key = \"berlin\", lat = 52.52, lon = 13.405 }" };
const PARAM_WANTS: Wants = Wants { noun: "the value of a parameter", example: "52.52 or \"text\"" };

/// Reads the list. Wrong keys are noted, and what was probably not meant.
pub(super) fn read(
    reader: &mut Reader<'_>,
    list: Value<'_>,
    template: &UrlTemplate,
    body: Option<&BodyTemplate>,
) -> Vec<(Key, Params)> {
    let DeValue::Array(elements) = list.node.get_ref() else { return Vec::new() };
    let errors_before = reader.errors.len();
    let mut pass = Pass {
        template,
        body,
        variables: body
            .map(BodyTemplate::variables)
            .unwrap_or_default()
            .into_iter()
            .chain(template.variables().clone())
            .collect(),
        places: HashMap::with_capacity(elements.len()),
        unused: BTreeSet::new(),
    };
    let mut keys = Vec::with_capacity(elements.len());
    for node in elements {
        keys.extend(pass.element(reader, Value { node, ..list }));
    }
    if pass.variables.is_empty() && keys.len() > 1 {
        let (where_to, same) =
            if body.is_some() { ("neither `url` nor `body` has", "request") } else { ("`url` has no", "URL") };
        let problem = format!("{} keys, but {where_to} variables: all have the same {same}", keys.len());
        reader.warn(&list.spot().named(list.path), problem, "put {key} into `url`");
    }
    summarise(reader, errors_before, &list);
    keys
}

/// What is known while one list is read.
struct Pass<'t> {
    template: &'t UrlTemplate,
    body: Option<&'t BodyTemplate>,
    variables: BTreeSet<String>,
    /// Where each key was first listed.
    places: HashMap<Key, usize>,
    /// Parameters that the template has no use for, each said once.
    unused: BTreeSet<String>,
}

impl Pass<'_> {
    fn element(&mut self, reader: &mut Reader<'_>, element: Value<'_>) -> Option<(Key, Params)> {
        let (key, params) = match element.node.get_ref() {
            DeValue::Table(table) => {
                let Some(node) = table.get(KEY) else {
                    reader.error(&element.spot(), "a table without `key`", KEY_WANTS.remedy());
                    return None;
                };
                let key = self.key(reader, Value { node, ..element });
                (key, self.params(reader, element.path, table))
            }
            _ => (self.key(reader, element), Some(Params::new())),
        };
        let (key, params) = (key?, params?);
        match self.template.expand(&key, &params) {
            Ok(_) => self.has_body(reader, &element, &key, &params).then_some((key, params)),
            Err(BadUrl::Missing(variable)) => {
                let problem = format!("`url` needs a value for {{{variable}}}, and this key has none");
                reader.error(&element.spot(), problem, format!("write it like {{ key = …, {variable} = … }}"));
                None
            }
            Err(error @ BadUrl::ChangesPath) => {
                reader.error(&element.spot(), error.to_string(), "put {key} into the query, or leave this key out");
                None
            }
        }
    }

    /// Whether the body can be filled for this key.
    fn has_body(&self, reader: &mut Reader<'_>, element: &Value<'_>, key: &Key, params: &Params) -> bool {
        let Some(Err(MissingValue(variable))) = self.body.map(|body| body.expand(key, params)) else { return true };
        let problem = format!("`body` needs a value for {{{variable}}}, and this key has none");
        let remedy =
            format!("write it like {{ key = …, {variable} = … }}, or `{{ {variable} }}` in `body` if braces are meant");
        reader.error(&element.spot(), problem, remedy);
        false
    }

    fn key(&mut self, reader: &mut Reader<'_>, value: Value<'_>) -> Option<Key> {
        let text = value.scalar(reader, &KEY_WANTS)?;
        warn_if_put_in(reader, &value, &text, "keys");
        let key = match Key::new(text.text) {
            Ok(key) => key,
            Err(error) => {
                reader.error(&value.spot(), error.to_string(), "");
                return None;
            }
        };
        let start = value.node.span().start;
        if let Some(first) = self.places.insert(key.clone(), start) {
            let first = reader.place_in_words(first);
            reader.error(&value.spot(), format!("listed twice, first {first}"), "list each key once");
            return None;
        }
        Some(key)
    }

    fn params(&mut self, reader: &mut Reader<'_>, path: &str, table: &DeTable<'_>) -> Option<Params> {
        let mut params = Params::new();
        let mut complete = true;
        for (name, node) in table.iter().filter(|(name, _)| name.get_ref() != KEY) {
            let name = name.get_ref();
            match param(reader, &dotted(path, name), node) {
                Some(value) => _ = params.insert(name.to_string(), value),
                None => complete = false,
            }
            if !self.variables.contains(name.as_ref()) && self.unused.insert(name.to_string()) {
                let at = Spot { path: dotted(path, name), span: node.span(), shows: Shows::Name };
                let known = self.variables.iter().map(String::as_str);
                let problem = match self.body {
                    Some(_) => "neither `url` nor `body` has such a variable",
                    None => "`url` has no such variable",
                };
                reader.warn(&at, problem, did_you_mean(name, known));
            }
        }
        complete.then_some(params)
    }
}

fn param(reader: &mut Reader<'_>, path: &str, node: &Spanned<DeValue<'_>>) -> Option<String> {
    let value = Value { path, shows: Shows::Value, node };
    let text = value.scalar(reader, &PARAM_WANTS)?;
    warn_if_put_in(reader, &value, &text, "parameters");
    Some(text.text)
}

/// What comes from outside the file is probably a secret, and this is no place for one.
fn warn_if_put_in(reader: &mut Reader<'_>, value: &Value<'_>, text: &Text, what: &str) {
    if text.expanded {
        let problem = format!("{what} are stored in the database and can be read there");
        reader.warn(&value.spot(), problem, "if it is a secret, put it into `url` or `headers`");
    }
}

/// Leaves the first errors of a list, and counts the others.
fn summarise(reader: &mut Reader<'_>, before: usize, list: &Value<'_>) {
    let found = reader.errors.len().saturating_sub(before);
    if found > MOST_ERRORS {
        reader.errors.truncate(before + MOST_ERRORS);
        let problem = format!("{} more keys like these are wrong", found - MOST_ERRORS);
        // At the end of the list, so that it follows them.
        let end = list.node.span().end.saturating_sub(1);
        reader.error(&Spot { path: list.path.into(), span: end..end, shows: Shows::Name }, problem, "");
    }
}
