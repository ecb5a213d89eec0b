//! httpbin, installed from PyPI into a directory of its own, and run by gunicorn. Both go when it is dropped.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::program::{eventually, signal};

/// What is installed. httpbin itself asks for what makes brotli.
const PACKAGES: [&str; 2] = ["httpbin>=0.10.2,<0.11", "gunicorn>=23"];

/// How long gunicorn may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Status, user agent, If-None-Match and Authorization, apart by tabs.
const LOG_FORMAT: &str = "%(s)s\t%(a)s\t%({if-none-match}i)s\t%({authorization}i)s";

/// A running httpbin.
pub struct Httpbin {
    home: TempDir,
    origin: String,
    child: Child,
}

/// A request that httpbin has answered. What a request did not have is `-`.
#[derive(Debug, Clone)]
pub struct LoggedRequest {
    pub status: u16,
    pub user_agent: String,
    pub if_none_match: String,
    pub authorization: String,
}

impl Httpbin {
    /// Installs and starts it on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        install(home.path());
        let child = spawn(home.path());
        let mut httpbin = Self { home, origin: String::new(), child };
        httpbin.origin = eventually("httpbin listens", PATIENCE, async || httpbin.listens_at()).await;
        eventually("httpbin answers", PATIENCE, async || reqwest_get(&httpbin.origin).await).await;
        httpbin
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        self.origin.clone()
    }

    /// The requests that it has answered, in the order in which it finished them.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        let log = fs::read_to_string(self.home.path().join("access.log")).unwrap_or_default();
        log.lines().filter_map(LoggedRequest::parse).collect()
    }

    fn listens_at(&self) -> Option<String> {
        let said = fs::read_to_string(self.home.path().join("error.log")).ok()?;
        let at = said.split("Listening at: ").nth(1)?;
        at.split_whitespace().next().map(ToOwned::to_owned)
    }
}

impl Drop for Httpbin {
    fn drop(&mut self) {
        // SIGTERM, so that gunicorn ends its worker too.
        signal(self.child.id(), "TERM");
        _ = self.child.wait();
    }
}

impl LoggedRequest {
    /// `None` for a line that is being written.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [status, user_agent, if_none_match, authorization] = fields[..] else { return None };
        Some(Self {
            status: status.parse().ok()?,
            user_agent: user_agent.into(),
            if_none_match: if_none_match.into(),
            authorization: authorization.into(),
        })
    }
}

/// Makes a virtual environment in `home`, and installs httpbin there.
fn install(home: &Path) {
    let venv = home.join("venv");
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).output();
    let made = made.expect("This test needs python3, 3.8 or newer, with its venv (on Debian: python3-venv)");
    assert!(
        made.status.success(),
        "python3 makes no virtual environment (on Debian that needs the package python3-venv): {}",
        end_of(&made)
    );
    let installed = Command::new(venv.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20"])
        .args(PACKAGES)
        .output()
        .unwrap();
    assert!(
        installed.status.success(),
        "httpbin can't be installed: this test needs to reach PyPI, or an index that PIP_INDEX_URL names. pip says: {}",
        end_of(&installed)
    );
}

/// What a program said last.
fn end_of(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(3)..].join(" ")
}

/// gunicorn keeps a socket under HOME.
fn spawn(home: &Path) -> Child {
    Command::new(home.join("venv/bin/gunicorn"))
        .args(["--bind", "127.0.0.1:0", "--threads", "8", "--graceful-timeout", "1"])
        .args(["--access-logformat", LOG_FORMAT, "--access-logfile", "access.log", "--error-logfile", "error.log"])
        .arg("httpbin:app")
        .current_dir(home)
        .env("HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn reqwest_get(origin: &str) -> Option<()> {
    let answer = crate::support::program::get(&format!("{origin}/json")).await.ok()?;
    answer.status().is_success().then_some(())
}
