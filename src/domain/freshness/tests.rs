use chrono::TimeDelta;

use super::*;

const NOW: &str = "Sun, 01 Mar 2026 12:00:00 GMT";

fn now() -> DateTime<Utc> {
    http_date(NOW).unwrap()
}

/// Seconds for which an answer with these headers, that took two seconds to come, stays fresh.
fn remaining(lines: &[(&'static str, &str)], held: Option<u32>) -> u64 {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    Stated::by(&headers, now() - TimeDelta::seconds(2), now(), held).remaining().as_secs()
}

#[test]
fn the_first_rule_that_speaks_decides_the_lifetime() {
    let in_an_hour = "Sun, 01 Mar 2026 13:00:00 GMT";
    for (lines, expected) in [
        (vec![], 0),
        (vec![("cache-control", "max-age=600")], 598),
        (vec![("cache-control", "max-age=600, s-maxage=60")], 58),
        (vec![("cache-control", "s-maxage=60"), ("cache-control", "max-age=600")], 58),
        (vec![("cache-control", "Max-Age=\"600\"")], 598),
        (vec![("cache-control", "max-age=600, max-age=60")], 598),
        (vec![("cache-control", "max-age=0"), ("expires", in_an_hour), ("date", NOW)], 0),
        (vec![("expires", in_an_hour), ("date", NOW)], 3598),
        (vec![("expires", in_an_hour)], 3598),
        (vec![("expires", "Sunday, 01-Mar-26 13:00:00 GMT"), ("date", NOW)], 3598),
        (vec![("expires", "Sun Mar  1 13:00:00 2026"), ("date", NOW)], 3598),
        (vec![("expires", "0"), ("date", NOW)], 0),
        (vec![("expires", "in an hour"), ("date", NOW)], 0),
        (vec![("expires", "Sun, 01 Mar 2026 11:00:00 GMT"), ("date", NOW)], 0),
    ] {
        assert_eq!(remaining(&lines, None), expected, "{lines:?}");
    }
}

#[test]
fn age_is_the_larger_of_what_date_shows_and_what_age_says() {
    let fresh = ("cache-control", "max-age=600");
    for (lines, expected) in [
        (vec![fresh, ("age", "100")], 498),
        (vec![fresh, ("date", "Sun, 01 Mar 2026 11:55:00 GMT")], 300),
        (vec![fresh, ("date", "Sun, 01 Mar 2026 11:55:00 GMT"), ("age", "400")], 198),
        (vec![fresh, ("age", "99999999999999999999999")], 0),
        (vec![fresh, ("age", "18446744073709551615")], 0),
        (vec![fresh, ("age", "-3")], 598),
        (vec![fresh, ("age", "100, 5")], 498),
        (vec![fresh, ("age", "many, 5")], 598),
        (vec![fresh, ("age", "100"), ("age", "5")], 498),
        // A Date far off: in the past nothing is fresh; in the future it proves no age.
        (vec![fresh, ("date", "Thu, 01 Jan 1970 00:00:00 GMT")], 0),
        (vec![fresh, ("date", "Fri, 31 Dec 9999 23:59:59 GMT")], 598),
    ] {
        assert_eq!(remaining(&lines, None), expected, "{lines:?}");
    }
}

#[test]
fn numbers_too_large_saturate_and_what_is_no_number_is_expired() {
    for (value, expected) in [
        ("max-age=99999999999999999999", (1 << 31) - 2),
        ("max-age=4294967296", (1 << 31) - 2),
        ("max-age=-1", 0),
        ("max-age=1.5", 0),
        ("max-age=", 0),
        ("max-age", 0),
        ("max-age=+5", 0),
    ] {
        assert_eq!(remaining(&[("cache-control", value)], None), expected, "{value}");
    }
}

#[test]
fn what_forbids_reuse_carries_no_freshness() {
    let hour = ("expires", "Sun, 01 Mar 2026 13:00:00 GMT");
    for value in ["no-store", "no-cache, max-age=600", "private, max-age=600", "max-age=600, NO-STORE"] {
        assert_eq!(remaining(&[("cache-control", value), hour], None), 0, "{value}");
    }
    // With an argument these speak of single fields, and a comma in quotes ends no directive.
    assert_eq!(remaining(&[("cache-control", "private=\"a, no-store\", max-age=600")], None), 598);
}

#[test]
fn without_a_stated_lifetime_a_tenth_of_the_time_without_change_is_guessed() {
    let guess = |last_modified: Option<&str>, lines: &[(&'static str, &str)]| {
        let lines = lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let headers: HeaderMap = lines.collect();
        let age = Stated::by(&headers, now(), now(), None).age;
        guessed(last_modified.map(str::as_bytes), &headers, now(), age).as_secs()
    };
    let ten_hours_before = Some("Sun, 01 Mar 2026 02:00:00 GMT");
    assert_eq!(guess(ten_hours_before, &[]), 3600);
    assert_eq!(guess(ten_hours_before, &[("date", NOW)]), 3600);
    assert_eq!(guess(ten_hours_before, &[("date", NOW), ("age", "600")]), 3000);
    assert_eq!(guess(ten_hours_before, &[("date", "Sun, 01 Mar 2026 11:00:00 GMT")]), 0, "it is an hour old");
    for nonsense in [None, Some("yesterday"), Some(""), Some("Fri, 31 Dec 9999 23:59:59 GMT")] {
        assert_eq!(guess(nonsense, &[]), 0, "{nonsense:?}");
    }
}

#[test]
fn a_304_without_cache_control_leaves_the_stored_lifetime_standing() {
    assert_eq!(remaining(&[], Some(600)), 598);
    assert_eq!(remaining(&[("cache-control", "max-age=60")], Some(600)), 58);
    assert_eq!(remaining(&[("cache-control", "no-cache")], Some(600)), 0);
}
