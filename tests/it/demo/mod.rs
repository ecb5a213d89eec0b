//! The demo: its simulated upstream, its command, and what the README shows of it.

mod plan;
mod running;
pub mod transcript;
mod upstream;

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::support::program::{Headpond, get_json, signal};

/// What a test waits for at the most: on a machine that is busy with other tests, the first round takes a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running demo, after it has printed its steps.
struct Demo {
    child: Child,
    /// All that it has printed.
    printed: String,
    api: String,
    upstream: String,
}

impl Demo {
    /// Starts it on free ports, and waits until it has printed all that it prints.
    async fn start(headpond: &Headpond) -> Self {
        Self::start_with_upstream(headpond, "0").await
    }

    /// The same with its upstream on this port.
    async fn start_with_upstream(headpond: &Headpond, port: &str) -> Self {
        let args = ["demo", "--port", "0", "--upstream-port", port];
        let mut child = headpond.command(&args).stderr(std::process::Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = String::new();
        let read = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                printed.push_str(&line);
                printed.push('\n');
                if line.contains("headpond-state: fresh") {
                    return;
                }
            }
            panic!("it ended: {printed}");
        };
        tokio::time::timeout(PATIENCE, read).await.expect("its steps");
        let origin = |after: &str| {
            let (_, rest) = printed.split_once(after).unwrap();
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
            format!("http://127.0.0.1:{}", &rest[..end])
        };
        let upstream = origin("A simulated upstream answers on http://127.0.0.1:");
        let api = origin("and answers on http://127.0.0.1:");
        Self { child, printed, api, upstream }
    }

    /// What the upstream has counted.
    async fn stats(&self) -> Value {
        get_json(&format!("{}/stats", self.upstream)).await.1
    }

    /// Ctrl-C, and the end, which must be a good one.
    async fn stop(self) {
        interrupt(self.child).await;
    }
}

/// Ctrl-C, and the end, which must be a good one.
async fn interrupt(mut child: Child) {
    signal(child.id().unwrap(), "INT");
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("an end").unwrap();
    assert_eq!(ended.code(), Some(0));
}
