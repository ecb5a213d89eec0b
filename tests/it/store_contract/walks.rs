//! Collections: pages are stored under a lease, and a complete walk finds what is missing.

use std::time::Duration;

use bytes::Bytes;
use headpond::domain::collection::{Item, Kind, Known, Remembered, Step, UnderWay};
use headpond::domain::decision::Freshness;
use headpond::domain::fingerprint::Fingerprint;
use headpond::domain::governor::{Cause, Covers, Later, Said, Turn};
use headpond::domain::resource::Key;
use headpond::domain::schedule::{Because, NEVER};
use headpond::domain::snapshot::{ContentHash, Snapshot};
use headpond::domain::validators::Validators;
use headpond::store::{
    Authority, Brought, Claim, Erased, GoneBudget, Hastened, HowItEnded, Missing, PageContent, PageFate, Registered,
    Selection, WalkEnd, WalkLease, WalkPage,
};

use crate::support::outcomes::{enough, policy};
use crate::support::store::{LEASE, TestStore, UNLIMITED, key, on_each_database, spec, wish};

on_each_database! {
    a_walk_is_due_at_once_and_is_no_key,
    a_page_is_stored_with_how_far_the_walk_has_come,
    a_page_makes_the_lease_last_longer,
    nothing_is_stored_without_the_lease,
    a_page_that_is_as_it_was_confirms_its_members_alone,
    what_is_missing_goes_by_the_rules_and_the_budget,
    members_are_never_due_by_themselves,
    what_asks_for_something_else_knows_nothing,
    a_walk_that_is_closed_is_asked_for_no_more,
    a_member_that_is_erased_is_on_no_page_any_more,
    the_first_page_that_is_answered_after_a_pause_lets_the_others_be_asked_for,
    a_page_that_says_that_nothing_is_left_has_all_wait,
}

const ASKS: Fingerprint = Fingerprint(1);

fn item(name: &str, body: &str) -> Item {
    let content_hash = ContentHash::of(&[body.as_bytes()]);
    let body = Bytes::copy_from_slice(body.as_bytes());
    Item {
        key: key(name),
        snapshot: Snapshot { body, headers: http::HeaderMap::new(), etag: content_hash, content_hash },
    }
}

/// The walk of a fresh collection, `users`, claimed.
async fn claimed(test: &TestStore) -> (Registered, Claim) {
    let users = test.source("users", UNLIMITED).await;
    let walk = test.store.open_walk(users.source).await.unwrap();
    let claim = test.claim_one(users.upstream).await;
    assert_eq!((claim.resource, claim.key.is_of_walk()), (walk, true));
    (users, claim)
}

fn lease(users: Registered, claim: &Claim) -> WalkLease {
    WalkLease { token: claim.token, walk: claim.resource, source: users.source, fingerprint: ASKS }
}

/// The page at a place of the walk with this number; a next one follows.
fn page(test: &TestStore, lease: WalkLease, (number, place): (i64, u32), items: Vec<Item>) -> WalkPage {
    let now = test.now();
    let next = Some(Step(format!("{}", place + 1)));
    let remembered = Remembered {
        step: (place > 0).then(|| Step(place.to_string())),
        validators: Validators { etag: Some(Bytes::from_static(b"\"\xffa\"")), last_modified: None },
        next: next.clone(),
        hash: ContentHash([u8::try_from(place).unwrap(); 16]),
    };
    WalkPage {
        lease,
        lease_until: now + LEASE,
        number,
        is_of_all: true,
        place,
        under_way: Some(UnderWay {
            kind: Kind::All,
            began_at: now,
            pages: place + 1,
            next,
            newest: None,
            left_out: None,
        }),
        content: PageContent::Items(items, Some(remembered)),
        freshness: Freshness { fetched_at: now, stale_after: now + Duration::from_secs(7200) },
        decided_at: now,
        signal: policy().hearing(lease.source).signal(Said::Well),
    }
}

