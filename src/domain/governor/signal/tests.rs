use super::*;
use http::{HeaderName, HeaderValue};

fn hearing(scope: PauseScope) -> Hearing {
    let hour = Duration::from_secs(3600);
    let allowance = Some(Fields::default());
    Hearing { source: SourceId(1), scope, allowance, retry_after_cap: hour, own_cap: hour, has_waited: false }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn answered(hearing: &Hearing, status: u16, fields: &[(&'static str, &'static str)]) -> Said {
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    hearing.of(StatusCode::from_u16(status).unwrap(), &fields.iter().map(field).collect(), now())
}

fn said(hearing: &Hearing, status: u16, wait: &'static str) -> Said {
    answered(hearing, status, &[("retry-after", wait)])
}

#[test]
fn only_429_and_503_say_enough_and_nonsense_for_a_time_says_no_time() {
    let until = |said| match said {
        Said::Enough(enough) => Some(enough.until.map(|until| until.timestamp() - 1_800_000_000)),
        _ => None,
    };
    for (status, wait, expected) in [
        (200, "30", None),
        (404, "30", None),
        (500, "30", None),
        (429, "30", Some(Some(30))),
        (503, "30", Some(Some(30))),
        (429, "-30", Some(None)),
        (429, "soon", Some(None)),
        (429, "Thu, 01 Jan 1970 00:00:00 GMT", Some(None)),
        (429, "999999999999", Some(Some(3600))),
    ] {
        assert_eq!(until(said(&hearing(PauseScope::Upstream), status, wait)), expected, "{status} {wait}");
    }
}

#[test]
fn the_scope_says_what_it_is_about() {
    let covers = |scope| match said(&hearing(scope), 429, "30") {
        Said::Enough(enough) => Some(enough.covers),
        _ => None,
    };
    assert_eq!(covers(PauseScope::Upstream), Some(Covers::Upstream));
    assert_eq!(covers(PauseScope::Source), Some(Covers::Source(SourceId(1))));
    assert_eq!(covers(PauseScope::Key), None);
}

#[test]
fn an_answer_that_says_that_nothing_is_left_asks_for_quiet_whatever_its_status() {
    let spent = ("ratelimit", "\"default\";r=0;t=30");
    for status in [200, 304, 302, 404, 500] {
        let Said::Later(later) = answered(&hearing(PauseScope::Upstream), status, &[spent]) else { panic!("{status}") };
        assert_eq!((later.status, later.covers, later.cause), (status, Covers::Upstream, Cause::Allowance));
        assert_eq!((later.until - now()).num_seconds(), 30);
    }
    let by_source = answered(&hearing(PauseScope::Source), 200, &[spent]).quiet();
    assert_eq!(by_source.map(|(covers, _)| covers), Some(Covers::Source(SourceId(1))));
    assert_eq!(answered(&hearing(PauseScope::Key), 200, &[spent]), Said::Well);
    let deaf = Hearing { allowance: None, ..hearing(PauseScope::Upstream) };
    assert_eq!(answered(&deaf, 200, &[spent]), Said::Well);
    assert_eq!(answered(&hearing(PauseScope::Upstream), 200, &[("ratelimit", "\"default\";r=1;t=30")]), Said::Well);
    assert_eq!(answered(&hearing(PauseScope::Upstream), 200, &[("ratelimit", "r=0")]), Said::Well, "that is none");
}

#[test]
fn of_retry_after_and_a_spent_allowance_the_longer_counts() {
    let both = |wait, reset| {
        let fields = [("retry-after", wait), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)];
        let (_, until) = answered(&hearing(PauseScope::Upstream), 429, &fields).quiet().unwrap();
        (until - now()).num_seconds()
    };
    assert_eq!((both("30", "40"), both("50", "40"), both("soon", "40")), (40, 50, 40));
}

