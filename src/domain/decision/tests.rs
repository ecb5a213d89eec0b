//! previous × observation × now → outcome.

use std::time::Duration;

use chrono::TimeDelta;
use http::{HeaderName, HeaderValue, header};
use proptest::prelude::*;

use super::*;
use crate::domain::allowance::Fields;
use crate::domain::governor::PauseScope;

mod letter;
use crate::domain::content::BodyRules;
use crate::domain::policy::{GoneRules, Heed};
use crate::domain::resource::ResourceId;
use crate::domain::schedule::{Backoff, Cadence, Slot, aside_until};
use crate::domain::terms::Reuse;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn now() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn policy() -> Policy {
    Policy {
        cadence: Cadence::Every(HOUR),
        jitter: Duration::ZERO,
        stale_after: None,
        cache_control: Heed::Schedule,
        freshness_cap: DAY,
        early_refresh: true,
        backoff: Backoff { initial: Duration::from_secs(10), cap: HOUR },
        allowance: Some(Fields::default()),
        retry_after_cap: 2 * DAY,
        pause_scope: PauseScope::Upstream,
        stretch: 1.0,
        gone: GoneRules { after: 3, window: HOUR, recheck: DAY },
        body: BodyRules::default(),
    }
}

fn slot() -> Slot {
    Slot::of(ResourceId(1), 1, 0)
}

/// A resource whose snapshot is `body`, as it is after it was fetched with an ETag of `"v1"`.
fn holding(body: &'static str) -> Previous {
    let Outcome::Replaced(first) =
        decide(&policy(), &Previous::nothing(slot()), ok(body, &[("etag", "\"v1\"")]), now(), 0.5)
    else {
        panic!("first content replaces nothing");
    };
    Previous {
        version: first.version,
        content_hash: Some(first.snapshot.content_hash),
        metadata: first.metadata,
        ..Previous::nothing(slot())
    }
}

fn failing(previous: Previous, failures: u32) -> Previous {
    Previous { failures, failing_since: Some(now() - TimeDelta::hours(5)), ..previous }
}

fn absent(previous: Previous, count: u32, since: Duration) -> Previous {
    let since = now() - TimeDelta::from_std(since).unwrap();
    Previous { absence: Some(Absence { count, since }), ..failing(previous, count) }
}

fn gone(mut previous: Previous) -> Previous {
    previous.gone_since = Some(now() - TimeDelta::days(3));
    previous.metadata = Metadata::default();
    previous
}

/// Due because its upstream answered others again.
fn retried(mut previous: Previous) -> Previous {
    previous.because = Because::RetryNow;
    previous
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())).collect()
}

fn observe(conditional: bool, seen: Seen) -> Observation {
    Observation { requested_at: now(), answered_at: now(), conditional, seen, via: Via::default() }
}

fn ok(body: &'static str, lines: &[(&'static str, &str)]) -> Observation {
    observe(true, Seen::Content { headers: headers(lines), body: Bytes::from_static(body.as_bytes()) })
}

fn json(body: &'static str) -> Observation {
    ok(body, &[("content-type", "application/json")])
}

