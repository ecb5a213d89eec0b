//! Contents of an archive that were replaced.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::{body_of, check_time, header_map, header_pairs, written};
use crate::domain::content::{BodyRules, ContentKind, inspect};
use crate::domain::snapshot::Snapshot;

/// A content that was replaced, as it is written in the line of its resource.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// Its version.
    pub version: u64,
    /// Since when it was current.
    pub changed_at: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Whether it was not replaced then, but gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
    /// Kept header fields, names and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The body, where it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64, where it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// The same as it is to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Replaced {
    /// Its version, at least 1.
    pub version: u64,
    /// Since when it was current.
    pub changed_at: DateTime<Utc>,
    /// Until when.
    pub until: DateTime<Utc>,
    /// Whether it was not replaced then, but gone.
    pub is_gone: bool,
    /// What it was.
    pub snapshot: Snapshot,
}

impl Past {
    /// Puts header fields and body in.
    pub fn set_content(&mut self, headers: &HeaderMap, body: &[u8]) {
        self.headers = header_pairs(headers);
        (self.body, self.body_base64) = written(body);
    }

    /// What is to be stored. It was taken in once, by whatever rules held then: those of today don't bind it.
    pub(super) fn restore(&self, now: DateTime<Utc>) -> Result<Replaced, String> {
        let at = |problem: String| format!("history, version {}: {problem}", self.version);
        for (name, time) in [("changed_at", self.changed_at), ("until", self.until)] {
            check_time(name, Some(time), now).map_err(at)?;
        }
        if self.version == 0 || self.until < self.changed_at {
            return Err(at("versions begin with 1, and until is not before changed_at".into()));
        }
        let headers = header_map(&self.headers).map_err(at)?;
        let body = body_of(self.body.as_deref(), self.body_base64.as_deref()).map_err(at)?;
        let body: Bytes = body.ok_or_else(|| at("it has no body: say body or body_base64".into()))?;
        let any = BodyRules { kind: Some(ContentKind::Bytes), ..BodyRules::default() };
        let snapshot = inspect(&headers, body, &any).map_err(|unfit| at(unfit.detail))?;
        let Self { version, changed_at, until, gone, .. } = *self;
        Ok(Replaced { version, changed_at, until, is_gone: gone, snapshot })
    }
}
