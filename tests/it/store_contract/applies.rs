//! Outcomes, committed in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headpond::domain::failure::FailureKind;
use headpond::domain::schedule::Because;
use headpond::store::{Changes, Fate, Settled};

use crate::support::outcomes::{HOUR, content, not_modified, status, unreachable};
use crate::support::store::{LEASE, TestStore, ids_of, is_rejected, on_each_database};

on_each_database! {
    new_content_replaces_the_old,
    content_that_is_the_same_is_neither_version_nor_change,
    a_plain_304_rewrites_neither_resource_nor_content,
    what_a_304_brings_is_kept,
    a_failure_leaves_snapshot_freshness_and_validators_alone,
    a_success_ends_a_run_of_failures,
    a_304_that_cannot_be_used_drops_the_validators_alone,
    a_batch_that_the_database_rejects_stores_nothing,
    of_two_outcomes_for_one_resource_the_first_counts,
    a_batch_may_hold_every_kind_of_outcome,
    an_empty_batch_is_nothing,
    numbers_are_in_commit_order_without_gaps,
    what_a_batch_touched_is_told,
    what_an_outage_failed_is_due_when_it_ends,
    two_failures_are_no_outage,
    an_outage_of_one_upstream_leaves_another_alone,
    what_was_wanted_in_an_outage_stays_first,
    what_a_long_outage_failed_is_due_in_parts,
}

async fn new_content_replaces_the_old(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle(&test.claim_one(weather.upstream).await, content("A", &[("etag", "\"a\"")])).await;
    test.clock.advance(HOUR);
    test.settle(
        &test.claim_one(weather.upstream).await,
        content("B", &[("etag", "\"b\""), ("cache-control", "max-age=9")]),
    )
    .await;
    let current = test.current("weather", "k0").await;
    let stored = current.content.unwrap();
    assert_eq!((current.version, stored.body.as_ref(), stored.changed_at), (2, &b"B"[..], test.now()));
    test.clock.advance(HOUR);
    let previous = test.claim_one(weather.upstream).await.previous;
    assert_eq!((previous.version, previous.metadata.max_age), (2, Some(9)));
    assert_eq!(previous.validators().unwrap().etag.as_deref(), Some(&b"\"b\""[..]));
}

async fn content_that_is_the_same_is_neither_version_nor_change(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let first_seen = test.now();
    test.settle(&test.claim_one(weather.upstream).await, content("A", &[])).await;
    test.clock.advance(HOUR);
    test.settle(&test.claim_one(weather.upstream).await, content("A", &[])).await;
    let current = test.current("weather", "k0").await;
    assert_eq!((current.version, current.content.unwrap().changed_at), (1, first_seen));
    assert_eq!(current.freshness.unwrap().fetched_at, test.now());
    assert_eq!(test.number("SELECT count(*) FROM {change}").await, 1);
}

async fn a_plain_304_rewrites_neither_resource_nor_content(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
    test.refuse("resource", "true").await;
    test.refuse("content", "true").await;
    test.refuse("change", "true").await;
    test.clock.advance(HOUR);
    test.settle_all(weather.upstream, |_| not_modified()).await;
    let current = test.current("weather", "k0").await;
    assert_eq!(current.freshness.unwrap().fetched_at, test.now());
    assert!(current.due.unwrap().at > test.now());
}

async fn what_a_304_brings_is_kept(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle(&test.claim_one(weather.upstream).await, content("A", &[("etag", "\"a\"")])).await;
    test.clock.advance(HOUR);
    let mut headers = http::HeaderMap::new();
    headers.insert("etag", "W/\"a\"".parse().unwrap());
    headers.insert("last-modified", "Fri, 15 Jan 2027 08:00:00 GMT".parse().unwrap());
    let seen = headpond::domain::observation::Seen::NotModified { headers };
    test.settle(&test.claim_one(weather.upstream).await, seen).await;
    let validators = test.current("weather", "k0").await.validators;
    assert_eq!(validators.etag.as_deref(), Some(&b"W/\"a\""[..]));
    assert_eq!(validators.last_modified.as_deref(), Some(&b"Fri, 15 Jan 2027 08:00:00 GMT"[..]));
}

