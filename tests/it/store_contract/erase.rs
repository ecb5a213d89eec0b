//! Erasing: nothing is left of a resource, nothing brings it back, and that can be undone.

use headpond::domain::archive::{Line, Restored};
use headpond::domain::change::ChangeKind;
use headpond::domain::history::History;
use headpond::domain::observation::Via;
use headpond::domain::origin::Hand;
use headpond::domain::resource::{Key, Params, SourceName};
use headpond::domain::time::earlier;
use headpond::store::{
    Allowed, Authority, Bodies, Changes, Erased, Fate, Import, OriginSpec, PruneRules, Registered, Seen, Selection,
    SourceSpec,
};

use crate::support::outcomes::{HOUR, content, policy, status};
use crate::support::store::{TestStore, UNLIMITED, key, on_each_database, spec};
use crate::support::tables::{typed, users};

on_each_database! {
    what_is_erased_is_in_no_table_any_more,
    what_is_gone_is_erased_where_the_source_says_so_and_may_return,
    a_refresh_that_is_under_way_brings_nothing_back,
    nothing_that_lists_a_key_brings_it_back,
    no_archive_brings_it_back,
    an_archive_brings_nothing_of_what_is_gone_where_the_source_says_so,
    it_is_announced_once_and_outlives_every_retention,
    a_key_that_was_never_seen_can_be_kept_out,
    what_is_allowed_again_is_fetched_and_has_returned,
    what_nobody_lists_comes_back_with_who_lists_it,
    an_erased_key_is_in_no_list_and_counts_as_none,
}

const CANARY: &str = "canary-7f3a";
const JSON: (&str, &str) = ("content-type", "application/json");

fn name() -> SourceName {
    SourceName::new("users").unwrap()
}

async fn erase(test: &TestStore, users: Registered, names: &[&str]) -> Vec<Erased> {
    let keys: Vec<Key> = names.iter().map(|name| key(name)).collect();
    test.store.erase(users.source, &keys, false).await.unwrap()
}

async fn kinds(test: &TestStore) -> Vec<(String, ChangeKind)> {
    match test.store.changes(None, 100).await.unwrap() {
        Changes::Page { changes, .. } => {
            changes.into_iter().map(|change| (change.key.to_string(), change.kind)).collect()
        }
        Changes::Unknown => panic!("the beginning is known"),
    }
}

/// The source with a table and a history.
async fn keeping(test: &TestStore, erase_gone: bool) -> Registered {
    let history = Some(History { versions: 5, keep: 100 * HOUR });
    let spec = SourceSpec { history, erase_gone, ..spec("users", "users", UNLIMITED) };
    test.store.register(&[spec], Authority::Owns).await.unwrap()[0]
}

