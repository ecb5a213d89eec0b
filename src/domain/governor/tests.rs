use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::resource::SourceId;

const LIMITS: Limits =
    Limits { requests_per_second: None, burst: 1, max_concurrent: 8, budgets: crate::domain::budget::Budgets::NONE };
const SOURCE: SourceId = SourceId(1);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn enough(until: Option<i64>) -> Said {
    Said::Enough(Enough { status: 429, cause: Cause::Limit, covers: Covers::Upstream, until: until.map(at) })
}

fn heard(lease: i64, said: Said) -> Heard {
    let signal = Signal { source: SOURCE, own_cap: Duration::from_secs(600), said };
    Heard { lease: LeaseToken(lease), resource: ResourceId(7), signal }
}

/// What an upstream's answers make of it, one after the other.
struct Upstream(Standing);

impl Upstream {
    fn hears(&mut self, lease: i64, said: Said, now: i64) -> Vec<Turn> {
        self.0.heed(&heard(lease, said), &LIMITS, at(now))
    }

    fn way(&self, now: i64) -> Way {
        self.0.way(Covers::Upstream, at(now), |_| true)
    }

    fn sends_probe(&mut self, lease: i64) {
        self.0.send_probe(
            Covers::Upstream,
            Probe { lease: LeaseToken(lease), resource: ResourceId(7), ends_at: at(500) },
        );
    }

    fn until(&self) -> i64 {
        self.0.pauses()[0].until.timestamp() - at(0).timestamp()
    }
}

fn paused(until: i64) -> Upstream {
    let mut upstream = Upstream(Standing::default());
    let turns = upstream.hears(1, enough(Some(until)), 0);
    assert!(matches!(turns.as_slice(), [Turn::Paused(_)]), "{turns:?}");
    upstream
}

#[test]
fn nothing_may_be_asked_in_a_pause_and_one_request_after_it() {
    let mut upstream = paused(30);
    assert_eq!((upstream.way(0), upstream.way(29)), (Way::Shut(at(30)), Way::Shut(at(30))));
    assert_eq!(upstream.way(30), Way::OneOnly);
    upstream.sends_probe(2);
    assert_eq!(upstream.way(31), Way::Shut(at(500)), "while the probe is under way");
    assert_eq!(
        upstream.0.way(Covers::Upstream, at(31), |_| false),
        Way::OneOnly,
        "a probe that is lost is no obstacle"
    );
    assert!(matches!(upstream.hears(2, Said::Well, 31).as_slice(), [Turn::Over(_)]));
    assert_eq!(upstream.way(31), Way::Open);
}

#[test]
fn only_what_comes_to_the_probe_ends_a_pause() {
    let mut upstream = paused(30);
    upstream.sends_probe(2);
    assert_eq!(upstream.hears(1, Said::Well, 31), [], "it was sent before the pause");
    assert_eq!(upstream.hears(2, Said::Nothing, 32), []);
    assert_eq!(upstream.way(32), Way::OneOnly, "what was not sent found out nothing");
}

#[test]
fn an_answer_that_was_under_way_makes_a_pause_longer_and_never_shorter() {
    let mut upstream = paused(30);
    assert_eq!(upstream.hears(1, enough(Some(45)), 1), []);
    assert_eq!(upstream.hears(1, enough(Some(40)), 2), []);
    assert_eq!(upstream.until(), 45);
}

#[test]
fn a_pause_that_was_made_longer_meanwhile_outlasts_the_good_answer_to_its_probe() {
    for good in [Said::Well, spent(40)] {
        let mut upstream = paused(30);
        upstream.sends_probe(2);
        assert_eq!(upstream.hears(1, enough(Some(60)), 32), []);
        assert_eq!(upstream.hears(2, good, 33), []);
        assert_eq!((upstream.way(33), upstream.way(60)), (Way::Shut(at(60)), Way::OneOnly), "{good:?}");
        upstream.sends_probe(3);
        assert!(matches!(upstream.hears(3, Said::Well, 61).as_slice(), [Turn::Over(_)]));
    }
}

