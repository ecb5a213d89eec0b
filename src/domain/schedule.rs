//! When a resource is due: by interval or cron, spread over the interval, pushed back by failures.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::resource::ResourceId;
use super::time::{FAR_FUTURE, earlier, later};

/// When a resource is due next, and why then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Due {
    /// The moment from which it may be refreshed.
    pub at: DateTime<Utc>,
    /// What decided it.
    pub because: Because,
}

/// A due time before all others: what was asked for by hand, or must be asked for again.
pub const AT_ONCE: DateTime<Utc> = DateTime::UNIX_EPOCH;

/// The due time of what is never due by itself: a member of a collection comes with the collection's walks.
pub const NEVER: DateTime<Utc> = FAR_FUTURE;

/// The rule that decided a due time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// The key was never fetched.
    New,
    /// `refresh_every` or `refresh_cron` says so.
    Interval,
    /// The upstream's own freshness lifetime outlasts the interval.
    Freshness,
    /// It failed; the wait doubles with each failure in a row up to the cap.
    Backoff,
    /// Its upstream can't be reached: as [`Backoff`](Self::Backoff), but due at once when the upstream answers again.
    Outage,
    /// The upstream sent Retry-After.
    RetryAfter,
    /// It is gone and is looked at again now and then.
    GoneRecheck,
    /// Someone asked for it.
    Manual,
    /// A 304 could not be used: it is fetched again, without conditions.
    Reset,
    /// Its upstream could not be reached and now can.
    RetryNow,
    /// It comes with the walks of its collection, and is never due by itself.
    Walk,
    /// Nobody polls it: a reader makes it due who finds it stale.
    Read,
    /// The upstream said how soon it may be asked for again (X-Poll-Interval, or when there is more of its allowance), and that
    /// outlasts the interval.
    NotBefore,
}

impl Because {
    /// Every reason, for reading stored numbers and for documentation.
    pub const ALL: [Self; 13] = [
        Self::New,
        Self::Interval,
        Self::Freshness,
        Self::Backoff,
        Self::Outage,
        Self::RetryAfter,
        Self::GoneRecheck,
        Self::Manual,
        Self::Reset,
        Self::RetryNow,
        Self::Walk,
        Self::Read,
        Self::NotBefore,
    ];

    /// The name used in JSON and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Interval => "interval",
            Self::Freshness => "freshness",
            Self::Backoff => "backoff",
            Self::Outage => "outage",
            Self::RetryAfter => "retry_after",
            Self::GoneRecheck => "gone_recheck",
            Self::Manual => "manual",
            Self::Reset => "reset",
            Self::RetryNow => "retry_now",
            Self::Walk => "walk",
            Self::Read => "read",
            Self::NotBefore => "not_before",
        }
    }

    /// The number used in the schedule's narrow rows. Numbers are never given to another reason.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::New => 1,
            Self::Interval => 2,
            Self::Freshness => 3,
            Self::Backoff => 4,
            Self::Outage => 5,
            Self::RetryAfter => 6,
            Self::GoneRecheck => 7,
            Self::Manual => 8,
            Self::Reset => 9,
            Self::RetryNow => 10,
            Self::Walk => 11,
            Self::NotBefore => 12,
            Self::Read => 20,
        }
    }

    /// Whether it is for the upstream's sake that the resource is not due yet. Only an operator makes it due earlier, never a
    /// reader: many of them would undo every backoff.
    #[must_use]
    pub fn spares_the_upstream(self) -> bool {
        matches!(self, Self::Backoff | Self::Outage | Self::RetryAfter | Self::GoneRecheck | Self::NotBefore)
    }

    /// The reason of that number.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|because| because.code() == code)
    }
}

impl Due {
    /// The same where nobody polls: what the schedule would have decided waits for a reader from `now` on, and what spares the
    /// upstream for as long as that does.
    #[must_use]
    pub fn put_aside(self, now: DateTime<Utc>) -> Self {
        if self.because.spares_the_upstream() {
            Self { at: put_aside(self.at), ..self }
        } else {
            Self { at: put_aside(now), because: Because::Read }
        }
    }
}

