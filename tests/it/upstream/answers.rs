//! What each answer is taken for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use headpond::clock::{Clock, ManualClock};
use headpond::config::RequestSettings;
use headpond::domain::failure::FailureKind;
use headpond::domain::observation::Seen;
use headpond::upstream::{FetchRequest, Fetcher, OpenGate};
use wiremock::matchers::any;
use wiremock::{Mock, ResponseTemplate};

use super::{ask, ask_with, body, failure, fetcher, kind, mock_server, settings, url};
use crate::support::gzip::{GZIP, gzip_bomb};
use crate::support::raw_server::RawServer;

#[tokio::test]
async fn each_status_has_its_meaning() {
    use FailureKind::{ClientError, NotFound, RateLimited, Redirect, ServerError, UnexpectedStatus};
    for (status, kind) in [
        (201, UnexpectedStatus),
        (204, UnexpectedStatus),
        (206, UnexpectedStatus),
        (300, UnexpectedStatus),
        (302, Redirect),
        (305, UnexpectedStatus),
        (400, ClientError),
        (401, ClientError),
        (404, NotFound),
        (410, NotFound),
        (429, RateLimited),
        (451, ClientError),
        (500, ServerError),
        (503, ServerError),
        (599, ServerError),
        (999, UnexpectedStatus),
    ] {
        let server = mock_server().await;
        let answer = ResponseTemplate::new(status).insert_header("retry-after", "7");
        Mock::given(any()).respond_with(answer).expect(1).mount(&server).await;
        let observation = ask(&url(&server, "/")).await;
        let Seen::Refused { status: seen, headers, failure } = observation.seen else { panic!("{status}") };
        assert_eq!((seen.as_u16(), failure.status, failure.kind), (status, Some(status), kind));
        assert_eq!(headers["retry-after"], "7");
    }
    for status in [200, 203] {
        let server = mock_server().await;
        Mock::given(any()).respond_with(ResponseTemplate::new(status).set_body_string("x")).mount(&server).await;
        let observation = ask(&url(&server, "/")).await;
        assert_eq!((body(&observation), observation.via.transformed), (&b"x"[..], status == 203));
    }
}

#[tokio::test]
async fn interim_answers_are_not_the_answer() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(body(&ask(&RawServer::saying(answer).await.url("/")).await), b"x");
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";
    let observation = ask(&RawServer::saying_and_stalling(switch).await.url("/")).await;
    assert_eq!(kind(&observation), FailureKind::UnexpectedStatus);
}

#[tokio::test]
async fn what_an_error_page_says_is_not_repeated() {
    let server = mock_server().await;
    let answer = ResponseTemplate::new(403).set_body_string("your key s3cret is not valid");
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let detail = failure(&ask(&url(&server, "/?key=s3cret")).await).detail.clone();
    assert_eq!(detail, "the upstream refused the request (403)");
}

#[tokio::test]
async fn times_are_those_of_the_clock_when_sending_and_when_all_has_come() {
    let server = mock_server().await;
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let moving = clock.clone();
    let answer = move |_: &wiremock::Request| {
        moving.advance(Duration::from_secs(3));
        ResponseTemplate::new(200).set_body_string("x")
    };
    Mock::given(any()).respond_with(answer).mount(&server).await;
    let began = clock.now();
    let (settings, url) = (settings(), url(&server, "/"));
    let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
    let observation = Fetcher::new(clock.clone()).unwrap().fetch(&request, &OpenGate).await.unwrap();
    assert_eq!(observation.requested_at, began);
    assert_eq!(observation.answered_at, clock.now());
    assert!(observation.answered_at > began);
}

/// "hello" in each encoding, spelt out so that no encoder is needed.
const BROTLI: &[u8] = b"\x0b\x02\x80hello\x03";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello";

fn encoded(encoding: &str, body: &[u8]) -> ResponseTemplate {
    ResponseTemplate::new(200).insert_header("content-encoding", encoding).set_body_bytes(body)
}

#[tokio::test]
async fn compressed_bodies_are_decompressed() {
    for (encoding, bytes) in [("gzip", GZIP), ("br", BROTLI), ("zstd", ZSTD), ("identity", b"hello")] {
        let server = mock_server().await;
        Mock::given(any()).respond_with(encoded(encoding, bytes)).mount(&server).await;
        assert_eq!(body(&ask(&url(&server, "/")).await), b"hello", "{encoding}");
    }
}