#[test]
fn a_probe_that_fails_renews_the_pause_as_it_is_told_or_for_longer_each_time() {
    let mut upstream = paused(30);
    let mut now = 30;
    for (said, wait) in [
        (enough(Some(40)), 10),
        // The second in a row.
        (enough(None), 120),
        (enough(None), 240),
        (enough(None), 480),
        // No longer than a resource waits after failures.
        (enough(None), 600),
    ] {
        upstream.sends_probe(now);
        let turns = upstream.hears(now, said, now);
        assert!(matches!(turns.as_slice(), [Turn::Renewed(_)]), "{turns:?}");
        assert_eq!(upstream.until() - now, wait);
        now = upstream.until();
    }
}

#[test]
fn a_probe_that_gets_no_answer_leaves_the_pause_as_it_is_and_the_next_request_finds_out() {
    let mut upstream = paused(30);
    let before = upstream.0.pauses()[0];
    for lease in 2..5 {
        upstream.sends_probe(lease);
        assert_eq!(upstream.hears(lease, Said::Silence, 31), []);
        assert_eq!(upstream.way(31), Way::OneOnly);
    }
    assert_eq!(upstream.0.pauses(), [before]);
    upstream.sends_probe(5);
    assert!(matches!(upstream.hears(5, Said::Well, 32).as_slice(), [Turn::Over(_)]));
}

#[test]
fn who_is_asked_as_little_as_can_be_and_says_enough_is_left_alone_for_a_moment() {
    let mut upstream = Upstream(Standing::default());
    for wave in 0..3 {
        assert_eq!(upstream.hears(1, enough(None), wave * 10), [], "slowed down instead");
    }
    assert_eq!(LIMITS.concurrent_at(upstream.0.pace()), 1);
    assert!(matches!(upstream.hears(1, enough(None), 30).as_slice(), [Turn::Paused(_)]));
    assert_eq!(upstream.way(31), Way::Shut(at(32)));
    upstream.sends_probe(2);
    upstream.hears(2, enough(None), 32);
    assert_eq!(upstream.until(), 36, "and for longer each time");
}

#[test]
fn a_pause_of_a_source_leaves_others_alone_and_the_pace_as_it_is() {
    let mut standing = Standing::default();
    let covers = Covers::Source(SOURCE);
    let said = Said::Enough(Enough { status: 503, cause: Cause::Limit, covers, until: Some(at(30)) });
    standing.heed(&heard(1, said), &LIMITS, at(0));
    assert_eq!(standing.way(covers, at(1), |_| true), Way::Shut(at(30)));
    assert_eq!(standing.way(Covers::Source(SourceId(2)), at(1), |_| true), Way::Open);
    assert_eq!(standing.way(Covers::Upstream, at(1), |_| true), Way::Open);
    assert_eq!((standing.pace(), standing.silent_until(at(1))), (1.0, None));
}

fn spent(until: i64) -> Said {
    Said::Later(Later { status: 200, cause: Cause::Allowance, covers: Covers::Upstream, until: at(until) })
}

#[test]
fn a_spent_allowance_is_waited_for_and_slows_nothing_down() {
    let mut upstream = Upstream(Standing::default());
    let turns = upstream.hears(1, spent(30), 0);
    assert!(matches!(turns.as_slice(), [Turn::Paused(_)]), "{turns:?}");
    assert_eq!((upstream.way(29), upstream.way(30)), (Way::Shut(at(30)), Way::OneOnly));
    assert_eq!(upstream.0.pace().to_string(), "1");
    assert_eq!(upstream.0.pauses()[0].why(), "200 that says that its allowance is spent until 2027-01-15T08:00:30Z");
    upstream.sends_probe(2);
    assert!(matches!(upstream.hears(2, Said::Well, 31).as_slice(), [Turn::Over(_)]));
    assert_eq!(upstream.way(31), Way::Open);
}

#[test]
fn an_allowance_of_one_request_is_asked_for_one_at_a_time() {
    let mut upstream = Upstream(Standing::default());
    upstream.hears(1, spent(30), 0);
    upstream.sends_probe(2);
    let turns = upstream.hears(2, spent(60), 30);
    assert!(matches!(turns.as_slice(), [Turn::Over(_), Turn::Paused(_)]), "{turns:?}");
    assert_eq!((upstream.way(59), upstream.way(60)), (Way::Shut(at(60)), Way::OneOnly));
}

