//! Requests with a body.

use headpond::domain::validators::Validators;
use headpond::upstream::{Exchange, FetchRequest, OpenGate};
use http::Method;
use wiremock::matchers::{body_string, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::gates::TestGate;
use super::{body, fetcher, mock_server, url};
use crate::upstream::configured::Configured;

const QUESTION: &str = r#"{"id":"k"}"#;

/// Asks what a source with this body template asks for its first key.
async fn post(server: &MockServer, settings: &str, validators: Option<&Validators>, gate: &TestGate) -> Exchange {
    let toml = format!("[sources.s]\nurl = '{}/from'\nkeys = ['k']\nrefresh_every = '1h'\n{settings}", server.uri());
    let config = Configured::reading(&toml).config;
    let source = &config.sources[0];
    let ask = source.ask(&source.keys[0].0, &source.keys[0].1).unwrap();
    let request = FetchRequest { url: &ask.url, body: ask.body.as_ref(), settings: &source.request, validators };
    fetcher().exchange(&request, gate).await.unwrap()
}

#[tokio::test]
async fn a_post_sends_its_body_and_type_and_no_validators() {
    let server = mock_server().await;
    Mock::given(method("POST"))
        .and(path("/from"))
        .and(body_string(QUESTION))
        .and(header("content-type", "application/json"))
        .and(header("accept", "application/json"))
        .respond_with(ResponseTemplate::new(200).set_body_string("x").insert_header("etag", "\"v1\""))
        .expect(1)
        .mount(&server)
        .await;
    let validators = Validators { etag: Some("\"v1\"".into()), last_modified: Some("Thu".into()) };
    let settings = "body = '{\"id\":\"{key}\"}'\naccept = 'application/json'";
    let exchange = post(&server, settings, Some(&validators), &TestGate::default()).await;
    assert_eq!(body(&exchange.observation), b"x");
    assert!(!exchange.observation.conditional);
    let request = &server.received_requests().await.unwrap()[0];
    assert!(!request.headers.contains_key("if-none-match") && !request.headers.contains_key("if-modified-since"));
}

#[tokio::test]
async fn a_post_without_a_body_says_so() {
    let server = mock_server().await;
    let asked = Mock::given(method("POST")).and(header("content-length", "0"));
    asked.respond_with(ResponseTemplate::new(200).set_body_string("x")).expect(1).mount(&server).await;
    assert_eq!(body(&post(&server, "method = 'POST'", None, &TestGate::default()).await.observation), b"x");
    assert!(!server.received_requests().await.unwrap()[0].headers.contains_key("content-type"));
}

#[tokio::test]
async fn redirects_repeat_a_post_but_303_which_is_read() {
    for (status, then, sent) in [
        (301, Method::POST, QUESTION),
        (302, Method::POST, QUESTION),
        (303, Method::GET, ""),
        (307, Method::POST, QUESTION),
        (308, Method::POST, QUESTION),
    ] {
        let server = mock_server().await;
        let moved = ResponseTemplate::new(status).insert_header("location", "/to");
        Mock::given(path("/from")).respond_with(moved).expect(1).mount(&server).await;
        let content = ResponseTemplate::new(200).set_body_string("x");
        Mock::given(path("/to")).respond_with(content).expect(1).mount(&server).await;
        let gate = TestGate::default();
        let exchange = post(&server, "body = '{\"id\":\"{key}\"}'", None, &gate).await;
        assert_eq!((body(&exchange.observation), gate.hops()), (&b"x"[..], 1));
        let request = &server.received_requests().await.unwrap()[1];
        assert_eq!((&request.method, request.body.as_slice()), (&then, sent.as_bytes()), "{status}");
        assert_eq!(request.headers.contains_key("content-type"), then == Method::POST);
    }
}

#[tokio::test]
async fn a_form_is_sent_as_one() {
    let server = mock_server().await;
    Mock::given(body_string("q=k&page=1"))
        .and(header("content-type", "application/x-www-form-urlencoded"))
        .respond_with(ResponseTemplate::new(200).set_body_string("x"))
        .expect(1)
        .mount(&server)
        .await;
    let settings = "body = 'q={key}&page=1'\ncontent_type = 'application/x-www-form-urlencoded'";
    assert_eq!(body(&post(&server, settings, None, &TestGate::default()).await.observation), b"x");
    let plain = url(&server, "/from");
    let request = FetchRequest { url: &plain, body: None, settings: &super::settings(), validators: None };
    assert_eq!(fetcher().exchange(&request, &OpenGate).await.unwrap().status, Some(http::StatusCode::NOT_FOUND));
}
