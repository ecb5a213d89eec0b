//! Lines of columns that stand below each other, and spans of time as people say them.

use std::fmt;

use chrono::TimeDelta;

/// Rows below a head.
#[derive(Debug)]
pub(super) struct Table {
    /// Whether each column's cells stand to the right.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these names of columns; `>` before one puts its cells to the right.
    pub(super) fn new(head: &[&str]) -> Self {
        let names = head.iter().map(|name| name.trim_start_matches('>').to_uppercase()).collect();
        Self { right: head.iter().map(|name| name.starts_with('>')).collect(), rows: vec![names] }
    }

    /// Adds a row.
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        // What an upstream said may have any characters in it; a line is a line.
        let shown = cells.into_iter().map(|cell| cell.replace(char::is_control, " "));
        self.rows.push(shown.collect());
    }

    fn width(&self, column: usize) -> usize {
        self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<_> = (0..self.right.len()).map(|column| self.width(column)).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.right).map(|((cell, width), right)| {
                if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// The two largest units of a span: `2h 3m`, `45s`. Less than a second is `0s`.
pub(super) fn span(span: TimeDelta) -> String {
    let seconds = span.num_seconds().max(0);
    let units = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let largest = units.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(3);
    let said = units.iter().skip(largest).take(2).scan(seconds, |left, (unit, name)| {
        let count = *left / unit;
        *left %= unit;
        Some((count, name))
    });
    let said: Vec<_> = said.filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count}{name}")).collect();
    if said.is_empty() { "0s".into() } else { said.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_by_their_two_largest_units() {
        for (seconds, told) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m 59s"),
            (7380, "2h 3m"),
            (7200, "2h"),
            (7201, "2h"),
            (90_000, "1d 1h"),
            (86_460, "1d"),
            (31_536_000, "365d"),
        ] {
            assert_eq!(span(TimeDelta::seconds(seconds)), told, "{seconds}");
        }
    }

    #[test]
    fn columns_stand_below_each_other_and_lines_stay_lines() {
        let mut table = Table::new(&["name", ">keys", "said"]);
        table.row(["köln".into(), "5".into(), "two\nlines".into()]);
        table.row(["prishtina".into(), "10000".into(), "-".into()]);
        let lines = ["NAME        KEYS  SAID", "köln           5  two lines", "prishtina  10000  -", ""];
        assert_eq!(table.to_string(), lines.join("\n"));
    }
}
