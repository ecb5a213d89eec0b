//! What an upstream says with a copy besides its content.

use headpond::domain::observation::{Seen, Via};
use headpond::domain::policy::{Heed, Policy};
use headpond::domain::terms::{Reuse, Terms};
use headpond::store::{Claim, Fate};
use http::HeaderMap;

use crate::support::outcomes::{HOUR, content, not_modified, policy, status};
use crate::support::store::{TestStore, on_each_database};

on_each_database! {
    what_came_with_a_copy_is_known_to_the_next_claim_and_to_readers,
    fields_that_come_anew_replace_those_of_their_names,
    what_is_gone_has_no_terms,
    terms_that_can_not_be_read_name_their_row,
}

async fn respects(test: &TestStore, claim: &Claim, seen: Seen, via: Via) {
    let policy = Policy { cache_control: Heed::Respect, ..policy() };
    let applied = test.store.apply(&[test.settled_by(&policy, claim, seen, via)]).await.unwrap();
    assert_eq!(applied.fates, [Fate::Committed]);
}

async fn what_came_with_a_copy_is_known_to_the_next_claim_and_to_readers(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let fields = [("cache-control", "max-age=60, stale-if-error=600"), ("etag", "\"a\"")];
    let via = Via { authorized: false, transformed: true, moved_to: Some("/new/ü'\"".into()) };
    respects(test, &test.claim_one(weather.upstream).await, content("x", &fields), via.clone()).await;
    let terms = Terms { stale_if_error: 600, ..Terms::default() };
    let current = test.current("weather", "k0").await;
    assert_eq!(
        (current.terms, current.transformed, current.moved_to.as_deref()),
        (Some(terms), true, via.moved_to.as_deref())
    );

    test.clock.advance(2 * HOUR);
    let claim = test.claim_one(weather.upstream).await;
    let known = &claim.previous.metadata;
    assert_eq!((known.terms, known.transformed, known.moved_to.as_ref()), (Some(terms), true, via.moved_to.as_ref()));
    assert_eq!(claim.previous.stale_after, current.freshness.map(|freshness| freshness.stale_after));
    let must = Seen::NotModified {
        headers: HeaderMap::from_iter([("cache-control".parse().unwrap(), "must-revalidate".parse().unwrap())]),
    };
    respects(test, &claim, must, Via::default()).await;
    let current = test.current("weather", "k0").await;
    assert_eq!(current.terms, Some(Terms { reuse: Reuse::WhileFresh, ..Terms::default() }));
    assert_eq!((current.transformed, current.moved_to), (true, None));
    test.clock.advance(2 * HOUR);
    test.settle(&test.claim_one(weather.upstream).await, content("y", &[])).await;
    let current = test.current("weather", "k0").await;
    assert_eq!((current.terms, current.transformed), (None, false), "new content comes on terms of its own");
}

async fn fields_that_come_anew_replace_those_of_their_names(test: &TestStore) {
    let weather = test.source_with_keys("weather", 3).await;
    let fields = [
        ("content-type", "text/plain"),
        ("content-language", "de"),
        ("content-disposition", "inline"),
        ("etag", "\"a\""),
    ];
    test.settle_all(weather.upstream, |_| content("x", &fields)).await;
    let before = test.current("weather", "k0").await;
    test.clock.advance(2 * HOUR);
    let anew = [("content-language", "en"), ("content-language", "fr"), ("content-type", "text/html")];
    test.settle_all(weather.upstream, |claim| match claim.key.as_str() {
        "k0" => {
            let mut headers = HeaderMap::new();
            for (name, value) in anew {
                headers.append(name, value.parse().unwrap());
            }
            Seen::NotModified { headers }
        }
        "k1" => content("x", &[("content-type", "text/plain"), ("content-language", "es")]),
        _ => not_modified(),
    })
    .await;
    for (name, languages) in [("k0", &["en", "fr"][..]), ("k1", &["es"]), ("k2", &["de"])] {
        let current = test.current("weather", name).await;
        let content = current.content.unwrap();
        let values: Vec<_> = content.headers.get_all("content-language").iter().collect();
        assert_eq!(values, languages, "{name}");
        assert_eq!(
            (&content.headers["content-type"], &content.headers["content-disposition"]),
            (&"text/plain".parse().unwrap(), &"inline".parse().unwrap())
        );
        assert_eq!((current.version, content.etag), (1, before.content.as_ref().unwrap().etag), "no new version");
    }
}

async fn what_is_gone_has_no_terms(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    let via = Via { authorized: false, transformed: true, moved_to: Some("/new".into()) };
    respects(test, &test.claim_one(weather.upstream).await, content("x", &[]), via).await;
    test.clock.advance(2 * HOUR);
    test.settle(&test.claim_one(weather.upstream).await, status(410)).await;
    let current = test.current("weather", "k0").await;
    assert_eq!((current.terms, current.transformed, current.moved_to), (None, false, None));
}

async fn terms_that_can_not_be_read_name_their_row(test: &TestStore) {
    let weather = test.source_with_keys("weather", 1).await;
    test.settle(&test.claim_one(weather.upstream).await, content("x", &[])).await;
    test.execute("UPDATE {resource} SET terms = '{\"reuse\":\"perhaps\"}'").await.unwrap();
    let source = headpond::domain::resource::SourceName::new("weather").unwrap();
    let error = test.store.current(&source, &crate::support::store::key("k0")).await.unwrap_err();
    assert!(error.to_string().starts_with("corrupt data in table resource, column terms, row "), "{error}");
}
