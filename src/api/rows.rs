//! `GET /v1/{source}` over the columns of a typed table, in the grammar of PostgREST.

use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, Uri, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::ApiState;
use super::conditional::is_held;
use super::error::ApiError;
use super::history;
use super::parameters::{Parameters, bad, pairs};
use super::prefer;
use crate::domain::project::Cell;
use crate::domain::read_state::ReadState;
use crate::domain::resource::SourceName;
use crate::domain::row_query::{Field, Order, RowQuery, Wrong, cell, filter, order, select};
use crate::domain::snapshot::ContentHash;
use crate::domain::table::{ColumnType, Table};
use crate::store::RowRequest;

/// Parameters that are no columns.
const OWN: [&str; 5] = ["after", "limit", "order", "select", "state"];

/// A page of rows. Whether there is another one is said by `Link`.
#[derive(Debug, Serialize)]
struct Page {
    items: Vec<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// Where a page ended: its order, and the values of the order's columns in its last row.
#[derive(Debug, Serialize, Deserialize)]
struct Place {
    by: String,
    at: Vec<Option<String>>,
}

/// Whether a request is about columns: it has parameters that lists of copies don't have. `version` is a column too, but no
/// condition is a number alone.
pub fn is_asked(uri: &Uri, of_copies: &[&str]) -> bool {
    let is_number = |value: &str| value.bytes().all(|byte| byte.is_ascii_digit());
    pairs(uri).any(|(name, value)| {
        let is_version = name == history::PARAMETER && value.is_none_or(|value| is_number(&value));
        !is_version && (name == history::PARAMETER || !of_copies.contains(&name.as_str()))
    })
}

/// Answers with a page of rows.
///
/// # Errors
/// A wrong parameter, a table that is still being made, a failing store.
pub async fn list(
    api: &ApiState,
    (source, table): (SourceName, &Table),
    uri: &Uri,
    request: &HeaderMap,
) -> Result<Response, ApiError> {
    let asked = asked(uri, table)?;
    let own = Parameters::of(&asked.own, &OWN)?;
    let state = own.get("state", "it must be fresh or stale.", |state| {
        ReadState::parse(state).filter(|state| matches!(state, ReadState::Fresh | ReadState::Stale))
    })?;
    let count = prefer::counts(request);
    let limit = own.limit()?;
    let rows = RowRequest { query: asked.query(&own, table)?, state, now: api.clock.now(), limit, count };
    let Some(page) = api.store.table_rows(&source, &rows).await? else { return Err(ApiError::TableNotReady) };
    let select = &rows.query.select;
    let items = page.rows.iter().map(|row| select.iter().zip(row).map(shown).collect()).collect();
    let link = page.next.map(|at| next_link(uri, &place(&rows.query.order, &at)));
    let mut fields: HeaderMap = link.into_iter().map(|link| (header::LINK, link)).collect();
    if count {
        fields.insert(prefer::PREFERENCE_APPLIED, HeaderValue::from_static("count=exact"));
    }
    answer(fields, &Page { items, count: page.count }, request)
}

/// The page as JSON, with an ETag of its own: who has it already is told so.
fn answer(mut fields: HeaderMap, page: &Page, request: &HeaderMap) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(page).map_err(|_| ApiError::Panicked)?;
    let link = fields.get(header::LINK).map(HeaderValue::as_bytes).unwrap_or_default();
    let etag = ContentHash::of(&[&body, link]).to_string();
    let is_known = is_held(request, &etag);
    // Nothing but digits and quotes.
    let field = HeaderValue::try_from(format!("\"{etag}\""));
    fields.insert(header::ETAG, field.unwrap_or(HeaderValue::from_static("\"\"")));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if is_known {
        return Ok((http::StatusCode::NOT_MODIFIED, fields).into_response());
    }
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok((fields, body).into_response())
}

/// What is asked for: conditions on columns, and the other parameters.
struct Asked {
    filters: Vec<crate::domain::row_query::Filter>,
    own: Uri,
}

fn asked(uri: &Uri, table: &Table) -> Result<Asked, ApiError> {
    let (mut filters, mut own) = (Vec::new(), form_urlencoded::Serializer::new(String::new()));
    for (name, value) in pairs(uri) {
        let Some(value) = value else { return Err(bad(&name, "", "it must be UTF-8, percent-encoded.")) };
        if OWN.contains(&name.as_str()) {
            own.append_pair(&name, &value);
        } else {
            filters.push(filter(table, &name, &value).map_err(|Wrong(why)| bad(&name, &value, why))?);
        }
    }
    let own = Uri::try_from(format!("/?{}", own.finish())).unwrap_or_default();
    Ok(Asked { filters, own })
}

impl Asked {
    fn query(self, own: &Parameters, table: &Table) -> Result<RowQuery, ApiError> {
        let select = own.checked("select", |text| select(table, Some(text)).map_err(|Wrong(why)| why))?;
        let order = own.checked("order", |text| order(table, Some(text)).map_err(|Wrong(why)| why))?;
        let select = match select {
            Some(select) => select,
            None => self::select(table, None).map_err(|Wrong(why)| bad("select", "", why))?,
        };
        let order = match order {
            Some(order) => order,
            None => self::order(table, None).map_err(|Wrong(why)| bad("order", "", why))?,
        };
        let after = own.checked("after", |text| {
            read_place(text, &order).ok_or("it must be what a `Link` of the same list says.".into())
        })?;
        Ok(RowQuery { filters: self.filters, select, order, after })
    }
}

/// The order in words, so that a place is only used for the list that it is of.
fn by(order: &[Order]) -> String {
    let term = |one: &Order| format!("{}{}", one.field.name, if one.descending { ".desc" } else { "" });
    order.iter().map(term).collect::<Vec<_>>().join(",")
}

fn place(order: &[Order], at: &[Cell]) -> String {
    let text = |cell: &Cell| match cell {
        Cell::Null => None,
        Cell::Text(text) => Some(text.clone()),
        Cell::Integer(integer) => Some(integer.to_string()),
        Cell::Real(real) => Some(format!("{real:?}")),
        Cell::Boolean(flag) => Some(flag.to_string()),
    };
    let place = Place { by: by(order), at: at.iter().map(text).collect() };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&place).unwrap_or_default())
}

fn read_place(text: &str, order: &[Order]) -> Option<Vec<Cell>> {
    let place: Place = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    if place.by != by(order) || place.at.len() != order.len() {
        return None;
    }
    let value = |(one, at): (&Order, Option<String>)| match at {
        None => one.field.nullable.then_some(Cell::Null),
        Some(text) => cell(&one.field, &text).ok(),
    };
    order.iter().zip(place.at).map(value).collect()
}

/// Where the next page is: the same query behind that place (RFC 8288 §3).
fn next_link(uri: &Uri, after: &str) -> HeaderValue {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs(uri).filter(|(name, _)| name != "after") {
        query.append_pair(&name, &value.unwrap_or_default());
    }
    query.append_pair("after", after);
    HeaderValue::try_from(format!("<?{}>; rel=\"next\"", query.finish())).unwrap_or(HeaderValue::from_static(""))
}

fn shown((field, cell): (&Field, &Cell)) -> (String, Value) {
    let value = match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) if matches!(field.kind, ColumnType::Json | ColumnType::Numeric) => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
        }
        Cell::Text(text) => Value::String(text.clone()),
        Cell::Integer(integer) => (*integer).into(),
        Cell::Real(real) => (*real).into(),
        Cell::Boolean(flag) => (*flag).into(),
    };
    (field.name.clone(), value)
}
