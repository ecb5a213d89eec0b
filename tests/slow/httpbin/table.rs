//! The table of what happened.

use super::cases::{Case, Expected};
use super::stage::Happened;

/// A case in both passes.
pub struct Row {
    pub case: &'static Case,
    pub first: Happened,
    pub second: Option<Happened>,
}

impl Happened {
    /// Without the whole copy.
    fn told(&self) -> String {
        let Self { outcome, answered, why, because, version, copy, .. } = self;
        format!("{outcome} {answered:?} because {why}, due by {because}, version {version} of {} bytes", copy.len())
    }
}

impl Row {
    /// What is not as it should be.
    pub fn is_wrong(&self) -> Vec<String> {
        let Some(second) = &self.second else { return vec![format!("{}: not asked again", self.case.path)] };
        let mut wrong = [(&self.first, &self.case.first), (second, &self.case.second)]
            .into_iter()
            .filter(|(happened, expected)| !is_as(happened, expected))
            .map(|(happened, expected)| format!("{}: {} is not {expected:?}", self.case.path, happened.told()))
            .collect::<Vec<_>>();
        let was_lost = second.version != self.first.version || second.copy != self.first.copy;
        if second.outcome.starts_with("failed") && was_lost {
            let (was, is) = (self.first.told(), second.told());
            wrong.push(format!("{}: the last good copy was lost: it was {was}, and is {is}", self.case.path));
        }
        if !self.first.copy.contains(self.case.stores) {
            wrong.push(format!("{}: {} is not in {}", self.case.path, self.case.stores, self.first.copy));
        }
        wrong
    }

    fn cells(&self) -> Vec<String> {
        let Some(second) = &self.second else { return Vec::new() };
        let pass = |happened: &Happened| format!("{} {}", happened.outcome, statuses(&happened.answered));
        let copy = match (second.version, second.state.as_str()) {
            (0, _) => "none".to_owned(),
            (_, "gone") => "gone".to_owned(),
            (version, state) => format!("version {version}, {state}"),
        };
        let Case { origin, path, note, .. } = self.case;
        let asked = format!("{}{path}{}{note}", origin.name(), if note.is_empty() { "" } else { ", " });
        vec![asked, pass(&self.first), pass(second), copy, second.because.clone(), second.why.clone()]
    }
}

fn is_as(happened: &Happened, expected: &Expected) -> bool {
    if expected.may_be_held && happened.outcome == "held" {
        return happened.answered.is_empty();
    }
    happened.outcome == expected.outcome
        && happened.answered == expected.answered
        && happened.because == expected.because
        && happened.why.contains(expected.why)
}

fn statuses(answered: &[u16]) -> String {
    let statuses: Vec<_> = answered.iter().map(u16::to_string).collect();
    format!("({})", statuses.join(", "))
}

/// Prints all rows, a line each.
pub fn print(name: &str, rows: &[Row]) {
    let heads = ["path", "first", "second", "the copy then", "due by", "why (second)"].map(str::to_owned);
    let lines: Vec<Vec<String>> = std::iter::once(heads.to_vec()).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    println!("\n{name}:");
    for cells in &lines {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}
