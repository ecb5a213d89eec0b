//! One configuration after another, while requests are under way.

use std::sync::Arc;
use std::time::Duration;

use headpond::domain::decision::decide;
use headpond::domain::governor::Said;
use headpond::domain::observation::{Observation, Via};
use headpond::refresh::committer::{Committer, Decided};
use headpond::refresh::fleet;
use headpond::refresh::ownership::Ownership;
use headpond::refresh::tally::Verdict;
use headpond::refresh::{Refresher, Roster};
use headpond::store::{Authority, Selection};
use headpond::upstream::Fetchers;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{HeldServer, PATIENCE, Process, answer, config, mock_server, soon, specs, users};
use crate::support::outcomes::content;
use crate::support::program::eventually;
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    another_configuration_takes_over_while_what_is_under_way_lands,
    two_lanes_of_one_upstream_keep_its_limits_and_the_old_one_begins_nothing_more,
    what_is_wanted_after_its_claim_stays_due_however_late_it_was_sent,
    a_process_that_lost_the_configuration_does_not_take_it_back_by_its_heartbeat,
);

/// A fleet that flies by whatever was sent last.
struct Fleet<'a> {
    process: &'a Process<'a>,
    refreshers: watch::Sender<Arc<Refresher>>,
    flying: JoinHandle<()>,
}

impl<'a> Fleet<'a> {
    fn start(process: &'a Process<'a>) -> Self {
        let refreshers = watch::Sender::new(Arc::clone(&process.refresher));
        let (committer, commits) = Committer::new(&process.refresher, process.abandon.clone());
        let fleet = fleet::fly(refreshers.subscribe(), committer, process.stop.clone(), process.abandon.clone());
        let flying = tokio::spawn(async move {
            let (fleet, ()) = tokio::join!(fleet, commits);
            fleet.unwrap();
        });
        Self { process, refreshers, flying }
    }

    /// Makes the sources of this TOML those that hold, as a reload does.
    async fn reload(&self, toml: &str) {
        let (config, store) = (config(toml), &self.process.test.store);
        let ids = store.register(&specs(&config), Authority::Owns).await.unwrap();
        for (source, ids) in config.sources.iter().zip(&ids) {
            store.add_keys(ids.source, &source.keys, Authority::Owns).await.unwrap();
        }
        let before = Arc::clone(&self.refreshers.borrow());
        let fetchers = Fetchers::of(&config, &before.clock).unwrap();
        let next = before.with(fetchers, Roster::new(&config, &ids));
        self.refreshers.send_replace(Arc::new(next));
    }

    async fn stop(self) {
        self.process.stop.cancel();
        soon(self.flying).await.unwrap();
    }
}

async fn another_configuration_takes_over_while_what_is_under_way_lands(test: &TestStore) {
    let (mut slow, quick) = (HeldServer::start().await, mock_server().await);
    answer(&quick, "2", "two").await;
    let process = Process::with_users(test, &slow.origin(), &["1"], "").await;
    let fleet = Fleet::start(&process);
    slow.arrival().await;

    let more = users(&quick.uri(), &["2"], "").replace("[sources.users]", "[sources.more]");
    fleet.reload(&format!("{more}\n[sources.users]\nurl = \"{}/users/{{key}}\"\nkeys = [\"1\"]", slow.origin())).await;
    eventually("the new source's", PATIENCE, async || {
        (test.number("SELECT count(*) FROM {content}").await == 1).then_some(())
    })
    .await;
    slow.answer(usize::MAX);
    eventually("the old one's", PATIENCE, async || {
        (test.number("SELECT count(*) FROM {content}").await == 2).then_some(())
    })
    .await;
    assert_eq!((process.body("1").await.as_str(), slow.requests()), ("answer 1", 1), "it was not given up or repeated");
    fleet.stop().await;
}

/// The clock stands still: whoever waited for a lease to expire, or for a heartbeat, would wait for ever.
async fn two_lanes_of_one_upstream_keep_its_limits_and_the_old_one_begins_nothing_more(test: &TestStore) {
    let mut upstream = HeldServer::start().await;
    let by = |agent: &str| {
        let toml = users(&upstream.origin(), &["1", "2", "3"], "upstream = \"one_by_one\"");
        format!("[upstreams.one_by_one]\nmax_concurrent_requests = 1\nuser_agent = \"{agent}\"\n{toml}")
    };
    let (first, second, third) = (by("first"), by("second"), by("third"));
    let process = Process::with_config(test, &first).await;
    let fleet = Fleet::start(&process);
    upstream.arrival().await;
    fleet.reload(&second).await;
    fleet.reload(&third).await;
    for nth in 1..=3 {
        assert_eq!(upstream.requests(), nth, "one at a time, whoever sends it");
        upstream.answer(nth);
        if nth < 3 {
            upstream.arrival().await;
        }
    }
    eventually("all three", PATIENCE, async || {
        (test.number("SELECT count(*) FROM {content}").await == 3).then_some(())
    })
    .await;
    assert_eq!(upstream.agents(), ["first", "third", "third"]);
    fleet.stop().await;
}

async fn what_is_wanted_after_its_claim_stays_due_however_late_it_was_sent(test: &TestStore) {
    let process = Process::with_users(test, "http://127.0.0.1:9", &["1"], "").await;
    let claim = Arc::new(test.claim_one(process.ids[0].upstream).await);
    test.clock.advance(Duration::from_secs(1));
    test.store.want(&Selection::All, test.now()).await.unwrap();
    test.clock.advance(Duration::from_secs(1));

    let (now, source) = (test.now(), process.refresher.roster.source_of(&claim).unwrap());
    let seen = content("by what was known then", &[("etag", "\"a\"")]);
    let observation =
        Observation { requested_at: now, answered_at: now, conditional: false, seen, via: Via::default() };
    let outcome = decide(&source.policy, &claim.previous, observation, now, 0.5);
    let signal = source.policy.hearing(claim.source).signal(Said::Well);
    let decided = Decided { at: now, outcome, signal };
    let (committer, commits) = Committer::new(&process.refresher, process.abandon.clone());
    let settled = async {
        let verdict = committer.settle(Arc::clone(&claim), Arc::clone(source), decided).await;
        drop(committer);
        verdict
    };
    let (verdict, ()) = tokio::join!(settled, commits);
    assert_eq!(verdict, Verdict::New);
    let again = test.claim_one(process.ids[0].upstream).await;
    assert!(again.previous.validators().is_none());
}

async fn a_process_that_lost_the_configuration_does_not_take_it_back_by_its_heartbeat(test: &TestStore) {
    let hold = |name: &str| Ownership::new(Arc::clone(&test.store), Arc::clone(&test.clock) as _, name.into());
    let owner = async || test.store.config_owner(test.now()).await.unwrap();
    let (first, second) = (hold("first"), hold("second"));
    assert!(!first.renew().await.unwrap(), "a heartbeat takes nothing");
    first.take().await.unwrap();
    assert!(first.renew().await.unwrap());
    second.take().await.unwrap();
    assert!(!first.renew().await.unwrap());
    assert!(second.renew().await.unwrap());
    assert_eq!(owner().await.as_deref(), Some("second"));

    first.give_up().await.unwrap();
    assert_eq!(owner().await.as_deref(), Some("second"), "what is another's can't be given up");
    first.take().await.unwrap();
    assert!(first.renew().await.unwrap() && !second.renew().await.unwrap());
    first.give_up().await.unwrap();
    assert_eq!(owner().await, None);
    assert!(!first.renew().await.unwrap());
}
