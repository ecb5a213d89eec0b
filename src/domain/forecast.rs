//! What is to be asked of an upstream in the next day: computed from cadences and limits, as if every answer came at once.
//!
//! Nothing is drawn at random: the due times of a source are followed for a few hundred resources that stand for all of it, by the same
//! [`Cadence`] and the same limits that decide in earnest. What an upstream's own freshness adds to an interval, and what
//! failures take from it, isn't known beforehand and is left out.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::limit::Limits;
use super::schedule::{Cadence, Slot, jittered};
use super::time::{earlier, later};

/// How far it looks.
pub const MINUTES: usize = 24 * 60;

/// How many resources stand for a source at most.
const STANDS_FOR: u64 = 512;

/// How many due times are followed for a source at most.
const STEPS: u64 = 1_000_000;

/// The golden ratio: multiples of it, without their whole part, spread evenly however many there are.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// What a source asks of its upstream.
#[derive(Debug, Clone)]
pub struct Demand<'a> {
    /// How often.
    pub cadence: &'a Cadence,
    /// How much later than that it may be.
    pub jitter: Duration,
    /// The requests that ask for all that was never fetched.
    pub new: u64,
    /// Those for what was fetched and is due now.
    pub overdue: u64,
    /// Those for what was fetched and is due later.
    pub settled: u64,
}

/// What an upstream will be asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Requests in each minute of the next day, the first one from now.
    by_minute: Vec<f64>,
    /// Requests that are late at the end of the day, held back by limits.
    pub behind: u64,
    /// Requests for what was never fetched.
    pub new: u64,
    /// How long limits stretch the fetching of that; `None` where nothing but the upstream's own speed does.
    pub full_copy_after: Option<Duration>,
}

