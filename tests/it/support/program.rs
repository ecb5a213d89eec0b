//! The real binary, run as a user runs it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;

use super::store::Database;

/// Sends a signal to a process by name (`HUP`, `TERM`, `INT`, `KILL`), without the program `kill`, which a small system has not.
pub fn signal(pid: u32, name: &str) {
    let signal = match name {
        "HUP" => Signal::HUP,
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        _ => panic!("{name}: no signal that any test sends"),
    };
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
    kill_process(pid, signal).expect("a process that is there");
}

/// A directory with a configuration in it.
pub struct Headpond {
    dir: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

/// What a command printed.
#[derive(Debug)]
pub struct Printed {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Printed {
    /// The exit code.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Its stdout as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Headpond {
    /// A directory with this `headpond.toml`.
    pub fn with_config(config: &str) -> Self {
        let headpond = Self { dir: tempfile::tempdir().expect("a temp dir"), variables: Vec::new() };
        headpond.configure(config);
        headpond
    }

    /// The same with an environment variable.
    pub fn with_variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Writes `headpond.toml` anew.
    pub fn configure(&self, config: &str) {
        std::fs::write(self.path("headpond.toml"), config).expect("a config file");
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command that has not been started, with pipes for its output.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headpond"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_remove("HEADPOND_CONFIG")
            .env_remove("HEADPOND_LOG")
            .env_remove("HEADPOND_LOG_FORMAT");
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEADPOND__")) {
            command.env_remove(name);
        }
        command
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, args: &[&str]) -> Printed {
        let output = self.command(args).output().await.expect("the binary");
        Printed {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Starts a command and does not wait for it; it is killed with its handle.
    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary")
    }

    /// Starts `serve`, and waits until it says where it listens.
    pub async fn serve(&self) -> Serving {
        self.serve_with(&[]).await
    }

    /// The same with more arguments.
    pub async fn serve_with(&self, more: &[&str]) -> Serving {
        let args = [&["--log-format", "json", "serve"], more].concat();
        let mut child = self.command(&args).spawn().expect("the binary");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut seen = Vec::new();
        while let Some(line) = lines.next_line().await.expect("a line") {
            let entry: Value = serde_json::from_str(&line).unwrap_or(Value::Null);
            if entry["message"] == "serving" {
                let address = entry["listen"].as_str().expect("an address").parse().expect("an address");
                seen.push(line);
                let (seen_lines, log) = watch::channel(seen);
                let drained = tokio::spawn(drain(lines, seen_lines));
                return Serving { address, child, log, drained };
            }
            seen.push(line);
        }
        panic!("serve ended: {:?}, {seen:?}", child.wait().await);
    }
}

/// Reads on, so that a full pipe never blocks the process, and keeps what came.
async fn drain(mut lines: Lines<BufReader<ChildStderr>>, kept: watch::Sender<Vec<String>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        kept.send_modify(|kept| kept.push(line));
    }
}

/// A running `serve`.
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    log: watch::Receiver<Vec<String>>,
    drained: tokio::task::JoinHandle<()>,
}

impl Serving {
    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("a running process")
    }

    /// Sends a signal by name (`TERM`, `INT`, `KILL`).
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end; returns how it ended and what it wrote, to stdout too.
    pub async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().await.expect("an end");
        self.drained.await.expect("its log");
        let mut log = self.log.borrow().clone();
        let mut printed = BufReader::new(self.child.stdout.take().expect("a pipe")).lines();
        while let Some(line) = printed.next_line().await.expect("a line") {
            log.push(line);
        }
        (status, log)
    }

    /// Waits until a line of its log says this.
    pub async fn logged(&self, text: &str) {
        self.logged_times(text, 1).await;
    }

    /// Waits until so many lines of its log say this.
    pub async fn logged_times(&self, text: &str, times: usize) {
        let mut log = self.log.clone();
        let said = log.wait_for(|lines| lines.iter().filter(|line| line.contains(text)).count() >= times);
        said.await.expect("a line before its end");
    }

    /// The lines of its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }

    /// POSTs to a path; the status, and the JSON that came.
    pub async fn post(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        let mut request = client().post(self.url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON"))
    }

    /// SIGTERM, and waits for the end, which must be a good one.
    pub async fn stop(self) {
        self.signal("TERM");
        let (status, log) = self.ended().await;
        assert!(status.success(), "{status}: {log:#?}");
    }
}

/// A configuration for `count` JSON files behind nginx. `more` goes into the source.
pub fn files_config(database: &Database, origin: &str, count: u32, defaults: &str, more: &str) -> String {
    let keys: Vec<_> = (1..=count).map(|key| format!("\"{key}\"")).collect();
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[defaults]\n\
         {defaults}\n[sources.users]\nurl = \"{origin}/users/{{key}}.json\"\nkeys = [{}]\n{more}\n",
        database.url(),
        keys.join(", ")
    )
}

/// A client with connections of its own.
pub fn client() -> reqwest::Client {
    // An error means that another test has installed it.
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// A GET, on a connection of its own.
pub async fn get(url: &str) -> reqwest::Result<reqwest::Response> {
    client().get(url).send().await
}

/// The JSON at a URL, and the status it came with.
pub async fn get_json(url: &str) -> (u16, Value) {
    let answer = get(url).await.expect("an answer");
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.expect("a body")).expect("JSON"))
}

/// Looks again and again until `probe` gives something, at most `patience` long; `what` says what was waited for.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let found = tokio::time::timeout(patience, async {
        loop {
            looks.tick().await;
            if let Some(found) = probe().await {
                return found;
            }
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}: not within {patience:?}"))
}