async fn a_failure_leaves_snapshot_freshness_and_validators_alone(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle(&test.claim_one(weather.upstream).await, content("A", &[("etag", "\"a\"")])).await;
    let before = test.current("weather", "k0").await;
    let mut failing_since = None;
    for (count, seen) in [(1, status(500)), (2, unreachable()), (3, status(404)), (4, content("", &[]))] {
        test.clock.advance(2 * HOUR);
        test.settle(&test.claim_one(weather.upstream).await, seen).await;
        let after = test.current("weather", "k0").await;
        assert_eq!((&after.content, after.version), (&before.content, 1));
        assert_eq!((after.freshness, &after.validators), (before.freshness, &before.validators));
        let failing = after.failing.unwrap();
        assert_eq!((failing.count, failing.at), (count, test.now()));
        assert_eq!(failing.since, *failing_since.get_or_insert(failing.at));
    }
    assert_eq!(test.current("weather", "k0").await.failing.unwrap().last.kind, FailureKind::Empty);
    test.clock.advance(2 * HOUR);
    let previous = test.claim_one(weather.upstream).await.previous;
    assert_eq!((previous.failures, previous.failing_since, previous.absence.unwrap().count), (4, failing_since, 1));
}

async fn a_success_ends_a_run_of_failures(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    for success in [content("A", &[("etag", "\"a\"")]), not_modified(), content("B", &[])] {
        test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
        for failure in [status(404), status(503)] {
            test.clock.advance(2 * HOUR);
            test.settle(&test.claim_one(weather.upstream).await, failure).await;
        }
        test.clock.advance(2 * HOUR);
        test.settle(&test.claim_one(weather.upstream).await, success).await;
        assert_eq!(test.current("weather", "k0").await.failing, None);
        test.clock.advance(2 * HOUR);
        let claim = test.claim_one(weather.upstream).await;
        assert_eq!((claim.previous.failures, claim.previous.failing_since, claim.previous.absence), (0, None, None));
        test.store.release(&[(claim.token, claim.resource)]).await.unwrap();
    }
}

async fn a_304_that_cannot_be_used_drops_the_validators_alone(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle(&test.claim_one(weather.upstream).await, content("A", &[("etag", "\"a\"")])).await;
    let before = test.current("weather", "k0").await;
    test.clock.advance(HOUR);
    let mut headers = http::HeaderMap::new();
    headers.insert("etag", "\"of something else\"".parse().unwrap());
    let seen = headpond::domain::observation::Seen::NotModified { headers };
    test.settle(&test.claim_one(weather.upstream).await, seen).await;
    let after = test.current("weather", "k0").await;
    assert_eq!((after.content, after.freshness), (before.content, before.freshness));
    let claim = test.claim_one(weather.upstream).await;
    assert_eq!((claim.previous.validators(), claim.due.because), (None, Because::Reset));
}

async fn a_batch_that_the_database_rejects_stores_nothing(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    let claims = test.claim(weather.upstream).await;
    test.refuse("content", &format!("NEW.resource_id = {}", claims[1].resource.0)).await;
    let batch: Vec<_> = claims.iter().map(|claim| test.settled(claim, content("A", &[]))).collect();
    assert!(is_rejected(&test.store.apply(&batch).await));
    for table in ["content", "change", "applied"] {
        assert_eq!(test.number(&format!("SELECT count(*) FROM {{{table}}}")).await, 0, "{table}");
    }
    for name in ["k0", "k1", "k2"] {
        let current = test.current("weather", name).await;
        assert_eq!((current.version, current.due.unwrap().because), (0, Because::New));
        assert_eq!(current.leased_until, Some(test.now() + LEASE));
    }
    // What is not to blame can be committed under the same lease, and what is can be put off.
    let (good, bad) = ([batch[0].clone(), batch[2].clone()], test.settled(&claims[1], status(500)));
    let applied = test.store.apply(&good).await.unwrap();
    assert_eq!((applied.number, applied.fates), (Some(1), vec![Fate::Committed; 2]));
    assert_eq!(test.store.apply(&[bad]).await.unwrap().fates, [Fate::Committed]);
    assert_eq!(test.number("SELECT max(number) FROM {change}").await, 2);
}

