//! Keys that mean something in a URL, from the configuration to the reader.

use std::collections::BTreeSet;

use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::support::program::{Headpond, get, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(a_key_is_percent_encoded_to_the_upstream_and_read_back_as_it_was);

async fn a_key_is_percent_encoded_to_the_upstream_and_read_back_as_it_was(database: &Database) {
    let long = "k".repeat(2048);
    let keys = [
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("a b", "a%20b"),
        ("\u{1F986}", "%F0%9F%A6%86"),
        ("x..y", "x..y"),
        ("?q=1#f", "%3Fq%3D1%23f"),
        (&long, &long),
    ];
    // Each answer is the path that was asked for.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = MockServer::builder().listener(listener).start().await;
    let echo = |request: &Request| ResponseTemplate::new(200).set_body_string(request.url.as_str());
    Mock::given(method("GET")).respond_with(echo).mount(&upstream).await;
    let listed: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
    let headpond = Headpond::with_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[sources.users]\nurl = \"{}/users/{{key}}/profile\"\n\
         keys = {listed:?}\nrefresh_every = \"1h\"\n",
        database.url(),
        upstream.uri()
    ));
    let refreshed = headpond.run(&["refresh", "--all", "--json"]).await;
    assert_eq!(refreshed.json()["new"].as_u64(), Some(7), "{refreshed:?}");

    let requests = upstream.received_requests().await.unwrap();
    let asked: BTreeSet<_> = requests.iter().map(|request| request.url.path().to_owned()).collect();
    let expected: BTreeSet<_> = keys.iter().map(|(_, encoded)| format!("/users/{encoded}/profile")).collect();
    assert_eq!((asked, requests.len()), (expected, keys.len()));

    let serving = headpond.serve().await;
    for (key, encoded) in keys {
        let read = get(&serving.url(&format!("/v1/users/{encoded}"))).await.unwrap();
        assert_eq!(read.status(), 200, "{key}");
        let body = read.text().await.unwrap();
        assert!(body.ends_with(&format!("/users/{encoded}/profile")), "{key}: {body}");
        let (_, meta) = get_json(&serving.url(&format!("/v1/users/{encoded}/meta"))).await;
        assert_eq!(meta["key"], key);
        assert_eq!(headpond.run(&["get", "users", key]).await.stdout, body);
    }
    let (_, feed) = get_json(&serving.url("/v1/-/changes")).await;
    let announced: BTreeSet<_> =
        feed["changes"].as_array().unwrap().iter().map(|c| c["key"].as_str().unwrap()).collect();
    assert_eq!(announced, listed.into_iter().collect());
    serving.stop().await;
}
