//! The other end of `NOTIFY_SOCKET`.

use std::time::Duration;

use tokio::net::UnixDatagram;

use crate::support::program::Headpond;

const CONFIG: &str = "\
[server]
listen = \"127.0.0.1:0\"
[sources.users]
url = \"http://127.0.0.1:9/users/{key}\"
keys = [\"a\"]
refresh_every = \"1h\"
";

/// Reads what the service says until a message has this line; returns the whole message.
async fn told(manager: &UnixDatagram, line: &str) -> Vec<String> {
    let mut buffer = [0; 4096];
    let heard = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let length = manager.recv(&mut buffer).await.unwrap();
            let message: Vec<_> = String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect();
            if message.iter().any(|said| said == line) {
                return message;
            }
        }
    });
    heard.await.unwrap_or_else(|_| panic!("systemd was never told {line}"))
}

#[tokio::test]
async fn systemd_is_told_of_the_start_a_reload_and_the_end_and_that_the_process_lives() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    let headpond = Headpond::with_config(CONFIG)
        .with_variable("NOTIFY_SOCKET", socket.display().to_string())
        .with_variable("WATCHDOG_USEC", "100000");
    let serving = headpond.serve().await;
    told(&manager, "READY=1").await;
    told(&manager, "WATCHDOG=1").await;

    serving.signal("HUP");
    let reloading = told(&manager, "RELOADING=1").await;
    assert!(reloading.iter().any(|line| line.starts_with("MONOTONIC_USEC=")), "{reloading:?}");
    told(&manager, "READY=1").await;
    // A configuration that is refused ends the reload too: the old one serves on.
    headpond.configure("nonsense");
    serving.signal("HUP");
    told(&manager, "RELOADING=1").await;
    told(&manager, "READY=1").await;

    serving.signal("TERM");
    told(&manager, "STOPPING=1").await;
    assert!(serving.ended().await.0.success());
}
