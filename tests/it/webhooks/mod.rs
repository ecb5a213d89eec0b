//! Webhooks over real sockets: what an endpoint is told, and what becomes of what it does not take.

pub mod endpoint;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use headpond::config::Webhook;
use headpond::domain::change::ChangeKind;
use headpond::domain::resource::SourceName;
use headpond::domain::webhook::Secret;
use headpond::refresh::webhooks::{Sender, Step};
use headpond::store::{PruneRules, Registered, ToSend, WebhookState};
use headpond::upstream::Courier;
use serde_json::{Value, json};

use self::endpoint::{Endpoint, SECRET};
use crate::support::outcomes::{HOUR, content};
use crate::support::store::{TestStore, key, on_each_database};

on_each_database! {
    each_change_is_told_once_in_order_and_signed,
    only_what_is_wanted_is_told_with_data_if_that_is_wanted,
    an_endpoint_that_is_down_for_an_hour_is_told_all_of_it_afterwards,
    a_resource_that_fails_holds_up_no_other_and_keeps_its_order,
    an_endpoint_that_answers_410_is_told_nothing_more_until_it_is_resumed,
    a_redirect_is_a_failure_and_is_not_followed,
    an_endpoint_that_is_slow_is_not_waited_for_beyond_the_timeout,
    retry_after_is_heeded,
    what_a_killed_process_was_sending_is_sent_again_under_the_same_id,
    one_process_sends_at_a_time,
    what_is_not_taken_for_long_ends_it,
    who_is_behind_the_feed_is_told_to_resync,
    webhooks_that_are_no_longer_configured_are_forgotten,
}

const JSON: (&str, &str) = ("content-type", "application/json");
const DAY: Duration = Duration::from_secs(86_400);

fn webhook(endpoint: &Endpoint) -> Webhook {
    Webhook {
        name: "app".into(),
        url: endpoint.url(),
        secret: Secret::parse(SECRET).unwrap(),
        sources: None,
        kinds: None,
        includes_data: false,
        timeout: Duration::from_secs(10),
        give_up_after: 5 * DAY,
    }
}

/// A process that sends.
fn sender(test: &TestStore, worker: &str, webhook: Webhook) -> Sender {
    Sender {
        store: Arc::clone(&test.store),
        clock: Arc::clone(&test.clock) as _,
        worker: worker.into(),
        webhook,
        courier: Courier::new().unwrap(),
    }
}

/// Sends until there is nothing to do now, and says why.
async fn drained(sender: &Sender) -> Step {
    for _ in 0..1000 {
        match sender.step().await.unwrap() {
            Step::Done => {}
            other => return other,
        }
    }
    panic!("it has no end");
}

/// Lets time pass, and sends whatever falls due.
async fn pass(test: &TestStore, sender: &Sender, span: Duration) {
    let end = test.now() + TimeDelta::from_std(span).unwrap();
    while test.now() < end {
        match drained(sender).await {
            Step::Idle(Some(at)) if at < end => test.clock.advance((at - test.now()).to_std().unwrap()),
            _ => test.clock.advance((end - test.now()).to_std().unwrap()),
        }
    }
    drained(sender).await;
}

async fn with_keys(test: &TestStore, keys: usize) -> Registered {
    let registered = test.source_with_keys("users", keys).await;
    test.store.register_webhooks(&["app".into()]).await.unwrap();
    registered
}

/// All keys get this content, two hours later.
async fn changes(test: &TestStore, users: Registered, body: &str) {
    test.clock.advance(2 * HOUR);
    test.settle_all(users.upstream, |_| content(body, &[JSON])).await;
}

async fn state(test: &TestStore) -> WebhookState {
    let status = test.store.status(test.now()).await.unwrap().webhooks;
    assert_eq!(status, test.store.webhooks().await.unwrap());
    status.into_iter().next().unwrap()
}

