//! HTTP to the letter: what answers and 304s do to a copy and to its schedule.

use super::*;

fn heeding(cache_control: Heed) -> Policy {
    Policy { cache_control, ..policy() }
}

fn respect() -> Policy {
    heeding(Heed::Respect)
}

/// As the resource stands after this answer with content, which is taken.
fn after(policy: &Policy, observation: Observation) -> Previous {
    let previous = Previous::nothing(slot());
    let outcome = decide(policy, &previous, observation, now(), 0.5);
    let Outcome::Replaced(new) = &outcome else { panic!("it was not taken: {outcome:?}") };
    Previous { stale_after: Some(new.freshness.stale_after), ..committed(&previous, &outcome) }
}

fn new(policy: &Policy, observation: Observation) -> Replacement {
    match decide(policy, &Previous::nothing(slot()), observation, now(), 0.5) {
        Outcome::Replaced(new) => *new,
        other => panic!("it was not taken: {other:?}"),
    }
}

/// The parts of a confirmation: freshness, metadata if it is to be written, fields, and when it is due.
fn confirmed(
    policy: &Policy,
    previous: &Previous,
    observation: Observation,
) -> (Freshness, Option<Metadata>, HeaderMap, Due) {
    match decide(policy, previous, observation, now(), 0.5) {
        Outcome::Confirmed { freshness, metadata, described, due, .. } => (freshness, metadata, described, due),
        other => panic!("it was not confirmed: {other:?}"),
    }
}

fn via(mut observation: Observation, via: Via) -> Observation {
    observation.via = via;
    observation
}

fn seconds_fresh(freshness: Freshness) -> i64 {
    (freshness.stale_after - freshness.fetched_at).num_seconds()
}

const UNSTORABLE: [&str; 3] = ["no-store", "private, max-age=600", "public, no-store, max-age=600"];

#[test]
fn by_the_schedule_alone_what_a_shared_cache_may_not_store_is_stored_and_carries_no_freshness() {
    for value in UNSTORABLE {
        let new = new(&heeding(Heed::Schedule), ok("one", &[("cache-control", value)]));
        assert_eq!((new.due.because, new.metadata.terms), (Because::Interval, None), "{value}");
        assert_eq!(seconds_fresh(new.freshness), 2 * 3600, "{value}");
    }
}

#[test]
fn under_respect_what_a_shared_cache_may_not_store_is_a_failure_and_the_copy_stays() {
    let held = after(&respect(), ok("one", &[("etag", "\"v1\"")]));
    for value in UNSTORABLE {
        for answer in [ok("two", &[("cache-control", value)]), not_modified(&[("cache-control", value)])] {
            let outcome = decide(&respect(), &held, answer, now(), 0.5);
            assert_eq!(summary(&outcome), "unstorable x1, backoff", "{value}");
        }
    }
    let authorized = |lines| {
        let answer = via(ok("one", lines), Via { authorized: true, ..Via::default() });
        summary(&decide(&respect(), &Previous::nothing(slot()), answer, now(), 0.5))
    };
    assert_eq!(authorized(&[("cache-control", "max-age=600")]), "unstorable x1, backoff");
    assert_eq!(authorized(&[("cache-control", "public, max-age=600")]), "created v1, interval");
}

#[test]
fn under_respect_a_copy_is_stale_when_rfc_9111_says_so() {
    let contract = Policy { stale_after: Some(Duration::from_secs(900)), ..respect() };
    let (date, in_an_hour) = ("Sun, 01 Mar 2026 12:00:00 GMT", "Sun, 01 Mar 2026 13:00:00 GMT");
    let ten_hours_before = ("last-modified", "Sun, 01 Mar 2026 02:00:00 GMT");
    let long_before = ("last-modified", "Sat, 01 Mar 1986 12:00:00 GMT");
    for (policy, lines, seconds) in [
        (&respect(), vec![("cache-control", "max-age=600, s-maxage=60"), ("age", "10")], 50),
        (&respect(), vec![("cache-control", "max-age=600"), ("expires", in_an_hour)], 600),
        (&respect(), vec![("expires", in_an_hour), ("date", date), ten_hours_before], 3600),
        (&respect(), vec![("cache-control", "max-age=2592000")], 2_592_000),
        (&respect(), vec![("cache-control", "no-cache, max-age=600"), ten_hours_before], 0),
        (&respect(), vec![("vary", "*"), ("cache-control", "max-age=600")], 0),
        // Nothing is stated: the operator's contract, else a guess, else nothing.
        (&contract, vec![ten_hours_before], 900),
        (&contract, vec![("cache-control", "max-age=60")], 60),
        (&contract, vec![("cache-control", "no-cache")], 0),
        (&respect(), vec![ten_hours_before, ("date", date)], 3600),
        (&respect(), vec![ten_hours_before, ("cache-control", "public")], 3600),
        (&respect(), vec![long_before], 86_400),
        (&respect(), vec![], 0),
    ] {
        assert_eq!(seconds_fresh(new(policy, ok("one", &lines)).freshness), seconds, "{lines:?}");
    }
}

