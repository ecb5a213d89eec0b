//! The look at every resource, and the view of copies that people and apps read.

use std::time::Duration;

use headpond::store::{Authority, Surveyed};

use crate::support::outcomes::{HOUR, content, status, unreachable};
use crate::support::store::{TestStore, UNLIMITED, on_each_database, spec};

on_each_database! {
    a_survey_counts_copies_and_those_that_are_fresh,
    a_copy_whose_content_is_gone_from_the_database_is_lost,
    sources_without_keys_are_surveyed_too,
    the_view_shows_each_copy_with_its_state,
    the_view_shows_why_a_copy_is_old,
    bytes_that_are_no_text_keep_nobody_from_reading_the_others,
}

/// What a survey finds of the only source.
async fn survey(test: &TestStore) -> Surveyed {
    let found = test.store.survey(test.now()).await.unwrap();
    assert_eq!(found.len(), 1);
    found.into_iter().next().unwrap()
}

async fn a_survey_counts_copies_and_those_that_are_fresh(test: &TestStore) {
    let weather = test.source_with_keys("weather", 4).await;
    let claims = test.claim(weather.upstream).await;
    test.settle(&claims[0], content("A", &[])).await;
    test.settle(&claims[1], content("B", &[])).await;
    let all = survey(test).await;
    assert_eq!((all.name.as_str(), all.upstream.as_str()), ("weather", "weather"));
    assert_eq!((all.keys, all.copies, all.fresh, all.lost), (4, 2, 2, 0));

    test.clock.advance(HOUR);
    for claim in test.claim(weather.upstream).await {
        match claim.key.as_str() {
            "k0" => test.settle(&claim, content("A", &[])).await,
            _ => test.settle(&claim, status(410)).await,
        }
    }
    test.clock.advance(HOUR + Duration::from_secs(1));
    let all = survey(test).await;
    assert_eq!((all.keys, all.copies, all.fresh), (4, 2, 1), "a tombstone keeps its content, and is not fresh");
    test.clock.advance(HOUR);
    assert_eq!(survey(test).await.fresh, 0);
}

async fn a_copy_whose_content_is_gone_from_the_database_is_lost(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    test.settle(&test.claim_one(weather.upstream).await, content("A", &[])).await;
    assert_eq!(survey(test).await.lost, 0);
    test.execute("DELETE FROM {content}").await.unwrap();
    let all = survey(test).await;
    assert_eq!((all.copies, all.fresh, all.lost), (0, 0, 1));
}

async fn sources_without_keys_are_surveyed_too(test: &TestStore) {
    let specs = [spec("weather", "metno", UNLIMITED), spec("users", "internal", UNLIMITED)];
    test.store.register(&specs, Authority::Owns).await.unwrap();
    let found = test.store.survey(test.now()).await.unwrap();
    let named: Vec<_> = found.iter().map(|one| (one.name.as_str(), one.upstream.as_str(), one.keys)).collect();
    assert_eq!(named, [("users", "internal", 0), ("weather", "metno", 0)]);
}

/// How many rows of the view are like this.
async fn rows(test: &TestStore, condition: &str) -> i64 {
    test.number(&format!("SELECT count(*) FROM {{snapshots}} WHERE {condition}")).await
}

async fn the_view_shows_each_copy_with_its_state(test: &TestStore) {
    let weather = test.source_with_keys("weather", 4).await;
    let claims = test.claim(weather.upstream).await;
    for claim in &claims[..3] {
        test.settle(claim, content("ein Täxt", &[])).await;
    }
    assert_eq!(rows(test, "true").await, 3, "what was never fetched is no copy");
    // The view goes by the database's clock, which the test can't move.
    test.execute("UPDATE {schedule} SET stale_after = 253402300799000000 WHERE stale_after IS NOT NULL").await.unwrap();
    let all = "source = 'weather' AND version = 1 AND body = 'ein Täxt' AND failing_since IS NULL";
    assert_eq!(rows(test, &format!("{all} AND state = 'fresh' AND stale_after > fetched_at")).await, 3);
    assert_eq!(rows(test, "CAST(fetched_at AS text) LIKE '2027-01-15%' AND changed_at = fetched_at").await, 3);

    test.execute("UPDATE {schedule} SET stale_after = 1000000 WHERE resource_id = 1").await.unwrap();
    assert_eq!(rows(test, "key = 'k0' AND state = 'stale'").await, 1);
    test.clock.advance(HOUR);
    for claim in test.claim(weather.upstream).await {
        if claim.key.as_str() == "k1" {
            test.settle(&claim, status(410)).await;
        }
    }
    assert_eq!(rows(test, "key = 'k1' AND state = 'gone' AND body = 'ein Täxt'").await, 1);
}

async fn the_view_shows_why_a_copy_is_old(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle(&test.claim_one(weather.upstream).await, content("A", &[])).await;
    test.clock.advance(HOUR);
    test.settle(&test.claim_one(weather.upstream).await, unreachable()).await;
    let why = "failure_kind = 'connect' AND failure_detail = 'connection refused' AND failing_since > fetched_at";
    assert_eq!(rows(test, why).await, 1);
}

async fn bytes_that_are_no_text_keep_nobody_from_reading_the_others(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    let claims = test.claim(weather.upstream).await;
    let bytes = |bytes: &'static [u8]| headpond::domain::observation::Seen::Content {
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::from_static(bytes),
    };
    test.settle(&claims[0], bytes(b"\xff\xd8\xff")).await;
    test.settle(&claims[1], bytes(b"A\0B")).await;
    test.settle(&claims[2], bytes(b"readable")).await;
    assert_eq!(rows(test, "body = 'readable'").await, 1);
    assert_eq!(rows(test, "body IS NULL OR body <> 'readable'").await, 2);
}
