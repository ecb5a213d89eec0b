//! What goes into an archive and comes out of it.

use std::time::Duration;

use headpond::domain::archive::{Line, Restored};
use headpond::domain::change::ChangeKind;
use headpond::domain::history::History;
use headpond::domain::origin::Hand;
use headpond::domain::resource::{Params, SourceName};
use headpond::domain::time::{earlier, later};
use headpond::store::{Authority, Changes, Fate, Import, SourceSpec};

use crate::support::outcomes::{HOUR, content, not_modified, policy, status};
use crate::support::store::{TestStore, UNLIMITED, key, on_each_database, spec};

on_each_database! {
    what_is_exported_is_all_that_is_known,
    what_is_imported_is_there_as_it_was,
    what_is_as_new_or_newer_stays,
    what_is_being_fetched_is_fetched_again,
    a_key_that_no_origin_has_is_kept_and_not_polled,
    an_import_says_gone_once,
    contents_that_were_replaced_come_along_where_they_are_kept,
    a_version_that_is_there_stays_whatever_an_archive_has,
}

/// A line about a key, by hand.
fn line(key: &str, json: &str) -> Line {
    let text = format!("{{\"source\": \"weather\", \"key\": \"{key}\", {json}}}");
    serde_json::from_str(&text).unwrap()
}

fn restored(test: &TestStore, key: &str, json: &str) -> Restored {
    line(key, json).restore(&policy(), test.now()).unwrap()
}

async fn kinds(test: &TestStore) -> Vec<(ChangeKind, u64)> {
    match test.store.changes(None, 100).await.unwrap() {
        Changes::Page { changes, .. } => changes.iter().map(|change| (change.kind, change.version)).collect(),
        Changes::Unknown => panic!("the beginning is known"),
    }
}

async fn what_is_exported_is_all_that_is_known(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let params = Params::from([("lat".into(), "52.5".into())]);
    test.store.add_keys(weather.source, &[(key("a"), params.clone())], Authority::Owns).await.unwrap();
    test.store.add_by_hand(weather.source, Hand::Api, &[(key("b"), Params::new())]).await.unwrap();
    let fields = [("etag", "\"v1\""), ("content-type", "text/plain"), ("cache-control", "max-age=60")];
    test.settle(&test.claim(weather.upstream).await[0], content("A", &fields)).await;
    let [a, b] = &test.store.export(weather.source, None, 10).await.unwrap()[..] else { panic!("two keys") };
    assert_eq!((a.key.as_str(), &a.params, &a.hands[..]), ("a", &params, &[][..]));
    assert_eq!((a.max_age, a.current.version), (Some(60), 1));
    assert_eq!(a.current, test.current("weather", "a").await);
    assert_eq!((b.key.as_str(), &b.hands[..], &b.current.content), ("b", &[Hand::Api][..], &None));
    let rest = test.store.export(weather.source, Some(&a.key), 10).await.unwrap();
    assert_eq!(rest.len(), 1, "it goes on after a key");
    test.store.remove_keys(weather.source, &[key("b")]).await.unwrap();
    assert_eq!(test.store.export(weather.source, None, 10).await.unwrap().len(), 1, "what is polled");
}

