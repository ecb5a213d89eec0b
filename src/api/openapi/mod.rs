//! `GET /openapi.json` and `GET /docs`: what the API offers, for programs (OpenAPI 3.1) and for people.
//!
//! The document is written by hand, in `document.json`; `tests/it/docs.rs` compares it with the routes and problems that there
//! are, and `tests/slow/openapi.sh` holds a running `serve` to it.

mod page;
mod tables;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::ApiState;
use super::access::Reader;
use crate::domain::resource::SourceName;
use crate::domain::table::Table;

const DOCUMENT: &str = include_str!("document.json");

/// Nothing is loaded from anywhere, and nothing is run.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The document, with the names of these sources, and with the columns of their tables.
#[must_use]
pub fn document<'a>(sources: impl Iterator<Item = (&'a SourceName, Option<&'a Table>)>) -> Value {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    if let Some(version) = document.pointer_mut("/info/version") {
        *version = env!("CARGO_PKG_VERSION").into();
    }
    let mut names = Vec::new();
    for (source, table) in sources {
        names.push(source.as_str());
        if let Some(table) = table {
            tables::describe(&mut document, source, table);
        }
    }
    if let Some(Value::Object(schema)) = document.pointer_mut("/components/schemas/SourceName")
        && !names.is_empty()
    {
        schema.insert("enum".into(), json!(names));
    }
    document
}

/// Answers with the document, in which the sources are named that the reader may read.
pub async fn openapi(State(api): State<ApiState>, request: HeaderMap) -> Response {
    let (reader, settings) = (Reader::of(&api, &request), api.settings());
    let sources = settings.sources.iter().filter(|source| reader.sees(source));
    let document = document(sources.map(|name| (name, settings.asked.get(name).and_then(|source| source.table()))));
    ([(header::CACHE_CONTROL, "no-store")], axum::Json(document)).into_response()
}

/// Answers with the document as a page.
pub async fn docs() -> Response {
    let fields = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (fields, page::page(&document(std::iter::empty()))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `look` for all objects in there.
    fn each_object(value: &Value, look: &mut impl FnMut(&serde_json::Map<String, Value>)) {
        match value {
            Value::Object(object) => {
                look(object);
                object.values().for_each(|value| each_object(value, look));
            }
            Value::Array(array) => array.iter().for_each(|value| each_object(value, look)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let (document, mut references) = (document(std::iter::empty()), 0);
        each_object(&document, &mut |object| {
            if let Some(Value::String(reference)) = object.get("$ref") {
                references += 1;
                let path = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(path).is_some(), "{reference}");
            }
        });
        assert!(references > 100, "{references}");
    }

    #[test]
    fn what_depends_on_the_configuration_is_left_out_without_one() {
        let document = document(std::iter::empty());
        assert_eq!(document.pointer("/components/schemas/SourceName/enum"), None);
        assert_eq!(document.pointer("/info/version"), Some(&json!(env!("CARGO_PKG_VERSION"))));
    }
}
