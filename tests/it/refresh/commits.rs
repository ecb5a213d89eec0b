//! What the database refuses, and what it only can't take now.

use std::sync::Arc;

use futures_util::future::join_all;
use headpond::domain::decision::decide;
use headpond::domain::failure::FailureKind;
use headpond::domain::governor::Said;
use headpond::domain::observation::{Observation, Via};
use headpond::refresh::committer::{Committer, Decided};
use headpond::refresh::tally::Verdict;
use headpond::store::Claim;
use wiremock::matchers::method;
use wiremock::{Mock, ResponseTemplate};

use super::{Process, answer, mock_server};
use crate::support::outcomes::content;
use crate::support::store::{Database, TestStore, on_database, on_each_database};

on_each_database!(
    of_a_batch_only_the_outcome_that_the_database_rejects_fails,
    what_the_database_rejects_fails_as_unstorable_and_its_last_good_stays,
    a_failure_that_the_database_rejects_too_is_left_and_the_others_are_stored,
);
on_database!(
    on_postgres_alone,
    crate::support::store::TestStore::postgres().await,
    a_commit_that_fails_for_now_is_tried_again_with_the_result_in_hand
);

const KEYS: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
/// Its length is what the triggers go by: no other body here has it.
const POISON: &str = "thirteen long";

impl Process<'_> {
    /// Hands over content for all that is due as one batch, and returns what became of each.
    async fn settle_at_once(&self, body: impl Fn(&Claim) -> String) -> Vec<(String, Verdict)> {
        let (refresher, now) = (&self.refresher, self.test.now());
        let (committer, commits) = Committer::new(refresher, self.abandon.clone());
        let landings = self.test.claim(self.ids[0].upstream).await.into_iter().map(|claim| {
            let source = refresher.roster.source(claim.source).unwrap();
            let seen = content(&body(&claim), &[]);
            let observation =
                Observation { requested_at: now, answered_at: now, conditional: false, seen, via: Via::default() };
            let outcome = decide(&source.policy, &claim.previous, observation, now, 0.5);
            let signal = source.policy.hearing(claim.source).signal(Said::Well);
            let decided = Decided { at: now, outcome, signal };
            let (committer, source, claim) = (committer.clone(), Arc::clone(source), Arc::new(claim));
            async move {
                let verdict = committer.settle(Arc::clone(&claim), source, decided).await;
                (claim.key.to_string(), verdict)
            }
        });
        let landings: Vec<_> = landings.collect();
        drop(committer);
        // The landings come first: all of them are waiting when the commits begin.
        let (verdicts, ()) = tokio::join!(join_all(landings), commits);
        verdicts
    }
}

async fn of_a_batch_only_the_outcome_that_the_database_rejects_fails(test: &TestStore) {
    let process = Process::with_users(test, "http://127.0.0.1:9", &KEYS, "").await;
    process.settle_at_once(|claim| format!("first {}", claim.key)).await;
    assert_eq!(test.number("SELECT count(*) FROM {applied}").await, 1, "ten outcomes are one transaction");
    test.refuse("content", &format!("length(NEW.body) = {}", POISON.len())).await;
    process.want_all().await;

    let body = |claim: &Claim| if claim.key.as_str() == "3" { POISON.into() } else { format!("second {}", claim.key) };
    let verdicts = process.settle_at_once(body).await;
    assert_eq!(verdicts.len(), KEYS.len());
    for (key, verdict) in verdicts {
        match verdict {
            Verdict::Failed(failure) => assert_eq!((key.as_str(), failure.kind), ("3", FailureKind::Unstorable)),
            verdict => assert_eq!(verdict, Verdict::Changed, "{key}"),
        }
        let expected = if key == "3" { "first 3".into() } else { format!("second {key}") };
        assert_eq!(process.body(&key).await, expected);
    }
    // By halves, and not one by one: 10 = 5 + 2 + 1 + 1 + 1, where the last is the failure.
    let batches = test.number("SELECT count(*) FROM {applied}").await - 1;
    assert!(batches <= 5, "{batches} transactions");
}

async fn what_the_database_rejects_fails_as_unstorable_and_its_last_good_stays(test: &TestStore) {
    let upstream = mock_server().await;
    answer(&upstream, "good", "good").await;
    answer(&upstream, "bad", "well at first").await;
    let process = Process::with_users(test, &upstream.uri(), &["bad", "good"], "").await;
    process.refresh().await;
    let validators = test.current("users", "bad").await.validators;
    test.refuse("content", &format!("length(NEW.body) = {}", POISON.len() + 1)).await;
    upstream.reset().await;
    answer(&upstream, "good", "better").await;
    let poison = ResponseTemplate::new(200).insert_header("etag", "\"poison\"").set_body_string(format!("{POISON}!"));
    Mock::given(method("GET")).respond_with(poison).expect(1).mount(&upstream).await;
    process.want_all().await;

    let counts = process.refresh().await;
    assert_eq!((counts.changed, counts.failed), (1, 1), "{counts:?}");
    assert_eq!(counts.failures[0].failure.kind, FailureKind::Unstorable);
    let bad = test.current("users", "bad").await;
    let failing = bad.failing.unwrap();
    assert_eq!((failing.last.kind, failing.count), (FailureKind::Unstorable, 1));
    assert_eq!((process.body("bad").await.as_str(), bad.version), ("well at first", 1));
    assert_eq!(bad.validators, validators, "else a 304 would hide the failure");
    assert!(bad.due.unwrap().at > test.now(), "it is tried again, later");
    assert_eq!(process.body("good").await, "better");
}

async fn a_failure_that_the_database_rejects_too_is_left_and_the_others_are_stored(test: &TestStore) {
    let process = Process::with_users(test, "http://127.0.0.1:9", &KEYS, "").await;
    test.refuse("resource", "NEW.key = '3'").await;
    let verdicts = process.settle_at_once(|claim| format!("first {}", claim.key)).await;
    assert_eq!(verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::New).count(), KEYS.len() - 1);
    assert_eq!(test.current("users", "3").await.content, None);
    for key in KEYS.into_iter().filter(|key| *key != "3") {
        assert_eq!(process.body(key).await, format!("first {key}"));
    }
}

/// The database has no room for the first commits. A sequence counts them: it goes on when its transaction is rolled back.
async fn a_commit_that_fails_for_now_is_tried_again_with_the_result_in_hand(test: &TestStore) {
    assert!(matches!(test.database, Database::Postgres { .. }), "SQLite knows no error that a trigger could choose");
    test.execute(
        "CREATE SEQUENCE attempts;
         CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('attempts') <= 3 THEN RAISE disk_full USING MESSAGE = 'no room, says the test'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER is_full BEFORE INSERT ON {content} FOR EACH ROW EXECUTE FUNCTION is_full();",
    )
    .await
    .unwrap();
    let upstream = mock_server().await;
    let once = ResponseTemplate::new(200).set_body_string("in hand");
    Mock::given(method("GET")).respond_with(once).expect(1).mount(&upstream).await;
    let process = Process::with_users(test, &upstream.uri(), &["1"], "").await;

    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.failed), (1, 0), "{counts:?}");
    assert_eq!(process.body("1").await, "in hand");
    assert_eq!(test.number("SELECT last_value FROM attempts").await, 4, "three were refused");
    upstream.verify().await;
}
