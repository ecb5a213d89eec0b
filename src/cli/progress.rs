//! A progress bar for long work: on stderr, and only where someone looks.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::refresh::tally::Counts;

/// How often the bar is drawn.
const TICK: Duration = Duration::from_millis(200);

/// A bar for so many things; hidden when stderr is no terminal.
pub(super) fn bar(expected: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(expected), target);
    // The template is a constant, so it can't be wrong; if it were, the bar would be a plain one.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {per_sec}  ETA {eta}  {msg}") {
        bar.set_style(style);
    }
    bar
}

/// The bar of a refresh.
pub(super) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for so many resources; hidden when stderr is no terminal.
    pub(super) fn new(expected: u64) -> Self {
        Self { bar: bar(expected) }
    }

    /// Shows the counts while the work goes on.
    pub(super) async fn show_while<W: Future>(&self, counts: impl Fn() -> Counts, work: W) -> W::Output {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.bar.finish_and_clear();
                    return done;
                }
                _ = ticks.tick() => self.show(&counts()),
            }
        }
    }

    fn show(&self, counts: &Counts) {
        let Counts { new, changed, unchanged, failed, .. } = counts;
        self.bar.set_position(counts.total());
        self.bar.set_message(format!("{new} new, {changed} changed, {unchanged} unchanged, {failed} failed"));
    }
}