async fn of_two_outcomes_for_one_resource_the_first_counts(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let claim = test.claim_one(weather.upstream).await;
    let batch = [test.settled(&claim, content("first", &[])), test.settled(&claim, content("second", &[]))];
    let applied = test.store.apply(&batch).await.unwrap();
    assert_eq!(applied.fates, [Fate::Committed, Fate::LeaseLost]);
    assert_eq!(test.current("weather", "k0").await.content.unwrap().body.as_ref(), b"first");
    assert_eq!(test.store.apply(&batch).await.unwrap().fates, [Fate::LeaseLost; 2], "a lease is used up");
}

async fn a_batch_may_hold_every_kind_of_outcome(test: &TestStore) {
    let weather = test.source_with_keys("weather", 300).await;
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
    test.clock.advance(HOUR);
    let claims = test.claim(weather.upstream).await;
    let mut batch: Vec<Settled> = claims
        .iter()
        .enumerate()
        .map(|(n, claim)| {
            let seen = match n % 5 {
                0 => content(&format!("B{n}"), &[]),
                1 => not_modified(),
                2 => content("A", &[("etag", "\"new\"")]),
                3 => status(503),
                _ => status(410),
            };
            test.settled(claim, seen)
        })
        .collect();
    batch[7].token.0 ^= 1;
    let applied = test.store.apply(&batch).await.unwrap();
    assert_eq!(applied.fates.iter().filter(|fate| **fate == Fate::Committed).count(), 299);
    assert_eq!(applied.fates[7], Fate::LeaseLost);
    for (n, claim) in claims.iter().enumerate() {
        let current = test.current("weather", claim.key.as_str()).await;
        let expected = if n % 5 == 0 { format!("B{n}") } else { "A".into() };
        assert_eq!(current.content.unwrap().body, expected, "{n}");
        assert_eq!(current.version, if n % 5 == 0 { 2 } else { 1 }, "{n}");
        assert_eq!(current.gone_since.is_some(), n % 5 == 4, "{n}");
        assert_eq!(current.failing.is_some(), n % 5 == 3, "{n}");
        assert_eq!(current.leased_until.is_some(), n == 7, "{n}");
    }
    assert_eq!(test.number("SELECT count(*) FROM {change}").await, 300 + 60 + 60);
}

async fn an_empty_batch_is_nothing(test: &TestStore) {
    let applied = test.store.apply(&[]).await.unwrap();
    assert_eq!((applied.number, applied.fates), (None, vec![]));
    assert_eq!(test.store.applied_since(0).await.unwrap().newest, 0);
}

async fn numbers_are_in_commit_order_without_gaps(test: &TestStore) {
    let weather = test.source_with_keys("weather", 120).await;
    let claims = test.claim(weather.upstream).await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (store, done) = (test.another().await, Arc::clone(&done));
        tokio::spawn(async move {
            let (mut seen, mut since) = (Vec::new(), None);
            loop {
                let last_look = done.load(Ordering::SeqCst);
                let Changes::Page { changes, next } = store.changes(since, 7).await.unwrap() else { panic!("unknown") };
                since = Some(next);
                if changes.is_empty() && last_look {
                    return seen;
                }
                seen.extend(changes);
            }
        })
    };
    let handles = [Arc::clone(&test.store), test.another().await];
    let tasks = claims.chunks(3).enumerate().map(|(n, claims)| {
        let batch: Vec<_> = claims.iter().map(|claim| test.settled(claim, content("A", &[]))).collect();
        let store = Arc::clone(&handles[n % 2]);
        tokio::spawn(async move { store.apply(&batch).await.unwrap().number.unwrap() })
    });
    let mut numbers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        numbers.push(task.await.unwrap());
    }
    done.store(true, Ordering::SeqCst);
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    let seen = reader.await.unwrap();
    assert_eq!(seen.iter().map(|change| change.cursor.number).collect::<Vec<_>>(), (1..=120).collect::<Vec<_>>());
}

async fn what_a_batch_touched_is_told(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    let claims = test.claim(weather.upstream).await;
    test.settle(&claims[2], content("A", &[])).await;
    let batch = [test.settled(&claims[0], unreachable()), test.settled(&claims[1], content("A", &[]))];
    assert_eq!(test.store.apply(&batch).await.unwrap().number, Some(2));
    for (number, expected) in [(0, vec![2, 0, 1]), (1, vec![0, 1]), (2, vec![])] {
        let since = test.store.applied_since(number).await.unwrap();
        let expected: Vec<_> = expected.into_iter().map(|n: usize| ids_of(&claims)[n]).collect();
        assert_eq!((since.newest, since.resources), (2, Some(expected)), "{number}");
    }
    // A number that was never given: the database is another one, or an older copy.
    assert_eq!(test.store.applied_since(3).await.unwrap().resources, None);
}