async fn store(test: &TestStore, page: &WalkPage) -> Brought {
    match test.store.store_page(page).await.unwrap() {
        PageFate::Stored(brought, ..) => brought,
        other => panic!("{other:?}"),
    }
}

async fn end(test: &TestStore, lease: WalkLease, gone_after: u32, share: f64) -> (usize, u64) {
    let missing = Missing { gone_after, budget: GoneBudget { share, period: Duration::from_secs(3600) } };
    let how = HowItEnded::Complete { since: Some("5".into()), missing: Some(missing), problem: None };
    let ended = test.store.end_walk(&WalkEnd { lease, at: test.now(), how }).await.unwrap();
    assert!(ended.is_stored);
    (ended.gone.len(), ended.held)
}

/// A collection and three keys of another source on one upstream that wanted to be left alone; the walk, which is claimed, is the
/// one request that finds out whether it still does.
async fn probing(test: &TestStore) -> (Registered, Claim) {
    let specs = [spec("users", "u", UNLIMITED), spec("weather", "u", UNLIMITED)];
    let [users, weather] = test.store.register(&specs, Authority::Owns).await.unwrap()[..] else { panic!() };
    let walk = test.store.open_walk(users.source).await.unwrap();
    test.clock.advance(Duration::from_secs(1));
    test.add(weather, 3).await;
    let claims = test.claim(users.upstream).await;
    assert_eq!((claims.len(), claims[0].resource), (4, walk));
    test.settle(&claims[1], enough(429, 30)).await;
    let unsent: Vec<_> = [0, 2, 3].map(|place: usize| (claims[place].token, claims[place].resource)).into();
    test.store.release(&unsent).await.unwrap();
    test.clock.advance(Duration::from_secs(30));
    let probe = test.claim_one(users.upstream).await;
    assert_eq!((probe.resource, test.claim(users.upstream).await.len()), (walk, 0));
    (users, probe)
}

async fn the_first_page_that_is_answered_after_a_pause_lets_the_others_be_asked_for(test: &TestStore) {
    let (users, probe) = probing(test).await;
    let lease = lease(users, &probe);
    let stored = test.store.store_page(&page(test, lease, (1, 0), vec![item("a", "1")])).await.unwrap();
    let PageFate::Stored(_, _, turns) = stored else { panic!("{stored:?}") };
    assert!(matches!(turns[..], [Turn::Over(_)]), "{turns:?}");
    assert_eq!(test.claim(users.upstream).await.len(), 3, "while the walk goes on");
    store(test, &page(test, lease, (1, 1), vec![item("b", "2")])).await;
    assert_eq!(end(test, lease, 1, 1.0).await, (0, 0));
}

async fn a_page_that_says_that_nothing_is_left_has_all_wait(test: &TestStore) {
    let (users, probe) = probing(test).await;
    let lease = lease(users, &probe);
    let later = Later {
        status: 200,
        cause: Cause::Allowance,
        covers: Covers::Upstream,
        until: test.now() + Duration::from_secs(60),
    };
    let signal = policy().hearing(users.source).signal(Said::Later(later));
    let spent = WalkPage { signal, ..page(test, lease, (1, 0), vec![item("a", "1")]) };
    let stored = test.store.store_page(&spent).await.unwrap();
    let PageFate::Stored(_, _, turns) = stored else { panic!("{stored:?}") };
    assert!(matches!(turns[..], [Turn::Over(_), Turn::Paused(_)]), "{turns:?}");
    assert_eq!(test.claim(users.upstream).await.len(), 0);
    assert_eq!(test.store.take_token(users.upstream).await.unwrap(), Err(later.until), "the next page, too");
    test.clock.advance(Duration::from_secs(60));
    assert_eq!(test.claim(users.upstream).await.len(), 1);
}