/// How often a source is refreshed.
#[derive(Debug, Clone)]
pub enum Cadence {
    /// Once in each such interval; more than zero.
    Every(Duration),
    /// At the times of a cron rule.
    Cron(Box<CronRule>),
    /// When someone reads it, and by no schedule. A copy that was fetched counts as it would if it were refreshed in each such
    /// interval; more than zero.
    WhenRead(Duration),
}

/// A five-field cron rule in a time zone.
#[derive(Debug, Clone)]
pub struct CronRule {
    cron: croner::Cron,
    zone: chrono_tz::Tz,
}

/// Why a cron rule can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCron {
    /// The rule can't be read.
    #[error("not a cron rule ({0})")]
    Unreadable(String),
    /// The rule can be read, but no time ever satisfies it.
    #[error("no date ever matches it")]
    Never,
}

impl CronRule {
    /// Reads a rule of five fields: minute, hour, day of month, month, day of week.
    ///
    /// # Errors
    /// [`BadCron`] when it can't be read or never happens (30 February) after `now`.
    pub fn new(rule: &str, zone: chrono_tz::Tz, now: DateTime<Utc>) -> Result<Self, BadCron> {
        let cron = croner::parser::CronParser::builder()
            .seconds(croner::parser::Seconds::Disallowed)
            .build()
            .parse(rule)
            .map_err(|e| BadCron::Unreadable(e.to_string()))?;
        let rule = Self { cron, zone };
        if rule.next(now).is_some() { Ok(rule) } else { Err(BadCron::Never) }
    }

    /// The first time after `after`, computed on the zone's calendar: a change to or from summer time is followed.
    #[must_use]
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let next = self.cron.find_next_occurrence(&after.with_timezone(&self.zone), false).ok()?;
        Some(next.with_timezone(&Utc))
    }
}

impl fmt::Display for CronRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cron.as_str(), self.zone)
    }
}

impl fmt::Display for Cadence {
    /// `every 1h`, `at 7 * * * * Europe/Berlin`: the whole of it, so that two are the same if their texts are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every(interval) => write!(f, "every {}", humantime::format_duration(*interval)),
            Self::WhenRead(interval) => write!(f, "when read, as every {}", humantime::format_duration(*interval)),
            Self::Cron(rule) => write!(f, "at {rule}"),
        }
    }
}

impl Cadence {
    /// Whether resources fall due by themselves.
    #[must_use]
    pub fn is_polled(&self) -> bool {
        !matches!(self, Self::WhenRead(_))
    }

    /// The time between regular refreshes: the interval, or what lies between the next two times of the cron rule.
    #[must_use]
    pub fn interval(&self, at: DateTime<Utc>) -> Duration {
        match self {
            Self::Every(interval) | Self::WhenRead(interval) => *interval,
            Self::Cron(rule) => {
                let gap = rule.next(at).and_then(|next| Some((rule.next(next)? - next).to_std().unwrap_or_default()));
                gap.unwrap_or(DAY)
            }
        }
    }

    /// The next regular refresh after `at`, for the resource in this slot.
    #[must_use]
    pub fn next(&self, at: DateTime<Utc>, slot: Slot) -> DateTime<Utc> {
        match self {
            Self::Every(interval) => slot.next(at, *interval),
            Self::WhenRead(_) => put_aside(at),
            Self::Cron(rule) => rule.next(at).unwrap_or_else(|| later(at, DAY)),
        }
    }

