//! An archive: resources as lines of JSON (NDJSON), to move copies, to keep them, and to make some up.
//!
//! The first line is a [`Head`], the last a [`Tail`], each other one a [`Line`]. What someone writes by hand needs neither head
//! nor tail. Bytes that need not be text (ETags, header values) are written as ISO 8859-1, a character for each byte.

mod past;

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::past::{Past, Replaced};
use super::change::ChangeKind;
use super::content::{BodyRules, inspect, typed};
use super::decision::{Freshness, Metadata, Replacement};
use super::policy::Policy;
use super::read_state::ReadState;
use super::resource::{Key, Params};
use super::schedule::{Because, Due};
use super::snapshot::{ContentHash, Snapshot};
use super::terms::Terms;
use super::time::{earlier, later};
use super::validators::Validators;

/// The version of the format that this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// A time may be ahead of ours by so much: clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The version of the format.
    pub headpond_archive: u32,
    /// When it was made.
    pub made_at: DateTime<Utc>,
}

/// The last line: without it an archive that has a head was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// How many resources stand between head and tail.
    pub resources: u64,
}

/// One resource.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The source's name.
    pub source: String,
    /// The key.
    pub key: String,
    /// Values for the URL template.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub params: Params,
    /// By whom it was added by hand: `api`, `cli`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_by: Vec<String>,
    /// As a reader was told when it was written. Where times are given, they decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ReadState>,
    /// The version of its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// When the upstream last said that this is its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched_at: Option<DateTime<Utc>>,
    /// The same as an age at the time of reading: `3h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<String>,
    /// From when on it is stale; without it the source's own rule says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<DateTime<Utc>>,
    /// When this content was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<DateTime<Utc>>,
    /// Since when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<DateTime<Utc>>,
    /// The upstream's ETag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The upstream's Last-Modified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// The upstream's max-age, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u32>,
    /// The upstream's terms for answering with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// Whether it came with status 203.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transformed: bool,
    /// Where the upstream says that the resource is for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// Kept header fields, names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// Our own ETag of headers and body, in hexadecimal: tells a body that was edited since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The hash of what counts of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_hash: Option<String>,
    /// The body, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64, where it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// The body as JSON, for whoever writes by hand; its Content-Type is `application/json` where `headers` has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Box<RawValue>>,
    /// Contents that were replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Past>,
}

/// What a text of an archive is.
#[derive(Debug)]
pub enum Entry {
    /// Its first line.
    Head(Head),
    /// A resource.
    Line(Box<Line>),
    /// Its last line.
    Tail(Tail),
}

impl Entry {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it, in the words of JSON's own parser.
    pub fn parse(text: &str) -> Result<Self, String> {
        let said = |error: serde_json::Error| error.to_string();
        let begins = |name: &str| {
            let inside = text.trim_start().strip_prefix('{').map(str::trim_start);
            inside.and_then(|inside| inside.strip_prefix(name)).is_some()
        };
        if begins("\"headpond_archive\"") {
            return serde_json::from_str(text).map(Self::Head).map_err(said);
        }
        if begins("\"resources\"") {
            return serde_json::from_str(text).map(Self::Tail).map_err(said);
        }
        serde_json::from_str(text).map(Self::Line).map_err(said)
    }
}

/// A resource as it is to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Restored {
    /// Its key.
    pub key: Key,
    /// Values for its URL template.
    pub params: Params,
    /// Its content, as if it had just come; its version is at least 1, its kind is for whoever stores it to say.
    pub content: Option<Replacement>,
    /// When this content was first seen.
    pub changed_at: DateTime<Utc>,
    /// Since when it is gone.
    pub gone_since: Option<DateTime<Utc>>,
    /// What was its content before.
    pub history: Vec<Replaced>,
    /// Whether the body isn't the one that was exported: the upstream's validators are left out then, so that the next
    /// refresh brings the upstream's own.
    pub was_edited: bool,
}

impl Line {
    /// What is to be stored by this source's policy, read at `now`.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the line.
    pub fn restore(self, policy: &Policy, now: DateTime<Utc>) -> Result<Restored, String> {
        let key = Key::new(self.key.as_str()).map_err(|error| format!("key: {error}"))?;
        let gone_since = self.gone_since.or((self.state == Some(ReadState::Gone)).then_some(now));
        check_time("gone_since", gone_since, now)?;
        check_time("changed_at", self.changed_at, now)?;
        let freshness = self.freshness(policy, now)?;
        let mut was_edited = false;
        let mut content = None;
        if let Some((snapshot, edited)) = self.snapshot(&policy.body)? {
            was_edited = edited;
            content = Some(Replacement {
                typed: typed(&snapshot, &snapshot.body, &policy.body).map_err(|unfit| unfit.detail)?,
                snapshot,
                version: self.version.unwrap_or(1).max(1),
                kind: ChangeKind::Created,
                metadata: self.metadata(edited)?,
                freshness,
                kept_until: None,
                due: Due { at: now, because: Because::Interval },
            });
        }
        match (self.state, &content, gone_since) {
            (Some(ReadState::Pending), Some(_), _) => return Err("a pending resource has no body".into()),
            (Some(ReadState::Fresh | ReadState::Stale), None, None) => {
                return Err("it has no body: say body, body_base64 or json, or state = \"pending\"".into());
            }
            _ => {}
        }
        let changed_at = self.changed_at.unwrap_or(freshness.fetched_at);
        let history = self.history.iter().map(|past| past.restore(now)).collect::<Result<_, _>>()?;
        Ok(Restored { key, params: self.params, content, changed_at, gone_since, history, was_edited })
    }

