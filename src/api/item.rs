//! One resource among others, in lists and batches.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use http::{HeaderValue, header};
use serde::Serialize;
use serde_json::value::RawValue;

use super::meta::Text;
use crate::domain::content::is_json;
use crate::domain::read_state::ReadState;
use crate::domain::resource::Key;
use crate::store::{Bodies, Listed, ListedContent};

/// A resource with its freshness; what doesn't apply is `null`.
#[derive(Debug, Serialize)]
pub struct Item<'a> {
    key: &'a Key,
    state: ReadState,
    version: u64,
    fetched_at: Option<DateTime<Utc>>,
    stale_after: Option<DateTime<Utc>>,
    changed_at: Option<DateTime<Utc>>,
    /// As in the content's ETag field.
    etag: Option<String>,
    content_type: Option<Text>,
    #[serde(skip_serializing_if = "Data::is_left_out")]
    data: Data<'a>,
}

/// A body within JSON. `content_type` tells the forms apart.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data<'a> {
    /// It was not asked for: there is no such member.
    LeftOut,
    /// There is none: `null`.
    Nothing,
    /// What calls itself JSON, and is: as it came, to the last digit and space.
    Json(&'a RawValue),
    /// Other UTF-8.
    Text(&'a str),
    /// What is no text.
    Bytes { base64: String },
}

impl<'a> Item<'a> {
    /// What is known of a resource at `now`.
    #[must_use]
    pub fn of(listed: &'a Listed, bodies: Bodies, now: DateTime<Utc>) -> Self {
        let content = listed.content.as_ref();
        Self {
            key: &listed.key,
            state: ReadState::of(listed.gone_since, listed.freshness, now),
            version: listed.version,
            fetched_at: listed.freshness.map(|freshness| freshness.fetched_at),
            stale_after: listed.freshness.map(|freshness| freshness.stale_after),
            changed_at: content.map(|content| content.changed_at),
            etag: content.map(|content| format!("\"{}\"", content.etag)),
            content_type: content.and_then(content_type).map(|value| Text::of(value.as_bytes())),
            data: if bodies == Bodies::LeftOut { Data::LeftOut } else { content.map_or(Data::Nothing, Data::of) },
        }
    }
}

impl<'a> Data<'a> {
    fn of(content: &'a ListedContent) -> Self {
        let Some(body) = content.body.as_deref() else { return Self::Nothing };
        let Ok(text) = std::str::from_utf8(body) else { return Self::Bytes { base64: STANDARD.encode(body) } };
        let calls_itself_json = content_type(content).is_some_and(|value| is_json(value.as_bytes()));
        let json = calls_itself_json.then(|| serde_json::from_str(text).ok()).flatten();
        json.map_or(Self::Text(text), Self::Json)
    }

    fn is_left_out(&self) -> bool {
        matches!(self, Self::LeftOut)
    }
}

fn content_type(content: &ListedContent) -> Option<&HeaderValue> {
    content.headers.get(header::CONTENT_TYPE)
}
