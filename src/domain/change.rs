//! The change feed: one entry for each committed difference of content.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::resource::{Key, SourceName};

/// What happened to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Its first content came.
    Created,
    /// Its content was replaced by other content.
    Changed,
    /// It is gone upstream.
    Gone,
    /// It was gone and has content again.
    Returned,
    /// Nothing is kept of it any more: whoever has a copy of his own should erase it, too.
    Erased,
}

impl ChangeKind {
    /// The name used in the database and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Gone => "gone",
            Self::Returned => "returned",
            Self::Erased => "erased",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Created, Self::Changed, Self::Gone, Self::Returned, Self::Erased]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// One entry of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where a reader that has seen this entry goes on.
    pub cursor: Cursor,
    /// The resource's source.
    pub source: SourceName,
    /// The resource's key.
    pub key: Key,
    /// What happened.
    pub kind: ChangeKind,
    /// The resource's version after it.
    pub version: u64,
    /// When it was decided.
    pub at: DateTime<Utc>,
}

/// A place in the feed: the entry's number and its random tag. Opaque to readers.
///
/// The tag tells a restored backup, where the same number is another entry, from the feed that the reader has read.
/// Number 0 is the place before the first entry; its tag is the database's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The entry's number; entries are numbered from 1 in commit order, without gaps.
    pub number: i64,
    /// The entry's random tag.
    pub tag: u32,
}

/// Why a text isn't a [`Cursor`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is what an earlier answer gave as `next` or `cursor`, unchanged")]
pub struct BadCursor;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.number, self.tag)
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let (number, tag) = text.split_once('-').ok_or(BadCursor)?;
        let cursor = Self {
            number: number.parse().map_err(|_| BadCursor)?,
            tag: u32::from_str_radix(tag, 16).map_err(|_| BadCursor)?,
        };
        // One spelling for each place, so that what isn't ours is told at once.
        if cursor.number >= 0 && cursor.to_string() == text { Ok(cursor) } else { Err(BadCursor) }
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_has_one_spelling() {
        let cursor = Cursor { number: 42, tag: 0xbeef };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in [
            "",
            "42",
            "-1-0000beef",
            "42-beef",
            "42-0000BEEF",
            "042-0000beef",
            "+42-0000beef",
            "42-00000000beef",
            "x-y",
        ] {
            assert_eq!(bad.parse::<Cursor>(), Err(BadCursor), "{bad}");
        }
    }
}
