//! `budgets` of an upstream: how many requests it may be sent in windows of minutes, hours, days.

use std::time::Duration;

use toml::de::DeValue;

use super::fields::Fields;
use super::kinds::{COUNT, POSITIVE_SPAN};
use super::reader::{Reader, Spot};
use super::value::{Value, Wants};
use crate::domain::budget::{Budget, Budgets, MOST_BUDGETS};

const FIELDS: [&str; 2] = ["requests", "per"];

/// The shortest window: below it, `requests_per_second_limit` is what counts.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// Reads the setting.
pub(super) fn read(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<Budgets> {
    let list = value.list(reader, wants)?;
    let all: Vec<_> = list.iter().map(|node| one(reader, Value { node, ..value }, wants)).collect();
    let all: Vec<(Budget, Spot)> = all.into_iter().collect::<Option<_>>()?;
    if all.len() > MOST_BUDGETS {
        let problem = format!("more than {MOST_BUDGETS} budgets");
        reader.error(&value.spot().named(value.path), problem, "keep those that matter most");
        return None;
    }
    for (place, (budget, at)) in all.iter().enumerate() {
        if all.iter().take(place).any(|(other, _)| other.per == budget.per) {
            let window = humantime::format_duration(budget.per);
            reader.error(at, format!("there is a budget per {window} already"), "keep one of the two");
            return None;
        }
    }
    for (budget, at) in &all {
        if let Some(problem) = all.iter().find_map(|(other, _)| never_decides(*budget, *other)) {
            reader.warn(at, problem, "leave it out, or correct one of the two");
        }
    }
    Some(Budgets::of(all.into_iter().map(|(budget, _)| budget)))
}

fn one(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<(Budget, Spot)> {
    if !matches!(value.node.get_ref(), DeValue::Table(_)) {
        value.wrong_type(reader, wants);
        return None;
    }
    let fields = Fields::open(reader, value, wants, &FIELDS)?;
    let requests = fields.required(reader, "requests", |reader, value| (COUNT.read)(reader, value, &COUNT.wants));
    let per = fields.required(reader, "per", |reader, value| {
        let per = (POSITIVE_SPAN.read)(reader, value, &POSITIVE_SPAN.wants)?;
        if (SHORTEST..=LONGEST).contains(&per) {
            return Some(per);
        }
        reader.error(&value.spot(), "a window is at least a second and at most 366 days", wants.remedy());
        None
    });
    Some((Budget { requests: requests?, per: per? }, fields.spot()))
}

/// Why the first never decides beside the second.
fn never_decides(budget: Budget, other: Budget) -> Option<String> {
    let allows = |budget: Budget, per: Duration| {
        let windows = per.as_millis().div_ceil(budget.per.as_millis().max(1));
        u128::from(budget.requests).saturating_mul(windows)
    };
    let is_looser = if budget.per > other.per {
        u128::from(budget.requests) >= allows(other, budget.per)
    } else {
        budget.per < other.per && budget.requests >= other.requests
    };
    is_looser.then(|| format!("{budget} are never reached: {other} are all that is allowed anyway"))
}
