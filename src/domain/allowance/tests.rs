use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_800_000_000;
const CAP: Duration = Duration::from_secs(48 * 3600);

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// For how many seconds nothing is left, and which fields make no sense.
fn spent(fields: &Fields, lines: &[(&str, &str)]) -> (Option<i64>, Vec<String>) {
    let left = fields.left(&headers(lines), now(), CAP);
    let wait = left.spent_until.map(|until| (until - now()).num_seconds());
    (wait, left.malformed.iter().map(ToString::to_string).collect())
}

fn wait(lines: &[(&str, &str)]) -> Option<i64> {
    let (wait, malformed) = spent(&Fields::default(), lines);
    assert_eq!(malformed, [""; 0], "{lines:?}");
    wait
}

#[test]
fn nothing_left_by_the_draft_is_waited_for_until_its_reset() {
    for (value, expected) in [
        ("\"default\";r=50;t=30", None),
        ("\"default\";r=0;t=30", Some(30)),
        ("\"burst\";r=0;t=2, \"daily\";r=7;t=3600", Some(2)),
        ("\"burst\";r=0;t=2, \"daily\";r=0;t=3600", Some(3600)),
        ("default;r=0;t=30", Some(30)),
        ("\"default\";r=0;t=30;pk=:c29tZQ==:;x=1.5", Some(30)),
        ("\"default\";r=0;t=0", None),
        ("\"default\";r=0;t=999999999999999", Some(48 * 3600)),
        // As -07 wrote it.
        ("limit=100, remaining=0, reset=30", Some(30)),
        ("limit=100, remaining=1, reset=30", None),
    ] {
        assert_eq!(wait(&[("ratelimit", value)]), expected, "{value}");
    }
    let repeated = [("ratelimit", "\"a\";r=0;t=30"), ("ratelimit", "\"b\";r=0;t=40")];
    assert_eq!(wait(&repeated), Some(40));
}

#[test]
fn without_a_reset_it_is_the_window_of_that_policy() {
    let policy = ("ratelimit-policy", "\"burst\";q=10;w=5, \"daily\";q=1000;w=86400, \"odd\";q=1");
    assert_eq!(wait(&[("ratelimit", "\"daily\";r=0"), policy]), Some(86_400));
    assert_eq!(wait(&[("ratelimit", "\"burst\";r=0"), policy]), Some(5));
    assert_eq!(wait(&[("ratelimit", "\"odd\";r=0"), policy]), None);
    assert_eq!(wait(&[("ratelimit", "\"daily\";r=0")]), None, "how long is not known");
    let bad = [("ratelimit", "\"daily\";r=0"), ("ratelimit-policy", "10;;w")];
    assert_eq!(spent(&Fields::default(), &bad), (None, vec!["ratelimit-policy".into()]));
}

#[test]
fn what_is_no_ratelimit_counts_for_nothing_and_is_named() {
    for value in [
        "\"default\"",
        "\"default\" ; r=0 ; t=30",
        "\"default\";r=-1;t=30",
        "\"default\";r=0;t=-30",
        "\"default\";r=0;t=soon",
        "\"default\";r=0.0;t=30",
        "\"default\";r=0;t=9999999999999999",
        "(\"a\" \"b\");r=0;t=30",
        "7;r=0;t=30",
        "\"default;r=0",
        "limit=100",
        "limit=100, remaining=-3, reset=30",
        "<html>",
    ] {
        assert_eq!(spent(&Fields::default(), &[("ratelimit", value)]), (None, vec!["ratelimit".into()]), "{value}");
    }
    assert_eq!(wait(&[("ratelimit", "")]), None, "an empty list says nothing");
    let latin = HeaderMap::from_iter([(RATELIMIT, HeaderValue::from_bytes(b"\"a\xff\";r=0;t=9").unwrap())]);
    assert_eq!(Fields::default().left(&latin, now(), CAP).malformed, [RATELIMIT]);
}

#[test]
fn a_count_and_a_reset_are_seconds_left_or_a_time_by_their_size() {
    let (x_left, x_reset) = ("x-ratelimit-remaining", "x-ratelimit-reset");
    for (left, reset, expected) in [
        ("1", "30", None),
        ("0", "30", Some(30)),
        (" 0 ", " 30 ", Some(30)),
        ("0", "0", None),
        ("0.0", "29.5", Some(29)),
        ("0", "1800000060", Some(60)),
        ("0", "1800000060000", Some(60)),
        ("0", "1799999999", None),
        ("0", "999999999", Some(48 * 3600)),
        ("0", "99999999999999999999999999999999", Some(48 * 3600)),
        ("99999999999999999999999999999999", "30", None),
        // Merged by something in between.
        ("5, 0", "20, 30", Some(30)),
    ] {
        assert_eq!(wait(&[(x_left, left), (x_reset, reset)]), expected, "{left} {reset}");
    }
    assert_eq!(wait(&[(x_left, "5"), (x_left, "0"), (x_reset, "20"), (x_reset, "30")]), Some(30), "repeated");
    assert_eq!(wait(&[(x_left, "0")]), None, "until when is not known");
    assert_eq!(wait(&[(x_reset, "30")]), None, "nor how much");
    assert_eq!(wait(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "30")]), Some(30));
    assert_eq!(wait(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "1800000060")]), Some(60));
}