async fn each_change_is_told_once_in_order_and_signed(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 3).await, Endpoint::start().await);
    let sender = sender(test, "a", webhook(&endpoint));
    assert_eq!(drained(&sender).await, Step::Idle(None));
    assert_eq!(test.number("SELECT lease_until FROM {webhook}").await, 0, "to look is not to write");
    changes(test, users, "1").await;
    changes(test, users, "2").await;
    assert_eq!(drained(&sender).await, Step::Idle(None));
    let told = endpoint.told(test.now()).await;
    let kinds: Vec<_> = told.iter().map(|one| (one.kind(), one.key())).collect();
    let both = |kind| ["k0", "k1", "k2"].map(|key| (kind, key));
    assert_eq!(kinds, [both("resource.created"), both("resource.changed")].concat());
    let data = &told[3].body["data"];
    assert_eq!((&data["source"], &data["version"], &data["item"]), (&json!("users"), &json!(2), &Value::Null));
    assert_eq!(data["cursor"], told[3].id.as_str());
    assert_eq!(told[3].body["timestamp"], data["at"]);
    let ids: std::collections::BTreeSet<_> = told.iter().map(|one| &one.id).collect();
    assert_eq!(ids.len(), 6, "each has an id of its own");
    let state = state(test).await;
    assert_eq!((state.delivered, state.behind, state.queued, state.error), (6, 0, 0, None));
}

async fn only_what_is_wanted_is_told_with_data_if_that_is_wanted(test: &TestStore) {
    let endpoint = Endpoint::start().await;
    let cities = test.source_with_keys("cities", 2).await;
    let users = with_keys(test, 2).await;
    let only = Webhook {
        sources: Some(vec![SourceName::new("users").unwrap()]),
        kinds: Some(vec![ChangeKind::Created, ChangeKind::Erased]),
        includes_data: true,
        ..webhook(&endpoint)
    };
    let sender = sender(test, "a", only);
    test.settle_all(cities.upstream, |_| content("{}", &[JSON])).await;
    test.settle_all(users.upstream, |claim| match claim.key.as_str() {
        "k0" => content("{ \"n\": 1.0 }", &[JSON]),
        _ => content("text", &[("content-type", "text/plain")]),
    })
    .await;
    changes(test, users, "{}").await;
    drained(&sender).await;
    test.store.erase(users.source, &[key("k0")], false).await.unwrap();
    drained(&sender).await;
    let told = endpoint.told(test.now()).await;
    let kinds: Vec<_> = told.iter().map(|one| (one.kind(), one.key())).collect();
    assert_eq!(kinds, [("resource.created", "k0"), ("resource.created", "k1"), ("resource.erased", "k0")]);
    // It is as it is when the message is sent.
    let item = &told[0].body["data"]["item"];
    assert_eq!((&item["version"], &item["data"], &item["content_type"]), (&json!(2), &json!({}), &json!(JSON.1)));
    assert_eq!(told[2].body["data"]["item"], Value::Null);
}

async fn an_endpoint_that_is_down_for_an_hour_is_told_all_of_it_afterwards(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 5).await, Endpoint::start().await);
    let first = sender(test, "a", webhook(&endpoint));
    endpoint.answers(|_| 503);
    changes(test, users, "1").await;
    pass(test, &first, HOUR).await;
    let tried = endpoint.told(test.now()).await.len();
    assert!((3..40).contains(&tried), "{tried} attempts in an hour, of an endpoint that is down");
    let down = state(test).await;
    assert!(down.failures >= 3 && down.paused_until.is_some() && down.dead_since.is_none(), "{down:?}");
    assert_eq!(down.error.unwrap().0, "it answered 503 Service Unavailable");
    changes(test, users, "2").await;
    // Another process goes on from what is stored.
    let second = sender(test, "b", webhook(&endpoint));
    endpoint.answers(|_| 200);
    endpoint.forget().await;
    pass(test, &second, 3 * HOUR).await;
    let told = endpoint.told(test.now()).await;
    for name in ["k0", "k1", "k2", "k3", "k4"] {
        let versions: Vec<_> =
            told.iter().filter(|one| one.key() == name).map(|one| one.body["data"]["version"].clone()).collect();
        assert_eq!(versions, [1, 2], "{name}");
    }
    let state = state(test).await;
    assert_eq!((state.delivered, state.behind, state.queued, state.failures), (10, 0, 0, 0));
}

