//! Redirects: hop by hop, on the same origin, each for a token of its own.

use headpond::config::RequestSettings;
use headpond::domain::failure::FailureKind;
use headpond::domain::observation::Seen;
use headpond::domain::validators::Validators;
use headpond::upstream::{FetchRequest, Hop, OpenGate};
use http::{HeaderValue, StatusCode};
use wiremock::matchers::{any, header, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::gates::TestGate;
use super::{ask, body, failure, fetcher, kind, mock_server, settings, url};

async fn redirect(server: &MockServer, status: u16, from: &str, to: &str) {
    let answer = ResponseTemplate::new(status).insert_header("location", to).set_body_string("moved");
    Mock::given(path(from)).respond_with(answer).expect(1).mount(server).await;
}

async fn content(server: &MockServer, at: &str) {
    Mock::given(path(at)).respond_with(ResponseTemplate::new(200).set_body_string("x")).expect(1).mount(server).await;
}

#[tokio::test]
async fn all_redirects_on_the_same_origin_are_followed() {
    for status in [301, 302, 303, 307, 308] {
        let server = mock_server().await;
        redirect(&server, status, "/from", "to?key=s3cret").await;
        content(&server, "/to").await;
        let (settings, url) = (settings(), url(&server, "/from"));
        let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
        let exchange = fetcher().exchange(&request, &OpenGate).await.unwrap();
        assert_eq!(body(&exchange.observation), b"x");
        let hop = Hop { status: StatusCode::from_u16(status).unwrap(), origin: None, path: "/to".into() };
        assert_eq!((exchange.redirects, exchange.status), (vec![hop], Some(StatusCode::OK)));
    }
}

#[tokio::test]
async fn where_a_resource_is_for_good_is_told_without_the_query() {
    for (status, moved_to) in [(301, Some("/to")), (308, Some("/to")), (302, None), (303, None), (307, None)] {
        let server = mock_server().await;
        redirect(&server, status, "/from", "to?key=s3cret").await;
        content(&server, "/to").await;
        let observation = ask(&url(&server, "/from")).await;
        assert_eq!(observation.via.moved_to.as_deref(), moved_to, "{status}");
    }
}

#[tokio::test]
async fn validators_and_configured_headers_go_along() {
    let server = mock_server().await;
    redirect(&server, 302, "/from", "/to").await;
    Mock::given(path("/to"))
        .and(header("if-none-match", "\"v1\""))
        .and(header("authorization", "Bearer x"))
        .and(header("user-agent", "headpond-test/1"))
        .respond_with(ResponseTemplate::new(304))
        .expect(1)
        .mount(&server)
        .await;
    let mut settings = settings();
    settings.headers.insert("authorization", HeaderValue::from_static("Bearer x"));
    let validators = Validators { etag: Some("\"v1\"".into()), last_modified: None };
    let url = url(&server, "/from");
    let request = FetchRequest { url: &url, settings: &settings, body: None, validators: Some(&validators) };
    let observation = fetcher().fetch(&request, &OpenGate).await.unwrap();
    assert!(matches!(observation.seen, Seen::NotModified { .. }), "{observation:?}");
    let requests = server.received_requests().await.unwrap();
    assert!(requests.iter().all(|request| !request.headers.contains_key("referer")));
}

#[tokio::test]
async fn each_hop_takes_a_token() {
    let server = mock_server().await;
    for (from, to) in [("/0", "/1"), ("/1", "/2"), ("/2", "/3"), ("/3", "/4"), ("/4", "/5")] {
        redirect(&server, 307, from, to).await;
    }
    content(&server, "/5").await;
    let (settings, url) = (settings(), url(&server, "/0"));
    let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
    let gate = TestGate::default();
    assert_eq!(body(&fetcher().fetch(&request, &gate).await.unwrap()), b"x");
    assert_eq!(gate.hops(), 5);
}

#[tokio::test]
async fn the_sixth_redirect_is_refused() {
    let server = mock_server().await;
    for hop in 0..6 {
        redirect(&server, 302, &format!("/{hop}"), &format!("/{}", hop + 1)).await;
    }
    Mock::given(path("/6")).respond_with(ResponseTemplate::new(200)).expect(0).mount(&server).await;
    let observation = ask(&url(&server, "/0")).await;
    assert_eq!((kind(&observation), failure(&observation).status), (FailureKind::Redirect, Some(302)));
}

#[tokio::test]
async fn a_loop_is_refused_when_it_closes() {
    let server = mock_server().await;
    redirect(&server, 302, "/a", "/b").await;
    redirect(&server, 302, "/b", "/a").await;
    let observation = ask(&url(&server, "/a")).await;
    assert_eq!(kind(&observation), FailureKind::Redirect);
    assert_eq!(failure(&observation).detail, "the upstream redirects in a loop");
}

#[tokio::test]
async fn a_redirect_to_itself_is_asked_for_once() {
    for location in ["/a", "", "#part", "./a"] {
        let server = mock_server().await;
        let answer = ResponseTemplate::new(302).insert_header("location", location);
        Mock::given(path("/a")).respond_with(answer).expect(1).mount(&server).await;
        let observation = ask(&url(&server, "/a")).await;
        assert_eq!((kind(&observation), failure(&observation).status), (FailureKind::Redirect, Some(302)));
        assert_eq!(failure(&observation).detail, "the upstream redirects in a loop", "{location:?}");
    }
}

#[tokio::test]
async fn another_origin_is_never_asked() {
    let (server, other) = (mock_server().await, mock_server().await);
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&other).await;
    redirect(&server, 301, "/from", url(&other, "/?key=s3cret").as_str()).await;
    let observation = ask(&url(&server, "/from")).await;
    let Seen::Refused { status, failure, .. } = &observation.seen else { panic!("{observation:?}") };
    assert_eq!((status.as_u16(), failure.kind), (301, FailureKind::Redirect));
    assert!(failure.detail.contains(&format!("(http at 127.0.0.1, port {})", other.address().port())));
    assert!(!failure.detail.contains("s3cret"));
}

#[tokio::test]
async fn the_timeout_covers_all_hops_together() {
    let server = mock_server().await;
    let slow = |to: &str| {
        let answer = ResponseTemplate::new(302).insert_header("location", to);
        answer.set_delay(std::time::Duration::from_millis(150))
    };
    for (from, to) in [("/0", "/1"), ("/1", "/2"), ("/2", "/3"), ("/3", "/4")] {
        Mock::given(path(from)).respond_with(slow(to)).mount(&server).await;
    }
    let settings = RequestSettings { timeout: std::time::Duration::from_millis(400), ..settings() };
    let url = url(&server, "/0");
    let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
    let observation = fetcher().fetch(&request, &OpenGate).await.unwrap();
    assert_eq!(kind(&observation), FailureKind::Timeout);
}