#[test]
fn a_guess_never_delays_a_refresh() {
    let lines = [("last-modified", "Sat, 01 Mar 1986 12:00:00 GMT")];
    for policy in [respect(), heeding(Heed::Schedule)] {
        assert_eq!(new(&policy, ok("one", &lines)).due.because, Because::Interval);
    }
    assert_eq!(seconds_fresh(new(&heeding(Heed::Schedule), ok("one", &lines)).freshness), 2 * 3600);
}

#[test]
fn what_is_not_heeded_delays_no_refresh() {
    let new = new(&heeding(Heed::Ignore), ok("one", &[("cache-control", "no-store, max-age=7200")]));
    assert_eq!((new.due.because, seconds_fresh(new.freshness)), (Because::Interval, 2 * 3600));
    let new = super::letter::new(&heeding(Heed::Ignore), ok("one", &[("cache-control", "max-age=7200")]));
    assert_eq!((new.due.because, new.metadata.max_age), (Because::Interval, None));
}

#[test]
fn what_is_immutable_is_not_asked_for_while_it_is_fresh_within_the_cap() {
    for (value, hours) in [("max-age=18000, immutable", 5), ("immutable, max-age=31536000", 24)] {
        for policy in [respect(), heeding(Heed::Schedule)] {
            let due = new(&policy, ok("one", &[("cache-control", value)])).due;
            assert_eq!(due.because, Because::Freshness, "{value}");
            assert!(due.at >= now() + TimeDelta::hours(hours), "{value}: {due:?}");
        }
    }
    let stale = new(&respect(), ok("one", &[("cache-control", "immutable")]));
    assert_eq!(stale.due.because, Because::Interval, "what states no lifetime is never fresh");
}

#[test]
fn a_304_replaces_every_supplied_field_but_those_of_the_body_as_it_came_and_of_the_connection() {
    let held = after(&policy(), ok("one", &[("etag", "\"v1\""), ("content-language", "de"), ("last-modified", "a")]));
    let (_, metadata, described, _) = confirmed(
        &policy(),
        &held,
        not_modified(&[
            ("etag", "W/\"v1\""),
            ("last-modified", "b"),
            ("cache-control", "max-age=60"),
            ("content-language", "en"),
            ("content-disposition", "inline"),
            ("content-type", "text/html"),
            ("content-length", "0"),
            ("content-encoding", "gzip"),
            ("connection", "content-disposition"),
            ("keep-alive", "timeout=5"),
        ]),
    );
    let metadata = metadata.unwrap();
    assert_eq!(metadata.validators.etag.as_deref(), Some(&b"W/\"v1\""[..]));
    assert_eq!(metadata.validators.last_modified.as_deref(), Some(&b"b"[..]));
    assert_eq!(metadata.max_age, Some(60));
    assert_eq!(described, headers(&[("content-language", "en")]));
    let (_, metadata, described, _) = confirmed(&policy(), &held, not_modified(&[]));
    assert_eq!((metadata, described), (None, HeaderMap::new()), "what is not supplied stands");
}

#[test]
fn a_304_without_cache_control_leaves_the_terms_standing() {
    let value = "max-age=60, stale-if-error=600, stale-while-revalidate=30";
    let held = after(&respect(), ok("one", &[("etag", "\"v1\""), ("cache-control", value)]));
    let (freshness, metadata, ..) = confirmed(&respect(), &held, not_modified(&[]));
    assert_eq!((seconds_fresh(freshness), metadata), (60, None), "nothing is to be written");
    let (_, metadata, ..) = confirmed(&respect(), &held, not_modified(&[("cache-control", "no-cache")]));
    let terms = metadata.unwrap().terms.unwrap();
    assert_eq!((terms.reuse, terms.stale_if_error), (Reuse::Never, 0));
}