async fn a_resource_that_fails_holds_up_no_other_and_keeps_its_order(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 3).await, Endpoint::start().await);
    let sender = sender(test, "a", webhook(&endpoint));
    endpoint.answers(|key| if key == "k1" { 500 } else { 200 });
    for n in ["1", "2", "3"] {
        changes(test, users, n).await;
        drained(&sender).await;
    }
    let state_then = state(test).await;
    assert_eq!((state_then.delivered, state_then.behind, state_then.queued), (6, 0, 3));
    endpoint.answers(|_| 200);
    endpoint.forget().await;
    pass(test, &sender, 2 * HOUR).await;
    let versions: Vec<_> =
        endpoint.told(test.now()).await.iter().map(|one| one.body["data"]["version"].clone()).collect();
    assert_eq!(versions, [1, 2, 3]);
    assert_eq!(state(test).await.queued, 0);
}

async fn an_endpoint_that_answers_410_is_told_nothing_more_until_it_is_resumed(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 2).await, Endpoint::start().await);
    let sender = sender(test, "a", webhook(&endpoint));
    endpoint.answers(|_| 410);
    changes(test, users, "1").await;
    assert_eq!(drained(&sender).await, Step::NotOurs);
    pass(test, &sender, 10 * DAY).await;
    assert_eq!(endpoint.told(test.now()).await.len(), 1);
    let dead = state(test).await;
    assert!(dead.dead_since.is_some() && dead.error.unwrap().0.contains("410"));
    endpoint.answers(|_| 200);
    assert!(test.store.resume_webhook("app").await.unwrap());
    assert!(!test.store.resume_webhook("other").await.unwrap());
    assert_eq!(drained(&sender).await, Step::Idle(None));
    assert_eq!(endpoint.told(test.now()).await.len(), 3, "the one that was refused, and the other");
    assert_eq!(state(test).await.delivered, 2);
}

async fn a_redirect_is_a_failure_and_is_not_followed(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 1).await, Endpoint::start().await);
    let sender = sender(test, "a", webhook(&endpoint));
    endpoint.answers(|_| 307);
    changes(test, users, "1").await;
    assert!(matches!(drained(&sender).await, Step::Idle(Some(_))));
    assert_eq!(endpoint.told(test.now()).await.len(), 1, "nothing was sent to where it points");
    assert!(state(test).await.error.unwrap().0.contains("redirects are not followed"));
}

async fn an_endpoint_that_is_slow_is_not_waited_for_beyond_the_timeout(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 1).await, Endpoint::start().await);
    endpoint.takes(Duration::from_secs(30));
    let hasty = Webhook { timeout: Duration::from_millis(200), ..webhook(&endpoint) };
    let sender = sender(test, "a", hasty);
    changes(test, users, "1").await;
    assert!(matches!(drained(&sender).await, Step::Idle(Some(_))));
    assert_eq!(state(test).await.error.unwrap().0, "no answer within 200ms");
}

async fn retry_after_is_heeded(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 2).await, Endpoint::start().await);
    let sender = sender(test, "a", webhook(&endpoint));
    endpoint.answers(|_| 429);
    changes(test, users, "1").await;
    let until = test.now() + TimeDelta::seconds(120);
    assert_eq!(drained(&sender).await, Step::Idle(Some(until)));
    assert_eq!(endpoint.told(test.now()).await.len(), 1);
    endpoint.answers(|_| 200);
    test.clock.advance(Duration::from_secs(119));
    assert_eq!(drained(&sender).await, Step::Idle(Some(until)));
    test.clock.advance(Duration::from_secs(1));
    drained(&sender).await;
    assert_eq!(endpoint.told(test.now()).await.len(), 3);
}

