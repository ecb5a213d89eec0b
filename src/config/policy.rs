//! A source's schedule and rules, checked against each other.

use std::time::Duration;

use humantime::format_duration;

use crate::domain::policy::{GoneRules, Heed, Policy};
use crate::domain::schedule::{Backoff, Cadence, CronRule};

use super::body;
use super::reader::Reader;
use super::section::{Found, Layers, Section};
use super::setting::{Scope, Setting};
use super::settings as set;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Reads the rules of a source.
pub(super) fn read(reader: &mut Reader<'_>, layers: &Layers<'_, '_>, name: &str) -> Option<Policy> {
    let polled = layers.get(reader, &set::POLL);
    let cadence = match polled {
        Some(false) => when_read(reader, layers),
        _ => cadence(reader, layers),
    };
    let jitter = layers.get(reader, &set::JITTER);
    let cache_control = layers.get(reader, &set::CACHE_CONTROL);
    let freshness_cap = layers.get(reader, &set::FRESHNESS_CAP);
    let early_refresh = layers.get(reader, &set::EARLY_REFRESH);
    check_cap(reader, layers, cache_control);
    let allowance = layers.get(reader, &set::ALLOWANCE);
    let retry_after_cap = layers.get(reader, &set::RETRY_AFTER_CAP);
    let pause_scope = layers.get(reader, &set::PAUSE_SCOPE);
    let body = body::read(reader, layers);
    let gone_after = layers.get(reader, &set::GONE_AFTER);
    let gone_recheck = layers.get(reader, &set::GONE_RECHECK);
    let cadence = cadence?;
    let interval = cadence.interval(reader.now);
    let for_source = Interval { name, cadence: &cadence, span: interval };
    let stale_after = for_source.stale_after(reader, layers);
    for_source.check_jitter(reader, layers);
    let backoff = for_source.backoff(reader, layers);
    let window = or(reader, layers, &set::GONE_WINDOW, interval.max(HOUR));
    Some(Policy {
        jitter: jitter?,
        stale_after,
        cache_control: cache_control?,
        freshness_cap: freshness_cap?,
        early_refresh: early_refresh?,
        backoff: backoff?,
        allowance: allowance?,
        retry_after_cap: retry_after_cap?,
        stretch: 1.0,
        pause_scope: pause_scope?,
        gone: GoneRules { after: gone_after?, window: window?, recheck: gone_recheck? },
        body: body?,
        cadence,
    })
}

/// Notes a cap on what is not heeded.
fn check_cap(reader: &mut Reader<'_>, layers: &Layers<'_, '_>, heeded: Option<Heed>) {
    if heeded == Some(Heed::Ignore)
        && let Some(cap) = layers.own().and_then(|own| own.find(reader, &set::FRESHNESS_CAP))
    {
        reader.warn(&cap.at, "has no meaning with cache_control = \"ignore\"", "leave one of the two out");
    }
}

/// A value, or one that follows from others; `None` when the value is wrong.
fn or<T>(reader: &mut Reader<'_>, layers: &Layers<'_, '_>, setting: &Setting<T>, otherwise: T) -> Option<T> {
    if layers.has(setting) { layers.get(reader, setting) } else { Some(otherwise) }
}

/// Notes that a table has both `refresh_every` and `refresh_cron`.
pub(super) fn check_exclusive(reader: &mut Reader<'_>, section: &Section<'_>) {
    if section.value(&set::REFRESH_EVERY).is_some()
        && let Some(cron) = section.value(&set::REFRESH_CRON)
    {
        reader.error(&cron.spot(), "refresh_every is set too", "keep one of the two");
    }
}