async fn a_walk_is_due_at_once_and_is_no_key(test: &TestStore) {
    let (users, claim) = claimed(test).await;
    assert_eq!(claim.due.because, Because::New);
    assert_eq!(test.store.open_walk(users.source).await.unwrap(), claim.resource, "it is opened once");
    assert_eq!(test.store.keys(users.source, None, 10).await.unwrap(), []);
    let status = test.store.status(test.now()).await.unwrap();
    assert_eq!((status.sources[0].counts.keys, status.sources[0].counts.pending), (0, 0));
    assert!(!test.store.is_ready().await.unwrap(), "it has not been tried");
}

async fn a_page_is_stored_with_how_far_the_walk_has_come(test: &TestStore) {
    let (users, claim) = claimed(test).await;
    let lease = lease(users, &claim);
    let first = page(test, lease, (1, 0), vec![item("a", "1"), item("b", "2")]);
    assert_eq!(store(test, &first).await, Brought { new: 2, changed: 0, unchanged: 0 });
    let known = test.store.walk(users.source, ASKS).await.unwrap();
    let been_on = vec![(None, ContentHash([0; 16]))];
    assert_eq!(known, Known { number: 1, under_way: first.under_way.clone(), been_on, ..Known::default() });
    let PageContent::Items(_, remembered) = &first.content else { panic!() };
    assert_eq!(test.store.walk_page(users.source, 0).await.unwrap(), *remembered);
    assert_eq!(test.store.walk_page(users.source, 1).await.unwrap(), None);
    let a = test.current("users", "a").await;
    assert_eq!((a.version, a.content.unwrap().body.as_ref(), a.walk.unwrap().walk), (1, &b"1"[..], claim.resource));
    let second = page(test, lease, (1, 1), vec![item("b", "2"), item("a", "1b"), item("c", "3")]);
    assert_eq!(store(test, &second).await, Brought { new: 1, changed: 1, unchanged: 1 });
    let listed = test.store.keys(users.source, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|one| one.origins.join(",")).collect::<Vec<_>>(), ["walk", "walk", "walk"]);
    let status = test.store.status(test.now()).await.unwrap();
    let users = &status.sources[0];
    assert_eq!((users.counts.keys, users.counts.fresh, users.because[&Because::Walk]), (3, 3, 3));
}

async fn a_page_makes_the_lease_last_longer(test: &TestStore) {
    let (users, claim) = claimed(test).await;
    test.clock.advance(LEASE / 2);
    store(test, &page(test, lease(users, &claim), (1, 0), vec![item("a", "1")])).await;
    test.clock.advance(LEASE * 3 / 4);
    assert!(test.claim(users.upstream).await.is_empty());
    assert!(test.store.renew(claim.token, test.now() + LEASE).await.unwrap());
    test.clock.advance(LEASE * 3 / 4);
    assert!(test.claim(users.upstream).await.is_empty());
    test.clock.advance(LEASE);
    assert_eq!(test.claim(users.upstream).await.len(), 1);
    assert!(!test.store.renew(claim.token, test.now() + LEASE).await.unwrap(), "another has it");
}

async fn nothing_is_stored_without_the_lease(test: &TestStore) {
    let (users, claim) = claimed(test).await;
    test.clock.advance(LEASE * 2);
    assert_eq!(test.claim(users.upstream).await.len(), 1);
    let lease = lease(users, &claim);
    let late = page(test, lease, (1, 0), vec![item("a", "1")]);
    assert_eq!(test.store.store_page(&late).await.unwrap(), PageFate::LeaseLost);
    let how = HowItEnded::Failed { goes_on: false, problem: "late".into() };
    assert!(!test.store.end_walk(&WalkEnd { lease, at: test.now(), how }).await.unwrap().is_stored);
    assert_eq!(test.store.walk(users.source, ASKS).await.unwrap(), Known::default());
    assert_eq!(test.number("SELECT count(*) FROM {resource} WHERE key <> ''").await, 0);
}

