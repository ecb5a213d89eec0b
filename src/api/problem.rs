//! Problem documents (RFC 9457): the one shape of every error.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

/// A problem document and the header fields that go with it.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    document: Document,
    fields: HeaderMap,
}

#[derive(Debug, Clone, Serialize)]
struct Document {
    /// A stable name for programs. A URI reference that need not lead anywhere (RFC 9457 §3.1.1); with the full path, so
    /// that it resolves to the same wherever it was met.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(flatten)]
    members: Map<String, Value>,
}

impl Problem {
    /// A problem of this kind. `title` says what the kind is, `detail` what happened this time and what would be right.
    #[must_use]
    pub fn new(status: StatusCode, kind: &str, title: &'static str, detail: impl Into<String>) -> Self {
        let document = Document {
            kind: format!("/problems/{kind}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
            members: Map::new(),
        };
        // An unknown key can be known a moment later: no cache may make up a lifetime for an error (RFC 9111 §4.2.2).
        let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self { status, document, fields: HeaderMap::from_iter([no_store]) }
    }

    /// With one more member.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.document.members.insert(member.to_owned(), value.into());
        self
    }

    /// With a header field.
    #[must_use]
    pub fn with_field(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.fields.insert(name, value.into());
        self
    }

    /// With these header fields.
    #[must_use]
    pub fn with_fields(mut self, fields: HeaderMap) -> Self {
        self.fields.extend(fields);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        (self.status, content_type, self.fields, axum::Json(self.document)).into_response()
    }
}
