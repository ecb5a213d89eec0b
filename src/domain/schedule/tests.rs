use proptest::prelude::*;

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

/// How many of 60 equal parts of an hour the most crowded one holds, when each of `ids` was refreshed at `refreshed`.
fn most_in_a_minute(ids: std::ops::Range<i64>, refreshed: DateTime<Utc>, seed: u64) -> usize {
    let keys = (ids.end - ids.start).unsigned_abs();
    let mut counts = [0_usize; 121];
    for id in ids {
        let slot = Slot::of(ResourceId(id), keys, seed);
        // Two rounds: after the first, each resource is in its slot.
        let first = Cadence::Every(minutes(60)).next(refreshed, slot);
        let second = Cadence::Every(minutes(60)).next(first, slot);
        counts[usize::try_from((second - refreshed).num_minutes()).unwrap()] += 1;
    }
    *counts.iter().max().unwrap()
}

#[test]
fn a_thousand_keys_fetched_together_are_spread_over_the_hour() {
    for seed in [0, 1 << 60, u64::MAX / 3] {
        // An even spread has 17 a minute.
        let most = most_in_a_minute(1..1001, at("2026-03-01T12:00:00Z"), seed);
        assert!(most <= 40, "{most} in one minute, seed {seed}");
    }
}

#[test]
fn ten_keys_and_a_hundred_thousand_are_spread_too() {
    assert!(most_in_a_minute(1..11, at("2026-03-01T12:00:00Z"), 7) <= 2);
    assert!(most_in_a_minute(1..100_001, at("2026-03-01T12:00:00Z"), 7) <= 2 * 100_000 / 60);
}

#[test]
fn neighbouring_ids_fall_due_together() {
    let slots: Vec<f64> = (640..704).map(|id| Slot::of(ResourceId(id), 100_000, 7).fraction()).collect();
    let spread = slots.iter().fold(0.0_f64, |most, slot| most.max((slot - slots[0]).abs()));
    assert!(spread <= 64.0 / 100_000.0, "a block is as wide as its share of the interval, not {spread}");
}

#[test]
fn a_slot_depends_on_nothing_that_a_restart_changes() {
    let slot = Slot::of(ResourceId(42), 1000, 99);
    let first = Cadence::Every(minutes(60)).next(at("2026-03-01T12:00:00Z"), slot);
    let again = Cadence::Every(minutes(60)).next(at("2026-03-01T12:00:00Z"), Slot::of(ResourceId(42), 1000, 99));
    assert_eq!(first, again);
    assert_ne!(slot, Slot::of(ResourceId(42), 1000, 98), "another installation polls at other times");
}

#[test]
fn cron_follows_the_zone_over_a_change_to_summer_time() {
    let rule = CronRule::new("30 8 * * *", chrono_tz::Europe::Berlin, at("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(rule.next(at("2026-03-28T00:00:00Z")), Some(at("2026-03-28T07:30:00Z")));
    assert_eq!(rule.next(at("2026-03-29T00:00:00Z")), Some(at("2026-03-29T06:30:00Z")));
    let night = CronRule::new("30 2 * * *", chrono_tz::Europe::Berlin, at("2026-01-01T00:00:00Z")).unwrap();
    let skipped = night.next(at("2026-03-28T12:00:00Z")).unwrap();
    assert!(skipped > at("2026-03-29T00:00:00Z") && skipped <= at("2026-03-30T00:30:00Z"), "{skipped}");
}

#[test]
fn the_interval_of_a_cron_rule_does_not_shrink_as_its_time_comes_near() {
    let rule = CronRule::new("0 * * * *", chrono_tz::UTC, at("2026-01-01T00:00:00Z")).unwrap();
    let hourly = Cadence::Cron(Box::new(rule));
    assert_eq!(hourly.interval(at("2026-01-01T00:00:01Z")), minutes(60));
    assert_eq!(hourly.interval(at("2026-01-01T00:59:59Z")), minutes(60));
}

#[test]
fn cron_rules_that_can_not_be_used_say_why() {
    let rule = |text| CronRule::new(text, chrono_tz::UTC, at("2026-01-01T00:00:00Z"));
    assert!(matches!(rule("nonsense"), Err(BadCron::Unreadable(_))));
    assert!(matches!(rule("61 * * * *"), Err(BadCron::Unreadable(_))));
    assert!(matches!(rule("* * * * * *"), Err(BadCron::Unreadable(_))), "seconds are not part of a rule");
    assert_eq!(rule("0 0 30 2 *").unwrap_err(), BadCron::Never);
}

#[test]
fn backoff_doubles_up_to_the_cap_and_never_ends() {
    let backoff = Backoff { initial: Duration::from_secs(5), cap: minutes(15) };
    let most: Vec<_> = [1, 2, 3, 8, 9, 1000, u32::MAX].map(|n| backoff.wait(n, 1.0).as_secs()).to_vec();
    assert_eq!(most, [5, 10, 20, 640, 900, 900, 900]);
    assert_eq!(backoff.wait(2, 0.0), Duration::from_secs(5), "jitter takes up to half of it away");
}

#[test]
fn codes_and_names_are_distinct_and_read_back() {
    for because in Because::ALL {
        assert_eq!(Because::from_code(because.code()), Some(because));
    }
    let names: std::collections::BTreeSet<_> = Because::ALL.map(Because::as_str).into();
    assert_eq!(names.len(), Because::ALL.len());
}

proptest! {
    #[test]
    fn no_wait_is_longer_than_the_interval_or_shorter_than_half(
        id in 0_i64..10_000_000,
        keys in 1_u64..10_000_000,
        seed: u64,
        now in 0_i64..4_000_000_000,
        seconds in 1_u64..40_000_000,
    ) {
        let now = DateTime::from_timestamp(now, 0).unwrap();
        let interval = Duration::from_secs(seconds);
        let due = Cadence::Every(interval).next(now, Slot::of(ResourceId(id), keys, seed));
        let wait = (due - now).to_std().unwrap();
        prop_assert!(wait <= interval, "{wait:?} of {interval:?}");
        prop_assert!(wait + Duration::from_micros(1) >= interval / 2, "{wait:?} of {interval:?}");
    }

    #[test]
    fn the_second_refresh_is_in_the_slot_and_the_next_one_interval_later(
        id in 0_i64..10_000_000,
        seed: u64,
        now in 0_i64..4_000_000_000,
    ) {
        let every = Cadence::Every(minutes(60));
        let slot = Slot::of(ResourceId(id), 1000, seed);
        let first = every.next(DateTime::from_timestamp(now, 0).unwrap(), slot);
        let second = every.next(first, slot);
        let third = every.next(second, slot);
        prop_assert_eq!((third - second).to_std().unwrap(), minutes(60));
    }
}

#[test]
fn what_is_put_aside_comes_after_all_others_and_keeps_its_time() {
    for at in [DateTime::UNIX_EPOCH, DateTime::from_timestamp(1_800_000_000, 0).unwrap()] {
        let aside = put_aside(at);
        assert!(aside >= FIRST_ASIDE && aside > later(at, DAY * 365 * 500));
        assert_eq!((aside_until(aside), put_aside(aside)), (Some(at), aside));
        assert_eq!(aside_until(at), None);
    }
    let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let due = |because| Due { at: later(now, DAY), because }.put_aside(now);
    for because in Because::ALL {
        let spares = because.spares_the_upstream();
        let expected = if spares { (put_aside(later(now, DAY)), because) } else { (put_aside(now), Because::Read) };
        assert_eq!((due(because).at, due(because).because), expected, "{because:?}");
    }
}
