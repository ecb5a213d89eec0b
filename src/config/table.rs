//! `table` of a source: what of its copies becomes columns.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::Source;
use super::fields::Fields;
use super::kinds::{FLAG, Kind, PATH};
use super::reader::{Reader, Shows, Spot};
use super::section::Section;
use super::settings as set;
use super::value::{Value, Wants, Wrong, dotted};
use crate::domain::content::JsonPath;
use crate::domain::table::{BadName, Column, ColumnType, Rows, Table, check_column_name, check_name};

const TABLE: [&str; 4] = ["name", "columns", "rows", "row_key"];
const COLUMN: [&str; 4] = ["path", "type", "nullable", "index"];
const ROW_KEY: [&str; 3] = ["column", "path", "type"];

/// Enough for any table, and within what both databases take in one statement.
const MOST_COLUMNS: usize = 200;

const NAME_WANTS: Wants = Wants { noun: "the name of a table", example: "\"users\"" };
const COLUMNS_WANTS: Wants =
    Wants { noun: "a table of columns", example: "{ name = { path = \"$.name\", type = \"text\" } }" };
const COLUMN_WANTS: Wants = Wants { noun: "a column", example: "{ path = \"$.name\", type = \"text\" }" };
const ROW_KEY_WANTS: Wants = Wants {
    noun: "the column that tells rows apart",
    example: "{ column = \"time\", path = \"$.time\", type = \"timestamp\" }",
};
const TYPE_WANTS: Wants =
    Wants { noun: "one of text, integer, real, boolean, timestamp, date, numeric and json", example: "\"text\"" };

pub(super) static TYPED: Kind<Arc<Table>> = Kind {
    wants: Wants {
        noun: "a table with a name and columns",
        example: "{ name = \"users\", columns = { name = { path = \"$.name\", type = \"text\" } } }",
    },
    read,
};

pub(super) static SCHEMA: Kind<String> = Kind {
    wants: Wants { noun: "the name of a schema", example: "\"headpond_data\"" },
    read: |reader, value, wants| value.parsed(reader, wants, schema),
};

pub(super) static ROLES: Kind<Vec<String>> = Kind {
    wants: Wants { noun: "a list of database roles", example: "[\"app\"]" },
    read: |reader, value, wants| {
        let elements = value.list(reader, wants)?.iter().map(|node| Value { node, ..value });
        let wants = Wants { noun: "a database role", example: "\"app\"" };
        let roles: Vec<_> = elements.map(|one| one.parsed(reader, &wants, role)).collect();
        roles.into_iter().collect()
    },
};

/// Postgres keeps some names to itself, and `headpond` is ours: nobody else may read that.
fn schema(text: &str) -> Result<String, Wrong> {
    match text.to_ascii_lowercase().as_str() {
        "headpond" => Err("this is where Headpond keeps what no app should see".into()),
        lower if lower.starts_with("pg_") || lower == "information_schema" => Err("this is Postgres' own".into()),
        "headpond_data" => Ok(text.to_owned()),
        _ => check_name(text).map(|()| text.to_owned()).map_err(|bad| bad.to_string().into()),
    }
}

fn role(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.len() > 63 || text.contains('\0') {
        return Err("no name of a role".into());
    }
    Ok(text.to_owned())
}

