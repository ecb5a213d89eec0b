//! How the server treats connections that are slow, idle, stuck or too big, and how it stops.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use headpond::api::deadline::deadline;
use headpond::config;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};

use super::pond;
use super::serving::{Served, Wire, settings, within};

const SHORT: Duration = Duration::from_millis(500);
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
/// More than the socket buffers of both ends hold.
const LARGE: usize = 64 << 20;

async fn hello_within(settings: config::Server) -> Served {
    let large = get(|| async { vec![b'x'; LARGE] });
    Served::start(Router::new().route("/", get(|| async { "hello" })).route("/large", large), settings).await
}

/// A connection that has had one answer and is idle now.
async fn idle_connection(served: &Served) -> Wire {
    let mut wire = served.connect().await;
    wire.send(REQUEST).await;
    assert_eq!(wire.answer().await.body, b"hello");
    wire
}

#[tokio::test]
async fn a_client_that_sends_half_a_header_is_cut_off() {
    let served = hello_within(config::Server { header_timeout: SHORT, ..settings() }).await;
    let mut silent = served.connect().await;
    let mut half = served.connect().await;
    half.send("GET / HTTP/1.1\r\nHost:").await;
    let mut half_of_the_second = idle_connection(&served).await;
    half_of_the_second.send("GET").await;
    for wire in [&mut silent, &mut half, &mut half_of_the_second] {
        assert_eq!(wire.closed().await, 0);
    }
}

#[tokio::test]
async fn a_header_that_comes_byte_by_byte_gains_no_time() {
    let served = hello_within(config::Server { header_timeout: SHORT, ..settings() }).await;
    let mut dripping = idle_connection(&served).await;
    dripping.send("GET / HTTP/1.1\r\nX-Filler: ").await;
    // A byte each time that nothing was heard for a while, until the server has had enough.
    within(async { while !dripping.is_closed_within(SHORT / 20).await && dripping.tries_to_send("x").await {} }).await;
}

#[tokio::test]
async fn the_connection_that_idled_longest_gives_way_to_a_new_one() {
    let served = hello_within(config::Server { max_connections: 3, ..settings() }).await;
    let mut first = idle_connection(&served).await;
    let mut silent = served.connect().await;
    let mut third = idle_connection(&served).await;
    first.send(REQUEST).await;
    assert_eq!(first.answer().await.body, b"hello");
    let mut fourth = idle_connection(&served).await;
    assert_eq!(silent.closed().await, 0, "it never asked for anything");
    let mut fifth = idle_connection(&served).await;
    assert_eq!(third.closed().await, 0);
    for wire in [&mut first, &mut fourth, &mut fifth] {
        wire.send(REQUEST).await;
        assert_eq!(wire.answer().await.body, b"hello");
    }
}

#[tokio::test]
async fn a_request_under_way_gives_way_to_nobody() {
    let slow = Slow::start(config::Server { max_connections: 1, ..settings() }).await;
    let mut first = slow.request_under_way().await;
    let mut second = slow.request_under_way().await;
    let mut third = slow.served.connect().await;
    third.send(REQUEST).await;
    slow.may_end.notify_one();
    assert_eq!(first.answer().await.body, b"finished");
    assert_eq!(first.closed().await, 0, "it is idle now, and somebody waits");
    within(slow.begun.notified()).await;
    for wire in [&mut second, &mut third] {
        slow.may_end.notify_one();
        assert_eq!(wire.answer().await.body, b"finished");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_idle_timeout() {
    let served = hello_within(config::Server { idle_timeout: SHORT, ..settings() }).await;
    let mut wire = idle_connection(&served).await;
    assert_eq!(wire.closed().await, 0);
}

#[tokio::test]
async fn neither_an_idle_connection_nor_a_slow_download_is_cut_off_by_the_header_timeout() {
    let served = hello_within(config::Server { header_timeout: SHORT, ..settings() }).await;
    let mut idle = idle_connection(&served).await;
    let mut slow = served.connect().await;
    slow.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    slow.hears_something().await;
    // Tells when the header timeout has passed for all of them.
    assert_eq!(served.connect().await.closed().await, 0);
    assert_eq!(slow.answer().await.body.len(), LARGE);
    idle.send(REQUEST).await;
    assert_eq!(idle.answer().await.body, b"hello");
}

#[tokio::test]
async fn a_download_that_has_come_to_a_halt_is_cut_off_after_the_idle_timeout() {
    let served = hello_within(config::Server { idle_timeout: SHORT, ..settings() }).await;
    let mut stuck = served.connect().await;
    stuck.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    stuck.hears_something().await;
    // Tells when the idle timeout has passed for both of them.
    assert_eq!(idle_connection(&served).await.closed().await, 0);
    assert!(stuck.closed().await < LARGE);
}

#[tokio::test]
async fn a_request_that_takes_longer_than_the_timeout_of_when_it_came_is_answered_with_a_503() {
    let (reading, present) = watch::channel(Arc::new(pond::reading(&settings())));
    let endless = Router::new().route("/", get(std::future::pending::<&'static str>));
    let served = Served::start(endless.layer(from_fn_with_state(present, deadline)), settings()).await;
    let short = config::Server { request_timeout: SHORT, ..settings() };
    reading.send_replace(Arc::new(pond::reading(&short)));
    let answer = served.exchange("GET", REQUEST).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.field("retry-after"), Some("5"));
    answer.problem("timed-out");
}

#[tokio::test]
async fn a_header_that_is_too_big_is_refused() {
    let served = hello_within(settings()).await;
    let with = |bytes| format!("GET / HTTP/1.1\r\nHost: x\r\nX-Filler: {}\r\n\r\n", "x".repeat(bytes));
    assert_eq!(served.exchange("GET", with(60_000)).await.status(), 200);
    assert_eq!(served.exchange("GET", with(66_000)).await.status(), 431);
}

/// A server whose only handler says that it has begun, and ends when it is allowed to.
struct Slow {
    served: Served,
    begun: Arc<Notify>,
    may_end: Arc<Notify>,
}

impl Slow {
    async fn start(settings: config::Server) -> Self {
        let (begun, may_end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, ends) = (begun.clone(), may_end.clone());
        let handler = get(move || async move {
            begins.notify_one();
            ends.notified().await;
            "finished"
        });
        Self { served: Served::start(Router::new().route("/", handler), settings).await, begun, may_end }
    }

    /// A connection whose request is with its handler.
    async fn request_under_way(&self) -> Wire {
        let mut wire = self.served.connect().await;
        wire.send(REQUEST).await;
        within(self.begun.notified()).await;
        wire
    }
}

#[tokio::test]
async fn a_request_under_way_is_finished_after_the_server_was_told_to_stop() {
    let mut slow = Slow::start(settings()).await;
    let mut wire = slow.request_under_way().await;
    slow.served.stop();
    within(async { while TcpStream::connect(slow.served.address).await.is_ok() {} }).await;
    slow.may_end.notify_one();
    let answer = wire.answer().await;
    assert_eq!(answer.body, b"finished");
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(wire.closed().await, 0);
    slow.served.ended().await;
}

#[tokio::test]
async fn a_request_that_does_not_finish_within_the_shutdown_grace_is_dropped() {
    let mut slow = Slow::start(config::Server { shutdown_grace: SHORT, ..settings() }).await;
    let mut wire = slow.request_under_way().await;
    slow.served.stop();
    slow.served.ended().await;
    assert_eq!(wire.closed().await, 0);
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let mut served = hello_within(settings()).await;
    let mut idle = idle_connection(&served).await;
    served.stop();
    served.ended().await;
    assert_eq!(idle.closed().await, 0);
}
