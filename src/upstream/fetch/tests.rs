//! Guards that let a part of loopback pass: what a test can reach.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::clock::SystemClock;
use crate::upstream::gate::OpenGate;
use crate::upstream::guard::Guard;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const METADATA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254));

/// Answers each connection's first request with these bytes. Returns its port.
async fn saying(answer: String) -> u16 {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(connection.read_u8().await.unwrap());
            }
            connection.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

async fn ask(url: &str, guard: Guard) -> Observation {
    let settings = RequestSettings {
        method: Method::GET,
        body: None,
        redirect_hosts: ["169.254.169.254", "localhost:9"].map(|host| RedirectHost::new(host).unwrap()).into(),
        headers: HeaderMap::new(),
        user_agent: HeaderValue::from_static("test/1"),
        limit_phrases: Vec::new(),
        timeout: Duration::from_secs(20),
        max_body: 1024,
    };
    let clients = Clients::for_tests(guard);
    let fetcher = Fetcher { clients, auth: Auth::Fixed(Shown::Nothing), clock: Arc::new(SystemClock::new()) };
    let url = url.parse().unwrap();
    let request = FetchRequest { url: &url, body: None, settings: &settings, validators: None };
    fetcher.fetch(&request, &OpenGate).await.unwrap()
}

fn is_blocked(observation: &Observation) -> bool {
    let Seen::Unreachable { failure } = &observation.seen else { return false };
    assert_eq!(failure.detail, "the host is not asked: block_private_networks is set, and it has no public address");
    failure.kind == FailureKind::Blocked
}

#[tokio::test]
async fn a_redirect_to_a_private_address_or_to_the_name_of_one_is_not_followed() {
    for to in ["http://169.254.169.254/latest/meta-data/", "http://0xa9fea9fe/", "http://localhost:9/"] {
        let port = saying(format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")).await;
        let guard = Guard::for_tests(|| vec![METADATA]);
        assert!(is_blocked(&ask(&format!("http://127.0.0.1:{port}/"), guard).await), "{to}");
    }
}

#[tokio::test]
async fn a_name_that_stands_for_something_else_the_second_time_is_not_asked_there() {
    let port = saying("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx".into()).await;
    let looked_up = Arc::new(AtomicUsize::new(0));
    let count = looked_up.clone();
    let guard = Guard::for_tests(move || match count.fetch_add(1, Ordering::SeqCst) {
        // The private one first, so that an unchecked client would take it.
        0 => vec![METADATA, HERE],
        _ => vec![METADATA],
    });
    let url = format!("http://rebinding.example:{port}/");
    assert!(matches!(ask(&url, guard.clone()).await.seen, Seen::Content { .. }));
    assert!(is_blocked(&ask(&url, guard).await));
    assert_eq!(looked_up.load(Ordering::SeqCst), 2, "each connection asks once, and goes where it was told");
}