fn not_modified(lines: &[(&'static str, &str)]) -> Observation {
    observe(true, Seen::NotModified { headers: headers(lines) })
}

fn status(status: u16, lines: &[(&'static str, &str)]) -> Observation {
    let kind = match status {
        404 | 410 => FailureKind::NotFound,
        429 => FailureKind::RateLimited,
        500.. => FailureKind::ServerError,
        _ => FailureKind::ClientError,
    };
    let failure = Failure { kind, status: Some(status), detail: format!("answered {status}") };
    observe(true, Seen::Refused { status: StatusCode::from_u16(status).unwrap(), headers: headers(lines), failure })
}

fn unreachable(kind: FailureKind) -> Observation {
    observe(true, Seen::Unreachable { failure: Failure { kind, status: None, detail: kind.to_string() } })
}

/// An outcome in a word or two, for the table below.
fn summary(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Replaced(r) => format!("{} v{}, {}", r.kind.as_str(), r.version, r.due.because.as_str()),
        Outcome::Confirmed { metadata: None, due, .. } => format!("confirmed, {}", due.because.as_str()),
        Outcome::Confirmed { due, .. } => format!("confirmed and noted, {}", due.because.as_str()),
        Outcome::Reset { .. } => "reset".into(),
        Outcome::Deferred(d) => format!("{} x{}, {}", d.failing.last.kind, d.failing.count, d.due.because.as_str()),
        Outcome::Gone(a) if a.held.is_some() => "gone now".into(),
        Outcome::Gone(_) => "gone".into(),
    }
}

#[test]
fn every_observation_has_one_outcome_for_every_previous_state() {
    let nothing = || Previous::nothing(slot());
    let held = || holding("one");
    let v1: &[_] = &[("etag", "\"v1\"")];
    for (case, previous, observation, expected) in vec![
        // Content.
        ("first content", nothing(), ok("one", v1), "created v1, interval"),
        ("other content", held(), ok("two", &[("etag", "\"v2\"")]), "changed v2, interval"),
        ("the same content", held(), ok("one", v1), "confirmed, interval"),
        (
            "the same content under another ETag",
            held(),
            ok("one", &[("etag", "\"v2\"")]),
            "confirmed and noted, interval",
        ),
        ("the same content after failures", failing(held(), 2), ok("one", v1), "confirmed and noted, interval"),
        ("other content after failures", failing(held(), 2), ok("two", v1), "changed v2, interval"),
        ("the same content after having been gone", gone(held()), ok("one", v1), "returned v2, interval"),
        ("content that was gone before it was seen", gone(nothing()), ok("one", v1), "created v1, interval"),
        (
            "content that stays fresh for long",
            held(),
            ok("two", &[("cache-control", "max-age=7200")]),
            "changed v2, freshness",
        ),
        (
            "content that stays fresh for less",
            held(),
            ok("two", &[("cache-control", "max-age=60")]),
            "changed v2, interval",
        ),
        ("an empty body", held(), ok("", v1), "empty x1, backoff"),
        ("a body that isn't the JSON it says it is", held(), json("<html>"), "unparsable x1, backoff"),
        // Not modified.
        ("304", held(), not_modified(v1), "confirmed, interval"),
        ("304 without an ETag", held(), not_modified(&[]), "confirmed, interval"),
        (
            "304 with a weak form of the ETag",
            held(),
            not_modified(&[("etag", "W/\"v1\"")]),
            "confirmed and noted, interval",
        ),
        ("304 after failures", failing(held(), 1), not_modified(v1), "confirmed and noted, interval"),
        (
            "304 that stays fresh for long",
            held(),
            not_modified(&[("cache-control", "max-age=7200")]),
            "confirmed and noted, freshness",
        ),
        ("304 with an ETag that we do not hold", held(), not_modified(&[("etag", "\"v9\"")]), "reset"),
        (
            "304 to a request without conditions",
            nothing(),
            observe(false, Seen::NotModified { headers: HeaderMap::new() }),
            "unusable_not_modified x1, backoff",
        ),
        // Refused.
        ("500", held(), status(500, &[]), "server_error x1, backoff"),
        ("503", held(), status(503, &[]), "server_error x1, outage"),
        ("503 with a wait", held(), status(503, &[("retry-after", "7200")]), "server_error x1, retry_after"),
        ("429 with a wait", held(), status(429, &[("retry-after", "30")]), "rate_limited x1, retry_after"),
        (
            "429 with a wait shorter than the backoff",
            failing(held(), 8),
            status(429, &[("retry-after", "1")]),
            "rate_limited x9, backoff",
        ),
        ("403", failing(held(), 4), status(403, &[]), "client_error x5, backoff"),
        ("500 while gone", gone(held()), status(500, &[]), "server_error x1, backoff"),
        ("500 before anything", nothing(), status(500, &[]), "server_error x1, backoff"),
        // Unreachable.
        ("no connection", held(), unreachable(FailureKind::Connect), "connect x1, outage"),
        (
            "no connection, when others had one",
            retried(held()),
            unreachable(FailureKind::Connect),
            "connect x1, backoff",
        ),
        ("a timeout", failing(held(), 1), unreachable(FailureKind::Timeout), "timeout x2, outage"),
        ("a truncated body", held(), unreachable(FailureKind::Truncated), "truncated x1, backoff"),
        ("an oversized body", held(), unreachable(FailureKind::TooLarge), "too_large x1, backoff"),
        // Gone.
        ("410", held(), status(410, &[]), "gone now"),
        ("410 while gone", gone(held()), status(410, &[]), "gone"),
        ("410 before anything", nothing(), status(410, &[]), "gone"),
        ("404 before anything", nothing(), status(404, &[]), "gone"),
        ("a first 404", held(), status(404, &[]), "not_found x1, backoff"),
        ("a third 404, too soon", absent(held(), 2, HOUR / 2), status(404, &[]), "not_found x3, backoff"),
        ("a second 404, long after", absent(held(), 1, 2 * HOUR), status(404, &[]), "not_found x2, backoff"),
        ("a third 404, long after", absent(held(), 2, 2 * HOUR), status(404, &[]), "gone now"),
        ("404 while gone", gone(held()), status(404, &[]), "gone"),
        ("content after 404s", absent(held(), 2, 2 * HOUR), ok("one", v1), "confirmed and noted, interval"),
        ("500 between 404s", absent(held(), 2, 2 * HOUR), status(500, &[]), "server_error x3, backoff"),
    ] {
        assert_eq!(summary(&decide(&policy(), &previous, observation, now(), 0.5)), expected, "{case}");
    }
}

#[test]
fn a_500_neither_counts_as_absence_nor_ends_one() {
    let Outcome::Deferred(deferral) = decide(&policy(), &absent(holding("one"), 2, HOUR), status(500, &[]), now(), 0.5)
    else {
        panic!("a 500 defers");
    };
    assert_eq!(deferral.absence.unwrap().count, 2);
}

#[test]
fn a_run_of_failures_keeps_its_beginning() {
    let Outcome::Deferred(deferral) = decide(&policy(), &failing(holding("one"), 4), status(500, &[]), now(), 0.5)
    else {
        panic!("a 500 defers");
    };
    assert_eq!((deferral.failing.count, deferral.failing.since), (5, now() - TimeDelta::hours(5)));
    assert_eq!(deferral.failing.at, now());
}

#[test]
fn what_would_go_is_held_with_a_failure_that_says_so() {
    let Outcome::Gone(absent) = decide(&policy(), &holding("one"), status(410, &[]), now(), 0.5) else {
        panic!("410 means gone");
    };
    assert_eq!(absent.held.unwrap().failing.last.kind, FailureKind::Held);
    assert_eq!(absent.due.because, Because::GoneRecheck);
    assert!(absent.due.at >= now() + TimeDelta::days(1));
}

#[test]
fn stale_after_is_twice_the_effective_interval_unless_it_is_set() {
    let stale_after = |policy: &Policy, lines: &[(&'static str, &str)]| {
        let Outcome::Replaced(r) = decide(policy, &Previous::nothing(slot()), ok("one", lines), now(), 0.5) else {
            panic!("first content");
        };
        assert_eq!(r.freshness.fetched_at, now());
        r.freshness.stale_after - now()
    };
    assert_eq!(stale_after(&policy(), &[]), TimeDelta::hours(2));
    assert_eq!(stale_after(&policy(), &[("cache-control", "max-age=10800")]), TimeDelta::hours(6));
    assert_eq!(stale_after(&policy(), &[("cache-control", "max-age=99999999")]), TimeDelta::days(2));
    let strict = Policy { stale_after: Some(HOUR / 2), ..policy() };
    assert_eq!(stale_after(&strict, &[("cache-control", "max-age=10800")]), TimeDelta::minutes(30));
}

#[test]
fn no_validators_are_sent_where_a_304_could_confirm_nothing() {
    assert!(holding("one").validators().is_some());
    assert!(gone(holding("one")).validators().is_none());
    let no_snapshot = Previous { metadata: holding("one").metadata, ..Previous::nothing(slot()) };
    assert!(no_snapshot.validators().is_none());
}

fn any_headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop::sample::select(vec![
        header::CACHE_CONTROL,
        header::EXPIRES,
        header::DATE,
        header::AGE,
        header::ETAG,
        header::LAST_MODIFIED,
        header::RETRY_AFTER,
        header::CONTENT_TYPE,
    ]);
    let value = prop_oneof![
        "[ -~]{0,40}".prop_map(String::into_bytes),
        prop::collection::vec(0x20_u8..=0xff, 0..20),
        any::<i64>().prop_map(|n| format!("max-age={n}, s-maxage={n}").into_bytes()),
        any::<u64>().prop_map(|n| n.to_string().into_bytes()),
        (0_u64..253_402_300_799)
            .prop_map(|s| { httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_secs(s)).into_bytes() }),
    ];
    prop::collection::vec((name, value), 0..10).prop_map(|lines| {
        lines.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_bytes(&value).ok()?))).collect()
    })
}