/// Reads the setting.
fn read(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<Arc<Table>> {
    let fields = Fields::open(reader, value, wants, &TABLE)?;
    let name = fields.required(reader, "name", |reader, value| named(reader, &value, &NAME_WANTS, check_name));
    let columns = fields.required(reader, "columns", columns);
    let items = fields.optional(reader, "rows", |reader, value| (PATH.read)(reader, value, &PATH.wants));
    let key = fields.optional(reader, "row_key", row_key);
    let rows = match (items?, key?) {
        (Some(items), Some(key)) => Some(Rows { items, key }),
        (None, None) => None,
        (Some(_), None) => return missing(reader, &fields, "rows is set without row_key", &ROW_KEY_WANTS),
        (None, Some(_)) => {
            return missing(
                reader,
                &fields,
                "row_key is set without rows",
                &Wants { noun: "", example: "\"$.list[*]\"" },
            );
        }
    };
    let columns = columns?;
    if let Some(rows) = &rows
        && let Some(column) = columns.iter().find(|column| column.name.eq_ignore_ascii_case(&rows.key.name))
    {
        let problem = format!("the column {:?} is there twice: it is row_key's too", column.name);
        reader.error(&fields.spot(), problem, "leave it out of columns");
        return None;
    }
    Some(Arc::new(Table { name: name?, columns, rows }))
}

fn missing<T>(reader: &mut Reader<'_>, fields: &Fields<'_>, problem: &str, wants: &Wants) -> Option<T> {
    reader.error(&fields.spot(), problem, format!("set both or none of them, like {}", wants.example));
    None
}

fn named(
    reader: &mut Reader<'_>,
    value: &Value<'_>,
    wants: &Wants,
    check: fn(&str) -> Result<(), BadName>,
) -> Option<String> {
    value.parsed(reader, wants, |text| match check(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(bad) => Err(bad.to_string().into()),
    })
}

fn columns(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Vec<Column>> {
    let table = value.table(reader, &COLUMNS_WANTS)?;
    if table.is_empty() || table.len() > MOST_COLUMNS {
        let problem = format!("{} columns, and there may be 1 to {MOST_COLUMNS}", table.len());
        reader.error(&value.spot(), problem, COLUMNS_WANTS.remedy());
        return None;
    }
    let mut read = BTreeMap::new();
    for (name, node) in table {
        let path = dotted(value.path, name.get_ref());
        let at = Spot { path: path.clone(), span: name.span(), shows: Shows::Name };
        let is_good = check_columns_name(reader, &at, name.get_ref(), table);
        let column = column(reader, Value { path: &path, node, ..value }, name.get_ref());
        read.insert(name.get_ref().to_string(), column.filter(|_| is_good));
    }
    read.into_values().collect()
}

/// Notes what is wrong with a column's name.
fn check_columns_name(reader: &mut Reader<'_>, at: &Spot, name: &str, all: &DeTable<'_>) -> bool {
    if let Err(bad) = check_column_name(name) {
        reader.error(at, bad.to_string(), "give it another name");
        return false;
    }
    let alike = all.keys().find(|other| other.get_ref().as_ref() < name && other.get_ref().eq_ignore_ascii_case(name));
    if let Some(other) = alike {
        let problem = format!("differs from {:?} only by case, which SQLite takes for the same", other.get_ref());
        reader.error(at, problem, "give one of them another name");
    }
    alike.is_none()
}

fn column(reader: &mut Reader<'_>, value: Value<'_>, name: &str) -> Option<Column> {
    let fields = Fields::open(reader, value, &COLUMN_WANTS, &COLUMN)?;
    let paths = fields.required(reader, "path", paths);
    let kind = fields.required(reader, "type", kind);
    let nullable = fields.optional(reader, "nullable", |reader, value| (FLAG.read)(reader, value, &FLAG.wants));
    let index = fields.optional(reader, "index", |reader, value| (FLAG.read)(reader, value, &FLAG.wants));
    let (nullable, index) = (nullable?.unwrap_or(false), index?.unwrap_or(false));
    Some(Column { name: name.into(), paths: paths?, kind: kind?, nullable, index })
}

fn row_key(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Column> {
    let fields = Fields::open(reader, value, &ROW_KEY_WANTS, &ROW_KEY)?;
    let name = fields.required(reader, "column", |reader, value| {
        named(reader, &value, &Wants { noun: "the name of a column", example: "\"time\"" }, check_column_name)
    });
    let paths = fields.required(reader, "path", paths);
    let kind = fields.required(reader, "type", |reader, value| {
        let kind = kind(reader, value)?;
        if !kind.can_be_row_key() {
            let problem = format!("rows can't be told apart by {kind}");
            reader.error(&value.spot(), problem, "write \"timestamp\", \"date\", \"integer\" or \"text\"");
        }
        kind.can_be_row_key().then_some(kind)
    });
    Some(Column { name: name?, paths: paths?, kind: kind?, nullable: false, index: false })
}

/// One path, or a list of them.
fn paths(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Vec<JsonPath>> {
    let DeValue::Array(elements) = value.node.get_ref() else {
        return (PATH.read)(reader, value, &PATH.wants).map(|path| vec![path]);
    };
    if elements.is_empty() {
        reader.error(&value.spot(), "an empty list", PATH.wants.remedy());
        return None;
    }
    let paths: Vec<_> = elements.iter().map(|node| (PATH.read)(reader, Value { node, ..value }, &PATH.wants)).collect();
    paths.into_iter().collect()
}

fn kind(reader: &mut Reader<'_>, value: Value<'_>) -> Option<ColumnType> {
    value.parsed(reader, &TYPE_WANTS, |text| {
        let remedy = || format!("write {}", TYPE_WANTS.noun);
        ColumnType::parse(text).ok_or_else(|| Wrong::with_remedy("there is no such type", remedy()))
    })
}

/// Notes tables of two sources that would have the same name.
pub(super) fn check_names(reader: &mut Reader<'_>, sources: &[Source], tables: &BTreeMap<String, Section<'_>>) {
    let mut met: BTreeMap<String, &str> = BTreeMap::new();
    for source in sources {
        let Some(table) = source.policy.body.table.as_deref() else { continue };
        for name in [table.name.clone(), table.name_of_all()] {
            let Some(other) = met.insert(name.to_ascii_lowercase(), source.name.as_str()) else { continue };
            let Some(at) = tables.get(source.name.as_str()).and_then(|section| section.value(&set::TABLE)) else {
                continue;
            };
            let at = Spot { path: at.path.into(), span: at.node.span(), shows: Shows::Name };
            let problem = format!("the table {name:?} is that of source {other} already");
            reader.error(&at, problem, "give one of them another name; `NAME_all` is taken with each");
        }
    }
}
