//! How a source asks: method, body, and what it wants in return.

use std::borrow::Cow;

use bytes::Bytes;
use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use url::Url;

use super::reader::Reader;
use super::section::{Layers, Section};
use super::value::Wrong;
use super::{Source, settings as set};
use crate::domain::body_template::{BodyTemplate, Language, MissingValue};
use crate::domain::coordinates;
use crate::domain::resource::{Key, Params};
use crate::domain::template::BadUrl;

/// What is sent in a POST.
#[derive(Debug, Clone)]
pub struct Body {
    /// Its text.
    pub template: BodyTemplate,
    /// Its media type.
    pub content_type: HeaderValue,
}

/// What is asked for one key.
#[derive(Clone)]
pub struct Ask {
    /// Where.
    pub url: Url,
    /// With which body.
    pub body: Option<Bytes>,
}

/// Why nothing can be asked for a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAsk {
    /// There is no URL for it.
    #[error(transparent)]
    Url(#[from] BadUrl),
    /// There is no body for it.
    #[error(transparent)]
    Body(#[from] MissingValue),
    /// Its source is a collection.
    #[error("the source is a collection: its keys are those that the upstream lists, and none is asked for by itself")]
    Member,
}

impl Source {
    /// What is asked for a key.
    ///
    /// # Errors
    /// [`BadAsk`] when the templates can't be filled for it.
    pub fn ask(&self, key: &Key, params: &Params) -> Result<Ask, BadAsk> {
        if self.collection.is_some() {
            return Err(BadAsk::Member);
        }
        let params = &*match self.coordinate_decimals {
            Some(decimals) => coordinates::cut(params, decimals),
            None => Cow::Borrowed(params),
        };
        let url = self.url.expand(key, params)?;
        let body = self.request.body.as_ref().map(|body| body.template.expand(key, params)).transpose()?;
        Ok(Ask { url, body })
    }

    /// What is asked for many keys at once, of a source that has a batch.
    ///
    /// # Errors
    /// [`BadAsk`] when the templates can't be filled for them.
    pub fn ask_all(&self, keys: &[&Key]) -> Result<Ask, BadAsk> {
        let url = self.url.expand_all(keys)?;
        let none = Params::new();
        // No variable is in the body of such a source.
        let body = self.request.body.as_ref().zip(keys.first());
        let body = body.map(|(body, key)| body.template.expand(key, &none)).transpose()?;
        Ok(Ask { url, body })
    }
}

/// Reads `method`.
pub(super) fn method(text: &str) -> Result<Method, Wrong> {
    match text {
        "GET" => Ok(Method::GET),
        "POST" => Ok(Method::POST),
        "HEAD" => Err("its answer has no content to keep".into()),
        "PUT" | "PATCH" | "DELETE" => Err("it could change what is upstream, and a refresh is no reason to".into()),
        _ => Err("only GET and POST are known".into()),
    }
}

/// The method of a source's requests.
pub(super) fn method_of(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Method> {
    if section.value(&set::METHOD).is_some() {
        return section.find(reader, &set::METHOD).map(|method| method.value);
    }
    Some(if section.value(&set::BODY).is_some() { Method::POST } else { Method::GET })
}

/// Reads a field's value that can't be empty.
pub(super) fn field(text: &str) -> Result<HeaderValue, Wrong> {
    if text.trim().is_empty() {
        return Err("is empty".into());
    }
    HeaderValue::from_str(text).map_err(|_| "has characters that a header can't carry".into())
}

/// The body of a source's requests; the outer `None` is a wrong one, which has been noted.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
pub(super) fn body(reader: &mut Reader<'_>, section: &Section<'_>, method: &Method) -> Option<Option<Body>> {
    let layers = Layers { sections: vec![section] };
    let content_type = layers.optional(reader, &set::CONTENT_TYPE)?;
    let Some(value) = section.value(&set::BODY) else {
        if let Some(content_type) = section.find(reader, &set::CONTENT_TYPE) {
            reader.error(&content_type.at, "has no meaning without a body", "set `body`, or leave it out");
            return None;
        }
        return Some(None);
    };
    let text = section.find(reader, &set::BODY)?.value;
    if *method != Method::POST {
        reader.error(&value.spot(), "a GET has no body", "write method = \"POST\", or leave one of the two out");
        return None;
    }
    let content_type = content_type.unwrap_or(HeaderValue::from_static("application/json"));
    let language = Language::of(content_type.to_str().unwrap_or_default());
    match BodyTemplate::new(&text.text, language) {
        Ok(template) => {
            let template = if text.expanded { template.with_secret() } else { template };
            Some(Some(Body { template, content_type }))
        }
        Err(error) => {
            let remedy = "write {name} where a value of the key goes, or set content_type if it is something else";
            reader.error(&value.spot(), error.to_string(), remedy);
            None
        }
    }
}

/// Puts `accept` into the fields of a source's requests. One that is wrong has been noted.
pub(super) fn accept(reader: &mut Reader<'_>, layers: &Layers<'_, '_>, headers: &mut HeaderMap) {
    let Some(accept) = layers.find(reader, &set::ACCEPT) else { return };
    if headers.contains_key(header::ACCEPT) {
        reader.error(&accept.at, "`headers` has an accept too", "keep one of the two");
    }
    headers.insert(header::ACCEPT, accept.value);
}