#[test]
fn of_a_429_and_a_spent_allowance_what_lasts_longer_is_kept_and_told() {
    let mut upstream = paused(30);
    assert_eq!(upstream.hears(1, spent(20), 1), []);
    assert_eq!((upstream.until(), upstream.0.pauses()[0].cause), (30, Cause::Limit));
    assert_eq!(upstream.hears(1, spent(3600), 2), []);
    assert_eq!((upstream.until(), upstream.0.pauses()[0].cause), (3600, Cause::Allowance));
    assert_eq!(upstream.hears(1, enough(Some(7200)), 3), []);
    assert_eq!(upstream.0.pauses()[0].why(), "429 with Retry-After");
}

#[test]
fn a_pause_of_an_older_program_is_read_as_one_of_a_limit() {
    let json = paused(30).0.json().unwrap().replace("\"cause\":\"limit\",", "");
    assert!(!json.contains("cause"));
    assert_eq!(Standing::read(Some(&json)).unwrap(), paused(30).0);
}

#[test]
fn what_a_clock_far_ahead_has_noted_counts_from_now() {
    let mut upstream = Upstream(Standing::default());
    upstream.hears(1, enough(Some(100_030)), 100_000);
    let standing = upstream.0.clone().at(at(0));
    assert_eq!(standing.way(Covers::Upstream, at(0), |_| true), Way::Shut(at(30)));
    let a_little = upstream.0.at(at(99_950));
    assert_eq!(a_little.way(Covers::Upstream, at(99_950), |_| true), Way::Shut(at(100_030)));
}

#[test]
fn a_pause_that_nobody_asked_after_is_forgotten() {
    assert_eq!(paused(30).0.at(at(30 + 86_400)).pauses().len(), 1);
    assert_eq!(paused(30).0.at(at(31 + 86_400)).pauses(), []);
}

#[test]
fn what_is_stored_is_read_again_and_what_makes_no_sense_is_told() {
    let mut upstream = paused(30);
    upstream.sends_probe(2);
    let json = upstream.0.json().unwrap();
    assert_eq!(Standing::read(Some(&json)), Ok(upstream.0));
    assert_eq!((Standing::default().json(), Standing::read(None)), (None, Ok(Standing::default())));
    assert!(Standing::read(Some("{\"pauses\":7}")).is_err());
    assert_eq!(Standing::read(Some("{\"of_a_newer_program\":7}")), Ok(Standing::default()));
}

proptest! {
    /// Whatever comes: in no pause that an upstream asked for is anything allowed, and there is always a way out of one.
    #[test]
    fn a_pause_is_kept_and_ends(
        answers in prop::collection::vec((0i64..50, 0u8..6, 0i64..100, any::<bool>()), 1..100),
    ) {
        let (mut upstream, mut now, mut quiet_until) = (Upstream(Standing::default()), 0, 0);
        for (wait, kind, retry_after, probes) in answers {
            now += wait;
            match upstream.way(now) {
                Way::Shut(until) => prop_assert!(until > at(now)),
                _ => prop_assert!(now >= quiet_until, "{now} is within the pause until {quiet_until}"),
            }
            let mut lease = 1;
            if probes && upstream.way(now) == Way::OneOnly {
                upstream.sends_probe(2);
                lease = 2;
            }
            let said = match kind {
                0 => Said::Nothing,
                1 => Said::Silence,
                2 => Said::Well,
                3 => enough(None),
                _ => {
                    quiet_until = quiet_until.max(now + retry_after);
                    if kind == 4 { enough(Some(now + retry_after)) } else { spent(now + retry_after) }
                }
            };
            upstream.hears(lease, said, now);
        }
        let long_after = now + 10_000;
        if upstream.0.way(Covers::Upstream, at(long_after), |_| false) == Way::OneOnly {
            upstream.sends_probe(3);
            upstream.hears(3, Said::Well, long_after);
        }
        prop_assert_eq!(upstream.way(long_after), Way::Open);
    }
}