async fn what_a_killed_process_was_sending_is_sent_again_under_the_same_id(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 1).await, Endpoint::start().await);
    changes(test, users, "1").await;
    endpoint.takes(Duration::from_secs(600));
    let killed = sender(test, "a", webhook(&endpoint));
    tokio::select! {
        step = killed.step() => panic!("{step:?}"),
        () = endpoint.has_been_asked() => {}
    }
    endpoint.takes(Duration::ZERO);
    let other = sender(test, "b", webhook(&endpoint));
    assert_eq!(drained(&other).await, Step::NotOurs, "the lease of the first lasts");
    test.clock.advance(Duration::from_secs(25));
    assert_eq!(drained(&other).await, Step::Idle(None));
    let told = endpoint.told(test.now()).await;
    assert_eq!(told.len(), 2);
    assert_eq!((&told[0].id, &told[0].body), (&told[1].id, &told[1].body));
    assert_eq!(state(test).await.delivered, 1);
}

async fn one_process_sends_at_a_time(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 2).await, Endpoint::start().await);
    let [first, second] = ["a", "b"].map(|worker| sender(test, worker, webhook(&endpoint)));
    assert_eq!(first.step().await.unwrap(), Step::Idle(None));
    changes(test, users, "1").await;
    assert_eq!(second.step().await.unwrap(), Step::Done, "who had nothing to send holds nobody up");
    assert_eq!(first.step().await.unwrap(), Step::NotOurs);
    assert_eq!(endpoint.told(test.now()).await.len(), 1);
}

async fn what_is_not_taken_for_long_ends_it(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 1).await, Endpoint::start().await);
    let sender = sender(test, "a", Webhook { give_up_after: DAY, ..webhook(&endpoint) });
    endpoint.answers(|_| 500);
    changes(test, users, "1").await;
    pass(test, &sender, 23 * HOUR).await;
    assert_eq!(state(test).await.dead_since, None);
    pass(test, &sender, 3 * HOUR).await;
    let dead = state(test).await;
    assert!(dead.dead_since.is_some() && dead.error.unwrap().0.starts_with("given up after "));
    endpoint.answers(|_| 200);
    test.store.resume_webhook("app").await.unwrap();
    drained(&sender).await;
    assert_eq!((state(test).await.delivered, state(test).await.queued), (1, 0), "nothing is lost meanwhile");
}

async fn who_is_behind_the_feed_is_told_to_resync(test: &TestStore) {
    let (users, endpoint) = (with_keys(test, 2).await, Endpoint::start().await);
    let sender = sender(test, "a", webhook(&endpoint));
    changes(test, users, "1").await;
    changes(test, users, "2").await;
    test.clock.advance(DAY);
    test.store.prune(&PruneRules { now: test.now(), retired: DAY, changes: HOUR, applied: HOUR }).await.unwrap();
    endpoint.answers(|_| 500);
    drained(&sender).await;
    endpoint.answers(|_| 200);
    pass(test, &sender, Duration::from_secs(10)).await;
    let told = endpoint.told(test.now()).await;
    assert_eq!(told.iter().map(endpoint::Told::kind).collect::<Vec<_>>(), ["resync", "resync"]);
    assert_eq!(told[0].id, told[1].id, "the same message");
    assert_eq!(told[0].body["data"], Value::Null);
    changes(test, users, "3").await;
    drained(&sender).await;
    assert_eq!(endpoint.told(test.now()).await.len(), 4, "and it goes on from there");
}

async fn webhooks_that_are_no_longer_configured_are_forgotten(test: &TestStore) {
    let users = with_keys(test, 1).await;
    changes(test, users, "1").await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    test.store.register_webhooks(&names(&["app", "new"])).await.unwrap();
    let behind: Vec<_> =
        test.store.webhooks().await.unwrap().iter().map(|one| (one.name.clone(), one.behind)).collect();
    assert_eq!(behind, [("app".to_owned(), 1), ("new".to_owned(), 0)], "a new one begins at the feed's end");
    test.store.register_webhooks(&names(&["new"])).await.unwrap();
    assert_eq!(test.store.webhooks().await.unwrap().len(), 1);
    let outbox = test.store.webhook_outbox("app", "a", test.now()).await.unwrap();
    assert_eq!(outbox, ToSend::NotOurs);
    assert!(!test.store.webhook_sent("app", "a", &headpond::store::Sent::default()).await.unwrap());
}