    /// Two regular refreshes after `at`: what a copy that is refreshed in time never reaches.
    #[must_use]
    pub fn after_two(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::Every(interval) | Self::WhenRead(interval) => later(at, interval.saturating_mul(2)),
            Self::Cron(rule) => {
                rule.next(at).and_then(|next| rule.next(next)).unwrap_or_else(|| later(at, DAY.saturating_mul(2)))
            }
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How much later than a time its due time is that has been [put aside](put_aside): a thousand years.
const ASIDE: Duration = Duration::from_secs(1000 * 366 * 86_400);

/// The earliest due time that was put aside: those before it come by themselves.
pub const FIRST_ASIDE: DateTime<Utc> = DateTime::from_timestamp(1000 * 366 * 86_400, 0).expect("in range");

/// The due time of what nobody polls: it never comes, but a reader may make the resource due from `at` on. So it stands in
/// its place in the order of due times, after all others, and no claim has to know of it.
#[must_use]
pub fn put_aside(at: DateTime<Utc>) -> DateTime<Utc> {
    if at < FIRST_ASIDE { later(at, ASIDE) } else { at }
}

/// From when on a reader may make it due, if this due time was [put aside](put_aside).
#[must_use]
pub fn aside_until(due_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
    (FIRST_ASIDE..FAR_FUTURE).contains(&due_at).then(|| earlier(due_at, ASIDE))
}

/// How many consecutive ids share a stretch of the interval, so that what falls due together lies together on disk.
const BLOCK: i64 = 64;

/// Where in the interval a resource falls due, as a fraction in [0, 1).
///
/// Blocks of 64 consecutive ids are laid out by the golden ratio, which leaves no large gap for any number of blocks
/// (the three-gap theorem) without knowing that number; within its block's stretch, each id has its own place. The place
/// depends on ids and on the database's seed alone: a restart changes nothing, and two installations that poll the same
/// upstream don't do so in step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot(f64);

impl Slot {
    /// The slot of a resource in a source of about `keys` keys. `seed` is the database's own random number.
    #[must_use]
    pub fn of(id: ResourceId, keys: u64, seed: u64) -> Self {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        #[expect(clippy::cast_precision_loss, reason = "a fraction of an interval needs no more than 52 bits")]
        let (block, place, blocks, seed) = (
            id.0.div_euclid(BLOCK) as f64,
            id.0.rem_euclid(BLOCK) as f64 / BLOCK as f64,
            // Rounded up to a power of two, so that places move only when a source doubles.
            keys.div_ceil(BLOCK.unsigned_abs()).max(1).next_power_of_two() as f64,
            // Mixed first: a seed of fewer than 64 bits must move slots as far as any other.
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) as f64 / u64::MAX as f64,
        );
        Self((block * GOLDEN + place / blocks + seed).fract())
    }

    /// The slot at this fraction of the interval; only its part below 1 counts.
    #[must_use]
    pub fn at(fraction: f64) -> Self {
        Self(fraction.fract().abs())
    }

    /// The fraction of the interval.
    #[must_use]
    pub fn fraction(self) -> f64 {
        self.0
    }

    /// The next due time after a refresh at `at`: half an interval to one interval away.
    ///
    /// The slot's own time where that is so; else half of the way to the one after it, from where the slot is reached
    /// the next time. So no resource waits longer than the interval or is asked for twice in half of one.
    fn next(self, at: DateTime<Utc>, interval: Duration) -> DateTime<Utc> {
        let interval = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX / 4).clamp(1, i64::MAX / 4);
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "fraction of the interval")]
        let phase = (self.0 * interval as f64) as i64;
        let to_slot = interval - (at.timestamp_micros() - phase).rem_euclid(interval);
        let wait = if to_slot >= interval / 2 { to_slot } else { i64::midpoint(to_slot, interval) };
        later(at, Duration::from_micros(wait.unsigned_abs()))
    }
}

/// Capped exponential backoff. It never gives up: after the cap is reached, it waits about the cap each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait after the first failure.
    pub initial: Duration,
    /// The longest wait.
    pub cap: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row. `rand` in [0, 1) spreads it over the upper half, so that resources
    /// that failed together don't come back together.
    #[must_use]
    pub fn wait(&self, failures: u32, rand: f64) -> Duration {
        let doubled = self.initial.saturating_mul(1 << failures.saturating_sub(1).min(30));
        doubled.min(self.cap).mul_f64(0.5 + 0.5 * rand.clamp(0.0, 1.0))
    }
}

/// `at` plus a random part of `jitter`.
#[must_use]
pub fn jittered(at: DateTime<Utc>, jitter: Duration, rand: f64) -> DateTime<Utc> {
    later(at, jitter.mul_f64(rand.clamp(0.0, 1.0)))
}

/// Whether `at` lies `span` or more after `start`.
#[must_use]
pub fn has_lasted(start: DateTime<Utc>, at: DateTime<Utc>, span: Duration) -> bool {
    TimeDelta::from_std(span).is_ok_and(|span| at - start >= span)
}

#[cfg(test)]
mod tests;
