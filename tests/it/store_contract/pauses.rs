//! Upstreams that want to be left alone, or to be asked less.

use std::time::Duration;

use headpond::domain::governor::PauseScope;
use headpond::domain::limit::Limits;
use headpond::domain::observation::{Seen, Via};
use headpond::domain::policy::Policy;
use headpond::domain::resource::{SourceId, SourceName};
use headpond::domain::schedule::Because;
use headpond::store::{Authority, Claim, Fate, Hastened, Registered, Selection};

use crate::support::outcomes::{HOUR, content, enough, not_modified, policy, status, unreachable};
use crate::support::store::{LEASE, TestStore, UNLIMITED, ask, nothing_until, on_each_database, spec, wish};

on_each_database! {
    nothing_is_leased_in_a_pause_by_any_process_and_one_resource_after_it,
    a_probe_that_is_lost_or_given_back_lets_another_go,
    a_probe_that_is_answered_no_better_renews_the_pause,
    a_probe_that_fails_for_reasons_of_its_own_leaves_the_next_to_find_out,
    what_was_sent_before_a_pause_does_not_end_it,
    a_pause_of_a_source_lets_the_others_pass,
    a_pause_goes_with_the_source_that_leaves_the_upstream,
    others_hear_that_a_pause_is_over,
    no_outage_ends_within_a_pause,
    a_reader_is_told_that_it_would_wait_for_the_pause,
    one_key_alone_waits_where_that_is_what_a_429_is_about,
    a_503_halves_what_is_under_way_until_answers_are_well,
    a_503_halves_the_rate,
    a_standing_that_cannot_be_read_stops_nobody,
    answers_that_say_nothing_new_leave_the_upstream_alone,
}

const PAUSE: Duration = Duration::from_secs(30);

impl TestStore {
    /// A source of so many keys whose upstream has just been answered with 429 and asked to wait.
    async fn paused(&self, keys: usize) -> Registered {
        let weather = self.source_with_keys("weather", keys).await;
        let first = self.claim_one(weather.upstream).await;
        self.settle(&first, enough(429, 30)).await;
        weather
    }

    async fn settle_by(&self, policy: &Policy, claim: &Claim, seen: Seen) {
        let settled = self.settled_by(policy, claim, seen, Via::default());
        assert_eq!(self.store.apply(&[settled]).await.unwrap().fates, [Fate::Committed]);
    }

    async fn waits(&self, source: &str) -> Option<i64> {
        let wait = self.store.wait(&SourceName::new(source).unwrap()).await.unwrap();
        wait.map(|wait| (wait.until - self.now()).num_seconds())
    }
}

fn by_source() -> Policy {
    Policy { pause_scope: PauseScope::Source, ..policy() }
}

fn of(claims: &[Claim], source: SourceId) -> usize {
    claims.iter().filter(|claim| claim.source == source).count()
}

async fn nothing_is_leased_in_a_pause_by_any_process_and_one_resource_after_it(test: &TestStore) {
    let weather = test.paused(5).await;
    let until = test.now() + PAUSE;
    for store in [test.store.clone(), test.another().await] {
        let claimed = store.claim(&ask(weather.upstream, 9)).await.unwrap();
        assert_eq!(nothing_until(&claimed), Some(until));
        assert_eq!(claimed.wait.unwrap().until, until);
        assert_eq!(store.take_token(weather.upstream).await.unwrap(), Err(until), "nor may a redirect be followed");
    }
    assert_eq!(test.waits("weather").await, Some(30));
    test.clock.advance(PAUSE);
    let probe = test.claim(weather.upstream).await;
    assert_eq!(probe.len(), 1);
    assert_eq!(test.store.take_token(weather.upstream).await.unwrap(), Ok(()), "its redirects are followed");
    let claimed = test.another().await.claim(&ask(weather.upstream, 9)).await.unwrap();
    assert_eq!(nothing_until(&claimed), Some(test.now() + LEASE));
    test.settle(&probe[0], content("A", &[])).await;
    assert_eq!((test.waits("weather").await, test.claim(weather.upstream).await.len()), (None, 4));
}

async fn a_probe_that_is_lost_or_given_back_lets_another_go(test: &TestStore) {
    let weather = test.paused(5).await;
    test.clock.advance(PAUSE);
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
    test.clock.advance(LEASE);
    let second = test.claim(weather.upstream).await;
    assert_eq!(second.len(), 1);
    test.store.release(&[(second[0].token, second[0].resource)]).await.unwrap();
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
    assert_eq!(test.claim(weather.upstream).await.len(), 0);
}

