//! Secure connections.

use std::sync::Arc;
use std::time::Duration;

use headpond::clock::SystemClock;
use headpond::config::RequestSettings;
use headpond::domain::failure::FailureKind;
use headpond::upstream::{FetchRequest, Fetcher, OpenGate};
use url::Url;

use super::{ask, ask_with, body, failure, kind, settings};
use crate::support::raw_server::{CERTIFICATE, RawServer, tls_server};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

async fn ask_trusting(url: &Url) -> headpond::domain::observation::Observation {
    let fetcher = Fetcher::trusting(Arc::new(SystemClock::new()), &[CERTIFICATE.to_vec()]).unwrap();
    let settings = settings();
    let request = FetchRequest { url, settings: &settings, validators: None };
    fetcher.fetch(&request, &OpenGate).await.unwrap()
}

#[tokio::test]
async fn a_server_with_a_trusted_certificate_is_asked() {
    let url = format!("https://localhost:{}/", tls_server(ANSWER).port()).parse().unwrap();
    assert_eq!(body(&ask_trusting(&url).await), b"hello");
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
    assert_eq!(kind(&ask_trusting(&url).await), FailureKind::Tls);
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