impl Forecast {
    /// What these sources ask of an upstream with these limits, from `now` on.
    #[must_use]
    pub fn of(demands: &[Demand<'_>], limits: &Limits, now: DateTime<Utc>) -> Self {
        let buckets = Buckets::of(limits);
        let sum = |of: fn(&Demand<'_>) -> u64| demands.iter().map(of).fold(0, u64::saturating_add);
        let (overdue, new) = (sum(|demand| demand.overdue), sum(|demand| demand.new));
        // What was due before comes first, but where a budget decides: see the claims of the store.
        let (before_new, before_overdue) = if limits.budgets.is_empty() { (overdue, 0) } else { (0, new) };
        let mut due = vec![0.0; MINUTES];
        let mut ranks = (before_new, before_overdue);
        for demand in demands {
            demand.follow(&buckets, &mut ranks, now, &mut due);
        }
        let (by_minute, behind) = buckets.let_through(&due);
        // What waits is not asked for twice: it is due again only once it was asked for.
        let once = new.saturating_add(overdue).saturating_add(sum(|demand| demand.settled));
        let behind = behind.min(once);
        let full_copy_after = if new == 0 { None } else { buckets.wait_for(before_new.saturating_add(new)) };
        Self { by_minute, behind, new, full_copy_after }
    }

    /// Requests in the first `minutes`.
    #[must_use]
    pub fn within(&self, minutes: usize) -> u64 {
        whole(self.by_minute.iter().take(minutes).sum())
    }

    /// The minute with the most requests, counted from now, and how many; `None` where there are none.
    #[must_use]
    pub fn busiest(&self) -> Option<(usize, u64)> {
        let most = self.by_minute.iter().copied().max_by(f64::total_cmp).filter(|most| *most > 0.0)?;
        let minute = self.by_minute.iter().position(|requests| requests.total_cmp(&most).is_eq())?;
        // A part of a request is one that comes in that minute on some days.
        Some((minute, whole(most.ceil())))
    }
}

impl Demand<'_> {
    /// Adds each due time of the day to its minute. `ranks`: how many requests there are before what was never fetched, and before
    /// what is overdue; they grow by those of this source.
    fn follow(&self, buckets: &Buckets, ranks: &mut (u64, u64), now: DateTime<Utc>, due: &mut [f64]) {
        let end = later(now, Duration::from_secs(60 * MINUTES as u64));
        let of_cron = self.times_of_cron(now, end);
        let mut group = |requests: u64, first: &dyn Fn(f64, f64) -> DateTime<Utc>| {
            for (place, weight) in self.stand_ins(requests, now) {
                let spread = (place * GOLDEN * 1e6).fract();
                let mut at = first(place, spread);
                while at < end {
                    count(due, at, now, weight);
                    at = jittered(self.next(at, Slot::at(spread), &of_cron), self.jitter, spread);
                }
            }
        };
        let waits = |rank: u64, requests: u64| {
            move |place: f64, _: f64| {
                let before = rank.saturating_add(whole(number(requests) * place));
                later(now, buckets.wait_for(before).unwrap_or_default())
            }
        };
        group(self.new, &waits(ranks.0, self.new));
        group(self.overdue, &waits(ranks.1, self.overdue));
        // After three intervals each has found its place.
        let before = earlier(now, self.cadence.interval(now).saturating_mul(3));
        let begin = if matches!(self.cadence, Cadence::Every(_)) { before } else { now };
        group(self.settled, &|_, spread| {
            let next = |at: &DateTime<Utc>| Some(self.next(*at, Slot::at(spread), &of_cron));
            let at = std::iter::successors(next(&begin), next).find(|at| *at > now).unwrap_or(end);
            jittered(at, self.jitter, spread)
        });
        ranks.0 = ranks.0.saturating_add(self.new);
        ranks.1 = ranks.1.saturating_add(self.overdue);
    }

    /// Places of few in a row of many, each with the number that it stands for.
    fn stand_ins(&self, requests: u64, now: DateTime<Utc>) -> impl Iterator<Item = (f64, f64)> + use<> {
        let rounds = 60 * MINUTES as u64 / self.cadence.interval(now).as_secs().max(1) + 2;
        let few = requests.min(STANDS_FOR).min((STEPS / rounds).max(1));
        (0..few).map(move |index| ((number(index) + 0.5) / number(few), number(requests) / number(few)))
    }

    fn times_of_cron(&self, now: DateTime<Utc>, end: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let Cadence::Cron(rule) = self.cadence else { return Vec::new() };
        std::iter::successors(rule.next(now), |at| rule.next(*at)).take_while(|at| *at < end).collect()
    }

    /// The next due time; those of a cron rule are computed once for all.
    fn next(&self, at: DateTime<Utc>, slot: Slot, of_cron: &[DateTime<Utc>]) -> DateTime<Utc> {
        match self.cadence {
            Cadence::Cron(_) => {
                let after = of_cron.partition_point(|time| *time <= at);
                of_cron.get(after).copied().unwrap_or(DateTime::<Utc>::MAX_UTC)
            }
            Cadence::Every(_) | Cadence::WhenRead(_) => self.cadence.next(at, slot),
        }
    }
}

/// The rate and each budget, as buckets of requests that begin full.
struct Buckets(Vec<Bucket>);

#[derive(Clone, Copy)]
struct Bucket {
    capacity: f64,
    per_second: f64,
}

impl Buckets {
    fn of(limits: &Limits) -> Self {
        let rate = limits.requests_per_second;
        let rate = rate.map(|_| Bucket { capacity: limits.capacity(), per_second: limits.refill_per_second() });
        let budgets = limits.budgets.iter().map(|budget| Bucket {
            capacity: budget.capacity(),
            per_second: budget.refill_per_second(limits.send_window()),
        });
        Self(rate.into_iter().chain(budgets).collect())
    }

    /// When so many requests have been granted, if all are wanted now; `None` without any limit.
    fn wait_for(&self, requests: u64) -> Option<Duration> {
        let wait = |bucket: &Bucket| (number(requests) - bucket.capacity).max(0.0) / bucket.per_second;
        let longest = self.0.iter().map(wait).max_by(f64::total_cmp)?;
        Some(Duration::try_from_secs_f64(longest).unwrap_or(Duration::MAX))
    }