fn any_seen() -> impl Strategy<Value = Seen> {
    let kind = prop::sample::select(FailureKind::ALL.to_vec());
    prop_oneof![
        (any_headers(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(headers, body)| Seen::Content { headers, body: body.into() }),
        any_headers().prop_map(|headers| Seen::NotModified { headers }),
        (any_headers(), 300_u16..600, kind.clone()).prop_map(|(headers, status, kind)| Seen::Refused {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            failure: Failure { kind, status: Some(status), detail: String::new() },
        }),
        kind.prop_map(|kind| Seen::Unreachable { failure: Failure { kind, status: None, detail: String::new() } }),
    ]
}

fn any_previous() -> impl Strategy<Value = Previous> {
    (0_u32..3, 0_u32..2000, prop::option::of((1_u32..5, 0_i64..100_000)), any::<bool>()).prop_map(
        |(version, failures, absence, is_gone)| {
            let base = if version == 0 { Previous::nothing(slot()) } else { holding("one") };
            let absence = absence.map(|(count, ago)| Absence { count, since: now() - TimeDelta::seconds(ago) });
            let gone_since = is_gone.then(now);
            let failing_since = (failures > 0).then(now);
            Previous { version: version.into(), failures, failing_since, absence, gone_since, ..base }
        },
    )
}

proptest! {
    #[test]
    fn due_times_stay_within_bounds_for_arbitrary_headers(
        previous in any_previous(), seen in any_seen(), conditional: bool, rand in 0.0_f64..1.0,
    ) {
        let jitter = Duration::from_secs(60);
        let policy = Policy { jitter, ..policy() };
        let outcome = decide(&policy, &previous, observe(conditional, seen), now(), rand);
        let due = outcome.due();
        let (earliest, latest) = match due.because {
            Because::Interval => (HOUR / 2, HOUR + jitter),
            // The lifetime, capped at a day, spread by a tenth of it.
            Because::Freshness => (HOUR / 2, DAY + DAY / 10 + jitter),
            Because::Backoff | Because::Outage => (Duration::from_secs(5), HOUR),
            Because::RetryAfter => (Duration::from_secs(5), 2 * DAY),
            Because::NotBefore => (Duration::from_secs(5), 2 * DAY + 2 * DAY / 10),
            Because::GoneRecheck => (DAY, DAY + DAY / 10),
            Because::Reset => {
                prop_assert_eq!(due.at, AT_ONCE);
                return Ok(());
            }
            other => return Err(TestCaseError::fail(format!("{other:?} is not for an observation to decide"))),
        };
        let wait = (due.at - now()).to_std().unwrap();
        prop_assert!(earliest <= wait + Duration::from_micros(1) && wait <= latest, "{:?} after {wait:?}", due.because);
    }

    #[test]
    fn a_snapshot_survives_every_failing_observation(previous in any_previous(), seen in any_seen(), rand in 0.0_f64..1.0) {
        let is_content = matches!(&seen, Seen::Content { body, .. } if !body.is_empty());
        let is_absence = matches!(&seen, Seen::Refused { status, .. } if [404, 410].contains(&status.as_u16()));
        match decide(&policy(), &previous, observe(true, seen), now(), rand) {
            Outcome::Replaced(replacement) => {
                prop_assert!(is_content);
                prop_assert_eq!(replacement.version, previous.version + 1);
            }
            Outcome::Gone(absent) => {
                prop_assert!(is_absence);
                prop_assert_eq!(absent.held.is_some(), previous.version > 0 && previous.gone_since.is_none());
            }
            Outcome::Deferred(deferral) => prop_assert_eq!(deferral.failing.count, previous.failures + 1),
            Outcome::Confirmed { .. } | Outcome::Reset { .. } => {}
        }
    }
}

/// What comes of one attempt, in the sequences below.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wire {
    Content(u8),
    NotModified,
    Status(u16),
    Timeout,
}