async fn a_page_that_is_as_it_was_confirms_its_members_alone(test: &TestStore) {
    let (users, claim) = claimed(test).await;
    let lease = lease(users, &claim);
    store(test, &page(test, lease, (1, 0), vec![item("a", "1"), item("b", "2")])).await;
    store(test, &page(test, lease, (1, 1), vec![item("c", "3")])).await;
    test.clock.advance(Duration::from_secs(30));
    let same = WalkPage { content: PageContent::Same, ..page(test, lease, (2, 0), vec![]) };
    assert_eq!(store(test, &same).await, Brought { new: 0, changed: 0, unchanged: 2 });
    let fetched_at = async |name| test.current("users", name).await.freshness.unwrap().fetched_at;
    assert_eq!((fetched_at("a").await, fetched_at("b").await), (test.now(), test.now()));
    assert!(fetched_at("c").await < test.now());
    assert_eq!(end(test, lease, 1, 1.0).await, (1, 0), "c was not seen");
    let gone = WalkPage { content: PageContent::Same, ..page(test, lease, (3, 1), vec![]) };
    assert_eq!(test.store.store_page(&gone).await.unwrap(), PageFate::Forgotten, "c is gone, or its page is");
    assert_eq!(test.store.walk_page(users.source, 1).await.unwrap(), None);
}

async fn what_is_missing_goes_by_the_rules_and_the_budget(test: &TestStore) {
    let (users, claim) = claimed(test).await;
    let lease = lease(users, &claim);
    let all: Vec<_> = ["a", "b", "c", "d"].map(|name| item(name, name)).into();
    store(test, &page(test, lease, (1, 0), all.clone())).await;
    assert_eq!(end(test, lease, 1, 0.5).await, (0, 0));
    store(test, &page(test, lease, (2, 0), all[..1].to_vec())).await;
    assert_eq!(end(test, lease, 1, 0.5).await, (0, 3), "three of four are too many");
    store(test, &page(test, lease, (3, 0), all[..3].to_vec())).await;
    assert_eq!(end(test, lease, 2, 0.5).await, (0, 0), "once is not enough");
    store(test, &page(test, lease, (4, 0), all[..3].to_vec())).await;
    assert_eq!(end(test, lease, 2, 0.5).await, (1, 0));
    assert!(test.current("users", "d").await.gone_since.is_some());
    store(test, &page(test, lease, (5, 0), all[..2].to_vec())).await;
    assert_eq!(end(test, lease, 2, 0.5).await, (0, 0));
    store(test, &page(test, lease, (6, 0), all[..3].to_vec())).await;
    assert_eq!(end(test, lease, 2, 0.5).await, (0, 0), "c was there in between");
    store(test, &page(test, lease, (7, 0), all[..2].to_vec())).await;
    assert_eq!(end(test, lease, 2, 0.5).await, (0, 0));
    let known = test.store.walk(users.source, ASKS).await.unwrap();
    assert_eq!((known.number, known.since.as_deref(), known.under_way), (7, Some("5"), None));
}

async fn members_are_never_due_by_themselves(test: &TestStore) {
    let (users, claim) = claimed(test).await;
    store(test, &page(test, lease(users, &claim), (1, 0), vec![item("a", "1")])).await;
    test.store.release(&[(claim.token, claim.resource)]).await.unwrap();
    let a = test.current("users", "a").await;
    for which in [Selection::All, Selection::Sources(vec![users.source]), Selection::Resources(vec![a.resource])] {
        test.store.want(&which, test.now()).await.unwrap();
        let due = test.number("SELECT count(*) FROM {schedule} WHERE due_at <= 1900000000000000").await;
        assert_eq!(due, 1, "the walk alone: {which:?}");
    }
    let (asked, seen) = a.comes_with();
    assert_eq!(asked, claim.resource);
    assert_eq!(test.store.hasten(asked, wish(seen, test.now())).await.unwrap(), Hastened::Due);
    assert_eq!(a.due.unwrap().because, Because::New, "the walk's, which has not come to its end");
    assert_eq!(test.number("SELECT max(due_at) FROM {schedule}").await, NEVER.timestamp_micros());
}

