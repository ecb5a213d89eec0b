//! What is sent.

use std::process::Command;

use headpond::domain::observation::Seen;
use headpond::domain::validators::Validators;
use headpond::upstream::{FetchRequest, OpenGate};
use http::HeaderValue;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, ResponseTemplate};

use super::{ask_with, body, fetcher, mock_server, settings, url};
use crate::support::raw_server::RawServer;

fn contains(head: &[u8], line: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').any(|candidate| candidate.trim_ascii_end() == line)
}

#[tokio::test]
async fn a_request_carries_what_is_configured_and_nothing_else() {
    let server = RawServer::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    let mut settings = settings();
    settings.headers.insert("x-api-key", HeaderValue::from_static("s3cret"));
    let observation = ask_with(&server.url("/a/b%2Fc?lat=1"), &settings, None).await;
    assert!(!observation.conditional);
    let request = String::from_utf8(server.requests().remove(0)).unwrap();
    let (first, rest) = request.split_once("\r\n").unwrap();
    assert_eq!(first, "GET /a/b%2Fc?lat=1 HTTP/1.1");
    let mut names: Vec<_> = rest.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent", "x-api-key"]);
    for line in ["accept: */*", "accept-encoding: gzip, br, zstd", "user-agent: headpond-test/1", "x-api-key: s3cret"] {
        assert!(contains(request.as_bytes(), line.as_bytes()), "{line} is missing in {request}");
    }
}

#[tokio::test]
async fn a_resource_is_asked_for_by_one_get_and_never_by_a_head_before_it() {
    let server = mock_server().await;
    Mock::given(path("/a")).respond_with(ResponseTemplate::new(200).set_body_string("x")).mount(&server).await;
    let validators = Validators { etag: Some("\"v1\"".into()), last_modified: None };
    for validators in [None, Some(&validators)] {
        ask_with(&url(&server, "/a"), &settings(), validators).await;
    }
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.iter().map(|request| request.method.as_str()).collect::<Vec<_>>(), ["GET", "GET"]);
}

#[tokio::test]
async fn it_is_told_whether_a_request_was_authorized() {
    let server = mock_server().await;
    Mock::given(path("/a")).respond_with(ResponseTemplate::new(200).set_body_string("x")).mount(&server).await;
    let mut settings = settings();
    assert!(!ask_with(&url(&server, "/a"), &settings, None).await.via.authorized);
    settings.headers.insert("authorization", HeaderValue::from_static("Bearer x"));
    assert!(ask_with(&url(&server, "/a"), &settings, None).await.via.authorized);
}

/// The variables would have to be set in this process, where other tests run: so this asks another one.
#[test]
fn no_proxy_of_the_environment_is_used() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "upstream::requests::a_request_carries_what_is_configured_and_nothing_else"])
        .envs(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, "http://127.0.0.1:1")))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");
}

#[tokio::test]
async fn validators_go_back_byte_for_byte_as_they_came() {
    let answer = b"HTTP/1.1 200 OK\r\nETag: no-quotes-\xff\xfe\r\nLast-Modified: yesterday, about noon\r\nContent-Length: 2\r\n\r\n{}";
    let server = RawServer::saying(answer).await;
    let first = ask_with(&server.url("/"), &settings(), None).await;
    let Seen::Content { headers, .. } = first.seen else { panic!("{first:?}") };
    let second = ask_with(&server.url("/"), &settings(), Some(&Validators::of(&headers))).await;
    assert!(second.conditional);
    let request = &server.requests()[1];
    assert!(contains(request, b"if-none-match: no-quotes-\xff\xfe"), "{}", request.escape_ascii());
    assert!(contains(request, b"if-modified-since: yesterday, about noon"), "{}", request.escape_ascii());
}

#[tokio::test]
async fn a_304_to_a_conditional_request_is_not_modified() {
    let server = mock_server().await;
    Mock::given(method("GET"))
        .and(path("/r"))
        .and(header("if-none-match", "\"v1\""))
        .respond_with(ResponseTemplate::new(304).insert_header("cache-control", "max-age=60"))
        .expect(1)
        .mount(&server)
        .await;
    let validators = Validators { etag: Some("\"v1\"".into()), last_modified: None };
    let observation = ask_with(&url(&server, "/r"), &settings(), Some(&validators)).await;
    assert!(observation.conditional);
    let Seen::NotModified { headers } = observation.seen else { panic!("{observation:?}") };
    assert_eq!(headers["cache-control"], "max-age=60");
}

#[tokio::test]
async fn cookies_are_not_kept() {
    let answer = "HTTP/1.1 200 OK\r\nSet-Cookie: session=1\r\nContent-Length: 2\r\n\r\n{}";
    let server = RawServer::saying(answer).await;
    let (fetcher, settings, url) = (fetcher(), settings(), server.url("/"));
    for _ in 0..2 {
        let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
        assert_eq!(body(&fetcher.fetch(&request, &OpenGate).await.unwrap()), b"{}");
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 2);
    assert!(!requests[1].to_ascii_lowercase().windows(7).any(|window| window == b"cookie:"));
}

#[tokio::test]
async fn what_was_sent_can_be_shown_without_its_secrets() {
    let server = RawServer::saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
    let mut settings = settings();
    settings.headers.insert("authorization", HeaderValue::from_static("Bearer s3cret"));
    let url = server.url("/?key=s3cret");
    let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
    let exchange = fetcher().exchange(&request, &OpenGate).await.unwrap();
    assert_eq!(exchange.status, Some(http::StatusCode::OK));
    let shown: Vec<_> = headpond::upstream::shown(&exchange.sent).collect();
    assert!(shown.contains(&("authorization", "(hidden)".into())), "{shown:?}");
    assert!(!format!("{request:?} {exchange:?} {shown:?}").contains("s3cret"));
}