async fn a_probe_that_fails_for_reasons_of_its_own_leaves_the_next_to_find_out(test: &TestStore) {
    let weather = test.paused(5).await;
    test.clock.advance(PAUSE);
    let probe = test.claim_one(weather.upstream).await;
    test.settle(&probe, unreachable()).await;
    assert!(test.current("weather", probe.key.as_str()).await.due.unwrap().at > test.now(), "its own backoff");
    assert_eq!(test.waits("weather").await, None);
    let next = test.claim(weather.upstream).await;
    assert_eq!((next.len(), next[0].key == probe.key), (1, false), "one at a time");
    test.settle(&next[0], status(500)).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 3, "an answer that is no limit: the rest follows");
}

async fn a_probe_that_is_answered_no_better_renews_the_pause(test: &TestStore) {
    let weather = test.paused(5).await;
    for (seen, wait) in [(enough(503, 10), 10), (status(429), 120), (status(503), 240)] {
        test.clock.advance(Duration::from_secs(test.waits("weather").await.unwrap().unsigned_abs()));
        let probe = test.claim_one(weather.upstream).await;
        test.settle(&probe, seen).await;
        let claimed = test.store.claim(&ask(weather.upstream, 9)).await.unwrap();
        assert_eq!(nothing_until(&claimed), Some(test.now() + Duration::from_secs(wait)));
    }
}

async fn what_was_sent_before_a_pause_does_not_end_it(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    let claims = test.claim(weather.upstream).await;
    test.settle(&claims[0], enough(429, 30)).await;
    test.settle(&claims[1], content("A", &[])).await;
    assert_eq!(test.waits("weather").await, Some(30));
    test.settle(&claims[2], enough(429, 40)).await;
    assert_eq!(test.waits("weather").await, Some(40), "but it can make it longer");
    test.clock.advance(Duration::from_secs(40));
    test.store.want(&Selection::All, test.now()).await.unwrap();
    let probe = test.claim(weather.upstream).await;
    assert_eq!(probe.len(), 1);
    // Under the same lease as what began the pause.
    test.settle(&claims[3], content("A", &[])).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 0, "the probe is under way");
    test.settle(&probe[0], content("A", &[])).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 3);
}

async fn a_pause_of_a_source_lets_the_others_pass(test: &TestStore) {
    let specs = [spec("weather", "metno", UNLIMITED), spec("sunrise", "metno", UNLIMITED)];
    let [weather, sunrise] = test.store.register(&specs, Authority::Owns).await.unwrap()[..] else { panic!() };
    test.add(weather, 9).await;
    let first = test.claim_one(weather.upstream).await;
    test.settle_by(&by_source(), &first, enough(429, 30)).await;
    assert_eq!((test.waits("weather").await, test.waits("sunrise").await), (Some(30), None));
    let claimed = test.store.claim(&ask(weather.upstream, 3)).await.unwrap();
    assert_eq!(nothing_until(&claimed), Some(test.now() + PAUSE));
    assert_eq!(claimed.wait.unwrap().until, test.now() + PAUSE);

    test.clock.advance(Duration::from_secs(1));
    test.add(sunrise, 3).await;
    let claims = test.store.claim(&ask(weather.upstream, 3)).await.unwrap().claims;
    assert_eq!(of(&claims, sunrise.source), 3, "what has been due for longer is not in their way");
    for claim in &claims {
        test.settle_by(&by_source(), claim, content("A", &[])).await;
    }
    test.clock.advance(PAUSE);
    test.store.want(&Selection::Sources(vec![sunrise.source]), test.now()).await.unwrap();
    let claims = test.claim(weather.upstream).await;
    assert_eq!(
        (of(&claims, weather.source), of(&claims, sunrise.source)),
        (1, 3),
        "one finds out, for its source alone"
    );
    let probe = claims.iter().find(|claim| claim.source == weather.source).unwrap();
    assert_eq!(test.claim(weather.upstream).await.len(), 0);
    test.settle_by(&by_source(), probe, content("A", &[])).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 8);
}

async fn a_pause_goes_with_the_source_that_leaves_the_upstream(test: &TestStore) {
    let there = [spec("weather", "metno", UNLIMITED), spec("sunrise", "metno", UNLIMITED)];
    let weather = test.store.register(&there, Authority::Owns).await.unwrap()[0];
    test.add(weather, 3).await;
    let first = test.claim_one(weather.upstream).await;
    test.settle_by(&by_source(), &first, enough(429, 30)).await;
    let pauses = async || test.store.status(test.now()).await.unwrap().upstreams.into_iter().flat_map(|one| one.pauses);
    assert_eq!(pauses().await.count(), 1);
    let here = test.store.register(&[spec("weather", "elsewhere", UNLIMITED)], Authority::Owns).await.unwrap()[0];
    assert_eq!((test.waits("weather").await, pauses().await.count()), (None, 0));
    assert_eq!(test.claim(here.upstream).await.len(), 2);
}

