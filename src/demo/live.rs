//! The live line: what is going on, in numbers that were counted just now.

use std::fmt;
use std::io::IsTerminal;

use chrono::{DateTime, Utc};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::upstream::stats::Counts;
use crate::domain::read_state::ReadState;
use crate::domain::resource::SourceName;
use crate::store::{Bodies, ListRequest, Store, StoreError};

/// What the line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Requests to the read API.
    pub reads: u64,
    /// What the upstream counted.
    pub upstream: Counts,
    /// Copies that are fresh.
    pub fresh: u64,
    /// Keys that there are.
    pub keys: u64,
    /// Copies that were there once and are no more.
    pub lost: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads, upstream, fresh, keys, lost } = self;
        // Rounded down, so that 100 % means all.
        let permille = (fresh * 1000).checked_div(*keys).unwrap_or_default();
        write!(
            f,
            "reads {reads} · upstream requests {}, 304s {}, failures {} · fresh {}.{} % · lost {lost}",
            upstream.requests,
            upstream.not_modified,
            upstream.failures(),
            permille / 10,
            permille % 10,
        )
    }
}

/// What a look at each key finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copies {
    keys: u64,
    there: u64,
    fresh: u64,
    /// Of keys that had one.
    missing: u64,
}

impl Copies {
    /// Looks at each key of these sources.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn of(store: &dyn Store, sources: &[SourceName], now: DateTime<Utc>) -> Result<Self, StoreError> {
        let mut copies = Self::default();
        for source in sources {
            let mut request = ListRequest { after: None, limit: 1000, state: None, bodies: Bodies::LeftOut };
            while let Some(page) = store.list(source, &request).await? {
                for item in page.items {
                    let is_there = item.content.is_some();
                    let is_fresh = ReadState::of(item.gone_since, item.freshness, now) == ReadState::Fresh;
                    copies.keys += 1;
                    copies.there += u64::from(is_there);
                    copies.fresh += u64::from(is_there && is_fresh);
                    copies.missing += u64::from(!is_there && item.version > 0);
                }
                let Some(after) = page.next else { break };
                request.after = Some(after);
            }
        }
        Ok(copies)
    }
}

/// Counts copies that are lost: those that the database misses, and those that were seen here and are gone from it.
#[derive(Debug, Default)]
pub struct Watch {
    most_copies: u64,
}

impl Watch {
    /// The figures after a look at the database.
    pub fn look(&mut self, reads: u64, upstream: Counts, copies: Copies) -> Figures {
        self.most_copies = self.most_copies.max(copies.there);
        let lost = copies.missing.max(self.most_copies - copies.there);
        Figures { reads, upstream, fresh: copies.fresh, keys: copies.keys, lost }
    }
}

/// A line at the bottom of the terminal, on stderr; nothing where nobody looks.
#[derive(Debug)]
pub struct LiveLine(ProgressBar);

impl LiveLine {
    /// An empty line.
    #[must_use]
    pub fn new() -> Self {
        let target =
            if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        // The template is a constant, so it can't be wrong; if it were, the line would be a plain one.
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Whether anyone can see it.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        !self.0.is_hidden()
    }

    /// Shows the figures.
    pub fn show(&self, figures: &Figures) {
        self.0.set_message(figures.to_string());
        self.0.tick();
    }

    /// Takes the line away while something else is printed.
    pub fn step_aside(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }
}

impl Default for LiveLine {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn copies(keys: u64, there: u64, fresh: u64, missing: u64) -> Copies {
        Copies { keys, there, fresh, missing }
    }

    #[test]
    fn the_line_says_what_was_counted() {
        let upstream = Counts { requests: 5000, not_modified: 4000, rate_limited: 3, dropped: 2, ..Counts::default() };
        let figures = Watch::default().look(7, upstream, copies(2200, 2199, 2198, 0));
        assert_eq!(
            figures.to_string(),
            "reads 7 · upstream requests 5000, 304s 4000, failures 5 · fresh 99.9 % · lost 0"
        );
    }

    #[test]
    fn a_copy_that_was_seen_and_is_no_more_is_lost() {
        let mut watch = Watch::default();
        let mut lost = |copies: Copies| watch.look(0, Counts::default(), copies).lost;
        assert_eq!(lost(copies(10, 0, 0, 0)), 0, "what was never there is not lost");
        assert_eq!(lost(copies(10, 8, 8, 0)), 0);
        assert_eq!(lost(copies(10, 7, 7, 0)), 1, "a row that is gone");
        assert_eq!(lost(copies(10, 7, 7, 1)), 1, "once, though it is missed twice");
        assert_eq!(lost(copies(10, 8, 8, 2)), 2, "what was lost before this process began");
    }
}
