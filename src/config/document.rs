//! From the file to the whole configuration.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use chrono::{DateTime, Utc};
use toml::de::DeTable;

use super::environment::Environment;
use super::error::{ConfigError, ConfigErrors, in_order};
use super::reader::{Reader, Shows, Spot};
use super::section::{Section, did_you_mean};
use super::setting::Scope;
use super::upstream::{DeclaredUpstreams, stretch};
use super::value::{Value, Wants, dotted};
use super::{Config, keys_from, overrides, policy, server, source, table, tokens, webhook};

/// The tables that a document may have.
const TABLES: [&str; 6] = ["server", "database", "defaults", "upstreams", "sources", "webhooks"];

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is probably not meant.
    pub warnings: Vec<ConfigError>,
}

/// Reads a configuration.
///
/// `environment` is where the file, variables and other files come from; `now` is the time from which on a cron rule must
/// have a next time.
///
/// # Errors
/// All that is wrong with it, in the order of the file.
pub fn load(path: &Path, environment: &dyn Environment, now: DateTime<Utc>) -> Result<Loaded, ConfigErrors> {
    let file = path.display().to_string();
    let written = read(path, &file, environment)?;
    let end = written.len();
    let (text, variables, unreadable) = overrides::behind(written, environment);
    let mut reader = Reader::new(&file, &text, environment, now);
    reader.variables = &variables;
    reader.errors.extend(unreadable);
    let (mut root, syntax) = DeTable::parse_recoverable(text.get(..end).unwrap_or_default());
    note_syntax_errors(&mut reader, &syntax);
    // What the parser makes of broken syntax would only bring errors that vanish with it. A name that is there twice
    // leaves the rest of the document as it is meant.
    let config = if syntax.iter().all(|error| error.message() == DUPLICATE) {
        reader.errors.extend(overrides::apply(root.get_mut(), &text, &variables));
        config(&mut reader, root.get_ref())
    } else {
        None
    };
    let Reader { errors, warnings, .. } = reader;
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded { config, warnings: in_order(warnings) }),
        _ => Err(ConfigErrors::new(errors)),
    }
}

/// The parser's words for a name that is there twice.
const DUPLICATE: &str = "duplicate key";

fn read(path: &Path, file: &str, environment: &dyn Environment) -> Result<String, ConfigErrors> {
    let whole = |problem: String, remedy| ConfigErrors::new(vec![ConfigError::of_file(file, problem, remedy)]);
    let bytes = environment.file(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            whole("there is no such file".into(), Some("`headpond init` writes one to start from"))
        }
        _ => whole(format!("can't be read: {error}"), None),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = String::from_utf8_lossy(good).matches('\n').count() + 1;
        whole(format!("line {line} is not UTF-8 text"), Some("save the file as UTF-8"))
    })
}

fn note_syntax_errors(reader: &mut Reader<'_>, errors: &[toml::de::Error]) {
    for error in errors {
        let span = error.span().unwrap_or_default();
        let name = reader.written(span.clone());
        let at = Spot { path: String::new(), span, shows: Shows::Name };
        if error.message() == DUPLICATE {
            reader.error(&at, format!("`{name}` is there twice"), "keep one of them");
        } else {
            reader.error(&at, format!("not TOML: {}", error.message()), "");
        }
    }
}

/// All tables, and what follows from them together.
fn config(reader: &mut Reader<'_>, root: &DeTable<'_>) -> Option<Config> {
    for name in root.keys().filter(|name| !TABLES.contains(&name.get_ref().as_ref())) {
        let at = Spot { path: dotted("", name.get_ref()), span: name.span(), shows: Shows::Name };
        reader.error(&at, "there is no such table or setting", did_you_mean(name.get_ref(), TABLES.into_iter()));
    }
    let server = one(reader, root, Scope::Server, "server");
    let database = one(reader, root, Scope::Database, "database");
    let defaults = one(reader, root, Scope::Defaults, "defaults");
    policy::check_exclusive(reader, &defaults);
    let upstreams = many(reader, root, Scope::Upstream, "upstreams");
    let upstreams = DeclaredUpstreams::new(reader, upstreams);
    let tables = many(reader, root, Scope::Source, "sources");

    tokens::check_roles(reader, &server, tables.values());
    let server = server::server(reader, &server);
    let database = server::database(reader, &database);
    let sources: Vec<_> =
        tables.iter().map(|(name, table)| source::read(reader, name, table, &upstreams, &defaults)).collect();
    let mut sources: Vec<_> = sources.into_iter().collect::<Option<_>>()?;
    if sources.is_empty() {
        let at = Spot { path: String::new(), span: 0..0, shows: Shows::Name };
        reader.warn(&at, "there are no sources, so nothing is refreshed", "add a table [sources.NAME]");
    }
    keys_from::check_fan_out(reader, &sources, &tables);
    table::check_names(reader, &sources, &tables);
    let webhooks = webhook::all(reader, root, &sources);
    let upstreams = upstreams.resolve(reader, &sources, &defaults);
    stretch(&mut sources, &upstreams, reader.now);
    Some(Config { server: server?, database: database?, upstreams, sources, webhooks: webhooks? })
}

/// A table that can be there once.
fn one<'a>(reader: &mut Reader<'_>, root: &'a DeTable<'a>, scope: Scope, name: &str) -> Section<'a> {
    match root.get_key_value(name) {
        Some((key, node)) => {
            let at = Spot { path: name.into(), span: key.span(), shows: Shows::Name };
            Section::open(reader, scope, at, node)
        }
        None => Section::absent(scope, name),
    }
}

/// Tables with names.
fn many<'a>(reader: &mut Reader<'_>, root: &'a DeTable<'a>, scope: Scope, name: &str) -> BTreeMap<String, Section<'a>> {
    let mut sections = BTreeMap::new();
    let Some(node) = root.get(name) else { return sections };
    let Some(tables) = node.get_ref().as_table() else {
        let wants = Wants { noun: "a table of tables", example: scope.heading() };
        Value { path: name, shows: Shows::Value, node }.wrong_type(reader, &wants);
        return sections;
    };
    for (key, node) in tables {
        let at = Spot { path: dotted(name, key.get_ref()), span: key.span(), shows: Shows::Name };
        sections.insert(key.get_ref().to_string(), Section::open(reader, scope, at, node));
    }
    sections
}
