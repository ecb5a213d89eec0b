//! Collections: one walk over the pages of an upstream's list brings many resources, the members.
//!
//! [`read`](page::read) makes items of a page, [`Walk`] knows where to go next and when it has gone wrong, and [`Stamp`] is
//! the time from which on the upstream is asked for changes.

pub mod end;
mod link;
pub mod page;
mod stamp;
mod steps;
mod walk;

use std::fmt::Write as _;
use std::time::Duration;

use super::json_path::JsonPath;

pub use page::{Item, Page};
pub use stamp::Stamp;
pub use steps::{BadStep, Step};
pub use walk::{Kind, Known, Remembered, Turn, UnderWay, Walk};

/// How an upstream lists a collection's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The members within a page.
    pub items: JsonPath,
    /// A member's key within an item.
    pub key: JsonPath,
    /// How one page leads to the next.
    pub paginate: Paginate,
    /// The most pages of a walk; one that has more has gone wrong.
    pub max_pages: u32,
    /// How to ask for changes alone, if the upstream can be asked that.
    pub changes: Option<ChangesSince>,
    /// How many complete walks in a row must miss a member before it is gone.
    pub gone_after: u32,
}

/// How one page leads to the next. Each ends its own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paginate {
    /// There is one page.
    Never,
    /// `Link: <…>; rel="next"` (RFC 8288); without one, it is the last page.
    LinkHeader,
    /// A URL in the page; without one, it is the last page.
    JsonLink {
        /// Where it is.
        next: JsonPath,
    },
    /// A text or number in the page that is sent as a parameter; without one, it is the last page.
    Cursor {
        /// The parameter.
        param: String,
        /// Where it is.
        next: JsonPath,
        /// Where the page says whether there is more: `false` makes it the last one.
        more: Option<JsonPath>,
    },
    /// Pages are counted; one without items is the last.
    PageNumber {
        /// The parameter.
        param: String,
        /// The first page's number.
        first: u32,
        /// How many items a page has: one with fewer is the last.
        size: Option<u32>,
        /// Where a page says which number the last one has.
        last: Option<JsonPath>,
    },
}

/// How to ask for what has changed since a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesSince {
    /// The parameter.
    pub param: String,
    /// When a member changed last, within an item.
    pub path: JsonPath,
    /// How much earlier is asked for than the latest change that was seen.
    pub overlap: Duration,
    /// How often all members are walked all the same, to find those that are gone.
    pub sweep_every: Duration,
}

impl Paginate {
    /// Whether a walk that was broken off can go on from the page it had come to. What is on a page of that number may have
    /// moved to another one meanwhile.
    #[must_use]
    pub fn can_go_on(&self) -> bool {
        !matches!(self, Self::PageNumber { .. })
    }
}

impl Collection {
    /// All that decides which members come and what leads from page to page, as a text to tell two apart by.
    #[must_use]
    pub fn asks(&self) -> String {
        let mut text = format!("{} {} ", self.items.as_str(), self.key.as_str());
        let path = |path: &Option<JsonPath>| path.as_ref().map_or(String::new(), |path| path.as_str().to_owned());
        // Writing to a String can't fail.
        _ = match &self.paginate {
            Paginate::Never => write!(text, "never"),
            Paginate::LinkHeader => write!(text, "link_header"),
            Paginate::JsonLink { next } => write!(text, "json_link {}", next.as_str()),
            Paginate::Cursor { param, next, more } => {
                write!(text, "cursor {param} {} {}", next.as_str(), path(more))
            }
            Paginate::PageNumber { param, first, size, last } => {
                write!(text, "page_number {param} {first} {size:?} {}", path(last))
            }
        };
        if let Some(changes) = &self.changes {
            _ = write!(text, " since {} {}", changes.param, changes.path.as_str());
        }
        text
    }
}
