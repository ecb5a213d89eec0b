//! One request for many keys.

use std::collections::BTreeMap;
use std::sync::Mutex;

use headpond::domain::read_state::ReadState;
use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use super::{Process, mock_server};
use crate::support::outcomes::HOUR;
use crate::support::store::{TestStore, on_each_database};

on_each_database! {
    a_hundred_keys_are_one_request_and_each_has_its_item,
    what_is_the_same_again_is_confirmed_without_conditions,
    a_key_that_is_absent_fails_or_goes_as_the_source_says,
    a_request_that_fails_fails_for_each_of_its_keys_and_takes_no_copy,
    a_key_that_the_upstream_can_not_take_fails_alone,
    what_refuses_every_key_is_not_asked_for_each,
    long_keys_go_in_several_requests,
}

/// An upstream that answers for the keys that it has, and remembers what it was asked for.
struct Users(Mutex<BTreeMap<String, Value>>);

impl Respond for &'static Users {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let asked: Vec<String> = ids(request);
        let users = self.0.lock().unwrap();
        let data: Vec<_> = asked.iter().filter_map(|id| users.get(id)).collect();
        ResponseTemplate::new(200)
            .insert_header("etag", "\"of all\"")
            .insert_header("last-modified", "Tue, 15 Nov 1994 08:12:31 GMT")
            .set_body_json(json!({ "data": data }))
    }
}

fn ids(request: &Request) -> Vec<String> {
    let ids = request.url.query_pairs().find(|(name, _)| name == "ids").unwrap().1.into_owned();
    ids.split(',').map(str::to_owned).collect()
}

async fn upstream(count: usize) -> (MockServer, &'static Users) {
    let users = (0..count).map(|n| (format!("u{n}"), json!({ "id": format!("u{n}"), "n": n })));
    let users: &'static Users = Box::leak(Box::new(Users(Mutex::new(users.collect()))));
    let server = mock_server().await;
    Mock::given(method("GET")).respond_with(users).mount(&server).await;
    (server, users)
}

fn config(origin: &str, keys: usize, more: &str) -> String {
    let keys: Vec<_> = (0..keys).map(|n| format!("u{n}")).collect();
    format!(
        "[sources.users]\nurl = \"{origin}/users?ids={{keys}}\"\nkeys = {keys:?}\nrefresh_every = \"1h\"\n\
         batch = 100\nitems = \"$.data[*]\"\nitem_key = \"$.id\"\n{more}\n"
    )
}

/// How many keys each request asked for, fewest first.
async fn sizes(server: &MockServer) -> Vec<usize> {
    let mut sizes: Vec<_> = server.received_requests().await.unwrap().iter().map(|one| ids(one).len()).collect();
    sizes.sort_unstable();
    sizes
}

async fn body(test: &TestStore, key: &str) -> Value {
    let content = test.current("users", key).await.content.unwrap();
    assert_eq!(content.headers["content-type"], "application/json");
    serde_json::from_slice(&content.body).unwrap()
}

async fn a_hundred_keys_are_one_request_and_each_has_its_item(test: &TestStore) {
    let (server, _) = upstream(250).await;
    let process = Process::with_config(test, &config(&server.uri(), 250, "")).await;
    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.failed), (250, 0));
    assert_eq!(sizes(&server).await, [50, 100, 100]);
    for n in [0, 99, 100, 249] {
        assert_eq!(body(test, &format!("u{n}")).await, json!({ "id": format!("u{n}"), "n": n }));
    }
    assert!(test.current("users", "u7").await.validators.is_empty(), "what is said of all is said of none");
}

async fn what_is_the_same_again_is_confirmed_without_conditions(test: &TestStore) {
    let (server, users) = upstream(3).await;
    let process = Process::with_config(test, &config(&server.uri(), 3, "")).await;
    process.refresh().await;
    test.clock.advance(2 * HOUR);
    users.0.lock().unwrap().insert("u1".into(), json!({ "id": "u1", "n": "other" }));
    let counts = process.refresh().await;
    assert_eq!((counts.changed, counts.unchanged), (1, 2));
    assert_eq!(test.current("users", "u1").await.version, 2);
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|one| !one.headers.contains_key("if-none-match")), "none is conditional");
}

async fn a_key_that_is_absent_fails_or_goes_as_the_source_says(test: &TestStore) {
    let (server, users) = upstream(3).await;
    let gone = "absent_means_gone = true\ngone_after = 2\ngone_window = \"0s\"\nmax_delete_share = 1.0";
    for (more, state) in [("", ReadState::Stale), (gone, ReadState::Gone)] {
        users.0.lock().unwrap().insert("u1".into(), json!({ "id": "u1" }));
        let process = Process::with_config(test, &config(&server.uri(), 3, more)).await;
        process.want_all().await;
        process.refresh().await;
        users.0.lock().unwrap().remove("u1");
        for _ in 0..3 {
            test.clock.advance(3 * HOUR);
            process.refresh().await;
        }
        let current = test.current("users", "u1").await;
        test.clock.advance(3 * HOUR);
        assert_eq!(ReadState::of(current.gone_since, current.freshness, test.now()), state, "{more}");
        assert!(current.content.is_some(), "what was there stays");
        if state == ReadState::Stale {
            let failing = current.failing.unwrap().last;
            assert_eq!(failing.detail, "the answer has no item with this key");
        }
    }
}

