//! Names of things: sources, keys, resources and upstreams.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Row id of a resource; ids of keys that were added together are consecutive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(pub i64);

/// Row id of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceId(pub i64);

/// Row id of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamId(pub i64);

/// The random number that a lease is known by, and that an apply must show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseToken(pub i64);

/// A source's name: `[a-z][a-z0-9_]*`, at most 63 bytes, so that it can stand in a URL path and as an SQL name unquoted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SourceName(String);

/// Why a text can't be a [`SourceName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a source name is a lower-case letter, then lower-case letters, digits or `_`, at most 63 bytes in all")]
pub struct BadSourceName;

impl SourceName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`BadSourceName`] when it isn't `[a-z][a-z0-9_]*` of at most 63 bytes.
    pub fn new(name: impl Into<String>) -> Result<Self, BadSourceName> {
        let name = name.into();
        let mut bytes = name.bytes();
        let starts_well = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
        let goes_on_well = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if starts_well && goes_on_well && name.len() <= 63 { Ok(Self(name)) } else { Err(BadSourceName) }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one resource within a source: any text of 1 to [`Key::MAX_BYTES`] bytes without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Key(String);

/// Why a text can't be a [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The key has no characters.
    #[error("a key can't be empty")]
    Empty,
    /// The key is longer than [`Key::MAX_BYTES`].
    #[error("a key has at most {max} bytes, this one has {0}", max = Key::MAX_BYTES)]
    TooLong(usize),
    /// The key has a control character (PostgreSQL can't store NUL in text, and logs and headers can't show the others).
    #[error("a key can't have control characters, this one has {0:?}")]
    Control(char),
}

impl Key {
    /// The longest key, in bytes: with percent-encoding it still fits in the 8 KiB that servers accept as a request line.
    pub const MAX_BYTES: usize = 2048;

    /// What stands in a key's place for a collection's walk, which is kept like a resource: the empty text, which no key can be.
    #[must_use]
    pub fn of_walk() -> Self {
        Self(String::new())
    }

    /// Whether it stands for a collection's walk.
    #[must_use]
    pub fn is_of_walk(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks and wraps a key.
    ///
    /// # Errors
    /// [`BadKey`] when it is empty, too long, or has a control character.
    pub fn new(key: impl Into<String>) -> Result<Self, BadKey> {
        let key = key.into();
        if key.is_empty() {
            return Err(BadKey::Empty);
        }
        if key.len() > Self::MAX_BYTES {
            return Err(BadKey::TooLong(key.len()));
        }
        match key.chars().find(|c| c.is_control()) {
            Some(control) => Err(BadKey::Control(control)),
            None => Ok(Self(key)),
        }
    }

    /// As [`new`](Self::new), for what is stored: it may stand for a walk.
    ///
    /// # Errors
    /// [`BadKey`] when it is too long, or has a control character.
    pub fn stored(key: String) -> Result<Self, BadKey> {
        if key.is_empty() { Ok(Self::of_walk()) } else { Self::new(key) }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_of_walk() { "(the walk)" } else { &self.0 })
    }
}

/// Values for the variables of a URL template besides `key` (`lat = 52.52`), as they appear in the URL before encoding.
pub type Params = BTreeMap<String, String>;

/// A JSON text, number or truth value as it stands in keys, parameters and URLs: numbers with all their digits. `None` for
/// anything else.
#[must_use]
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
