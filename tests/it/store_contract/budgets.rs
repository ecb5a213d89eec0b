//! Budgets: requests in windows of minutes, hours, days, held by the store for all processes together.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use headpond::domain::budget::{Budget, Budgets};
use headpond::domain::limit::Limits;
use headpond::domain::resource::SourceName;
use headpond::domain::schedule::Because;
use headpond::store::{Pause, Selection};

use crate::support::outcomes::{content, enough};
use crate::support::store::{TestStore, UNLIMITED, ask, on_each_database};

on_each_database! {
    a_day_budget_is_never_exceeded_and_is_spread_and_what_was_never_fetched_goes_first,
    a_budget_is_shared_by_all_processes_and_outlives_them,
    the_tightest_of_several_budgets_decides,
    single_requests_are_paid_for_by_the_same_budget,
    what_was_asked_for_goes_before_what_was_never_fetched,
    a_pause_leaves_a_budget_as_it_is,
    budgets_come_and_go_with_the_configuration,
}

const DAY: Duration = Duration::from_secs(86_400);

fn budget(requests: u32, per: Duration) -> Budget {
    Budget { requests, per }
}

fn limited(budgets: &[Budget]) -> Limits {
    Limits { budgets: Budgets::of(budgets.iter().copied()), ..UNLIMITED }
}

impl TestStore {
    /// Why what is due of a source is not asked for, and for how many seconds.
    async fn held_up(&self, source: &str) -> Option<(&'static str, i64)> {
        let wait = self.store.wait(&SourceName::new(source).unwrap()).await.unwrap()?;
        Some((wait.why.as_str(), (wait.until - self.now()).num_seconds()))
    }
}

async fn a_day_budget_is_never_exceeded_and_is_spread_and_what_was_never_fetched_goes_first(test: &TestStore) {
    let weather = test.source("weather", limited(&[budget(1_000, DAY)])).await;
    test.add(weather, 10_000).await;
    let (begin, mut sent) = (test.now(), VecDeque::<DateTime<Utc>>::new());
    let mut all = 0;
    while test.now() < begin + TimeDelta::days(2) {
        let claimed = test.store.claim(&ask(weather.upstream, 200)).await.unwrap();
        if claimed.claims.is_empty() {
            let wait = claimed.wait.unwrap();
            assert_eq!(wait.why.as_str(), "budget");
            assert_eq!(test.held_up("weather").await.unwrap().0, "budget");
            test.clock.advance((wait.until - test.now()).to_std().unwrap().max(Duration::from_millis(1)));
            continue;
        }
        assert!(claimed.claims.iter().all(|claim| claim.due.because == Because::New), "never fetched goes first");
        all += claimed.claims.len();
        sent.extend(claimed.claims.iter().map(|_| test.now()));
        let settled: Vec<_> = claimed.claims.iter().map(|claim| test.settled(claim, content("{}", &[]))).collect();
        test.store.apply(&settled).await.unwrap();
        while sent.front().is_some_and(|first| test.now() - *first >= TimeDelta::days(1)) {
            sent.pop_front();
        }
        assert!(sent.len() <= 1_000, "{} in a day", sent.len());
        let in_hour = sent.iter().rev().take_while(|at| test.now() - **at < TimeDelta::hours(1)).count();
        assert!(in_hour <= 50 + 40, "{in_hour} in an hour: a twentieth at first, and forty that come evenly");
        // Now and then nothing is asked for a while: what comes meanwhile may come at once then.
        test.clock.advance(Duration::from_secs(if all % 7 == 0 { 3_000 } else { 60 }));
    }
    assert!((1_700..=2_000).contains(&all), "{all} in two days");
    let status = test.store.status(test.now()).await.unwrap();
    let upstream = &status.upstreams[0];
    assert_eq!(upstream.budgets[0].0, budget(1_000, DAY));
    let held = test.store.claim(&ask(weather.upstream, 200)).await.unwrap();
    assert!(held.wait.is_some());
    let status = test.store.status(test.now()).await.unwrap();
    let [Pause::Budget { budget: short, until, resources }] = status.upstreams[0].pauses.as_slice() else {
        panic!("{:?}", status.upstreams[0].pauses)
    };
    assert_eq!(*short, budget(1_000, DAY));
    assert!(*until > test.now() && *resources > 7_900, "{resources} wait");
}

async fn a_budget_is_shared_by_all_processes_and_outlives_them(test: &TestStore) {
    let weather = test.source("weather", limited(&[budget(40, DAY)])).await;
    test.add(weather, 10).await;
    let other = test.another().await;
    assert_eq!(test.store.claim(&ask(weather.upstream, 1)).await.unwrap().claims.len(), 1);
    assert_eq!(other.claim(&ask(weather.upstream, 9)).await.unwrap().claims.len(), 1, "two come at once");
    other.close().await;
    let later = test.another().await;
    let claimed = later.claim(&ask(weather.upstream, 9)).await.unwrap();
    assert_eq!((claimed.claims.len(), claimed.wait.unwrap().why.as_str()), (0, "budget"));
}

async fn the_tightest_of_several_budgets_decides(test: &TestStore) {
    let minute = Duration::from_secs(60);
    let weather = test.source("weather", limited(&[budget(40, DAY), budget(20, minute)])).await;
    test.add(weather, 10).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 1, "a twentieth of the minute's");
    assert!(test.held_up("weather").await.unwrap().1 < 5);
    test.clock.advance(Duration::from_secs(5));
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
    assert!(test.held_up("weather").await.unwrap().1 > 600, "the day's twentieth is spent");
}

async fn single_requests_are_paid_for_by_the_same_budget(test: &TestStore) {
    let weather = test.source("weather", limited(&[budget(40, DAY)])).await;
    test.add(weather, 10).await;
    assert_eq!(test.store.take_token(weather.upstream).await.unwrap(), Ok(()));
    assert_eq!(test.claim(weather.upstream).await.len(), 1);
    let next = test.store.take_token(weather.upstream).await.unwrap().unwrap_err();
    assert!(next > test.now() + TimeDelta::minutes(30));
}

async fn what_was_asked_for_goes_before_what_was_never_fetched(test: &TestStore) {
    let weather = test.source("weather", limited(&[budget(20, DAY)])).await;
    test.add(weather, 3).await;
    let first = test.claim_one(weather.upstream).await;
    test.settle(&first, content("{}", &[])).await;
    test.clock.advance(DAY);
    let wanted = Selection::Resources(vec![first.resource]);
    assert_eq!(test.store.want(&wanted, test.now()).await.unwrap(), 1);
    assert_eq!(test.claim_one(weather.upstream).await.resource, first.resource);
}

async fn a_pause_leaves_a_budget_as_it_is(test: &TestStore) {
    let weather = test.source("weather", limited(&[budget(40, DAY)])).await;
    test.add(weather, 10).await;
    let first = test.store.claim(&ask(weather.upstream, 1)).await.unwrap().claims.remove(0);
    test.settle(&first, enough(429, 30)).await;
    assert_eq!(test.held_up("weather").await, Some(("pause", 30)));
    test.clock.advance(Duration::from_secs(30));
    assert_eq!(test.claim(weather.upstream).await.len(), 1, "what was left of it");
    assert_eq!(test.claim(weather.upstream).await.len(), 0);
}

async fn budgets_come_and_go_with_the_configuration(test: &TestStore) {
    let weather = test.source("weather", limited(&[budget(40, DAY)])).await;
    test.add(weather, 10).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 2);
    test.source("weather", UNLIMITED).await;
    assert_eq!(test.held_up("weather").await, None);
    assert_eq!(test.claim(weather.upstream).await.len(), 8);
}