#[test]
fn a_304_without_expires_leaves_that_date_standing() {
    let at = |minutes| now() + TimeDelta::minutes(minutes);
    let mut held = after(&respect(), ok("one", &[("etag", "\"v1\""), ("expires", "Sun, 01 Mar 2026 13:00:00 GMT")]));
    assert_eq!(held.stale_after, Some(at(60)));
    let (freshness, ..) = confirmed(&respect(), &held, not_modified(&[]));
    assert_eq!(freshness.stale_after, at(60));
    held.stale_after = Some(at(-60));
    let (freshness, ..) = confirmed(&respect(), &held, not_modified(&[]));
    assert_eq!(freshness.stale_after, now(), "the date has passed");
    let (freshness, ..) = confirmed(&respect(), &held, not_modified(&[("expires", "Sun, 01 Mar 2026 12:30:00 GMT")]));
    assert_eq!(freshness.stale_after, at(30));
}

#[test]
fn a_304_with_an_unknown_strong_etag_updates_nothing_and_causes_one_unconditional_refetch() {
    let held = after(&policy(), ok("one", &[("etag", "\"v1\"")]));
    let strange = [("etag", "\"v9\""), ("cache-control", "max-age=7200"), ("content-language", "en")];
    let reset = decide(&policy(), &held, not_modified(&strange), now(), 0.5);
    assert_eq!(reset, Outcome::Reset { due: Due { at: AT_ONCE, because: Because::Reset } });
    let then = committed(&held, &reset);
    assert!(then.validators().is_none());
    assert_eq!((then.content_hash, then.metadata.max_age), (held.content_hash, held.metadata.max_age));
    let again = observe(false, Seen::NotModified { headers: headers(&strange) });
    assert_eq!(summary(&decide(&policy(), &then, again, now(), 0.5)), "unusable_not_modified x1, backoff");
}

#[test]
fn what_a_connection_field_names_is_neither_stored_nor_heeded() {
    let lines = [
        ("content-language", "de"),
        ("content-type", "text/plain"),
        ("cache-control", "max-age=7200"),
        ("connection", "cache-control"),
        ("transfer-encoding", "chunked"),
    ];
    let listed = HeaderValue::from_static("close, Content-Language");
    let mut answer = ok("one", &lines);
    answer.seen.headers_mut().unwrap().append(header::CONNECTION, listed);
    let new = new(&policy(), answer);
    assert_eq!(new.snapshot.headers, headers(&[("content-type", "text/plain")]));
    assert_eq!((new.metadata.max_age, new.due.because), (None, Because::Interval));
}

#[test]
fn a_field_that_the_upstream_keeps_from_shared_caches_is_left_out_where_that_is_respected() {
    let lines = [("content-language", "de"), ("cache-control", "max-age=60, private=\"content-language\"")];
    assert!(new(&respect(), ok("one", &lines)).snapshot.headers.is_empty());
    assert_eq!(new(&policy(), ok("one", &lines)).snapshot.headers.len(), 1);
}

#[test]
fn content_that_was_changed_on_its_way_is_stored_and_marked_until_it_comes_unchanged() {
    let transformed = Via { transformed: true, ..Via::default() };
    let held = after(&policy(), via(ok("one", &[("etag", "\"v1\"")]), transformed));
    assert!(held.metadata.transformed);
    let (_, metadata, ..) = confirmed(&policy(), &held, not_modified(&[]));
    assert_eq!(metadata, None, "a 304 is about the same content");
    let (_, metadata, ..) = confirmed(&policy(), &held, ok("one", &[("etag", "\"v1\"")]));
    assert!(!metadata.unwrap().transformed);
}

#[test]
fn where_it_has_moved_for_good_is_remembered_until_an_answer_comes_from_where_it_was_asked_for() {
    let moved = || Via { moved_to: Some("/new".into()), ..Via::default() };
    let held = after(&policy(), via(ok("one", &[("etag", "\"v1\"")]), moved()));
    assert_eq!(held.metadata.moved_to.as_deref(), Some("/new"));
    let (_, metadata, ..) = confirmed(&policy(), &held, via(not_modified(&[]), moved()));
    assert_eq!(metadata, None, "nothing is to be written");
    let (_, metadata, ..) = confirmed(&policy(), &held, not_modified(&[]));
    assert_eq!(metadata.unwrap().moved_to, None);
}