async fn a_request_that_fails_fails_for_each_of_its_keys_and_takes_no_copy(test: &TestStore) {
    let server = mock_server().await;
    let good = json!({ "data": [{ "id": "u0" }, { "id": "u1" }] });
    let good = ResponseTemplate::new(200).set_body_json(good);
    Mock::given(method("GET")).respond_with(good).up_to_n_times(1).mount(&server).await;
    // For both together, and for each.
    let answers = [
        (ResponseTemplate::new(404), 3),
        (ResponseTemplate::new(500), 1),
        (ResponseTemplate::new(200).set_body_json(json!({ "error": "no" })), 1),
        (ResponseTemplate::new(200).set_body_string("<html>"), 1),
    ];
    let more = "absent_means_gone = true\ngone_after = 1\ngone_window = \"0s\"\nmax_delete_share = 1.0";
    let process = Process::with_config(test, &config(&server.uri(), 2, more)).await;
    process.refresh().await;
    for ((answer, times), kind) in answers.into_iter().zip(["client_error", "server_error", "unparsable", "unparsable"])
    {
        Mock::given(method("GET")).respond_with(answer).up_to_n_times(times).mount(&server).await;
        test.clock.advance(2 * HOUR);
        let counts = process.refresh().await;
        assert_eq!((counts.failed, counts.gone), (2, 0), "{kind}");
        for key in ["u0", "u1"] {
            let current = test.current("users", key).await;
            assert_eq!((current.version, current.failing.unwrap().last.kind.as_str()), (1, kind));
        }
    }
    assert_eq!(server.received_requests().await.unwrap().len(), 7);
}

/// 422 where one of these is among those that are asked for.
struct Picky(&'static Users, Vec<usize>);

impl Respond for Picky {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let is_bad = |id: &String| self.1.iter().any(|bad| *id == format!("u{bad}"));
        if ids(request).iter().any(is_bad) { ResponseTemplate::new(422) } else { self.0.respond(request) }
    }
}

async fn picky(keys: usize, bad: Vec<usize>) -> (MockServer, &'static Users) {
    let (source, users) = upstream(keys).await;
    drop(source);
    let server = mock_server().await;
    Mock::given(method("GET")).respond_with(Picky(users, bad)).mount(&server).await;
    (server, users)
}

async fn a_key_that_the_upstream_can_not_take_fails_alone(test: &TestStore) {
    let (server, users) = picky(100, vec![37]).await;
    let process = Process::with_config(test, &config(&server.uri(), 100, "")).await;
    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.failed), (99, 1));
    assert_eq!(counts.failures[0].failure.status, Some(422), "{counts:?}");
    let asked = server.received_requests().await.unwrap().len();
    assert!(asked <= 15, "{asked} requests to find one of a hundred");
    // From then on it is asked for alone, however often it fails.
    test.clock.advance(2 * HOUR);
    users.0.lock().unwrap().insert("u38".into(), json!({ "id": "u38", "n": "other" }));
    let counts = process.refresh().await;
    assert_eq!((counts.changed, counts.unchanged, counts.failed), (1, 98, 1));
    assert_eq!(server.received_requests().await.unwrap().len(), asked + 2);
}

async fn what_refuses_every_key_is_not_asked_for_each(test: &TestStore) {
    let (server, _) = picky(100, (0..100).collect()).await;
    let process = Process::with_config(test, &config(&server.uri(), 100, "")).await;
    assert_eq!(process.refresh().await.failed, 100);
    let asked = server.received_requests().await.unwrap().len();
    assert!((3..=15).contains(&asked), "{asked} requests");
}

async fn long_keys_go_in_several_requests(test: &TestStore) {
    let server = mock_server().await;
    let long = |n: usize| format!("{n}{}", "é".repeat(300));
    let data: Vec<_> = (0..10).map(|n| json!({ "id": long(n) })).collect();
    let all = ResponseTemplate::new(200).set_body_json(json!({ "data": data }));
    Mock::given(method("GET")).respond_with(all).mount(&server).await;
    let toml = config(&server.uri(), 0, "")
        .replace("keys = []", &format!("keys = {:?}", (0..10).map(long).collect::<Vec<_>>()));
    let process = Process::with_config(test, &toml).await;
    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.failed), (10, 0), "items that nobody asked for in a request are left out of it");
    let requests = server.received_requests().await.unwrap();
    assert!((3..=6).contains(&requests.len()), "{}", requests.len());
    assert!(requests.iter().all(|one| one.url.as_str().len() <= 8000));
}
