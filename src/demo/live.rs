//! The live line: what is going on, in numbers that were counted just now.

use std::fmt;
use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::upstream::stats::Counts;
use crate::store::Surveyed;

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

/// Counts copies that are lost: those that the database misses, and those that were seen here and are gone from it.
#[derive(Debug, Default)]
pub struct Watch {
    most_copies: u64,
}

impl Watch {
    /// The figures after a look at the database.
    pub fn look(&mut self, reads: u64, upstream: Counts, survey: &[Surveyed]) -> Figures {
        let sum = |of: fn(&Surveyed) -> u64| survey.iter().map(of).sum::<u64>();
        let copies = sum(|one| one.copies);
        self.most_copies = self.most_copies.max(copies);
        let lost = sum(|one| one.lost).max(self.most_copies - copies);
        Figures { reads, upstream, fresh: sum(|one| one.fresh), keys: sum(|one| one.keys), lost }
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
    use crate::domain::resource::SourceName;

    fn source(keys: u64, copies: u64, fresh: u64, lost: u64) -> Surveyed {
        let name = SourceName::new("users").unwrap();
        Surveyed { name, upstream: String::new(), keys, copies, fresh, lost }
    }

    #[test]
    fn the_line_says_what_was_counted() {
        let upstream = Counts { requests: 5000, not_modified: 4000, rate_limited: 3, dropped: 2, ..Counts::default() };
        let figures = Watch::default().look(7, upstream, &[source(200, 200, 199, 0), source(2000, 1999, 1999, 0)]);
        assert_eq!(
            figures.to_string(),
            "reads 7 · upstream requests 5000, 304s 4000, failures 5 · fresh 99.9 % · lost 0"
        );
    }

    #[test]
    fn a_copy_that_was_seen_and_is_no_more_is_lost() {
        let mut watch = Watch::default();
        let mut lost = |survey: Surveyed| watch.look(0, Counts::default(), &[survey]).lost;
        assert_eq!(lost(source(10, 0, 0, 0)), 0, "what was never there is not lost");
        assert_eq!(lost(source(10, 8, 8, 0)), 0);
        assert_eq!(lost(source(10, 7, 7, 0)), 1, "a row that is gone");
        assert_eq!(lost(source(10, 7, 7, 1)), 1, "once, though it is missed twice");
        assert_eq!(lost(source(10, 8, 8, 2)), 2, "what was lost before this process began");
    }
}
