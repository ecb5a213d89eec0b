//! What an answer says about how much may still be asked for: how much is left of an allowance and when there is more, and how
//! soon a resource may be asked for again.
//!
//! | fields | where they are described |
//! |---|---|
//! | `RateLimit`, `RateLimit-Policy` | draft-ietf-httpapi-ratelimit-headers, from -08 on; -07 wrote RateLimit as a dictionary |
//! | `RateLimit-Remaining`, `RateLimit-Reset` | the same up to -06 |
//! | `X-RateLimit-Remaining`, `X-RateLimit-Reset`, or names of the operator's | nowhere: each upstream has its own |
//! | `X-Poll-Interval` | GitHub's events |

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, header};
use sfv::{BareItem, Dictionary, Integer, Item, List, ListEntry, Parser};

use super::time::{delta_seconds, http_date, later};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const POLL_INTERVAL: HeaderName = HeaderName::from_static("x-poll-interval");

/// What is more than this is a time, in seconds since 1970 (September 2001), and no span of 30 years.
const LEAST_EPOCH: f64 = 1e9;
/// What is more than this is a time in milliseconds, and no year beyond 5000.
const LEAST_MILLIS: f64 = 1e11;

/// The fields beside the standardised ones, which every upstream calls as it likes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// How much is left.
    pub remaining: HeaderName,
    /// When there is more.
    pub reset: HeaderName,
    /// What the number there is.
    pub reset_is: ResetIs,
}

/// What the number in a reset field is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ResetIs {
    /// Seconds left, or, where it is a billion and more, a time.
    #[default]
    Auto,
    /// A time: seconds since 1970, or milliseconds where seconds would make no sense.
    Epoch,
    /// Seconds left.
    SecondsLeft,
}

/// What an answer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Left {
    /// Nothing is left until then.
    pub spent_until: Option<DateTime<Utc>>,
    /// The resource is not to be asked for again before then.
    pub not_before: Option<DateTime<Utc>>,
    /// The fields that make no sense, by name; they count as if they were not there.
    pub malformed: Vec<HeaderName>,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            remaining: HeaderName::from_static("x-ratelimit-remaining"),
            reset: HeaderName::from_static("x-ratelimit-reset"),
            reset_is: ResetIs::Auto,
        }
    }
}

impl ResetIs {
    /// The name used in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Epoch => "epoch",
            Self::SecondsLeft => "seconds_left",
        }
    }

    /// How long after `date` that is, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 have fewer than 52 bits")]
    fn wait(self, number: f64, date: DateTime<Utc>) -> f64 {
        let is_time = match self {
            Self::Auto => number >= LEAST_EPOCH,
            Self::Epoch => true,
            Self::SecondsLeft => false,
        };
        let since = date.timestamp_millis() as f64 / 1e3;
        match number {
            _ if !is_time => number,
            millis if millis >= LEAST_MILLIS => millis / 1e3 - since,
            seconds => seconds - since,
        }
    }
}

impl Fields {
    /// What an answer that came then says, no wait being longer than `cap`. Of several that say that nothing is left, the one
    /// that lasts the longest counts, being the one that satisfies them all.
    #[must_use]
    pub fn left(&self, headers: &HeaderMap, answered_at: DateTime<Utc>, cap: Duration) -> Left {
        let mut malformed = Vec::new();
        let mut waits = vec![standard(headers, &mut malformed)];
        if self.remaining != RATELIMIT_REMAINING {
            // Some that call them so send a time, against what was the draft.
            let fields = (&RATELIMIT_REMAINING, &RATELIMIT_RESET, ResetIs::Auto);
            waits.push(counted(headers, fields, answered_at, &mut malformed));
        }
        waits.push(counted(headers, (&self.remaining, &self.reset, self.reset_is), answered_at, &mut malformed));
        let wait = waits.into_iter().flatten().max_by(f64::total_cmp).filter(|wait| *wait > 0.0);
        let wait = wait.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(cap).min(cap));
        let poll = poll_interval(headers, &mut malformed);
        let at = |wait| later(answered_at, wait);
        Left {
            spent_until: wait.map(at),
            not_before: poll.filter(|wait| !wait.is_zero()).map(|wait| at(wait.min(cap))),
            malformed,
        }
    }
}

/// How many seconds nothing is left by RateLimit.
fn standard(headers: &HeaderMap, malformed: &mut Vec<HeaderName>) -> Option<f64> {
    let text = joined(headers, &RATELIMIT)?;
    let Some(spent) = spent(&text) else {
        malformed.push(RATELIMIT);
        return None;
    };
    let mut policies = None;
    let waits = spent.into_iter().filter_map(|(name, wait)| {
        wait.or_else(|| {
            // Without a time, it is at most the policy's whole window.
            let policies = policies.get_or_insert_with(|| windows(headers, malformed));
            policies.iter().find(|(policy, _)| *policy == name).map(|(_, window)| *window)
        })
    });
    #[expect(clippy::cast_precision_loss, reason = "a structured integer has at most 15 digits")]
    waits.max().map(|seconds| seconds as f64)
}