#[test]
fn what_is_not_to_be_asked_for_sooner_is_due_then_and_fresh_for_twice_that() {
    let (a_minute, a_day) = ("60", "86400");
    let due = |policy: &Policy, interval| {
        let new = new(policy, ok("one", &[("x-poll-interval", interval)]));
        ((new.due.at - now()).num_minutes(), new.due.because, (new.freshness.stale_after - now()).num_hours())
    };
    let (_, because, stale) = due(&policy(), a_minute);
    assert_eq!((because, stale), (Because::Interval, 2), "the interval is longer");
    let (minutes, because, stale) = due(&policy(), a_day);
    assert_eq!((because, stale), (Because::NotBefore, 48));
    assert!((24 * 60..=24 * 66).contains(&minutes), "{minutes}: spread by a tenth");
    let capped = Policy { retry_after_cap: 4 * HOUR, ..policy() };
    assert_eq!(due(&capped, "999999999999").2, 8);
    assert_eq!(due(&policy(), "-86400").1, Because::Interval);
    assert_eq!(
        due(&Policy { cache_control: Heed::Ignore, ..policy() }, a_day).1,
        Because::NotBefore,
        "it is no lifetime"
    );
    assert_eq!(due(&Policy { allowance: None, ..policy() }, a_day).1, Because::Interval);

    let (.., due) =
        confirmed(&policy(), &holding("one"), not_modified(&[("etag", "\"v1\""), ("x-poll-interval", a_day)]));
    assert_eq!(due.because, Because::NotBefore);
    let failed = decide(&policy(), &holding("one"), status(500, &[("x-poll-interval", a_minute)]), now(), 0.0).due();
    assert_eq!(failed.because, Because::NotBefore, "the first backoff is shorter");
    assert!(failed.at >= now() + TimeDelta::seconds(60));
    let redirect = status(302, &[("retry-after", "10"), ("x-poll-interval", a_day)]);
    let redirected = decide(&policy(), &holding("one"), redirect, now(), 0.0).due();
    assert_eq!(redirected.because, Because::RetryAfter, "or it would be waited for again and again");
    assert!(redirected.at >= now() + TimeDelta::days(1));
    let absent =
        decide(&policy(), &Previous::nothing(slot()), status(410, &[("x-poll-interval", "172800")]), now(), 0.5);
    assert_eq!(absent.due().because, Because::NotBefore);
}

#[test]
fn no_reader_has_it_asked_for_again_before_the_upstreams_own_end_and_any_can_after_it() {
    let kept = |policy: &Policy, fields: &[(&'static str, &'static str)]| {
        let new = new(policy, ok("one", fields));
        (new.due.because, new.kept_until.map(|at| (at - now()).num_seconds()))
    };
    let keeps = Policy { early_refresh: false, ..policy() };
    let ten_minutes = ("cache-control", "max-age=600");
    assert_eq!(kept(&keeps, &[ten_minutes]), (Because::Interval, Some(600)), "the interval is longer");
    assert_eq!(kept(&keeps, &[ten_minutes, ("age", "200")]), (Because::Interval, Some(400)));
    assert_eq!(kept(&keeps, &[("cache-control", "max-age=7200")]), (Because::NotBefore, Some(7200)));
    assert_eq!(kept(&keeps, &[]), (Because::Interval, None));
    assert_eq!(kept(&policy(), &[ten_minutes]), (Because::Interval, None), "a reader may");
    assert_eq!(kept(&policy(), &[ten_minutes, ("x-poll-interval", "60")]), (Because::Interval, Some(60)));
    let confirmation = decide(&keeps, &holding("one"), not_modified(&[("etag", "\"v1\""), ten_minutes]), now(), 0.5);
    let Outcome::Confirmed { kept_until, .. } = confirmation else { panic!("{confirmation:?}") };
    assert_eq!(kept_until, Some(now() + TimeDelta::seconds(600)));
}

#[test]
fn a_spent_allowance_delays_the_one_key_where_that_is_what_it_is_about() {
    let spent = [("ratelimit", "\"default\";r=0;t=7200")];
    let by = |pause_scope| new(&Policy { pause_scope, ..policy() }, ok("one", &spent)).due.because;
    assert_eq!(by(PauseScope::Key), Because::NotBefore);
    assert_eq!(by(PauseScope::Source), Because::Interval, "all of the source waits instead");
    assert_eq!(by(PauseScope::Upstream), Because::Interval);
}
