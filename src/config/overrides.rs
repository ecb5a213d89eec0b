//! Settings that environment variables put in place of the file's: `HEADPOND__SERVER__LISTEN`,
//! `HEADPOND__SOURCES__WEATHER__REFRESH_EVERY`.
//!
//! A variable is named by its table and setting, in any case, with `__` between the parts. A setting that takes text takes
//! the variable's value as it is; any other one takes what would be written in the file (`5`, `true`, `["a", "b"]`).
//!
//! The values are put behind the file's text, and into its tables before these are read. So whatever reads the document
//! treats them as it treats the rest, and a place behind the file's end stands for a variable.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::environment::Environment;
use super::error::ConfigError;
use super::nearest::nearest;
use super::setting::{AnySetting, Scope};
use super::settings;

/// What the name of each such variable begins with.
const PREFIX: &str = "HEADPOND__";

/// A variable whose name begins so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variable {
    /// Its name.
    pub name: String,
    /// Where its value is in the text that the document is read from.
    pub span: Range<usize>,
}

/// The setting that a variable is for.
struct Target {
    /// The table, or the table of tables that it is in.
    table: &'static str,
    /// Its name among those.
    name: Option<String>,
    setting: &'static dyn AnySetting,
}

/// Puts the values of all such variables behind a file's text. What can't be a value is an error.
pub(super) fn behind(file: String, environment: &dyn Environment) -> (String, Vec<Variable>, Vec<ConfigError>) {
    let (mut text, mut variables, mut errors) = (file, Vec::new(), Vec::new());
    let names = environment.names().into_iter().filter_map(|name| name.into_string().ok());
    // In the order of their names, so that errors are in an order too.
    for name in names.filter(|name| name.starts_with(PREFIX)).collect::<BTreeSet<_>>() {
        match environment.variable(&name).map(std::ffi::OsString::into_string) {
            Some(Ok(value)) => {
                text.push('\n');
                let start = text.len();
                text.push_str(&value);
                variables.push(Variable { name, span: start..text.len() });
            }
            Some(Err(_)) => errors.push(ConfigError::of_file(&name, "not UTF-8 text".into(), None)),
            None => {}
        }
    }
    (text, variables, errors)
}

/// Puts the values into the tables that they are for, in place of what is there.
pub(super) fn apply<'t>(root: &mut DeTable<'t>, text: &'t str, variables: &[Variable]) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let targets = targets(root);
    let mut given = BTreeMap::new();
    for variable in variables {
        let upper = variable.name.to_ascii_uppercase();
        let Some(target) = targets.get(&upper) else {
            errors.push(unknown(&variable.name, &targets));
            continue;
        };
        if let Some(other) = given.insert(upper, &variable.name) {
            let problem = format!("the variable `{other}` is the same setting");
            errors.push(ConfigError::of_file(&variable.name, problem, Some("keep one of them")));
            continue;
        }
        put(root, target, value(text, &variable.span, target.setting));
    }
    errors
}

/// Every variable that there could be, in upper case. Upstreams and sources are those of the file: a variable adds none.
fn targets(root: &DeTable<'_>) -> BTreeMap<String, Target> {
    let named = |table: &str| -> Vec<String> {
        let tables = root.get(table).and_then(|node| node.get_ref().as_table());
        tables.map(|tables| tables.keys().map(|name| name.get_ref().to_string()).collect()).unwrap_or_default()
    };
    let one = |scope, table| (scope, table, None);
    let many = |scope, table| named(table).into_iter().map(move |name| (scope, table, Some(name)));
    let tables = [one(Scope::Server, "server"), one(Scope::Database, "database"), one(Scope::Defaults, "defaults")]
        .into_iter()
        .chain(many(Scope::Upstream, "upstreams"))
        .chain(many(Scope::Source, "sources"));
    let mut targets = BTreeMap::new();
    for (scope, table, name) in tables {
        for setting in settings::of(scope) {
            let parts = [Some(table), name.as_deref(), Some(setting.name())];
            let path = parts.into_iter().flatten().collect::<Vec<_>>().join("__");
            let target = Target { table, name: name.clone(), setting };
            targets.insert(format!("{PREFIX}{}", path.to_ascii_uppercase()), target);
        }
    }
    targets
}

fn unknown(name: &str, targets: &BTreeMap<String, Target>) -> ConfigError {
    let remedy = match nearest(name, targets.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("it is {PREFIX}TABLE__SETTING or {PREFIX}TABLE__NAME__SETTING, with a NAME that the file has"),
    };
    ConfigError::of_file(name, "there is no such setting".into(), Some(&remedy))
}

/// The value at this place: text where the setting takes text, else TOML. What is no TOML is text, which the setting then
/// refuses.
fn value<'t>(text: &'t str, span: &Range<usize>, setting: &dyn AnySetting) -> Spanned<DeValue<'t>> {
    let written = text.get(span.clone()).unwrap_or_default();
    match DeValue::parse(written) {
        Ok(value) if !setting.takes_text() => moved(value, span.start),
        _ => Spanned::new(span.clone(), DeValue::String(written.into())),
    }
}

/// A value that was parsed by itself, with its places in the whole text.
fn moved(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = value.span().start + by..value.span().end + by;
    let value = match value.into_inner() {
        DeValue::Array(all) => DeValue::Array(all.into_iter().map(|one| moved(one, by)).collect::<DeArray<'_>>()),
        DeValue::Table(all) => DeValue::Table(
            all.into_iter()
                .map(|(name, one)| {
                    let span = name.span().start + by..name.span().end + by;
                    (Spanned::new(span, name.into_inner()), moved(one, by))
                })
                .collect::<DeTable<'_>>(),
        ),
        other => other,
    };
    Spanned::new(span, value)
}

/// Puts a value into its table, which is made if the file has none.
fn put<'t>(root: &mut DeTable<'t>, target: &Target, value: Spanned<DeValue<'t>>) {
    let start = value.span().start;
    let mut tables = root;
    for name in [Some(target.table), target.name.as_deref()].into_iter().flatten() {
        let node = tables
            .entry(Spanned::new(start..start, name.to_owned().into()))
            .or_insert_with(|| Spanned::new(start..start, DeValue::Table(DeTable::new())));
        // What should be a table and is something else is an error, with or without the variable.
        let DeValue::Table(table) = node.get_mut() else { return };
        tables = table;
    }
    tables.insert(Spanned::new(start..start, target.setting.name().into()), value);
}