impl Wire {
    fn seen(self) -> Seen {
        match self {
            Self::Content(n) => Seen::Content {
                headers: headers(&[("etag", &format!("\"{n}\""))]),
                body: Bytes::copy_from_slice(&[b'0' + n]),
            },
            Self::NotModified => not_modified(&[]).seen,
            Self::Status(code) => status(code, &[]).seen,
            Self::Timeout => unreachable(FailureKind::Timeout).seen,
        }
    }
}

fn any_wire() -> impl Strategy<Value = Wire> {
    // 404s come in runs often enough for some to become gone.
    prop_oneof![
        2 => (0_u8..3).prop_map(Wire::Content),
        1 => Just(Wire::NotModified),
        4 => Just(Wire::Status(404)),
        2 => prop::sample::select(vec![500, 503, 429, 403]).prop_map(Wire::Status),
        1 => Just(Wire::Status(410)),
        1 => Just(Wire::Timeout),
    ]
}

/// What the next claim knows once this outcome is committed.
fn committed(previous: &Previous, outcome: &Outcome) -> Previous {
    let before = previous.clone();
    let well = Previous { failures: 0, failing_since: None, absence: None, ..previous.clone() };
    match outcome {
        Outcome::Replaced(new) => Previous {
            version: new.version,
            content_hash: Some(new.snapshot.content_hash),
            metadata: new.metadata.clone(),
            gone_since: None,
            ..well
        },
        Outcome::Confirmed { metadata: Some(metadata), .. } => Previous { metadata: metadata.clone(), ..well },
        Outcome::Confirmed { metadata: None, .. } => before,
        Outcome::Reset { .. } => {
            let metadata = Metadata { validators: Validators::default(), ..before.metadata.clone() };
            Previous { metadata, ..before }
        }
        Outcome::Deferred(deferral) => Previous {
            failures: deferral.failing.count,
            failing_since: Some(deferral.failing.since),
            absence: deferral.absence,
            ..before
        },
        Outcome::Gone(absent) => Previous { gone_since: Some(absent.since), metadata: Metadata::default(), ..well },
    }
}

