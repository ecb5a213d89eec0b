//! What the document says of sources that have typed tables: a path of their own, with their columns.

use serde_json::{Map, Value, json};

use crate::domain::resource::SourceName;
use crate::domain::row_query::{Field, fields, is_of_schedule};
use crate::domain::table::{ColumnType, Table};

/// What lists of any source are described by.
const LIST: &str = "/paths/~1v1~1{source}/get";

/// Adds the path of a source, and the schema of its rows.
pub(super) fn describe(document: &mut Value, source: &SourceName, table: &Table) {
    let fields = fields(table);
    let row = format!("{source}.row");
    let Some(Value::Object(mut list)) = document.pointer(LIST).cloned() else { return };
    list.insert("operationId".into(), format!("list-{source}").into());
    list.insert("summary".into(), format!("A list of {source}, or of the rows of its table {}", table.name).into());
    if let Some(Value::Array(parameters)) = list.get_mut("parameters") {
        parameters.extend(fields.iter().filter(|field| !is_of_schedule(&field.name)).filter_map(condition));
    }
    let mut list = Value::Object(list);
    if let Some(Value::Array(answers)) = list.pointer_mut("/responses/200/content/application~1json/schema/anyOf") {
        let rows = json!("#/components/schemas/Rows");
        for answer in answers.iter_mut().filter(|answer| answer.get("$ref") == Some(&rows)) {
            *answer = json!({ "allOf": [
                { "$ref": rows },
                { "properties": { "items": { "items": { "$ref": format!("#/components/schemas/{row}") } } } },
            ] });
        }
    }
    if let Some(Value::Object(paths)) = document.get_mut("paths") {
        paths.insert(format!("/v1/{source}"), json!({ "get": list }));
    }
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        schemas.insert(row, schema_of_row(table, &fields));
    }
}

/// A column as a parameter; one that is called like another parameter can't be one.
fn condition(field: &Field) -> Option<Value> {
    const OTHERS: [&str; 8] = ["after", "data", "key", "keys", "limit", "order", "select", "state"];
    if OTHERS.contains(&field.name.as_str()) || field.name == "version" {
        return None;
    }
    Some(json!({
        "name": field.name,
        "in": "query",
        "description": format!("Rows by this column, {}: an operator and a value, as in `eq.…`, `not.in.(…,…)`, `is.null`.", field.kind),
        "schema": { "type": "string" },
    }))
}

fn schema_of_row(table: &Table, fields: &[Field]) -> Value {
    let properties: Map<_, _> = fields.iter().map(|field| (field.name.clone(), schema(field))).collect();
    json!({
        "type": "object",
        "description": format!("A row of {}. With `select`, only the columns that it names.", table.name),
        "properties": properties,
        "additionalProperties": false,
    })
}

fn schema(field: &Field) -> Value {
    let (kind, format) = match field.kind {
        ColumnType::Text => ("string", None),
        ColumnType::Integer => ("integer", Some("int64")),
        ColumnType::Real => ("number", Some("double")),
        ColumnType::Boolean => ("boolean", None),
        ColumnType::Timestamp => ("string", Some("date-time")),
        ColumnType::Date => ("string", Some("date")),
        ColumnType::Numeric => ("number", None),
        ColumnType::Json => return json!({ "description": "Any JSON." }),
    };
    let kind = if field.nullable { json!([kind, "null"]) } else { kind.into() };
    match format {
        Some(format) => json!({ "type": kind, "format": format }),
        None => json!({ "type": kind }),
    }
}
