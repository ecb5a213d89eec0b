//! Keys that readers ask for, where one request asks for many.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::json;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{config, read};
use crate::support::program::{Headpond, client};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(many_first_readers_share_few_requests, what_one_request_would_bring_is_shown);

const BATCH: &str = "batch = 100\nitems = \"$.users[*]\"\nitem_key = \"$.id\"\nrefresh_every = \"1h\"\n";

/// An upstream that has all users, and tells of one that nobody asks for.
async fn upstream() -> MockServer {
    let server = MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await;
    let answer = |request: &Request| {
        let users = ids(request).into_iter().chain(["nobody".into()]).map(|id| json!({ "id": id }));
        ResponseTemplate::new(200).set_body_json(json!({ "users": users.collect::<Vec<_>>() }))
    };
    Mock::given(method("GET")).respond_with(answer).mount(&server).await;
    server
}

fn ids(request: &Request) -> Vec<String> {
    let (_, ids) = request.url.query_pairs().find(|(name, _)| name == "ids").unwrap();
    ids.split(',').map(str::to_owned).collect()
}

fn batch_config(database: &Database, origin: &str, more: &str) -> String {
    config(database, origin, &format!("{BATCH}{more}")).replace("/users/{key}.json", "/users?ids={keys}")
}

async fn many_first_readers_share_few_requests(database: &Database) {
    let upstream = upstream().await;
    let more = "on_demand = { wait = \"25s\" }\n[defaults]\nmax_concurrent_requests = 1";
    let headpond = Headpond::with_config(&batch_config(database, &upstream.uri(), more));
    let serving = [headpond.serve().await, headpond.serve().await];
    let client = client();
    let answers = join_all((0..200).map(|n| read(&client, serving[n % 2].url(&format!("/v1/users/u{}", n / 4))))).await;
    for (n, (status, way, body)) in answers.into_iter().enumerate() {
        assert_eq!((status, body), (200, format!("{{\"id\":\"u{}\"}}", n / 4)), "{way}");
    }
    let asked: Vec<String> = upstream.received_requests().await.unwrap().iter().flat_map(ids).collect();
    assert_eq!(asked.len(), 50, "each key was asked for once");
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), 50);
    let requests = upstream.received_requests().await.unwrap().len();
    assert!(requests < 50, "{requests}");
    let odd = |serving: &crate::support::program::Serving| {
        serving.log().iter().any(|line| line.contains("are ignored") && line.contains("1 that nobody asked for"))
    };
    assert!(serving.iter().any(odd), "{:#?}", serving[0].log());
    for serving in serving {
        serving.stop().await;
    }
}

async fn what_one_request_would_bring_is_shown(database: &Database) {
    let upstream = upstream().await;
    let headpond = Headpond::with_config(&batch_config(database, &upstream.uri(), "keys = [\"7\"]"));
    let tried = headpond.run(&["try", "users"]).await;
    assert_eq!(tried.code(), Some(0), "{tried:?}");
    for text in
        ["ignored in the answer: 1 that nobody asked for", "created: it would be stored, 10 bytes", "{\"id\":\"7\"}"]
    {
        assert!(tried.stdout.contains(text), "{text}: {}", tried.stdout);
    }
}
