//! What an upstream is shown, and who else is not.

use headpond::upstream::{OpenGate, shown};
use wiremock::matchers::{any, header, path, query_param};
use wiremock::{Mock, MockBuilder, ResponseTemplate};

use super::configured::Configured;
use super::{body, mock_server, url};
use crate::support::raw_server::RawServer;

/// `me:s3cret`
const BASIC: &str = "Basic bWU6czNjcmV0";

#[tokio::test]
async fn each_way_to_authenticate_is_sent_also_where_a_redirect_on_the_same_origin_leads() {
    type With = fn(MockBuilder) -> MockBuilder;
    let ways: [(&str, With); 4] = [
        ("{ bearer = 's3cret' }", |mock| mock.and(header("authorization", "Bearer s3cret"))),
        ("{ basic = { user = 'me', password = 's3cret' } }", |mock| mock.and(header("authorization", BASIC))),
        ("{ header = { name = 'X-Api-Key', value = 's3cret' } }", |mock| mock.and(header("x-api-key", "s3cret"))),
        ("{ query = { name = 'api_key', value = 's3cret&' } }", |mock| mock.and(query_param("api_key", "s3cret&"))),
    ];
    for (auth, with) in ways {
        let server = mock_server().await;
        // Some repeat the query in what they redirect to.
        let moved = ResponseTemplate::new(302).insert_header("location", "/b?x=1&api_key=other&y=%2C");
        with(Mock::given(path("/k"))).respond_with(moved).expect(1).mount(&server).await;
        let there = with(Mock::given(path("/b"))).and(query_param("x", "1")).and(query_param("y", ","));
        there.respond_with(ResponseTemplate::new(200).set_body_string("x")).expect(1).mount(&server).await;
        let upstream = Configured::with(&server.uri(), &format!("auth = {auth}"));
        let exchange = upstream.exchange(&url(&server, "/k"), None, &OpenGate).await.unwrap();
        assert_eq!(body(&exchange.observation), b"x", "{auth}");
        let authorized = auth.contains("bearer") || auth.contains("basic");
        assert_eq!(exchange.observation.via.authorized, authorized, "{auth}");
        let said = format!("{:?} {exchange:?} {:?}", upstream.config, shown(&exchange.sent).collect::<Vec<_>>());
        assert!(!said.contains("s3cret") && !said.contains("bWU6"), "{said}");
    }
}

#[tokio::test]
async fn a_parameter_that_only_the_redirect_has_makes_no_loop_look_like_a_way() {
    let server = mock_server().await;
    let moved = ResponseTemplate::new(302).insert_header("location", "/k?api_key=s3cret");
    Mock::given(any()).respond_with(moved).expect(1).mount(&server).await;
    let upstream = Configured::with(&server.uri(), "auth = { query = { name = 'api_key', value = 's3cret' } }");
    let observation = upstream.ask(&url(&server, "/k")).await;
    assert_eq!(super::failure(&observation).detail, "the upstream redirects in a loop");
}

#[tokio::test]
async fn a_401_to_what_is_always_the_same_is_not_repeated() {
    let server = mock_server().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(401)).expect(1).mount(&server).await;
    let upstream = Configured::with(&server.uri(), "auth = { bearer = 's3cret' }");
    assert_eq!(super::failure(&upstream.ask(&url(&server, "/k")).await).status, Some(401));
}

#[tokio::test]
async fn a_proxy_is_asked_in_place_of_the_host_and_shown_its_password() {
    let proxy = RawServer::saying("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx").await;
    let address = proxy.url("/").authority().to_owned();
    let upstream = Configured::with("http://api.invalid", &format!("proxy = 'http://me:s%33cret@{address}'"));
    let observation = upstream.ask(&"http://api.invalid/k".parse().unwrap()).await;
    assert_eq!(body(&observation), b"x");
    let request = String::from_utf8(proxy.requests().remove(0)).unwrap();
    assert!(request.starts_with("GET http://api.invalid/k HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("proxy-authorization: {BASIC}\r\n")), "{request}");
    assert!(!format!("{:?}", upstream.config).contains("bWU6"), "{:?}", upstream.config);
}

#[tokio::test]
async fn https_through_a_proxy_is_a_tunnel_that_alone_sees_the_password() {
    let proxy = RawServer::saying("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n").await;
    let address = proxy.url("/").authority().to_owned();
    let upstream = Configured::with(
        "https://api.invalid",
        &format!("proxy = 'http://me:s3cret@{address}'\nauth = {{ bearer = 't' }}"),
    );
    let failure = super::failure(&upstream.ask(&"https://api.invalid/k".parse().unwrap()).await).detail.clone();
    let request = String::from_utf8(proxy.requests().remove(0)).unwrap();
    assert!(request.starts_with("CONNECT api.invalid:443 HTTP/1.1\r\n"), "{request}");
    assert!(request.to_lowercase().contains(&format!("proxy-authorization: {BASIC}").to_lowercase()), "{request}");
    assert!(!request.contains("Bearer"), "{request}");
    assert!(!failure.contains("s3cret") && !failure.contains("me:"), "{failure}");
}
