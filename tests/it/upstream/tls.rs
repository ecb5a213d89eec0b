//! Secure connections.

use std::time::Duration;

use headpond::config::RequestSettings;
use headpond::domain::failure::FailureKind;
use headpond::domain::observation::Observation;
use url::Url;

use super::configured::Configured;
use super::{ask, ask_with, body, failure, kind, settings};
use crate::support::raw_server::{
    CERTIFICATE, CLIENT, CLIENT_KEY, RawServer, expired_tls_server, tls_server, tls_server_for,
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// Asks with these settings of the upstream, besides the server's own certificate as an authority.
async fn ask_trusting(url: &Url, settings: &str) -> Observation {
    let files = tempfile::tempdir().unwrap();
    for (name, pem) in [("ca.pem", CERTIFICATE), ("client.pem", CLIENT), ("client.key", CLIENT_KEY)] {
        std::fs::write(files.path().join(name), pem).unwrap();
    }
    let settings = settings.replace("DIR", files.path().to_str().unwrap());
    let upstream = Configured::with(
        &url.origin().ascii_serialization(),
        &format!("ca_certificates = '{}/ca.pem'\n{settings}", files.path().display()),
    );
    upstream.ask(url).await
}

#[tokio::test]
async fn a_server_with_a_trusted_certificate_is_asked() {
    let url = format!("https://localhost:{}/", tls_server(ANSWER).port()).parse().unwrap();
    assert_eq!(body(&ask_trusting(&url, "").await), b"hello");
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_server_that_asks_for_one() {
    let url = format!("https://localhost:{}/", tls_server_for(CLIENT, ANSWER).port()).parse().unwrap();
    let certificate = "client_certificate = { certificate = 'DIR/client.pem', key = 'DIR/client.key' }";
    assert_eq!(body(&ask_trusting(&url, certificate).await), b"hello");
    let without = ask_trusting(&url, "").await;
    assert_eq!(kind(&without), FailureKind::Tls, "{}", failure(&without).detail);
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_a_failure_of_tls() {
    let url = format!("https://localhost:{}/?key=s3cret", tls_server(ANSWER).port()).parse().unwrap();
    let observation = ask(&url).await;
    assert_eq!(kind(&observation), FailureKind::Tls);
    assert_eq!(
        failure(&observation).detail,
        "no secure connection could be made: invalid peer certificate: UnknownIssuer"
    );
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_failure_of_tls() {
    let url = format!("https://127.0.0.1:{}/", tls_server(ANSWER).port()).parse().unwrap();
    assert_eq!(kind(&ask_trusting(&url, "").await), FailureKind::Tls);
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_a_failure_of_tls_that_says_so() {
    let url = format!("https://localhost:{}/", expired_tls_server(ANSWER).port()).parse().unwrap();
    let observation = ask_trusting(&url, "").await;
    assert_eq!(kind(&observation), FailureKind::Tls);
    assert_eq!(
        failure(&observation).detail,
        "no secure connection could be made: the server's certificate expired at 2021-01-01T00:00:00+00:00"
    );
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_a_failure_of_tls() {
    let plain = RawServer::start(async |mut connection| {
        connection.say(b"HTTP/1.1 400 This is a plain port\r\n\r\n").await;
        connection.stall().await;
    })
    .await;
    let closing = RawServer::start(async |connection| drop(connection)).await;
    for server in [plain, closing] {
        let mut url = server.url("/");
        url.set_scheme("https").unwrap();
        let observation = ask(&url).await;
        assert_eq!(kind(&observation), FailureKind::Tls, "{}", failure(&observation).detail);
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_times_out_while_connecting() {
    let server = RawServer::start(async |connection| connection.stall().await).await;
    let mut url = server.url("/");
    url.set_scheme("https").unwrap();
    let settings = RequestSettings { timeout: Duration::from_millis(500), ..settings() };
    let observation = ask_with(&url, &settings, None).await;
    assert_eq!(kind(&observation), FailureKind::Timeout);
    assert_eq!(failure(&observation).detail, "the timeout of 500ms passed while connecting");
}