/// Of which policies nothing is left, and for how many seconds; `None` where the text is no RateLimit.
fn spent(text: &str) -> Option<Vec<(String, Option<i64>)>> {
    let Ok(members) = Parser::new(text).parse::<List>() else { return spent_of_old(text) };
    let mut spent = Vec::new();
    for member in members {
        let ListEntry::Item(item) = member else { return None };
        let left = count(&item, "r")??;
        let wait = count(&item, "t")?;
        if left == 0 {
            spent.push((name(&item)?, wait));
        }
    }
    Some(spent)
}

/// `limit=100, remaining=0, reset=30`.
fn spent_of_old(text: &str) -> Option<Vec<(String, Option<i64>)>> {
    let members = Parser::new(text).parse::<Dictionary>().ok()?;
    let of = |name| match members.get(name) {
        Some(ListEntry::Item(item)) => whole(&item.bare_item),
        _ => None,
    };
    let (left, wait) = (of("remaining")?, of("reset")?);
    Some(if left == 0 { vec![(String::new(), Some(wait))] } else { Vec::new() })
}

/// The windows of policies that have one.
fn windows(headers: &HeaderMap, malformed: &mut Vec<HeaderName>) -> Vec<(String, i64)> {
    let Some(text) = joined(headers, &RATELIMIT_POLICY) else { return Vec::new() };
    let Ok(members) = Parser::new(&text).parse::<List>() else {
        malformed.push(RATELIMIT_POLICY);
        return Vec::new();
    };
    let window = |member: &ListEntry| match member {
        ListEntry::Item(item) => Some((name(item)?, count(item, "w")??)),
        ListEntry::InnerList(_) => None,
    };
    members.iter().filter_map(window).collect()
}

/// A policy's name: a String; a Token in -08.
fn name(item: &Item) -> Option<String> {
    let token = || item.bare_item.as_token().map(|token| token.as_str().to_owned());
    item.bare_item.as_string().map(|text| text.as_str().to_owned()).or_else(token)
}

/// A parameter that is a number; the outer `None` is one that is none.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
fn count(item: &Item, parameter: &str) -> Option<Option<i64>> {
    match item.params.get(parameter) {
        None => Some(None),
        Some(value) => whole(value).map(Some),
    }
}

fn whole(value: &BareItem) -> Option<i64> {
    value.as_integer().map(Integer::into).filter(|number: &i64| *number >= 0)
}

/// How many seconds nothing is left by a field that says how much and another that says until when.
fn counted(
    headers: &HeaderMap,
    (remaining, reset, reset_is): (&HeaderName, &HeaderName, ResetIs),
    answered_at: DateTime<Utc>,
    malformed: &mut Vec<HeaderName>,
) -> Option<f64> {
    let left = numbers(headers, remaining, malformed)?.into_iter().min_by(f64::total_cmp)?;
    let resets = numbers(headers, reset, malformed)?;
    if left >= 1.0 {
        return None;
    }
    // A time is one of the upstream's clock.
    let date = headers.get(header::DATE).and_then(|date| http_date(date.to_str().ok()?)).unwrap_or(answered_at);
    resets.into_iter().map(|number| reset_is.wait(number, date)).max_by(f64::total_cmp)
}

/// All numbers of a field, be they repeated or in a list; `None` where there is something else.
fn numbers(headers: &HeaderMap, name: &HeaderName, malformed: &mut Vec<HeaderName>) -> Option<Vec<f64>> {
    let Some(text) = joined(headers, name) else { return Some(Vec::new()) };
    let numbers: Option<Vec<_>> = text.split(',').map(number).collect();
    if numbers.is_none() {
        malformed.push(name.clone());
    }
    numbers
}

/// Digits, and at most one point among them.
fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let is_plain = text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|number: &f64| is_plain && number.is_finite())
}

/// The longest of the intervals.
fn poll_interval(headers: &HeaderMap, malformed: &mut Vec<HeaderName>) -> Option<Duration> {
    let text = joined(headers, &POLL_INTERVAL)?;
    let intervals: Option<Vec<_>> = text.split(',').map(delta_seconds).collect();
    if intervals.is_none() {
        malformed.push(POLL_INTERVAL);
    }
    intervals?.into_iter().max()
}

/// The lines of a field as one (RFC 9110 §5.3); what is no text is no value that any of these can have.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

#[cfg(test)]
mod tests;