async fn others_hear_that_a_pause_is_over(test: &TestStore) {
    let weather = test.paused(5).await;
    test.clock.advance(PAUSE);
    let probe = test.claim_one(weather.upstream).await;
    let wishes = async || test.store.applied_since(0).await.unwrap().wishes;
    let before = wishes().await;
    test.settle(&probe, content("A", &[])).await;
    assert_ne!(wishes().await, before);
}

async fn no_outage_ends_within_a_pause(test: &TestStore) {
    let weather = test.source_with_keys("weather", 6).await;
    let claims = test.claim(weather.upstream).await;
    for claim in &claims[..3] {
        test.settle(claim, unreachable()).await;
    }
    test.settle(&claims[3], enough(503, 10)).await;
    test.settle(&claims[4], content("A", &[])).await;
    test.store.release(&[(claims[5].token, claims[5].resource)]).await.unwrap();
    let because = async || test.current("weather", "k0").await.due.unwrap().because;
    assert_eq!(because().await, Because::Outage, "it answers, but wants to be left alone");
    test.clock.advance(Duration::from_secs(10));
    let probe = test.claim_one(weather.upstream).await;
    test.settle(&probe, content("A", &[])).await;
    assert_eq!(test.current("weather", "k2").await.due.unwrap().because, Because::RetryNow);
}

async fn a_reader_is_told_that_it_would_wait_for_the_pause(test: &TestStore) {
    test.paused(5).await;
    let resource = test.current("weather", "k4").await.resource;
    let hastened = test.store.hasten(resource, wish(None, test.now())).await.unwrap();
    assert_eq!(hastened, Hastened::PutOff(test.now() + PAUSE));
}

async fn one_key_alone_waits_where_that_is_what_a_429_is_about(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    let by_key = Policy { pause_scope: PauseScope::Key, ..policy() };
    let first = test.claim_one(weather.upstream).await;
    test.settle_by(&by_key, &first, enough(429, 3000)).await;
    let due = test.current("weather", first.key.as_str()).await.due.unwrap();
    assert_eq!((due.at, due.because), (test.now() + Duration::from_secs(3000), Because::RetryAfter));
    assert_eq!((test.waits("weather").await, test.claim(weather.upstream).await.len()), (None, 4));
}

async fn a_503_halves_what_is_under_way_until_answers_are_well(test: &TestStore) {
    let weather = test.source("weather", Limits { max_concurrent: 8, ..UNLIMITED }).await;
    test.add(weather, 100).await;
    let first = test.claim_one(weather.upstream).await;
    test.settle(&first, status(503)).await;
    let claims = test.claim(weather.upstream).await;
    assert_eq!(claims.len(), 4);
    let pace = async || test.store.status(test.now()).await.unwrap().upstreams[0].pace;
    for claim in &claims {
        test.clock.advance(Duration::from_millis(2500));
        test.settle(claim, content("A", &[])).await;
    }
    assert!((pace().await - 0.9).abs() < 1e-9, "a step for each second in which there was an answer");
    test.clock.advance(HOUR);
    let claims = test.claim(weather.upstream).await;
    assert_eq!(claims.len(), 7);
}

async fn a_503_halves_the_rate(test: &TestStore) {
    let limits = Limits {
        requests_per_second: Some(2.0),
        burst: 5,
        max_concurrent: 1000,
        budgets: headpond::domain::budget::Budgets::NONE,
    };
    let weather = test.source("weather", limits).await;
    test.add(weather, 100).await;
    let claims = test.claim(weather.upstream).await;
    test.settle(&claims[0], status(503)).await;
    let mut granted = 0;
    for _ in 0..100 {
        test.clock.advance(Duration::from_millis(100));
        granted += test.claim(weather.upstream).await.len();
    }
    assert!((10..=11).contains(&granted), "{granted} in ten seconds");
}

async fn a_standing_that_cannot_be_read_stops_nobody(test: &TestStore) {
    let weather = test.paused(5).await;
    test.execute("UPDATE {upstream} SET standing = 'nonsense'").await.unwrap();
    assert_eq!(test.waits("weather").await, None);
    assert_eq!(test.claim(weather.upstream).await.len(), 4);
    assert_eq!(test.number("SELECT count(*) FROM {upstream} WHERE standing = 'nonsense'").await, 0, "it is told once");
}

async fn answers_that_say_nothing_new_leave_the_upstream_alone(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
    test.clock.advance(2 * HOUR);
    let claims = test.claim(weather.upstream).await;
    test.refuse("upstream", "NEW.name = 'weather'").await;
    for claim in &claims {
        test.settle(claim, not_modified()).await;
    }
}