async fn what_an_outage_failed_is_due_when_it_ends(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    test.clock.advance(HOUR);
    let claims = test.claim(weather.upstream).await;
    for claim in &claims[..3] {
        test.settle(claim, unreachable()).await;
    }
    test.settle(&claims[3], status(503)).await;
    assert!(test.claim(weather.upstream).await.is_empty());
    let failed = test.current("weather", claims[0].key.as_str()).await.due.unwrap();
    assert!(failed.because == Because::Outage && failed.at > test.now());

    // Any answer of the upstream's own will do, even one that is a failure of its resource.
    let wishes = test.store.applied_since(0).await.unwrap().wishes;
    test.settle(&claims[4], status(429)).await;
    assert_eq!(test.store.applied_since(0).await.unwrap().wishes, wishes + 1, "others look at what is due");
    let again = test.claim(weather.upstream).await;
    assert_eq!(again.len(), 4);
    assert!(again.iter().all(|claim| claim.due.because == Because::RetryNow && claim.due.at == test.now()));
}

async fn two_failures_are_no_outage(test: &TestStore) {
    let weather = test.source_with_keys("weather", 4).await;
    let claims = test.claim(weather.upstream).await;
    test.settle(&claims[0], unreachable()).await;
    test.settle(&claims[1], unreachable()).await;
    test.settle(&claims[2], content("A", &[])).await;
    // And the count begins again after an answer.
    test.settle(&claims[3], unreachable()).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 0);
    assert_eq!(test.current("weather", "k0").await.due.unwrap().because, Because::Outage);
}

async fn an_outage_of_one_upstream_leaves_another_alone(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    let users = test.source_with_keys("users", 1).await;
    let batch: Vec<_> =
        test.claim(weather.upstream).await.iter().map(|claim| test.settled(claim, unreachable())).collect();
    test.store.apply(&batch).await.unwrap();
    test.settle(&test.claim_one(users.upstream).await, content("A", &[])).await;
    assert_eq!(test.claim(weather.upstream).await.len(), 0);
}

async fn what_was_wanted_in_an_outage_stays_first(test: &TestStore) {
    let weather = test.source_with_keys("weather", 5).await;
    let claims = test.claim(weather.upstream).await;
    let batch: Vec<_> = claims[..4].iter().map(|claim| test.settled(claim, unreachable())).collect();
    test.store.apply(&batch).await.unwrap();
    let wish = headpond::store::Selection::Resources(vec![claims[3].resource]);
    test.store.want(&wish, test.now()).await.unwrap();
    test.settle(&claims[4], content("A", &[])).await;
    let due: Vec<_> =
        test.claim(weather.upstream).await.iter().map(|claim| (claim.key.to_string(), claim.due.because)).collect();
    assert_eq!(due[0], ("k3".into(), Because::Manual));
    assert_eq!(due[1], ("k0".into(), Because::RetryNow));
    assert_eq!(due.len(), 4);
}

/// No more than 10,000 with each commit, so that none takes long.
async fn what_a_long_outage_failed_is_due_in_parts(test: &TestStore) {
    let weather = test.source_with_keys("weather", 10_012).await;
    let claims = test.claim(weather.upstream).await;
    let failed: Vec<_> = claims[..10_010].iter().map(|claim| test.settled(claim, unreachable())).collect();
    test.store.apply(&failed).await.unwrap();
    let retried = async || test.number("SELECT count(*) FROM {schedule} WHERE because = 10").await;
    test.settle(&claims[10_010], content("A", &[])).await;
    assert_eq!(retried().await, 10_000);
    test.settle(&claims[10_011], content("A", &[])).await;
    assert_eq!(retried().await, 10_010);
    assert_eq!(test.number("SELECT sum(outages) FROM {upstream}").await, 0, "that was all of it: the outage has ended");
    // What fails again although the upstream answers others is not retried with the next good answer.
    test.settle(&test.claim_one(weather.upstream).await, unreachable()).await;
    test.settle(&test.claim_one(weather.upstream).await, content("A", &[])).await;
    assert_eq!(test.number("SELECT count(*) FROM {schedule} WHERE because = 4").await, 1);
}
