//! A server on a port of its own, and a client that speaks to it byte by byte.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use headpond::api::server::serve;
use headpond::config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Long enough that a test which waits for it would be seen to hang.
pub const HOUR: Duration = Duration::from_secs(3600);
/// What a test waits for at the most before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Settings under which nothing ever times out.
pub fn settings() -> config::Server {
    config::Server {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        read_tokens: Vec::new(),
        admin_tokens: Vec::new(),
        cors_origins: config::CorsOrigins::These(Vec::new()),
        max_connections: 1000,
        max_streams: 500,
        shutdown_grace: HOUR,
        header_timeout: HOUR,
        request_timeout: HOUR,
        idle_timeout: HOUR,
    }
}

/// A server that runs until it is told to stop.
pub struct Served {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Served {
    pub async fn start(router: Router, settings: config::Server) -> Self {
        let listener = TcpListener::bind(settings.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (_, present) = watch::channel(settings);
        let task = tokio::spawn(async move {
            let shutdown = async { _ = stopped.await };
            serve(listener, router, present, shutdown).await;
        });
        Self { address, stop: Some(stop), task }
    }

    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the server has come to its end.
    pub async fn ended(self) {
        within(self.task).await.unwrap();
    }

    pub async fn connect(&self) -> Wire {
        Wire { stream: TcpStream::connect(self.address).await.unwrap(), ahead: Vec::new() }
    }

    /// Sends one request and returns the whole answer.
    pub async fn exchange(&self, method: &str, request: impl AsRef<[u8]>) -> Answer {
        let mut wire = self.connect().await;
        wire.send(request).await;
        if method == "HEAD" { wire.head().await } else { wire.answer().await }
    }
}

/// A connection as bytes.
pub struct Wire {
    stream: TcpStream,
    /// What was read beyond the last answer.
    ahead: Vec<u8>,
}

impl Wire {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads one answer; its length must be stated, or it must come in chunks.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        if answer.field("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks().await;
            return answer;
        }
        let length = match answer.status() {
            304 => 0,
            _ => answer.field("content-length").unwrap().parse().unwrap(),
        };
        answer.body = self.exactly(length).await;
        answer
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.ahead.len() < length {
            assert!(self.read_more().await > 0, "the connection ended within an answer's body");
        }
        self.ahead.drain(..length).collect()
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk().await;
            if chunk.is_empty() {
                return body;
            }
            body.extend(chunk);
        }
    }

    /// The next chunk of a body that comes in chunks; empty at its end.
    pub async fn chunk(&mut self) -> Vec<u8> {
        let mut size = Vec::new();
        while !size.ends_with(b"\r\n") {
            size.extend(self.exactly(1).await);
        }
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim_end(), 16).unwrap();
        let chunk = self.exactly(size).await;
        assert_eq!(self.exactly(2).await, b"\r\n");
        chunk
    }

    /// Reads an answer that has no body.
    pub async fn head(&mut self) -> Answer {
        let end = loop {
            match self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => assert!(self.read_more().await > 0, "the connection ended within an answer's head"),
            }
        };
        Answer { head: String::from_utf8(self.ahead.drain(..end).collect()).unwrap(), body: Vec::new() }
    }

    /// Waits for the first bytes of an answer, and leaves them there.
    pub async fn hears_something(&self) {
        assert!(within(self.stream.peek(&mut [0])).await.unwrap() > 0);
    }

    /// Reads until the server closes the connection, and returns how much came.
    pub async fn closed(&mut self) -> usize {
        let mut read = self.ahead.len();
        self.ahead.clear();
        loop {
            match self.read_more().await {
                0 => return read,
                more => read += more,
            }
            self.ahead.clear();
        }
    }

    /// All that comes until the server closes the connection.
    pub async fn until_closed(&mut self) -> Vec<u8> {
        while self.read_more().await > 0 {}
        std::mem::take(&mut self.ahead)
    }

    /// Whether the server closes the connection within this time.
    pub async fn is_closed_within(&mut self, time: Duration) -> bool {
        let end = tokio::time::timeout(time, self.stream.read_buf(&mut self.ahead)).await;
        matches!(end, Ok(Ok(0) | Err(_)))
    }

    /// Sends what may find the connection closed; whether it could be sent.
    pub async fn tries_to_send(&mut self, bytes: &str) -> bool {
        self.stream.write_all(bytes.as_bytes()).await.is_ok()
    }

    async fn read_more(&mut self) -> usize {
        match within(self.stream.read_buf(&mut self.ahead)).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            read => read.unwrap(),
        }
    }
}

/// One answer as it came.
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    /// The names of the header fields, in order.
    pub fn fields(&self) -> BTreeSet<String> {
        self.head.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name.to_lowercase()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, checked to be a problem document of this kind that tells the answer's status.
    pub fn problem(&self, kind: &str) -> serde_json::Value {
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{}", self.head);
        assert_eq!(self.field("cache-control"), Some("no-store"), "{}", self.head);
        let problem: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["type"], format!("/problems/{kind}"), "{problem}");
        assert_eq!(problem["status"].as_u64(), Some(self.status().into()), "{problem}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }
}

/// What a future brings, unless it takes so long that something must be wrong.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this should have happened long ago")
}