/// The nearest table that says how often wins, with whichever of the two ways to say it.
fn cadence(reader: &mut Reader<'_>, layers: &Layers<'_, '_>) -> Option<Cadence> {
    let own = layers.own()?;
    check_exclusive(reader, own);
    let says_when =
        |section: &&&Section<'_>| section.value(&set::REFRESH_EVERY).or(section.value(&set::REFRESH_CRON)).is_some();
    let Some(section) = layers.sections.iter().find(says_when) else {
        reader.error(
            &own.at,
            "neither refresh_every nor refresh_cron is set",
            "write one like refresh_every = \"15m\"",
        );
        return None;
    };
    if section.value(&set::REFRESH_EVERY).is_some() {
        if let Some(zone) = own.value(&set::TIMEZONE) {
            let problem = "has no meaning for refresh_every";
            reader.error(&zone.spot(), problem, "use refresh_cron, or leave it out");
        }
        return section.find(reader, &set::REFRESH_EVERY).map(|found| Cadence::Every(found.value));
    }
    let rule = section.find(reader, &set::REFRESH_CRON);
    let zone = layers.get(reader, &set::TIMEZONE);
    let (rule, zone) = (rule?, zone?);
    match CronRule::new(&rule.value, zone, reader.now) {
        Ok(cron) => Some(Cadence::Cron(Box::new(cron))),
        Err(error) => {
            reader.error(&rule.at, error.to_string(), set::REFRESH_CRON.kind.wants.remedy());
            None
        }
    }
}

/// The cadence where nobody polls. `refresh_every` is no must there: what follows from an interval follows from how long
/// copies are fresh otherwise.
fn when_read(reader: &mut Reader<'_>, layers: &Layers<'_, '_>) -> Option<Cadence> {
    if let Some(cron) = layers.own()?.value(&set::REFRESH_CRON) {
        reader.error(&cron.spot(), "nothing is refreshed by schedule with poll = false", "leave one of the two out");
    }
    let every = layers.optional(reader, &set::REFRESH_EVERY)?;
    let stale_after = layers.optional(reader, &set::STALE_AFTER)?;
    Some(Cadence::WhenRead(every.or(stale_after).unwrap_or(HOUR)))
}

/// What a source's other spans are compared with.
struct Interval<'c> {
    name: &'c str,
    cadence: &'c Cadence,
    span: Duration,
}

impl Interval<'_> {
    /// Notes that a copy would be stale before its next refresh, with the two ways out.
    fn stale_after(&self, reader: &mut Reader<'_>, layers: &Layers<'_, '_>) -> Option<Duration> {
        let found = layers.find(reader, &set::STALE_AFTER)?;
        if found.value < self.span && self.cadence.is_polled() {
            let problem = format!(
                "shorter than {}, so copies are stale before they are refreshed, even when all is well",
                self.what_interval(&found)
            );
            let remedy = format!(
                "refresh at least every {}, or raise stale_after to more than {}",
                format_duration(found.value),
                format_duration(self.span)
            );
            reader.warn(&found.at, problem, remedy);
        }
        Some(found.value)
    }

    fn check_jitter(&self, reader: &mut Reader<'_>, layers: &Layers<'_, '_>) {
        if let Some(found) = layers.find(reader, &set::JITTER)
            && found.value > self.span
        {
            let problem = format!("longer than {}", self.what_interval(&found));
            reader.error(&found.at, problem, format!("write at most {:?}", format_duration(self.span).to_string()));
        }
    }

    /// The cap defaults to the interval, so that after an outage nothing waits longer than it would have without one.
    fn backoff(&self, reader: &mut Reader<'_>, layers: &Layers<'_, '_>) -> Option<Backoff> {
        let default_cap = if let Cadence::Cron(_) = self.cadence { HOUR } else { self.span };
        let cap = or(reader, layers, &set::BACKOFF_CAP, default_cap)?;
        if !layers.has(&set::BACKOFF_INITIAL) {
            return Some(Backoff { initial: set::BACKOFF_INITIAL.default(reader)?.min(cap), cap });
        }
        let initial = layers.find(reader, &set::BACKOFF_INITIAL)?;
        if initial.value > cap {
            let problem = format!("longer than the backoff_cap of source {} ({})", self.name, format_duration(cap));
            reader.error(&initial.at, problem, "lower it, or raise backoff_cap");
        }
        Some(Backoff { initial: initial.value, cap })
    }

    fn what_interval<T>(&self, found: &Found<T>) -> String {
        let whose = if found.scope == Scope::Source { String::new() } else { format!(" of source {}", self.name) };
        format!("the interval{whose} ({})", format_duration(self.span))
    }
}