/// `k0` and `k1` have the canary wherever something of a resource can be: parameters, validators, two versions of a body with
/// rows of a table, a refused body, a failure.
async fn full_of_canaries(test: &TestStore, erase_gone: bool) -> Registered {
    let registered = keeping(test, erase_gone).await;
    let params = Params::from([("secret".into(), CANARY.into())]);
    let keys = [(key("k0"), params.clone()), (key("k1"), params)];
    test.store.add_keys(registered.source, &keys, Authority::Owns).await.unwrap();
    test.store.add_by_hand(registered.source, Hand::Cli, &keys).await.unwrap();
    test.open_table(registered.source, &users()).await;
    for n in 1..=3 {
        let body = match n {
            3 => format!(r#"{{"name":{{"not":"a text: {CANARY}"}}}}"#),
            n => format!(r#"{{"name":"{CANARY} {n}"}}"#),
        };
        for claim in test.claim(registered.upstream).await {
            let fields = [JSON, ("etag", &format!("\"{CANARY}{n}\"")), ("content-language", CANARY)];
            let policy = typed(&users());
            let settled = test.settled_by(&policy, &claim, content(&body, &fields), Via::default());
            assert_eq!(test.store.apply(&[settled]).await.unwrap().fates, [Fate::Committed]);
        }
        test.clock.advance(2 * HOUR);
    }
    let places = test.database.places_of(CANARY).await.join(" ");
    for part in ["content.body", "history.body", "refused.body", "key_origin.params", "resource.etag", ".name"] {
        assert!(places.contains(part), "{part} is not in {places}");
    }
    registered
}

async fn what_is_erased_is_in_no_table_any_more(test: &TestStore) {
    let users = full_of_canaries(test, false).await;
    let erased = erase(test, users, &["k0"]).await;
    assert_eq!(erased, [Erased::Now(test.current("users", "k0").await.resource)]);
    assert!(!test.database.places_of(CANARY).await.is_empty(), "the other one is as it was");
    assert_eq!(test.rows("SELECT key FROM [users]").await, ["k1"]);
    assert!(matches!(erase(test, users, &["k1", "k1"]).await[..], [Erased::Now(_), Erased::Now(_)]));
    assert_eq!(test.database.places_of(CANARY).await, Vec::<String>::new());
    for name in ["k0", "k1"] {
        let left = test.current("users", name).await;
        assert_eq!((left.erased_at, left.content, left.freshness, left.due), (Some(test.now()), None, None, None));
        assert_eq!((left.version, left.failing, left.gone_since), (2, None, None));
    }
    let history = test.store.status(test.now()).await.unwrap().sources[0].history;
    assert_eq!((history.versions, history.bytes), (0, 0));
}

async fn what_is_gone_is_erased_where_the_source_says_so_and_may_return(test: &TestStore) {
    let users = full_of_canaries(test, true).await;
    test.settle_all(users.upstream, |claim| status(if claim.key == key("k0") { 410 } else { 404 })).await;
    assert_eq!(test.rows("SELECT key FROM [users_all]").await, ["k1"], "a 404 alone is not enough");
    let gone = test.current("users", "k0").await;
    assert_eq!((gone.gone_since, gone.erased_at, gone.content), (Some(test.now()), None, None));
    assert_eq!(kinds(test).await.last().unwrap(), &("k0".to_owned(), ChangeKind::Erased));
    let id = gone.resource.0;
    assert_eq!(test.number(&format!("SELECT count(*) FROM {{history}} WHERE resource_id = {id}")).await, 0);
    for n in [1, 2] {
        test.clock.advance(2 * HOUR);
        test.settle_all(users.upstream, |_| status(404)).await;
        assert_eq!(test.rows("SELECT key FROM [users_all]").await.len(), usize::from(n < 2), "{n}");
    }
    // What is the operator's own stays: the parameters that he gave.
    let places = test.database.places_of(CANARY).await;
    assert!(places.iter().all(|place| place.ends_with(".params")), "{places:?}");
    test.clock.advance(48 * HOUR);
    test.settle_all(users.upstream, |_| content(r#"{"name":"back"}"#, &[JSON])).await;
    assert_eq!(test.current("users", "k0").await.version, 3);
    assert_eq!(kinds(test).await.last().unwrap().1, ChangeKind::Returned);
}

async fn a_refresh_that_is_under_way_brings_nothing_back(test: &TestStore) {
    let users = test.source_with_keys("users", 3).await;
    let claims = test.claim(users.upstream).await;
    assert!(matches!(erase(test, users, &["k1"]).await[..], [Erased::Now(_)]));
    let batch: Vec<_> = claims.iter().map(|claim| test.settled(claim, content(CANARY, &[]))).collect();
    let fates = test.store.apply(&batch).await.unwrap().fates;
    assert_eq!(fates, [Fate::Committed, Fate::LeaseLost, Fate::Committed]);
    assert_eq!(test.current("users", "k1").await.content, None);
    let wanted = Selection::Resources(vec![claims[1].resource]);
    assert_eq!(test.store.want(&wanted, test.now()).await.unwrap(), 0);
    test.clock.advance(9 * HOUR);
    assert_eq!(test.claim(users.upstream).await.len(), 2, "nobody asks for it");
}

async fn nothing_that_lists_a_key_brings_it_back(test: &TestStore) {
    let users = test.source_with_keys("users", 2).await;
    test.settle_all(users.upstream, |_| content("A", &[])).await;
    erase(test, users, &["k0"]).await;
    let again = [(key("k0"), Params::from([("secret".into(), CANARY.into())]))];
    for authority in [Authority::Owns, Authority::Adds] {
        let changed = test.store.add_keys(users.source, &again, authority).await.unwrap();
        assert_eq!((changed.added, changed.revived, changed.updated), (0, 0, 0));
    }
    for hand in Hand::ALL {
        test.store.add_by_hand(users.source, hand, &again).await.unwrap();
    }
    let file = OriginSpec { name: "file".into(), place: 10, about: "x".into() };
    let file = test.store.origins(users.source, &[file]).await.unwrap().remove(0).id;
    let round = test.store.begin_round(file).await.unwrap();
    let mut seen = Seen::default();
    seen.note(&test.store.put_keys(round, &seen, &again).await.unwrap().resources);
    assert_eq!(seen.count(), 1, "it is seen all the same");
    test.store.end_round(round, "mark").await.unwrap();
    assert!(!test.store.demand(users.source, &key("k0"), 10).await.unwrap());
    test.clock.advance(9 * HOUR);
    let claimed: Vec<_> = test.claim(users.upstream).await.into_iter().map(|claim| claim.key).collect();
    assert_eq!(claimed, [key("k1")]);
    assert_eq!(test.database.places_of(CANARY).await, Vec::<String>::new());
    // A list that has it no more takes nothing away from that.
    test.retire_keys_except(users.source, &[key("k1")].into()).await.unwrap();
    assert!(test.current("users", "k0").await.erased_at.is_some());
    assert_eq!(test.store.status(test.now()).await.unwrap().sources[0].counts.keys, 1);
}

async fn no_archive_brings_it_back(test: &TestStore) {
    let users = test.source_with_keys("users", 1).await;
    erase(test, users, &["k0"]).await;
    test.clock.advance(HOUR);
    let line: Line = serde_json::from_str(&format!(r#"{{"source":"users","key":"k0","body":"{CANARY}"}}"#)).unwrap();
    let restored: Restored = line.restore(&policy(), test.now()).unwrap();
    assert_eq!(test.store.import(users.source, &[restored]).await.unwrap(), [Import::Kept]);
    assert_eq!(test.database.places_of(CANARY).await, Vec::<String>::new());
    assert_eq!(test.store.export(users.source, None, 10).await.unwrap(), []);
}

async fn an_archive_brings_nothing_of_what_is_gone_where_the_source_says_so(test: &TestStore) {
    let registered = keeping(test, true).await;
    test.store.add_keys(registered.source, &[(key("k0"), Params::new())], Authority::Owns).await.unwrap();
    test.open_table(registered.source, &users()).await;
    test.settle_all(registered.upstream, |_| content(r#"{"name":"here"}"#, &[JSON])).await;
    test.clock.advance(HOUR);
    let past = |version: u64, is_gone: bool, name: &str| {
        let at = |hours: u64| earlier(test.now(), u32::try_from(hours).unwrap() * HOUR).to_rfc3339();
        let (changed_at, until) = (at(20 - version), at(19 - version));
        let body = format!(r#"{{\"name\":\"{name}\"}}"#);
        format!(
            r#"{{"version":{version},"changed_at":"{changed_at}","until":"{until}","gone":{is_gone},"body":"{body}"}}"#
        )
    };
    let import = async |key: &str, more: &str| {
        let fields = format!(
            r#""etag":"{CANARY}","headers":[["content-type","application/json"],["content-language","{CANARY}"]]"#
        );
        let line = format!(r#"{{"source":"users","key":"{key}","version":9,{fields},{more}}}"#);
        let restored = serde_json::from_str::<Line>(&line).unwrap().restore(&typed(&users()), test.now()).unwrap();
        test.store.import(registered.source, &[restored]).await.unwrap()[0]
    };
    let before = [past(7, false, CANARY), past(8, false, CANARY)].join(",");
    for (n, name) in ["k0", "new"].into_iter().enumerate() {
        let gone = format!(r#""state":"gone","json":{{"name":"{CANARY}"}},"history":[{before}]"#);
        assert_eq!(import(name, &gone).await, Import::Stored, "{name}");
        assert_eq!(test.database.places_of(CANARY).await, Vec::<String>::new(), "{name}");
        let current = test.current("users", name).await;
        assert_eq!(
            (current.gone_since, current.content, current.freshness.is_some()),
            (Some(test.now()), None, n == 0)
        );
        assert_eq!(kinds(test).await.last().unwrap(), &(name.to_owned(), ChangeKind::Erased));
        assert!(test.store.history(&self::name(), &key(name)).await.unwrap().is_empty());
    }
    assert_eq!(test.rows("SELECT key FROM [users_all]").await, Vec::<String>::new());
    assert_eq!(test.number("SELECT count(*) FROM {resource} WHERE content_hash IS NOT NULL").await, 0);
    // What has returned has a history from then on.
    test.clock.advance(HOUR);
    let history = [past(6, false, CANARY), past(7, true, CANARY), past(8, false, "after it was back")].join(",");
    assert_eq!(import("k0", &format!(r#""json":{{"name":"back"}},"history":[{history}]"#)).await, Import::Stored);
    let kept = test.store.history(&self::name(), &key("k0")).await.unwrap();
    assert_eq!(kept.iter().map(|kept| kept.version).collect::<Vec<_>>(), [8]);
    let places = test.database.places_of(CANARY).await.join(" ");
    assert!(!places.contains("history.body"), "{places}");
}

async fn it_is_announced_once_and_outlives_every_retention(test: &TestStore) {
    let users = test.source_with_keys("users", 1).await;
    test.settle_all(users.upstream, |_| content("A", &[])).await;
    let applied = test.store.applied_since(0).await.unwrap().newest;
    let id = test.current("users", "k0").await.resource;
    erase(test, users, &["k0"]).await;
    assert_eq!(test.store.applied_since(applied).await.unwrap().resources, Some(vec![id]), "whoever waits hears of it");
    assert_eq!(erase(test, users, &["k0"]).await, [Erased::Before]);
    let expected = [("k0".to_owned(), ChangeKind::Created), ("k0".to_owned(), ChangeKind::Erased)];
    assert_eq!(kinds(test).await, expected);
    test.clock.advance(10_000 * HOUR);
    test.store.prune(&PruneRules { now: test.now(), retired: HOUR, changes: HOUR, applied: HOUR }).await.unwrap();
    assert!(test.current("users", "k0").await.erased_at.is_some());
}

async fn a_key_that_was_never_seen_can_be_kept_out(test: &TestStore) {
    let users = test.source_with_keys("users", 1).await;
    let keys = [key("new"), key("k0"), key("new")];
    assert_eq!(test.store.erase(users.source, &keys[..1], false).await.unwrap(), [Erased::Unknown]);
    assert_eq!(test.store.current(&name(), &key("new")).await.unwrap(), None);
    let erased = test.store.erase(users.source, &keys, true).await.unwrap();
    assert!(matches!(erased[..], [Erased::Unseen, Erased::Now(_), Erased::Unseen]), "{erased:?}");
    let added = test.store.add_keys(users.source, &[(key("new"), Params::new())], Authority::Owns).await.unwrap();
    assert_eq!((added.added, added.revived), (0, 0));
    assert_eq!(kinds(test).await.len(), 1, "of what nobody has seen nothing is announced");
}

async fn what_is_allowed_again_is_fetched_and_has_returned(test: &TestStore) {
    let users = test.source_with_keys("users", 2).await;
    test.settle_all(users.upstream, |_| content("A", &[("etag", "\"a\"")])).await;
    erase(test, users, &["k0"]).await;
    let keys = [key("k0"), key("k1"), key("nobody")];
    let allowed = test.store.allow(users.source, &keys).await.unwrap();
    assert_eq!(allowed, [Allowed::Polled, Allowed::NotErased, Allowed::NotErased]);
    assert_eq!(test.store.status(test.now()).await.unwrap().sources[0].counts.keys, 2);
    let claim = test.claim_one(users.upstream).await;
    assert_eq!((claim.key.as_str(), claim.previous.validators()), ("k0", None));
    test.settle(&claim, content("A", &[])).await;
    let back = test.current("users", "k0").await;
    assert_eq!((back.version, back.erased_at, back.gone_since), (2, None, None));
    let of_k0: Vec<_> = kinds(test).await.into_iter().filter(|(key, _)| key == "k0").map(|(_, kind)| kind).collect();
    assert_eq!(of_k0, [ChangeKind::Created, ChangeKind::Erased, ChangeKind::Returned]);
}

async fn what_nobody_lists_comes_back_with_who_lists_it(test: &TestStore) {
    let users = test.source_with_keys("users", 1).await;
    assert!(test.store.demand(users.source, &key("read"), 10).await.unwrap());
    erase(test, users, &["read"]).await;
    assert_eq!(test.store.allow(users.source, &[key("read")]).await.unwrap(), [Allowed::Unlisted]);
    assert_eq!(test.current("users", "read").await.due, None);
    assert!(test.store.demand(users.source, &key("read"), 10).await.unwrap());
    assert!(test.current("users", "read").await.due.is_some());
    let demand = test.number("SELECT keys FROM {origin} WHERE name = 'demand'").await;
    assert_eq!(demand, 1);
}

async fn an_erased_key_is_in_no_list_and_counts_as_none(test: &TestStore) {
    let users = test.source_with_keys("users", 2).await;
    test.settle_all(users.upstream, |_| content("A", &[])).await;
    erase(test, users, &["k0"]).await;
    let counts = test.store.status(test.now()).await.unwrap().sources[0].counts;
    assert_eq!((counts.keys, counts.fresh, counts.gone), (1, 1, 0));
    let batch = test.store.batch(&name(), &[key("k0"), key("k1")], Bodies::LeftOut).await.unwrap().unwrap();
    assert_eq!((batch.absent, batch.items.len()), (vec![key("k0")], 1));
    let listed: Vec<_> = test.store.keys(users.source, None, 9).await.unwrap().into_iter().map(|one| one.key).collect();
    assert_eq!(listed, [key("k1")]);
    let asked = [key("k1"), key("k0"), key("nobody")];
    assert_eq!(test.store.erased(users.source, &asked).await.unwrap(), [key("k0")]);
    assert_eq!(test.store.find(users.source, &[key("k0")]).await.unwrap(), [None]);
}