async fn what_asks_for_something_else_knows_nothing(test: &TestStore) {
    let (users, claim) = claimed(test).await;
    let lease = lease(users, &claim);
    store(test, &page(test, lease, (1, 0), vec![item("a", "1")])).await;
    end(test, lease, 1, 1.0).await;
    let other = Fingerprint(2);
    assert_eq!(test.store.walk(users.source, other).await.unwrap(), Known { number: 1, ..Known::default() });
    let anew = WalkLease { fingerprint: other, ..lease };
    store(test, &page(test, anew, (2, 0), vec![item("a", "1")])).await;
    assert_eq!(test.store.walk(users.source, other).await.unwrap().since, None, "that was of something else");
}

async fn a_walk_that_is_closed_is_asked_for_no_more(test: &TestStore) {
    let (users, claim) = claimed(test).await;
    store(test, &page(test, lease(users, &claim), (1, 0), vec![item("a", "1")])).await;
    test.store.release(&[(claim.token, claim.resource)]).await.unwrap();
    assert_eq!(test.store.close_walks_except(&[users.source]).await.unwrap(), 0);
    assert_eq!(test.store.close_walks_except(&[]).await.unwrap(), 1);
    assert!(test.claim(users.upstream).await.is_empty());
    assert_eq!(test.store.find(users.source, &[Key::of_walk()]).await.unwrap(), [None]);
    test.store.retire_sources_except(&[]).await.unwrap();
    assert!(test.current("users", "a").await.due.is_none(), "and its members are retired");
    test.store.open_walk(users.source).await.unwrap();
    let again = test.claim_one(users.upstream).await;
    let back = page(test, lease(users, &again), (1, 0), vec![item("a", "1")]);
    assert_eq!(store(test, &back).await, Brought { new: 0, changed: 0, unchanged: 1 });
    assert_eq!(test.store.keys(users.source, None, 10).await.unwrap().len(), 1);
}

async fn a_member_that_is_erased_is_on_no_page_any_more(test: &TestStore) {
    let (users, claim) = claimed(test).await;
    let lease = lease(users, &claim);
    let items = || vec![item("a", "A"), item("b", "B")];
    store(test, &page(test, lease, (1, 0), items())).await;
    store(test, &page(test, lease, (1, 1), vec![item("c", "C")])).await;
    let erased = test.store.erase(users.source, &[key("a")], false).await.unwrap();
    assert!(matches!(erased[..], [Erased::Now(_)]));
    assert_eq!(test.store.walk_page(users.source, 0).await.unwrap(), None, "its validators would confirm it");
    assert!(test.store.walk_page(users.source, 1).await.unwrap().is_some());
    let same = WalkPage { content: PageContent::Same, ..page(test, lease, (2, 0), vec![]) };
    assert_eq!(
        test.store.store_page(&same).await.unwrap(),
        PageFate::Forgotten,
        "also for a walk that had asked by them"
    );
    assert_eq!(store(test, &page(test, lease, (2, 0), items())).await, Brought { unchanged: 1, ..Brought::default() });
    let same = WalkPage { content: PageContent::Same, ..page(test, lease, (3, 0), vec![]) };
    assert_eq!(store(test, &same).await.unchanged, 1, "and its page can be confirmed without it");
    let a = test.current("users", "a").await;
    assert_eq!((a.erased_at, a.content, a.due), (Some(test.now()), None, None));
    assert_eq!(test.number("SELECT keys FROM {origin} WHERE name = 'walk'").await, 2);
    assert_eq!(test.store.status(test.now()).await.unwrap().sources[0].counts.keys, 2);
    test.store.allow(users.source, &[key("a")]).await.unwrap();
    assert_eq!(store(test, &page(test, lease, (4, 0), items())).await.new, 1);
    assert_eq!(test.current("users", "a").await.version, 2);
    assert_eq!(test.number("SELECT keys FROM {origin} WHERE name = 'walk'").await, 3);
}
