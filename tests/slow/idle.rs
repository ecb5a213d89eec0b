//! Ten thousand connections that do nothing.

use std::time::{Duration, Instant};

use headpond::api::crowd::make_room;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::program::{Headpond, eventually};

/// What `max_connections` is by default.
const MOST: usize = 10_000;

const CONFIG: &str = "\
[server]
listen = \"127.0.0.1:0\"
[sources.users]
url = \"http://127.0.0.1:9/users/{key}\"
keys = [\"a\"]
refresh_every = \"1h\"
";

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_keep_nobody_out() {
    assert_eq!(make_room(20_000).min(MOST + 400), MOST + 400, "this test needs 11,000 open files: ulimit -Hn");
    let headpond = Headpond::with_config(CONFIG);
    let serving = headpond.serve().await;
    let mut idle = Vec::new();
    for _ in 0..MOST {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        ask(&mut stream).await;
        idle.push(stream);
    }
    println!("{MOST} idle connections: {} MiB of memory", resident_kib(serving.pid()) >> 10);
    let mut slowest = Duration::ZERO;
    for _ in 0..300 {
        let began = Instant::now();
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        ask(&mut stream).await;
        slowest = slowest.max(began.elapsed());
        idle.push(stream);
    }
    println!("the slowest of 300 that came then was answered after {slowest:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    for oldest in &mut idle[..300] {
        let closed = eventually("closed", Duration::from_secs(10), async || {
            matches!(oldest.try_read(&mut [0]), Ok(0)).then_some(())
        });
        closed.await;
    }
    let newest = idle.last_mut().unwrap();
    ask(newest).await;
    serving.stop().await;
}

/// KiB of memory that a process has.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Asks whether it is alive, and takes the whole answer.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"{\"status\":\"up\"}") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed before it was answered");
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}