#[test]
fn what_asks_for_more_quiet_outlasts_what_comes_before_and_after_it() {
    let until = |seconds| now() + chrono::TimeDelta::seconds(seconds);
    let later = |seconds| {
        let (cause, covers, until) = (Cause::Allowance, Covers::Upstream, until(seconds));
        Said::Later(Later { status: 200, cause, covers, until })
    };
    let enough =
        Said::Enough(Enough { status: 429, cause: Cause::Limit, covers: Covers::Upstream, until: Some(until(9)) });
    for (first, second, counts) in [
        (Said::Silence, Said::Well, Said::Well),
        (Said::Well, later(5), later(5)),
        (later(5), Said::Well, later(5)),
        (later(5), later(7), later(7)),
        (later(7), later(5), later(7)),
        (later(50), enough, enough),
        (enough, later(50), enough),
        (enough, Said::Well, enough),
    ] {
        assert_eq!(first.and_then(second), counts, "{first:?} then {second:?}");
    }
}

#[test]
fn a_redirect_that_is_to_be_followed_later_asks_for_quiet_until_then_and_was_waited_for_once() {
    let hearing = hearing(PauseScope::Upstream);
    let waited = Hearing { has_waited: true, ..hearing.clone() };
    let after = |hearing: &Hearing, status: u16, wait: &'static str| {
        let fields = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static(wait))]);
        let after = hearing.follow_after(StatusCode::from_u16(status).unwrap(), &fields, now());
        let said = said(hearing, status, wait);
        assert_eq!(said.quiet().map(|(_, until)| until), after, "{status} {wait}");
        after.map(|after| (after - now()).num_seconds())
    };
    for status in [301, 302, 303, 307, 308] {
        assert_eq!((after(&hearing, status, "30"), after(&waited, status, "30")), (Some(30), None), "{status}");
    }
    assert_eq!(after(&hearing, 304, "30"), None, "nobody is sent elsewhere");
    for (wait, expected) in [
        ("-30", None),
        ("soon", None),
        ("0", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("999999999999", Some(3600)),
    ] {
        assert_eq!(after(&hearing, 302, wait), expected, "{wait}");
    }
    let Said::Later(later) = said(&hearing, 307, "30") else { panic!() };
    assert_eq!((later.cause, later.status), (Cause::Redirect, 307));
    assert_eq!(said(&Hearing { scope: PauseScope::Key, ..hearing }, 302, "30"), Said::Well, "the key alone waits");
}

#[test]
fn a_403_is_a_limit_where_it_says_when_to_come_again_or_its_body_says_so() {
    let hearing = hearing(PauseScope::Upstream);
    let waits = |fields: &[(&'static str, &'static str)]| {
        answered(&hearing, 403, fields).quiet().map(|(_, until)| (until - now()).num_seconds())
    };
    assert_eq!(answered(&hearing, 403, &[]), Said::Well, "a refusal");
    assert_eq!(answered(&hearing, 403, &[("retry-after", "soon")]), Said::Well);
    assert_eq!(waits(&[("retry-after", "30")]), Some(30));
    assert_eq!(waits(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1800000040")]), Some(40));
    assert_eq!(answered(&hearing, 403, &[("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "40")]), Said::Well);

    let words = |fields: &[(&'static str, &'static str)]| {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers = fields.iter().map(field).collect();
        let Said::Enough(enough) = hearing.of_words(StatusCode::FORBIDDEN, &headers, now()) else { panic!() };
        (enough.cause, (enough.until.unwrap() - now()).num_seconds())
    };
    assert_eq!(words(&[]), (Cause::Words, 60));
    assert_eq!(words(&[("retry-after", "90")]), (Cause::Limit, 90));
    assert_eq!(words(&[("retry-after", "5")]), (Cause::Limit, 5), "as it says itself");
    let by_key = Hearing { scope: PauseScope::Key, ..hearing.clone() };
    assert_eq!(by_key.of_words(StatusCode::FORBIDDEN, &HeaderMap::new(), now()), Said::Nothing);
}