async fn what_is_imported_is_there_as_it_was(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let given = restored(test, "k0", r#""age": "30m", "version": 7, "etag": "\"é\"", "body": "A""#);
    assert_eq!(test.store.import(weather.source, &[given]).await.unwrap(), [Import::Stored]);
    let current = test.current("weather", "k0").await;
    let fetched_at = earlier(test.now(), HOUR / 2);
    assert_eq!((current.version, current.content.unwrap().body.as_ref()), (7, &b"A"[..]));
    let freshness = current.freshness.unwrap();
    assert_eq!((freshness.fetched_at, freshness.stale_after), (fetched_at, later(fetched_at, 2 * HOUR)));
    assert_eq!(kinds(test).await, [(ChangeKind::Created, 7)]);
    // The upstream's ETag is sent as its bytes were.
    let claim = test.claim(weather.upstream).await.into_iter().find(|claim| claim.key == key("k0")).unwrap();
    assert_eq!(claim.previous.validators().unwrap().etag.as_deref(), Some(&b"\"\xe9\""[..]));
    test.settle(&claim, not_modified()).await;
    assert_eq!(test.current("weather", "k0").await.version, 7);
}

async fn what_is_as_new_or_newer_stays(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[])).await;
    let import = async |json: &str| test.store.import(weather.source, &[restored(test, "k0", json)]).await.unwrap()[0];
    assert_eq!(import(r#""age": "1m", "body": "old""#).await, Import::Kept);
    assert_eq!(import(r#""age": "0s", "body": "as new""#).await, Import::Kept);
    assert_eq!(import(r#""state": "pending""#).await, Import::Nothing);
    test.clock.advance(Duration::from_secs(10));
    assert_eq!(import(r#""age": "5s", "body": "A""#).await, Import::Confirmed);
    assert_eq!(
        test.current("weather", "k0").await.freshness.unwrap().fetched_at,
        earlier(test.now(), Duration::from_secs(5))
    );
    assert_eq!(import(r#""age": "1s", "version": 1, "body": "B""#).await, Import::Stored);
    assert_eq!(test.current("weather", "k0").await.version, 2, "a version is never given twice");
    assert_eq!(import(r#""age": "1s", "version": 1, "body": "B""#).await, Import::Kept, "once more changes nothing");
    assert_eq!(kinds(test).await, [(ChangeKind::Created, 1), (ChangeKind::Changed, 2)]);
}

async fn what_is_being_fetched_is_fetched_again(test: &TestStore) {
    let weather = test.source_with_keys("weather", 2).await;
    let claims = test.claim(weather.upstream).await;
    test.clock.advance(Duration::from_secs(1));
    let given = restored(test, claims[0].key.as_str(), r#""version": 4, "body": "new""#);
    test.store.import(weather.source, &[given]).await.unwrap();
    let batch: Vec<_> = claims.iter().map(|claim| test.settled(claim, content("old", &[]))).collect();
    let applied = test.store.apply(&batch).await.unwrap();
    assert_eq!(applied.fates, [Fate::LeaseLost, Fate::Committed]);
    let current = test.current("weather", claims[0].key.as_str()).await;
    assert_eq!((current.version, current.content.unwrap().body.as_ref()), (4, &b"new"[..]));
    let again = test.claim_one(weather.upstream).await;
    assert_eq!((again.resource, again.previous.version), (claims[0].resource, 4));
}

async fn a_key_that_no_origin_has_is_kept_and_not_polled(test: &TestStore) {
    let weather = test.source("weather", UNLIMITED).await;
    let given = restored(test, "new", r#""params": {"lat": "1"}, "version": 3, "etag": "\"e\"", "body": "A""#);
    assert_eq!(test.store.import(weather.source, &[given]).await.unwrap(), [Import::Stored]);
    let alone = restored(test, "alone", r#""state": "pending""#);
    assert_eq!(test.store.import(weather.source, &[alone]).await.unwrap(), [Import::Nothing]);
    assert_eq!(test.store.find(weather.source, &[key("new")]).await.unwrap(), [None]);
    assert!(test.claim(weather.upstream).await.is_empty());
    assert_eq!(test.store.status(test.now()).await.unwrap().sources[0].counts.keys, 0);
    // Its origin takes it up where it was.
    let params = Params::from([("lat".into(), "1".into())]);
    let added = test.store.add_keys(weather.source, &[(key("new"), params)], Authority::Owns).await.unwrap();
    assert_eq!((added.added, added.revived), (0, 1));
    let claim = test.claim_one(weather.upstream).await;
    assert_eq!((claim.previous.version, claim.previous.validators().is_some()), (3, true));
}

async fn an_import_says_gone_once(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle_all(weather.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
    test.clock.advance(HOUR);
    let gone = restored(test, "k0", r#""state": "gone""#);
    for fate in [Import::Stored, Import::Kept] {
        assert_eq!(test.store.import(weather.source, std::slice::from_ref(&gone)).await.unwrap(), [fate]);
    }
    let current = test.current("weather", "k0").await;
    assert_eq!((current.gone_since, current.version), (Some(test.now()), 1));
    assert_eq!(current.content.unwrap().body.as_ref(), b"A", "the tombstone keeps what was last seen");
    assert_eq!(kinds(test).await, [(ChangeKind::Created, 1), (ChangeKind::Gone, 1)]);
    test.clock.advance(48 * HOUR);
    test.settle(&test.claim_one(weather.upstream).await, status(410)).await;
    let back = restored(test, "k0", r#""version": 2, "body": "B""#);
    assert_eq!(test.store.import(weather.source, &[back]).await.unwrap(), [Import::Stored]);
    assert_eq!(kinds(test).await.last(), Some(&(ChangeKind::Returned, 2)));
}

async fn contents_that_were_replaced_come_along_where_they_are_kept(test: &TestStore) {
    let past = |version: u64, hours: u32, body: &str| {
        let at = |hours| earlier(test.now(), hours * HOUR).to_rfc3339();
        let (since, until) = (at(hours), at(hours - 1));
        format!(
            r#"{{"version": {version}, "changed_at": "{since}", "until": "{until}", "gone": true, "body": "{body}"}}"#
        )
    };
    let given = |version: u64| {
        let all = [past(4, 3, "four"), past(3, 4, "three"), past(2, 5, "two"), past(9, 2, "not before it")].join(", ");
        restored(test, "k0", &format!(r#""age": "1h", "version": {version}, "body": "now", "history": [{all}]"#))
    };
    let name = SourceName::new("weather").unwrap();
    let kept = async || -> Vec<u64> {
        test.store.history(&name, &key("k0")).await.unwrap().iter().map(|kept| kept.version).collect()
    };
    let plain = test.source_with_keys("weather", 1).await;
    assert_eq!(test.store.import(plain.source, &[given(5)]).await.unwrap(), [Import::Stored]);
    assert_eq!(kept().await, Vec::<u64>::new(), "its source keeps none");

    let history = Some(History { versions: 2, keep: HOUR * 24 });
    let weather = SourceSpec { history, ..spec("weather", "weather", UNLIMITED) };
    let weather = test.store.register(&[weather], Authority::Owns).await.unwrap()[0];
    test.clock.advance(Duration::from_secs(60));
    assert_eq!(test.store.import(weather.source, &[given(5)]).await.unwrap(), [Import::Confirmed]);
    assert_eq!(kept().await, [4, 3], "two of those before it");
    let four = &test.store.history(&name, &key("k0")).await.unwrap()[0];
    let lasted = four.until - four.changed_at;
    assert_eq!((four.is_gone, four.size, lasted.num_minutes()), (true, 4, 60));
    assert_eq!(test.store.version(&name, &key("k0"), 4).await.unwrap().unwrap().body, "four");
    assert_eq!(test.store.status(test.now()).await.unwrap().sources[0].history.versions, 2);
    assert_eq!(
        test.store.import(weather.source, &[given(5)]).await.unwrap(),
        [Import::Kept],
        "once more changes nothing"
    );

    for (wrong, what) in [
        (past(0, 3, "x"), "history, version 0: versions begin with 1"),
        (past(1, 3, ""), "history, version 1: "),
        (past(1, 3, "x").replace("\"body\"", "\"body_base64\""), "history, version 1: body_base64: "),
        (past(1, 3, "x").replace("until\": \"2", "until\": \"3"), "history, version 1: until = "),
    ] {
        let refused = line("k0", &format!(r#""body": "now", "history": [{wrong}]"#)).restore(&policy(), test.now());
        assert!(refused.as_ref().is_err_and(|why| why.starts_with(what)), "{what}: {refused:?}");
    }
}

async fn a_version_that_is_there_stays_whatever_an_archive_has(test: &TestStore) {
    let history = Some(History { versions: 5, keep: HOUR * 24 });
    let weather = SourceSpec { history, ..spec("weather", "weather", UNLIMITED) };
    let weather = test.store.register(&[weather], Authority::Owns).await.unwrap()[0];
    test.store.add_keys(weather.source, &[(key("k0"), Params::new())], Authority::Owns).await.unwrap();
    for body in ["own one", "own two", "own three"] {
        test.settle_all(weather.upstream, |_| content(body, &[])).await;
        test.clock.advance(3 * HOUR);
    }
    let until = test.now().to_rfc3339();
    let past = |version: u64| {
        let since = earlier(test.now(), HOUR).to_rfc3339();
        format!(r#"{{"version": {version}, "changed_at": "{since}", "until": "{until}", "body": "theirs {version}"}}"#)
    };
    let all = [past(4), past(3), past(2)].join(", ");
    let given = restored(test, "k0", &format!(r#""version": 5, "body": "theirs 5", "history": [{all}]"#));
    assert_eq!(test.store.import(weather.source, &[given]).await.unwrap(), [Import::Stored]);
    let name = SourceName::new("weather").unwrap();
    for (version, body) in [(1, "own one"), (2, "own two"), (3, "own three"), (4, "theirs 4")] {
        let kept = test.store.version(&name, &key("k0"), version).await.unwrap().unwrap();
        assert_eq!(kept.body, body, "{version}");
    }
    assert_eq!(test.current("weather", "k0").await.content.unwrap().body.as_ref(), b"theirs 5");
}