    /// What of that is granted in each minute, and what is left; what can't be granted in one waits for the next.
    fn let_through(&self, due: &[f64]) -> (Vec<f64>, u64) {
        let (mut waiting, mut tokens) = (0.0_f64, self.0.iter().map(|bucket| bucket.capacity).collect::<Vec<_>>());
        let mut granted = Vec::with_capacity(due.len());
        for due in due {
            waiting += due;
            let mut now = waiting;
            for (tokens, bucket) in tokens.iter_mut().zip(&self.0) {
                *tokens += 60.0 * bucket.per_second;
                now = now.min(*tokens);
            }
            waiting -= now;
            for (tokens, bucket) in tokens.iter_mut().zip(&self.0) {
                *tokens = (*tokens - now).min(bucket.capacity);
            }
            granted.push(now);
        }
        (granted, whole(waiting))
    }
}

fn count(due: &mut [f64], at: DateTime<Utc>, now: DateTime<Utc>, weight: f64) {
    let minute = usize::try_from((at - now).num_minutes()).unwrap_or_default();
    if let Some(due) = due.get_mut(minute) {
        *due += weight;
    }
}

#[expect(clippy::cast_precision_loss, reason = "requests in a day have fewer than 52 bits")]
fn number(requests: u64) -> f64 {
    requests as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative; saturates")]
fn whole(requests: f64) -> u64 {
    requests.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::budget::{Budget, Budgets};
    use crate::domain::limit;
    use crate::domain::schedule::CronRule;
    use proptest::prelude::*;

    const FREE: Limits = Limits { requests_per_second: None, burst: 2, max_concurrent: 8, budgets: Budgets::NONE };

    fn now() -> DateTime<Utc> {
        "2026-03-01T12:10:00Z".parse().unwrap()
    }

    fn every(minutes: u64) -> Cadence {
        Cadence::Every(Duration::from_secs(60 * minutes))
    }

    fn demand(cadence: &Cadence, new: u64, overdue: u64, settled: u64) -> Demand<'_> {
        Demand { cadence, jitter: Duration::ZERO, new, overdue, settled }
    }

    #[test]
    fn what_is_in_its_place_is_asked_for_once_in_each_interval() {
        let forecast = Forecast::of(&[demand(&every(60), 0, 0, 600)], &FREE, now());
        assert_eq!((forecast.within(60), forecast.within(MINUTES)), (600, 600 * 24));
        let (_, most) = forecast.busiest().unwrap();
        assert!((10..=13).contains(&most), "{most}");
        assert_eq!((forecast.new, forecast.behind, forecast.full_copy_after), (0, 0, None));
    }

    #[test]
    fn new_keys_come_at_once_and_then_find_their_places() {
        let forecast = Forecast::of(&[demand(&every(60), 600, 0, 0)], &FREE, now());
        assert_eq!((forecast.within(1), forecast.busiest()), (600, Some((0, 600))));
        // Each is asked for a second time in the second half of the hour; half of them a third time by its end or soon after.
        assert_eq!(forecast.within(30), 600);
        assert!((1190..=1200).contains(&forecast.within(60)), "{}", forecast.within(60));
        let day = forecast.within(MINUTES);
        assert!((600 * 24..=600 * 26).contains(&day), "{day}");
        assert_eq!((forecast.new, forecast.full_copy_after), (600, None));
    }

    #[test]
    fn a_rate_spreads_the_first_copy_and_what_it_can_not_let_through_is_behind() {
        let limits = Limits { requests_per_second: Some(1.0), ..FREE };
        let forecast = Forecast::of(&[demand(&every(60), 7200, 0, 0)], &limits, now());
        let after = forecast.full_copy_after.unwrap().as_secs();
        assert!((7190..=7300).contains(&after), "{after} s for 7200 requests at one a second");
        assert!((3500..=3605).contains(&forecast.within(60)), "{}", forecast.within(60));
        assert!(forecast.busiest().unwrap().1 <= 63);
        assert_eq!(forecast.behind, 7200, "it needs twice of what it may, so all of it is late");
    }

    #[test]
    fn the_first_copy_takes_as_long_as_it_takes_by_the_bucket_that_grants_it() {
        let limits = Limits { requests_per_second: Some(2.5), burst: 9, ..FREE };
        let planned = Forecast::of(&[demand(&every(60), 700, 40, 0)], &limits, now()).full_copy_after.unwrap();
        let mut bucket = limit::Bucket { tokens: limits.capacity(), at: now() };
        let (mut at, mut left) = (now(), 740);
        while left > 0 {
            let grant = bucket.take((&limits, 1.0), at, left);
            (bucket, left) = (grant.bucket, left - grant.granted);
            at = grant.next_at.unwrap_or(at);
        }
        let off = (at - now()).as_seconds_f64() - planned.as_secs_f64();
        assert!(off.abs() < 1.0, "{planned:?} planned, {} taken", at - now());
    }

    #[test]
    fn no_day_is_told_more_than_a_budget_and_what_is_new_goes_first_in_it() {
        let budgets = Budgets::of([Budget { requests: 1000, per: Duration::from_secs(86_400) }]);
        let limits = Limits { budgets, ..FREE };
        let forecast = Forecast::of(&[demand(&every(60), 100, 10_000, 0)], &limits, now());
        assert!((990..=1000).contains(&forecast.within(MINUTES)), "{}", forecast.within(MINUTES));
        let hours = forecast.full_copy_after.unwrap().as_secs() / 3600;
        assert_eq!(hours, 1, "50 at once, and 50 of 950 a day");
        assert!(forecast.behind >= 9000);
    }

    #[test]
    fn a_cron_rule_asks_for_all_of_it_in_one_minute_unless_jitter_spreads_it() {
        let rule = CronRule::new("0 * * * *", chrono_tz::UTC, now()).unwrap();
        let hourly = Cadence::Cron(Box::new(rule));
        let forecast = Forecast::of(&[demand(&hourly, 0, 0, 300)], &FREE, now());
        assert_eq!((forecast.busiest(), forecast.within(MINUTES)), (Some((50, 300)), 300 * 24));
        let spread = Demand { jitter: Duration::from_secs(600), ..demand(&hourly, 0, 0, 300) };
        let (minute, most) = Forecast::of(&[spread], &FREE, now()).busiest().unwrap();
        assert!((50..60).contains(&(minute % 60)) && (30..=36).contains(&most), "{most} in minute {minute}");
    }

    #[test]
    fn what_is_read_on_demand_is_asked_for_once_and_what_is_not_there_never() {
        let when_read = Cadence::WhenRead(Duration::from_secs(60));
        assert_eq!(Forecast::of(&[demand(&when_read, 3, 0, 50)], &FREE, now()).within(MINUTES), 3);
        let none = Forecast::of(&[demand(&every(1), 0, 0, 0)], &FREE, now());
        assert_eq!((none.busiest(), none.within(MINUTES)), (None, 0));
    }

    proptest! {
        #[test]
        fn it_takes_any_numbers_and_never_tells_more_than_the_limits_let_through(
            seconds in 1u64..1_000_000, jitter in 0u64..100_000,
            new in 0u64..u64::MAX / 4, overdue in 0u64..1_000_000, settled in 0u64..1_000_000,
            rate in prop::option::of(0.001f64..1000.0), burst in 1u32..1000,
        ) {
            let (cadence, jitter) = (Cadence::Every(Duration::from_secs(seconds)), Duration::from_secs(jitter));
            let limits = Limits { requests_per_second: rate, burst, ..FREE };
            let demand = Demand { cadence: &cadence, jitter, new, overdue, settled };
            let forecast = Forecast::of(&[demand], &limits, now());
            if let Some(rate) = rate {
                prop_assert!(forecast.busiest().is_none_or(|(_, most)| number(most) <= rate * 60.0 + f64::from(burst) + 1.0));
                prop_assert_eq!(forecast.full_copy_after.is_some(), new > 0);
            }
        }
    }
}