#[tokio::test]
async fn a_body_that_can_not_be_decompressed_is_no_content() {
    let bad_checksum = [&GZIP[..GZIP.len() - 8], &[0; 8]].concat();
    for (encoding, bytes) in [
        ("gzip", &b"hello"[..]),
        ("gzip", &bad_checksum),
        ("gzip", &GZIP[..14]),
        ("gzip", &GZIP[..GZIP.len() - 1]),
        ("br", &BROTLI[..5]),
        ("br", b"hello"),
        ("zstd", &ZSTD[..11]),
        ("zstd", b"hello"),
        ("deflate", b"hello"),
        ("gzip, br", GZIP),
    ] {
        let server = mock_server().await;
        Mock::given(any()).respond_with(encoded(encoding, bytes)).mount(&server).await;
        let observation = ask(&url(&server, "/")).await;
        assert_eq!(kind(&observation), FailureKind::Truncated, "{encoding} {}", bytes.escape_ascii());
        assert_eq!(failure(&observation).status, Some(200));
        assert!(failure(&observation).detail.starts_with("the body can't be decompressed: "));
    }
}

#[tokio::test]
async fn the_cap_is_the_last_size_that_is_taken() {
    for (size, fits) in [(1000, true), (1001, false)] {
        let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{}", "x".repeat(size));
        let chunked = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f4\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(500),
            size - 500,
            "x".repeat(size - 500)
        );
        for answer in [whole, chunked] {
            let server = RawServer::saying(answer).await;
            let settings = RequestSettings { max_body: 1000, ..settings() };
            let observation = ask_with(&server.url("/"), &settings, None).await;
            if fits {
                assert_eq!(body(&observation).len(), size);
            } else {
                assert!(matches!(observation.seen, Seen::Refused { .. }));
                assert_eq!(kind(&observation), FailureKind::TooLarge);
                assert_eq!(failure(&observation).detail, "the body is larger than max_body, 1000 bytes");
            }
        }
    }
}

#[tokio::test]
async fn a_body_that_is_announced_as_too_large_is_not_waited_for() {
    let huge = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
    let server = RawServer::saying_and_stalling(huge).await;
    assert_eq!(kind(&ask(&server.url("/")).await), FailureKind::TooLarge);
}

#[tokio::test]
async fn a_gzip_bomb_is_too_large() {
    let bomb = gzip_bomb(64 * 1024 * 1024);
    assert!((bomb.len() as u64) < settings().max_body);
    let server = mock_server().await;
    Mock::given(any()).respond_with(encoded("gzip", &bomb)).mount(&server).await;
    assert_eq!(kind(&ask(&url(&server, "/")).await), FailureKind::TooLarge);
}

#[tokio::test]
async fn reading_stops_at_the_cap_though_there_is_no_end_to_what_comes() {
    // A zstd frame of which every 4 bytes stand for 128 KiB.
    let server = RawServer::start(async |mut connection| {
        connection.request().await;
        connection.say(b"HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\n\r\n\x28\xb5\x2f\xfd\0\x38").await;
        while connection.say(b"\x02\0\x10\0").await {}
    })
    .await;
    assert_eq!(kind(&ask(&server.url("/")).await), FailureKind::TooLarge);
}

#[tokio::test]
async fn an_error_page_without_end_does_not_hold_up_the_answer() {
    for stalls in [true, false] {
        let server = RawServer::start(move |mut connection| async move {
            connection.request().await;
            connection.say(b"HTTP/1.1 500 Oh\r\n\r\nx").await;
            while !stalls && connection.say(&[b'x'; 1024]).await {}
            connection.stall().await;
        })
        .await;
        let settings = RequestSettings { timeout: Duration::from_secs(1), ..settings() };
        let observation = ask_with(&server.url("/"), &settings, None).await;
        assert_eq!(kind(&observation), FailureKind::ServerError);
    }
}

#[tokio::test]
async fn a_connection_is_used_again_after_small_refusals() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counting = connections.clone();
    let server = RawServer::start(move |mut connection| {
        counting.fetch_max(connection.number + 1, Ordering::SeqCst);
        async move {
            while connection.request().await {
                let page = "x".repeat(2000);
                let answer = format!("HTTP/1.1 404 No\r\nContent-Length: {}\r\n\r\n{page}", page.len());
                connection.say(answer.as_bytes()).await;
            }
        }
    })
    .await;
    let (fetcher, settings, url) = (fetcher(), settings(), server.url("/"));
    for _ in 0..3 {
        let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
        assert_eq!(kind(&fetcher.fetch(&request, &OpenGate).await.unwrap()), FailureKind::NotFound);
    }
    assert_eq!(server.requests().len(), 3);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