#[test]
fn a_count_that_is_none_counts_for_nothing_and_is_named() {
    let (x_left, x_reset) = ("x-ratelimit-remaining", "x-ratelimit-reset");
    for left in ["-1", "none", "", "1e3", "0x0", "inf", "NaN", ".", "1.2.3", "+0"] {
        let told = spent(&Fields::default(), &[(x_left, left), (x_reset, "30")]);
        assert_eq!(told, (None, vec![x_left.into()]), "{left}");
    }
    for reset in ["-30", "tomorrow", "2026-03-01T12:00:00Z"] {
        let told = spent(&Fields::default(), &[(x_left, "0"), (x_reset, reset)]);
        assert_eq!(told, (None, vec![x_reset.into()]), "{reset}");
    }
}

#[test]
fn what_the_operator_says_of_names_and_numbers_holds() {
    let named = |reset_is| Fields {
        remaining: HeaderName::from_static("x-left"),
        reset: HeaderName::from_static("x-more-at"),
        reset_is,
    };
    let told = |reset_is, reset| spent(&named(reset_is), &[("x-left", "0"), ("x-more-at", reset)]).0;
    assert_eq!(told(ResetIs::Epoch, "30"), None, "in 1970");
    assert_eq!(told(ResetIs::Epoch, "1800000030"), Some(30));
    assert_eq!(told(ResetIs::SecondsLeft, "30"), Some(30));
    assert_eq!(told(ResetIs::SecondsLeft, "1800000030"), Some(48 * 3600));
    let other = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "30")];
    assert_eq!(spent(&named(ResetIs::Auto), &other), (None, vec![]), "these are not the ones");
}

#[test]
fn a_time_of_the_upstreams_clock_is_compared_with_its_date() {
    let date = httpdate::fmt_http_date((now() + chrono::TimeDelta::hours(1)).into());
    let lines = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1800003630"), ("date", date.as_str())];
    assert_eq!(wait(&lines), Some(30));
}

#[test]
fn how_soon_a_resource_may_be_asked_for_again_is_heard() {
    let left = |lines: &[(&str, &str)]| Fields::default().left(&headers(lines), now(), CAP);
    let wait = |value| left(&[("x-poll-interval", value)]).not_before.map(|at| (at - now()).num_seconds());
    assert_eq!(wait("60"), Some(60));
    assert_eq!(wait("0"), None);
    assert_eq!(wait("99999999999999999999"), Some(48 * 3600));
    assert_eq!(
        left(&[("x-poll-interval", "60"), ("x-poll-interval", "90")]).not_before,
        Some(now() + chrono::TimeDelta::seconds(90))
    );
    for bad in ["-60", "soon", "", "1.5"] {
        let left = left(&[("x-poll-interval", bad)]);
        assert_eq!((left.not_before, left.malformed), (None, vec![POLL_INTERVAL]), "{bad}");
    }
}

proptest! {
    /// Whatever bytes come: nobody waits for longer than the cap, or for what has passed.
    #[test]
    fn whatever_comes_no_wait_is_longer_than_the_cap(
        lines in prop::collection::vec((0usize..8, "[ -~]{0,40}|\"a\";r=[0-9]{1,17};t=-?[0-9]{1,17}|[0-9]{1,40}(\\.[0-9]{0,3})?"), 0..8),
        reset_is in prop::sample::select(vec![ResetIs::Auto, ResetIs::Epoch, ResetIs::SecondsLeft]),
    ) {
        let names = [
            RATELIMIT, RATELIMIT_POLICY, RATELIMIT_REMAINING, RATELIMIT_RESET, POLL_INTERVAL, header::DATE,
            Fields::default().remaining, Fields::default().reset,
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in &lines {
            headers.append(names[*name].clone(), HeaderValue::from_str(value).unwrap());
        }
        let left = Fields { reset_is, ..Fields::default() }.left(&headers, now(), CAP);
        for until in [left.spent_until, left.not_before].into_iter().flatten() {
            prop_assert!(until > now() && until <= later(now(), CAP), "{until}");
        }
    }
}