    fn freshness(&self, policy: &Policy, now: DateTime<Utc>) -> Result<Freshness, String> {
        let lasts = |fetched_at| match policy.stale_after {
            Some(age) => later(fetched_at, age),
            None => policy.cadence.after_two(fetched_at),
        };
        check_time("fetched_at", self.fetched_at, now)?;
        let fetched_at = match (self.fetched_at, &self.age) {
            (Some(_), Some(_)) => return Err("it has both fetched_at and age: say one of them".into()),
            (Some(at), None) => at,
            (None, Some(age)) => {
                let age = humantime::parse_duration(age).map_err(|error| format!("age {age:?}: {error}"))?;
                earlier(now, age)
            }
            // Just stale, by the source's own rule.
            (None, None) if self.state == Some(ReadState::Stale) => {
                let span = self.stale_after.unwrap_or_else(|| lasts(now)) - now;
                earlier(now, span.to_std().unwrap_or_default() + Duration::from_secs(1))
            }
            (None, None) => now,
        };
        let stale_after = self.stale_after.unwrap_or_else(|| lasts(fetched_at));
        Ok(Freshness { fetched_at, stale_after })
    }

    /// The body with its headers, and whether it isn't what was exported.
    fn snapshot(&self, rules: &BodyRules) -> Result<Option<(Snapshot, bool)>, String> {
        let mut headers = header_map(&self.headers)?;
        let body = match (body_of(self.body.as_deref(), self.body_base64.as_deref())?, &self.json) {
            (None, None) => return Ok(None),
            (Some(body), None) => body,
            (None, Some(json)) => {
                headers.entry(http::header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
                Bytes::copy_from_slice(json.get().as_bytes())
            }
            (Some(_), Some(_)) => return Err(SEVERAL_BODIES.into()),
        };
        // Of what is stored already, the parts to keep and to drop have been cut.
        let cut = rules.data.is_some() || !rules.drop.is_empty();
        let ignore_changes_in = if cut { Vec::new() } else { rules.ignore_changes_in.clone() };
        let rules = BodyRules { kind: rules.kind, ignore_changes_in, ..BodyRules::default() };
        let mut snapshot = inspect(&headers, body, &rules).map_err(|unfit| unfit.detail)?;
        let Some(hash) = &self.hash else { return Ok(Some((snapshot, false))) };
        let was_edited = parse_hash("hash", hash)? != snapshot.etag;
        if let (false, Some(hash)) = (was_edited, &self.content_hash) {
            snapshot.content_hash = parse_hash("content_hash", hash)?;
        }
        Ok(Some((snapshot, was_edited)))
    }

    fn metadata(&self, was_edited: bool) -> Result<Metadata, String> {
        let bytes = |name, value: &Option<String>| match value {
            Some(value) if !was_edited => bytes_of(name, value).map(|bytes| Some(Bytes::from(bytes))),
            _ => Ok(None),
        };
        let validators = Validators {
            etag: bytes("etag", &self.etag)?,
            last_modified: bytes("last_modified", &self.last_modified)?,
        };
        Ok(Metadata {
            validators,
            max_age: self.max_age,
            terms: self.terms,
            transformed: self.transformed,
            moved_to: self.moved_to.clone(),
        })
    }

    /// Puts a body in, as text where it is text.
    pub fn set_body(&mut self, body: &[u8]) {
        (self.body, self.body_base64) = written(body);
    }

    /// Puts header fields in.
    pub fn set_headers(&mut self, headers: &HeaderMap) {
        self.headers = header_pairs(headers);
    }
}

const SEVERAL_BODIES: &str = "it has several bodies: say one of body, body_base64 and json";

/// A body as text or in base64, whichever it is.
fn body_of(text: Option<&str>, base64: Option<&str>) -> Result<Option<Bytes>, String> {
    match (text, base64) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
        (None, Some(encoded)) => {
            let decoded = BASE64_STANDARD.decode(encoded).map_err(|error| format!("body_base64: {error}"))?;
            Ok(Some(decoded.into()))
        }
        (Some(_), Some(_)) => Err(SEVERAL_BODIES.into()),
    }
}

/// A body as text, where it is text, or else in base64.
fn written(body: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(body) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64_STANDARD.encode(body))),
    }
}

fn header_map(pairs: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let (name, value) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&bytes_of("headers", value)?));
        let (Ok(name), Ok(value)) = (name, value) else { return Err("headers: these are no header fields".into()) };
        headers.append(name, value);
    }
    Ok(headers)
}

fn header_pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), text_of(value.as_bytes()))).collect()
}

fn check_time(name: &str, at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<(), String> {
    match at {
        Some(at) if at > later(now, CLOCK_SKEW) => {
            Err(format!("{name} = {at:?} lies in the future: is this machine's clock right?"))
        }
        _ => Ok(()),
    }
}

/// Bytes as ISO 8859-1.
#[must_use]
pub fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn bytes_of(name: &str, text: &str) -> Result<Vec<u8>, String> {
    let byte = |c: char| u8::try_from(u32::from(c)).map_err(|_| format!("{name}: {c:?} is no character of ISO 8859-1"));
    text.chars().map(byte).collect()
}

fn parse_hash(name: &str, text: &str) -> Result<ContentHash, String> {
    let byte = |at: usize| text.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    let hash = bytes.and_then(|bytes| bytes.try_into().ok());
    hash.map(ContentHash).ok_or_else(|| format!("{name} = {text:?} is no hash: 32 hexadecimal digits are"))
}
