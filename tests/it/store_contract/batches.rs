//! Requests for many keys: what is leased with one token.

use headpond::domain::limit::Limits;
use headpond::domain::resource::ResourceId;
use headpond::store::{Claim, ClaimRequest, Registered, Together};

use crate::support::outcomes::content;
use crate::support::store::{LEASE, TestStore, UNLIMITED, ask, keys_of, on_each_database, spec};

on_each_database! {
    one_token_pays_for_as_many_keys_as_a_request_may_have,
    a_request_counts_once_against_the_concurrency_until_its_first_is_done,
    sources_that_ask_by_the_key_are_packed_beside_those_that_do_not,
    what_was_wished_for_takes_others_along,
    what_rides_along_is_leased_like_all_else,
}

fn asking(registered: Registered, at_most: u32, together: u32) -> ClaimRequest {
    ClaimRequest { together: Together::from([(registered.source, together)]), ..ask(registered.upstream, at_most) }
}

/// The names of the keys of each request.
fn requests(claims: &[Claim]) -> Vec<Vec<&str>> {
    claims.chunk_by(|one, next| one.rides_with == next.rides_with).map(keys_of).collect()
}

fn limited(requests_per_second: f64, burst: u32, max_concurrent: u32) -> Limits {
    Limits {
        requests_per_second: Some(requests_per_second),
        burst,
        max_concurrent,
        budgets: headpond::domain::budget::Budgets::NONE,
    }
}

async fn one_token_pays_for_as_many_keys_as_a_request_may_have(test: &TestStore) {
    let users = test.source("users", limited(1.0, 1, 100)).await;
    test.add(users, 8).await;
    let claimed = test.store.claim(&asking(users, 100, 3)).await.unwrap();
    let first = &claimed.claims;
    assert_eq!(requests(first), [["k0", "k1", "k2"]], "for which there was a token");
    assert!(first.iter().all(|claim| claim.token == first[0].token));
    let next = claimed.ask_again_at.unwrap();
    assert!(next > test.now() && next < test.now() + LEASE, "the next token");
    test.clock.advance((next - test.now()).to_std().unwrap());
    let rest = test.store.claim(&asking(users, 100, 100)).await.unwrap().claims;
    assert_eq!(requests(&rest), [["k3", "k4", "k5", "k6", "k7"]]);
    assert!(test.store.take_token(users.upstream).await.unwrap().is_err(), "it paid for all of these");
}

async fn a_request_counts_once_against_the_concurrency_until_its_first_is_done(test: &TestStore) {
    let users = test.source("users", Limits { max_concurrent: 2, ..UNLIMITED }).await;
    test.add(users, 9).await;
    let request = asking(users, 100, 4);
    let claims = test.store.claim(&request).await.unwrap().claims;
    assert_eq!(requests(&claims), [vec!["k0", "k1", "k2", "k3"], vec!["k4", "k5", "k6", "k7"]]);
    let in_flight = async || test.store.status(test.now()).await.unwrap().upstreams[0].in_flight;
    assert_eq!(in_flight().await, 2);
    assert!(test.store.claim(&request).await.unwrap().claims.is_empty(), "no third request at once");
    let settled: Vec<_> = claims[..4].iter().map(|claim| test.settled(claim, content("A", &[]))).collect();
    test.store.apply(&settled).await.unwrap();
    assert_eq!(in_flight().await, 1);
    assert_eq!(requests(&test.store.claim(&request).await.unwrap().claims), [["k8"]]);
    assert_eq!(in_flight().await, 2);
}

async fn sources_that_ask_by_the_key_are_packed_beside_those_that_do_not(test: &TestStore) {
    let specs = [spec("users", "hub", UNLIMITED), spec("single", "hub", UNLIMITED)];
    let [users, single] = test.store.register(&specs, headpond::store::Authority::Owns).await.unwrap()[..] else {
        panic!("two sources")
    };
    test.add(users, 3).await;
    test.add(single, 2).await;
    let claims = test.store.claim(&asking(users, 3, 2)).await.unwrap().claims;
    assert_eq!(requests(&claims), [vec!["k0", "k1"], vec!["k2"], vec!["k0"]]);
    let claims = test.store.claim(&asking(users, 3, 2)).await.unwrap().claims;
    assert_eq!(requests(&claims), [["k1"]]);
    assert_eq!(claims[0].rides_with, claims[0].resource);
}

async fn what_was_wished_for_takes_others_along(test: &TestStore) {
    let users = test.source_with_keys("users", 5).await;
    let wanted = test.current("users", "k4").await.resource;
    test.store.want(&headpond::store::Selection::Resources(vec![wanted]), test.now()).await.unwrap();
    let claims = test.store.claim(&asking(users, 1, 3)).await.unwrap().claims;
    assert_eq!(requests(&claims), [["k4", "k0", "k1"]]);
}

async fn what_rides_along_is_leased_like_all_else(test: &TestStore) {
    let users = test.source_with_keys("users", 3).await;
    let claims = test.store.claim(&asking(users, 9, 2)).await.unwrap().claims;
    assert!(test.store.claim(&asking(users, 9, 2)).await.unwrap().claims.is_empty());
    assert!(test.current("users", "k1").await.leased_until.is_some());
    let leased: Vec<(_, ResourceId)> = claims.iter().map(|claim| (claim.token, claim.resource)).collect();
    test.store.release(&leased[1..2]).await.unwrap();
    assert_eq!(requests(&test.store.claim(&asking(users, 9, 2)).await.unwrap().claims), [["k1"]]);
    test.clock.advance(LEASE);
    let again = test.store.claim(&asking(users, 9, 2)).await.unwrap().claims;
    assert_eq!(again.len(), 3, "a lost worker's are due again");
}
