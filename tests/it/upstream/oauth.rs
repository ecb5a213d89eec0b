//! Access tokens: one at a time, replaced in time, and what becomes of a resource when there is none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use headpond::clock::{Clock, ManualClock};
use headpond::domain::failure::FailureKind;
use headpond::upstream::OpenGate;
use tokio::sync::Notify;
use wiremock::matchers::{body_string, header, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::configured::Configured;
use super::gates::TestGate;
use super::{body, failure, kind, mock_server, url};
use crate::support::raw_server::RawServer;

/// Gives tokens that live 10 s by the test's clock, and counts what was asked.
#[derive(Default)]
struct Grantor {
    clock: Mutex<Option<Arc<ManualClock>>>,
    given: Mutex<HashMap<String, DateTime<Utc>>>,
    asked: AtomicUsize,
    resource_requests: AtomicUsize,
    /// The answer to the next token requests, in place of a token.
    refusal: Mutex<Option<ResponseTemplate>>,
}

impl Grantor {
    fn now(&self) -> DateTime<Utc> {
        self.clock.lock().unwrap().as_ref().unwrap().now()
    }

    fn token(&self) -> ResponseTemplate {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(refusal) = &*self.refusal.lock().unwrap() {
            return refusal.clone();
        }
        let token = format!("t0ken-{number}");
        self.given.lock().unwrap().insert(token.clone(), self.now() + TimeDelta::seconds(10));
        let answer = serde_json::json!({ "access_token": token, "token_type": "bearer", "expires_in": 10 });
        ResponseTemplate::new(200).set_body_json(answer)
    }

    fn resource(&self, request: &Request) -> ResponseTemplate {
        self.resource_requests.fetch_add(1, Ordering::SeqCst);
        let shown = request.headers.get("authorization").and_then(|shown| shown.to_str().ok()).unwrap_or_default();
        let token = shown.strip_prefix("Bearer ").unwrap_or_default();
        let lives = self.given.lock().unwrap().get(token).is_some_and(|end| self.now() < *end);
        if lives { ResponseTemplate::new(200).set_body_string("x") } else { ResponseTemplate::new(401) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn resource_requests(&self) -> usize {
        self.resource_requests.load(Ordering::SeqCst)
    }

    fn revoke_all(&self) {
        self.given.lock().unwrap().clear();
    }

    fn refuse(&self, with: ResponseTemplate) {
        *self.refusal.lock().unwrap() = Some(with);
    }

    fn give_again(&self) {
        *self.refusal.lock().unwrap() = None;
    }
}

/// An upstream with tokens, at `/k`, and its token endpoint on another origin.
struct Stage {
    upstream: Configured,
    grantor: Arc<Grantor>,
    resources: MockServer,
    _tokens: MockServer,
}

impl Stage {
    async fn set() -> Self {
        let (resources, tokens) = (mock_server().await, mock_server().await);
        let grantor = Arc::new(Grantor::default());
        let asked = grantor.clone();
        let asked = move |_: &Request| asked.token();
        Mock::given(method("POST")).and(path("/token")).respond_with(asked).mount(&tokens).await;
        let reached = grantor.clone();
        let reached = move |request: &Request| reached.resource(request);
        Mock::given(method("GET")).and(path("/k")).respond_with(reached).mount(&resources).await;
        let upstream = Configured::with(&resources.uri(), &oauth(&tokens.uri(), ""));
        *grantor.clock.lock().unwrap() = Some(upstream.clock.clone());
        Self { upstream, grantor, resources, _tokens: tokens }
    }

    async fn ask(&self) -> headpond::domain::observation::Observation {
        self.upstream.ask(&url(&self.resources, "/k")).await
    }

    /// Asks so many times at once; all must bring the resource.
    async fn ask_at_once(&self, times: usize) {
        for observation in join_all((0..times).map(|_| self.ask())).await {
            assert_eq!(body(&observation), b"x");
        }
    }

    fn wait(&self, seconds: u64) {
        self.upstream.clock.advance(Duration::from_secs(seconds));
    }
}

fn oauth(origin: &str, more: &str) -> String {
    format!("auth.oauth2 = {{ token_url = '{origin}/token', client_id = 'me', client_secret = 's3cret' {more} }}")
}

#[tokio::test]
async fn two_hundred_at_once_ask_for_one_token_in_each_life() {
    let stage = Stage::set().await;
    for lives in 1..=3 {
        stage.ask_at_once(200).await;
        assert_eq!(stage.grantor.asked(), lives, "one for all");
        stage.wait(7);
        stage.ask_at_once(20).await;
        assert_eq!(stage.grantor.asked(), lives, "as long as it lives");
        // A fifth of the life is left, and the next one is asked for.
        stage.wait(1);
    }
    assert_eq!(stage.grantor.resource_requests(), 660, "none was refused");
}

#[tokio::test]
async fn a_token_is_asked_for_as_the_standard_says() {
    let sent = "grant_type=client_credentials&scope=read+all&audience=https%3A%2F%2Fapi.example";
    // me%3Ayou:s3+cr%C3%A9t, each encoded before they are joined
    let basic = "Basic bWUlM0F5b3U6czMrY3IlQzMlQTl0";
    for (more, form, authorization) in [
        ("", sent.to_owned(), Some(basic)),
        (", secret_in = 'body'", format!("{sent}&client_id=me%3Ayou&client_secret=s3+cr%C3%A9t"), None),
    ] {
        let server = mock_server().await;
        let mut asked = Mock::given(method("POST")).and(path("/token")).and(body_string(form));
        if let Some(authorization) = authorization {
            asked = asked.and(header("authorization", authorization));
        }
        let given = ResponseTemplate::new(200).set_body_string(r#"{"access_token":"t","token_type":"Bearer"}"#);
        asked.respond_with(given).expect(1).mount(&server).await;
        let resource = Mock::given(path("/k")).and(header("authorization", "Bearer t"));
        resource.respond_with(ResponseTemplate::new(200).set_body_string("x")).expect(1).mount(&server).await;
        let auth = oauth(&server.uri(), &format!(", scope = 'read all', audience = 'https://api.example' {more}"));
        let upstream = Configured::with(&server.uri(), &auth.replace("'me'", "'me:you'").replace("s3cret", "s3 crét"));
        let gate = TestGate::default();
        let exchange = upstream.exchange(&url(&server, "/k"), None, &gate).await.unwrap();
        assert_eq!(body(&exchange.observation), b"x");
        assert_eq!(gate.hops(), 1, "the endpoint is on the upstream's own origin, so its request is counted");
        let requests = server.received_requests().await.unwrap();
        assert_eq!(requests[0].headers.contains_key("authorization"), authorization.is_some());
        assert!(!format!("{:?} {exchange:?}", upstream.config).contains("s3 cr"));
    }
}

#[tokio::test]
async fn a_revoked_token_is_replaced_once_for_all_who_were_refused() {
    let stage = Stage::set().await;
    stage.ask_at_once(1).await;
    stage.grantor.revoke_all();
    let gate = TestGate::default();
    let exchange = stage.upstream.exchange(&url(&stage.resources, "/k"), None, &gate).await.unwrap();
    assert_eq!(body(&exchange.observation), b"x");
    assert_eq!((stage.grantor.asked(), stage.grantor.resource_requests()), (2, 3));
    assert_eq!(gate.hops(), 1, "the second request takes a token of its own");
    stage.grantor.revoke_all();
    stage.ask_at_once(50).await;
    assert_eq!(stage.grantor.asked(), 3);
}

#[tokio::test]
async fn a_second_401_is_a_failure_and_the_next_ones_ask_no_more_than_once() {
    let stage = Stage::set().await;
    stage.ask_at_once(1).await;
    // Whatever is given now is good for nothing.
    let useless = ResponseTemplate::new(200).set_body_string(r#"{"access_token":"useless","expires_in":3600}"#);
    stage.grantor.refuse(useless);
    stage.grantor.revoke_all();
    let refused = stage.ask().await;
    assert_eq!((kind(&refused), failure(&refused).status), (FailureKind::ClientError, Some(401)));
    assert_eq!(failure(&refused).detail, "the upstream refused a new access token too (401)");
    assert_eq!((stage.grantor.asked(), stage.grantor.resource_requests()), (2, 3), "one token more, one request more");
    let refused = stage.ask().await;
    assert_eq!(failure(&refused).detail, "the upstream refused the request (401)");
    assert_eq!((stage.grantor.asked(), stage.grantor.resource_requests()), (2, 4), "it would be refused again");
    stage.wait(60);
    stage.grantor.give_again();
    stage.ask_at_once(1).await;
    assert_eq!(stage.grantor.asked(), 3, "after a minute it is tried once more");
}

#[tokio::test]
async fn a_token_endpoint_that_gives_none_is_named_and_left_alone_for_a_while() {
    let html = ResponseTemplate::new(200).set_body_raw("<html>s3cret</html>", "text/html");
    let client =
        ResponseTemplate::new(401).set_body_string(r#"{"error":"invalid_client","error_description":"s3cret"}"#);
    let huge = ResponseTemplate::new(200).set_body_bytes(vec![b' '; 100_000]);
    let elsewhere = ResponseTemplate::new(307).insert_header("location", "/elsewhere?s3cret");
    for (answer, said) in [
        (html, "it answers with a page, not with JSON"),
        (client, "it answers with status 401, invalid_client"),
        (ResponseTemplate::new(500).set_body_string("s3cret"), "it answers with status 500"),
        (huge, "the body is larger than max_body, 65536 bytes"),
        (elsewhere, "it answers with status 307"),
    ] {
        let stage = Stage::set().await;
        stage.grantor.refuse(answer);
        for observation in join_all((0..20).map(|_| stage.ask())).await {
            assert_eq!(kind(&observation), FailureKind::Credentials);
            assert!(failure(&observation).is_outage(), "nothing can be said of the resource");
            let expected = format!("no access token could be had of the token endpoint: {said}");
            assert_eq!(failure(&observation).detail, expected);
        }
        assert_eq!((stage.grantor.asked(), stage.grantor.resource_requests()), (1, 0), "once for all");
        stage.wait(1);
        assert_eq!(kind(&stage.ask().await), FailureKind::Credentials);
        assert_eq!(stage.grantor.asked(), 2);
        stage.grantor.give_again();
        stage.wait(1);
        assert_eq!(kind(&stage.ask().await), FailureKind::Credentials, "the wait doubles");
        stage.wait(1);
        stage.ask_at_once(1).await;
    }
}

#[tokio::test]
async fn a_token_endpoint_that_asks_for_patience_has_it() {
    let stage = Stage::set().await;
    stage.grantor.refuse(ResponseTemplate::new(503).insert_header("retry-after", "120"));
    stage.ask().await;
    stage.grantor.give_again();
    stage.wait(119);
    assert_eq!(kind(&stage.ask().await), FailureKind::Credentials);
    stage.wait(1);
    stage.ask_at_once(1).await;
    assert_eq!(stage.grantor.asked(), 2);
}

#[tokio::test]
async fn a_token_that_can_not_be_replaced_in_time_is_used_to_its_end() {
    let stage = Stage::set().await;
    stage.ask_at_once(1).await;
    stage.grantor.refuse(ResponseTemplate::new(500));
    stage.wait(8);
    stage.ask_at_once(10).await;
    assert_eq!(stage.grantor.asked(), 2);
    stage.wait(2);
    assert_eq!(kind(&stage.ask().await), FailureKind::Credentials);
}

#[tokio::test]
async fn a_token_endpoint_that_hangs_or_is_not_there_is_a_failure_before_the_gate() {
    let hanging = RawServer::start(async |connection| connection.stall().await).await;
    let origin = hanging.url("/").origin().ascii_serialization();
    for (origin, said) in [(origin.as_str(), "it did not answer within 300ms"), ("http://127.0.0.1:9", "no connection")]
    {
        let upstream = Configured::with("http://127.0.0.1:9", &format!("timeout = '300ms'\n{}", oauth(origin, "")));
        let exchange = upstream.exchange(&"http://127.0.0.1:9/k".parse().unwrap(), None, &OpenGate).await.unwrap();
        assert_eq!(kind(&exchange.observation), FailureKind::Credentials);
        assert!(failure(&exchange.observation).detail.contains(said), "{:?}", exchange.observation);
        assert_eq!(exchange.status, None);
    }
}

#[tokio::test]
async fn who_gives_up_waiting_leaves_the_answer_to_others() {
    let resources = mock_server().await;
    Mock::given(header("authorization", "Bearer t0k"))
        .respond_with(ResponseTemplate::new(200).set_body_string("x"))
        .mount(&resources)
        .await;
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (was_asked, may_answer) = (asked.clone(), answer.clone());
    let tokens = RawServer::start(move |mut connection| {
        let (asked, answer) = (asked.clone(), answer.clone());
        async move {
            connection.request().await;
            asked.notify_one();
            answer.notified().await;
            connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{\"access_token\":\"t0k\"}").await;
            connection.stall().await;
        }
    })
    .await;
    let upstream = Configured::with(&resources.uri(), &oauth(&tokens.url("/").origin().ascii_serialization(), ""));
    let url = url(&resources, "/k");
    tokio::select! {
        observation = upstream.ask(&url) => panic!("there is no token yet: {observation:?}"),
        () = was_asked.notified() => {}
    }
    may_answer.notify_one();
    assert_eq!(body(&upstream.ask(&url).await), b"x");
    assert_eq!(tokens.requests().len(), 1, "the request went on when its asker was gone");
}