proptest! {
    #[test]
    fn whatever_comes_one_after_the_other_the_snapshot_goes_only_by_the_rules(
        steps in prop::collection::vec((any_wire(), 1_i64..90, 0.0_f64..1.0), 1..60),
    ) {
        let rules = policy();
        let (mut known, mut at) = (Previous::nothing(slot()), now());
        // The 404s since the last content, as the rules count them.
        let mut not_found: Vec<DateTime<Utc>> = Vec::new();
        for (wire, minutes, rand) in steps {
            at += TimeDelta::minutes(minutes);
            let conditional = known.validators().is_some();
            let observation = Observation { requested_at: at, answered_at: at, conditional, seen: wire.seen(), via: Via::default() };
            let outcome = decide(&rules, &known, observation, at, rand);
            let next = committed(&known, &outcome);
            if wire == Wire::Status(404) {
                not_found.push(at);
            }

            if matches!(outcome, Outcome::Replaced(_)) {
                prop_assert!(matches!(wire, Wire::Content(_)));
                prop_assert_eq!(next.version, known.version + 1);
                prop_assert!(next.content_hash != known.content_hash || known.gone_since.is_some());
            } else {
                prop_assert_eq!((next.version, next.content_hash), (known.version, known.content_hash));
            }

            let long_absent = not_found.len() >= rules.gone.after as usize
                && not_found.first().is_some_and(|first| has_lasted(*first, at, rules.gone.window));
            let may_go = match wire {
                Wire::Status(410) => true,
                Wire::Status(404) => known.version == 0 || known.gone_since.is_some() || long_absent,
                _ => false,
            };
            prop_assert_eq!(matches!(outcome, Outcome::Gone(_)), may_go, "{:?}: {:?}", wire, not_found);
            prop_assert!(next.gone_since.is_none() || may_go || next.gone_since == known.gone_since);

            match &outcome {
                Outcome::Deferred(deferral) => {
                    prop_assert!(at < deferral.due.at && deferral.due.at <= later(at, rules.backoff.cap));
                    prop_assert_eq!(deferral.failing.count, known.failures + 1);
                }
                Outcome::Replaced(_) | Outcome::Confirmed { .. } | Outcome::Gone(_) => {
                    prop_assert_eq!((next.failures, next.failing_since, next.absence), (0, None, None));
                    prop_assert!(at < outcome.due().at && outcome.due().at <= later(at, DAY + DAY / 10));
                    not_found.clear();
                }
                Outcome::Reset { .. } => prop_assert!(next.validators().is_none(), "the next one is unconditional"),
            }
            known = next;
        }
    }
}

proptest! {
    #[test]
    fn what_nobody_polls_never_falls_due_by_itself_whatever_came(
        previous in any_previous(), seen in any_seen(), conditional: bool, rand in 0.0_f64..1.0,
    ) {
        let polled = decide(&policy(), &previous, observe(conditional, seen.clone()), now(), rand);
        let read = Policy { cadence: Cadence::WhenRead(HOUR), ..policy() };
        let outcome = decide(&read, &previous, observe(conditional, seen), now(), rand);
        let due = outcome.due();
        if matches!(outcome, Outcome::Reset { .. }) {
            prop_assert_eq!(due.at, AT_ONCE);
        } else {
            let until = aside_until(due.at);
            prop_assert!(until.is_some());
            prop_assert_eq!(until.is_some_and(|at| at > now()), due.because.spares_the_upstream());
        }
        if due.because.spares_the_upstream() {
            prop_assert_eq!(due.because, polled.due().because);
        }
    }
}
