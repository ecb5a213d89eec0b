//! Upstreams that say how much is left of what they allow.

use std::time::Duration;

use headpond::domain::governor::PauseScope;
use headpond::domain::observation::Via;
use headpond::domain::policy::Policy;
use headpond::domain::resource::SourceName;
use headpond::domain::schedule::Because;
use headpond::store::{Authority, Hastened, Pause, Selection};

use crate::support::outcomes::{HOUR, content, not_modified, policy, status};
use crate::support::store::{TestStore, UNLIMITED, ask, nothing_until, on_each_database, spec, wish};

on_each_database! {
    when_nothing_is_left_no_process_asks_before_there_is_more,
    what_is_left_of_one_source_is_no_matter_of_the_others,
    a_reader_does_not_have_what_was_just_asked_for_asked_for_again_too_soon,
    a_wait_that_is_shorter_than_the_interval_is_kept_by_readers_over_failures_until_the_next_answer,
}

const SPENT: [(&str, &str); 1] = [("ratelimit", "\"default\";r=0;t=30")];
const UNTIL_MORE: Duration = Duration::from_secs(30);

async fn when_nothing_is_left_no_process_asks_before_there_is_more(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    let first = test.claim_one(weather.upstream).await;
    test.settle(&first, content("A", &SPENT)).await;
    let until = test.now() + UNTIL_MORE;
    for store in [test.store.clone(), test.another().await] {
        let claimed = store.claim(&ask(weather.upstream, 9)).await.unwrap();
        assert_eq!(nothing_until(&claimed), Some(until));
        assert_eq!(store.take_token(weather.upstream).await.unwrap(), Err(until), "nor is a page asked for");
    }
    let why = test.store.wait(&SourceName::new("weather").unwrap()).await.unwrap().unwrap().why.to_string();
    let spent_until =
        "the upstream is left alone: 200 that says that its allowance is spent until 2027-01-15T08:00:30Z";
    assert_eq!(why, spent_until);
    let status = test.store.status(test.now()).await.unwrap();
    let Pause::Quiet { until: told, why, resources, .. } = &status.upstreams[0].pauses[0] else { panic!("{status:?}") };
    assert_eq!((*told, *resources), (until, 4));
    assert!(spent_until.ends_with(why.as_str()), "{why}");
    assert_eq!(status.upstreams[0].pace.to_string(), "1", "nobody said that it was too much");

    test.clock.advance(UNTIL_MORE);
    let probe = test.claim(weather.upstream).await;
    assert_eq!(probe.len(), 1);
    test.settle(&probe[0], content("A", &[("ratelimit", "\"default\";r=9;t=30")])).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 3);
}

async fn what_is_left_of_one_source_is_no_matter_of_the_others(test: &TestStore) {
    let specs = [spec("weather", "metno", UNLIMITED), spec("sunrise", "metno", UNLIMITED)];
    let [weather, sunrise] = test.store.register(&specs, Authority::Owns).await.unwrap()[..] else { panic!() };
    test.add(weather, 3).await;
    test.add(sunrise, 2).await;
    let first = test.claim_one(weather.upstream).await;
    assert_eq!(first.source, weather.source);
    let by_source = Policy { pause_scope: PauseScope::Source, ..policy() };
    let settled = test.settled_by(&by_source, &first, content("A", &SPENT), Via::default());
    test.store.apply(&[settled]).await.unwrap();
    let claims = test.claim(weather.upstream).await;
    assert_eq!(claims.iter().map(|claim| claim.source).collect::<Vec<_>>(), [sunrise.source; 2]);
}

async fn a_reader_does_not_have_what_was_just_asked_for_asked_for_again_too_soon(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let first = test.claim_one(weather.upstream).await;
    let two_hours = (2 * HOUR).as_secs().to_string();
    test.settle(&first, content("A", &[("etag", "\"1\""), ("x-poll-interval", &two_hours)])).await;
    let due = test.current("weather", "k0").await.due.unwrap();
    assert_eq!(due.because, Because::NotBefore);
    assert!(due.at >= test.now() + 2 * HOUR, "{due:?}");
    let seen = Some(test.now());
    let hastened = test.store.hasten(first.resource, wish(seen, test.now())).await.unwrap();
    assert_eq!(hastened, Hastened::PutOff(due.at));

    test.store.want(&Selection::All, test.now()).await.unwrap();
    let by_hand = test.claim_one(weather.upstream).await;
    test.settle(&by_hand, not_modified()).await;
    assert_eq!(test.current("weather", "k0").await.due.unwrap().because, Because::Interval);
}

async fn a_wait_that_is_shorter_than_the_interval_is_kept_by_readers_over_failures_until_the_next_answer(
    test: &TestStore,
) {
    let weather = test.source_with_keys("weather", 1).await;
    let first = test.claim_one(weather.upstream).await;
    test.settle(&first, content("A", &[("etag", "\"1\""), ("x-poll-interval", "600")])).await;
    let (seen, until) = (Some(test.now()), test.now() + Duration::from_secs(600));
    assert_eq!(test.current("weather", "k0").await.due.unwrap().because, Because::Interval);
    let hasten = async || test.store.hasten(first.resource, wish(seen, test.now())).await.unwrap();
    assert_eq!(hasten().await, Hastened::PutOff(until));

    test.store.want(&Selection::All, test.now()).await.unwrap();
    let by_hand = test.claim_one(weather.upstream).await;
    test.settle(&by_hand, status(500)).await;
    test.clock.advance(Duration::from_secs(300));
    assert!(test.current("weather", "k0").await.due.unwrap().at < test.now(), "its backoff is over");
    assert_eq!(hasten().await, Hastened::PutOff(until), "a failure says nothing of that");

    test.store.want(&Selection::All, test.now()).await.unwrap();
    let again = test.claim_one(weather.upstream).await;
    test.settle(&again, not_modified()).await;
    let seen = Some(test.now());
    let hastened = test.store.hasten(first.resource, wish(seen, test.now())).await.unwrap();
    assert_eq!(hastened, Hastened::Due, "the last answer asks for no wait");
}
