//! What networks and servers do wrong.

use std::sync::Arc;
use std::time::Duration;

use headpond::config::RequestSettings;
use headpond::domain::failure::FailureKind;
use headpond::domain::observation::Seen;
use headpond::upstream::{FetchRequest, OpenGate};
use tokio::sync::Notify;

use super::{ask, ask_with, body, failure, fetcher, kind, settings};
use crate::support::raw_server::RawServer;

#[tokio::test]
async fn a_closed_port_is_a_failure_to_connect() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let observation = ask(&format!("http://{free}/?key=s3cret").parse().unwrap()).await;
    assert!(matches!(observation.seen, Seen::Unreachable { .. }));
    let failure = failure(&observation);
    assert_eq!(failure.kind, FailureKind::Connect);
    assert!(failure.detail.starts_with("no connection could be made: Connection refused"), "{}", failure.detail);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_failure_of_dns() {
    let observation = ask(&"http://nonexistent.invalid/?key=s3cret".parse().unwrap()).await;
    let failure = failure(&observation);
    assert_eq!(failure.kind, FailureKind::Dns);
    assert!(failure.detail.starts_with("the host name could not be resolved: "), "{}", failure.detail);
    assert!(!failure.detail.contains("s3cret"));
}

#[tokio::test]
async fn an_answer_that_is_no_whole_http_header_is_broken() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(1_000_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-Many: 1\r\n".repeat(1000));
    for (name, answer) in [
        ("nothing", &b""[..]),
        ("garbage", b"\x16\x03\x01\0\xff\xfe garbage\r\n\r\n"),
        ("another protocol", b"220 mail.example ESMTP\r\n"),
        ("half a header", b"HTTP/1.1 200 OK\r\nContent-Ty"),
        ("a header without a colon", b"HTTP/1.1 200 OK\r\nwhat is this\r\n\r\n"),
        ("a status that is none", b"HTTP/1.1 2x0 OK\r\n\r\n"),
        ("a length that is none", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
        ("a header that is too long", long.as_bytes()),
        ("too many fields", many.as_bytes()),
    ] {
        let server = RawServer::saying(answer).await;
        let observation = ask(&server.url("/?key=s3cret")).await;
        assert!(matches!(observation.seen, Seen::Unreachable { .. }), "{name}");
        assert_eq!(kind(&observation), FailureKind::Broken, "{name}");
        assert_eq!(failure(&observation).status, None, "{name}");
        assert!(!failure(&observation).detail.contains("s3cret"), "{name}");
        assert_eq!(server.requests().len(), 1, "{name}: nothing is sent again");
    }
}

#[tokio::test]
async fn a_connection_that_is_closed_or_reset_before_any_answer_is_broken() {
    let closing = RawServer::start(async |connection| drop(connection)).await;
    let resetting = RawServer::saying_and_resetting("").await;
    for server in [closing, resetting] {
        assert_eq!(kind(&ask(&server.url("/")).await), FailureKind::Broken);
    }
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_truncated() {
    let by_length = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":1}";
    let by_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n";
    let in_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{\"a\":1}";
    let no_chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let by_close = "HTTP/1.1 200 OK\r\n\r\n{\"a\":1}";
    let compressed = "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 100\r\n\r\n\x0b\x02";
    for server in [
        RawServer::saying(by_length).await,
        RawServer::saying(compressed).await,
        RawServer::saying(by_chunk).await,
        RawServer::saying(in_chunk).await,
        RawServer::saying(no_chunk).await,
        RawServer::saying_and_resetting(by_length).await,
        RawServer::saying_and_resetting(by_close).await,
    ] {
        let observation = ask(&server.url("/")).await;
        assert!(matches!(observation.seen, Seen::Unreachable { .. }), "{observation:?}");
        let failure = failure(&observation);
        assert_eq!((failure.kind, failure.status), (FailureKind::Truncated, Some(200)));
        assert!(failure.detail.starts_with("the body broke off before its end: "), "{}", failure.detail);
    }
    let whole = RawServer::saying(by_close).await;
    assert_eq!(body(&ask(&whole.url("/")).await), b"{\"a\":1}", "an orderly close is an end too");
}

#[tokio::test]
async fn a_timeout_says_what_it_was_waiting_for() {
    let settings = RequestSettings { timeout: Duration::from_millis(500), ..settings() };
    for (answer, phase, status) in [
        ("", "while waiting for the answer's headers", None),
        ("HTTP/1.1 200 OK\r\nContent-Le", "while waiting for the answer's headers", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "while reading the body", Some(200)),
    ] {
        let server = RawServer::saying_and_stalling(answer).await;
        let observation = ask_with(&server.url("/"), &settings, None).await;
        assert!(matches!(observation.seen, Seen::Unreachable { .. }));
        let failure = failure(&observation);
        assert_eq!((failure.kind, failure.status), (FailureKind::Timeout, status));
        assert_eq!(failure.detail, format!("the timeout of 500ms passed {phase}"));
    }
}

#[tokio::test]
async fn the_timeout_is_for_all_of_it_and_not_for_each_piece() {
    let settings = RequestSettings { timeout: Duration::from_millis(200), ..settings() };
    // Something always comes before long, and never all of it.
    let server = RawServer::start(async |mut connection| {
        connection.request().await;
        connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
        let mut drips = tokio::time::interval(Duration::from_millis(20));
        while connection.say(b"x").await {
            drips.tick().await;
        }
    })
    .await;
    assert_eq!(kind(&ask_with(&server.url("/"), &settings, None).await), FailureKind::Timeout);
}

#[tokio::test]
async fn a_timeout_drops_the_connection() {
    let settings = RequestSettings { timeout: Duration::from_millis(100), ..settings() };
    let dropped = Arc::new(Notify::new());
    let notice = dropped.clone();
    let server = RawServer::start(move |mut connection| {
        let notice = notice.clone();
        async move {
            connection.request().await;
            connection.stall().await;
            notice.notify_one();
        }
    })
    .await;
    let (fetcher, url) = (fetcher(), server.url("/"));
    let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
    assert_eq!(kind(&fetcher.fetch(&request, &OpenGate).await.unwrap()), FailureKind::Timeout);
    dropped.notified().await;
}

#[tokio::test]
async fn a_request_on_a_kept_connection_that_closes_is_not_sent_again() {
    let server = RawServer::start(async |mut connection| {
        connection.request().await;
        connection.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        // The second request is read, and nothing is answered.
        connection.request().await;
    })
    .await;
    let (fetcher, settings, url) = (fetcher(), settings(), server.url("/"));
    let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
    assert_eq!(body(&fetcher.fetch(&request, &OpenGate).await.unwrap()), b"{}");
    let second = fetcher.fetch(&request, &OpenGate).await.unwrap();
    assert_eq!(kind(&second), FailureKind::Broken);
    assert_eq!(server.requests().len(), 2);
}
