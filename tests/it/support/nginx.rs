//! A real nginx that serves a directory of files: an upstream whose code no one here wrote.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Answered by nginx without a line in its log.
const READY: &str = "/-/ready";

/// How long nginx may take to start or to stop. It needs some milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many bytes a slow nginx sends at once, and how long it pauses then.
pub const PIECE: u64 = 1024;
const PAUSE: Duration = Duration::from_millis(50);

/// A running nginx. It ends when this is dropped.
#[derive(Debug)]
pub struct Nginx {
    program: PathBuf,
    /// Its configuration, logs and temporary files.
    home: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Nginx {
    /// Serves the files under `dir` on a free port of 127.0.0.1, with nginx's own ETag and Last-Modified.
    pub async fn start(dir: &Path) -> Self {
        Self::start_with(dir, "").await
    }

    /// As [`start`](Self::start), but what is larger than [`PIECE`] takes at least [`PAUSE`]: nginx pauses after each piece
    /// but the last. (A 304 has no body, so it is as quick as ever.)
    pub async fn start_slow(dir: &Path) -> Self {
        let rate = PIECE * 1000 / u64::try_from(PAUSE.as_millis()).unwrap();
        Self::start_with(dir, &format!("sendfile on; sendfile_max_chunk {PIECE}; limit_rate {rate};")).await
    }

    /// As [`start`](Self::start); `more` goes into the configuration of the server.
    pub async fn start_with(dir: &Path, more: &str) -> Self {
        Self::start_servers(|port, ready| {
            format!("server {{ listen 127.0.0.1:{port}; root {}; {more} {ready} }}", dir.display())
        })
        .await
    }

    /// With servers of one's own, written for this port; one of them has `ready` in it, by which it is known that nginx answers.
    pub async fn start_servers(servers: impl Fn(u16, &str) -> String) -> Self {
        let program = find_nginx();
        for _ in 0..5 {
            let port = free_port();
            let home = tempfile::tempdir().unwrap();
            let servers = servers(port, &ready(home.path()));
            fs::write(home.path().join("nginx.conf"), configuration(home.path(), &servers)).unwrap();
            let mut nginx = Self { program: program.clone(), home, port, child: None };
            if nginx.spawn().await {
                return nginx;
            }
            eprintln!("nginx did not start on port {port}, trying another: {}", nginx.error_log());
        }
        panic!("nginx did not start");
    }

    /// Where its files are: `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends nginx at once, and with it all its connections. New ones are refused from now on.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // nginx's own way to signal its master process, by the pid in its home: SIGTERM. A SIGKILL by us would leave the
        // worker process behind.
        let told = self.command().args(["-s", "stop"]).stderr(Stdio::null()).status();
        if !told.is_ok_and(|status| status.success()) {
            _ = child.kill();
        }
        _ = child.wait();
    }

    /// Starts nginx again where it was, after [`stop`](Self::stop).
    pub async fn start_again(&mut self) {
        assert!(self.child.is_none(), "nginx still runs");
        assert!(self.spawn().await, "nginx did not start again on port {}: {}", self.port, self.error_log());
    }

    /// The requests that nginx has answered, in the order in which it finished them.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        // nginx has one worker, which logs a request in the same turn in which it sends the end of the answer. So once it
        // has answered this, every answer that a client has seen is in the log.
        assert!(self.child.is_none() || self.answers(), "nginx does not answer: {}", self.error_log());
        let log = fs::read_to_string(self.home.path().join("access.log")).unwrap();
        log.lines().map(LoggedRequest::parse).collect()
    }

    /// Starts the process and waits until it answers. `false` when it ended instead.
    async fn spawn(&mut self) -> bool {
        self.child = Some(self.command().stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        tokio::time::timeout(PATIENCE, async {
            let mut looks = tokio::time::interval(Duration::from_millis(5));
            loop {
                looks.tick().await;
                if self.child.as_mut().unwrap().try_wait().unwrap().is_some() {
                    self.child = None;
                    return false;
                }
                if self.answers() {
                    return true;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("nginx does not answer: {}", self.error_log()))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let home = self.home.path();
        // -e: where errors go before the configuration is read; by default a file that only root may write.
        command.arg("-p").arg(home).arg("-c").arg(home.join("nginx.conf")).arg("-e").arg(home.join("error.log"));
        command
    }

    fn answers(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
            connection.set_read_timeout(Some(PATIENCE))?;
            write!(connection, "GET {READY} HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            Ok(answer)
        };
        // Our answer, and not that of a stranger who has the port.
        ask().is_ok_and(|answer| answer.contains(&format!("X-Home: {}", self.home.path().display())))
    }

    fn error_log(&self) -> String {
        fs::read_to_string(self.home.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One line of nginx's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedRequest {
    /// When the answer was sent, since the Unix epoch, in milliseconds by nginx's clock.
    pub ended: Duration,
    /// From the first byte read of the request to the last byte sent of the answer.
    pub took: Duration,
    /// The status that was answered.
    pub status: u16,
    /// Path and query as they were sent.
    pub uri: String,
    /// The If-None-Match that was sent.
    pub if_none_match: Option<String>,
    /// The number of the connection, counted by nginx from its start.
    pub connection: u64,
}

impl LoggedRequest {
    /// When the request arrived, since the Unix epoch.
    pub fn began(&self) -> Duration {
        self.ended.saturating_sub(self.took)
    }

    /// Reads a line of the format in [`configuration`]. nginx writes a `"` in a value as `\x22`.
    fn parse(line: &str) -> Self {
        let parts: Vec<&str> = line.split('"').collect();
        let [times, uri, _, if_none_match, connection] = parts[..] else { panic!("not our log format: {line}") };
        let times: Vec<&str> = times.split_whitespace().collect();
        let [ended, status, took] = times[..] else { panic!("not our log format: {line}") };
        Self {
            ended: milliseconds(ended),
            took: milliseconds(took),
            status: status.parse().unwrap(),
            uri: unescaped(uri),
            if_none_match: (if_none_match != "-").then(|| unescaped(if_none_match)),
            connection: connection.trim().parse().unwrap(),
        }
    }
}

/// nginx writes seconds with three decimals.
fn milliseconds(seconds: &str) -> Duration {
    Duration::from_millis(seconds.replace('.', "").parse().unwrap())
}

fn unescaped(value: &str) -> String {
    let mut parts = value.split("\\x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        text.push(u8::from_str_radix(code, 16).unwrap().into());
        text.push_str(rest);
    }
    text
}

/// Writes `FOLDER/NUMBER.json` for each number, a small object with `note` in it.
///
/// nginx makes an ETag of a file's size and of its time in whole seconds: to change a file so that nginx notices within the
/// second, give a note of another length.
pub fn write_json_files(dir: &Path, folder: &str, numbers: RangeInclusive<u32>, note: &str) {
    let folder = dir.join(folder);
    fs::create_dir_all(&folder).unwrap();
    for number in numbers {
        let body = serde_json::json!({ "id": number, "name": format!("number {number}"), "note": note });
        fs::write(folder.join(format!("{number}.json")), body.to_string()).unwrap();
    }
}

fn find_nginx() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join("nginx"))
        .find(|program| program.is_file())
        .expect("This test needs nginx. Run `tests/run`, which installs it or says how.")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What answers to [`Nginx::answers`].
fn ready(home: &Path) -> String {
    format!("location = {READY} {{ access_log off; add_header X-Home {}; return 204; }}", home.display())
}

/// One worker, all files in `home`, and nginx's defaults for everything that a client sees.
fn configuration(home: &Path, servers: &str) -> String {
    // As root nginx would serve as another user, who can't read our directories.
    let user = if fs::metadata(home).unwrap().uid() == 0 { "user root root;" } else { "" };
    let home = home.display();
    format!(
        r#"
        daemon off;
        worker_processes 1;
        {user}
        pid {home}/nginx.pid;
        error_log {home}/error.log;
        events {{ }}
        http {{
            types {{ application/json json; }}
            log_format requests '$msec $status $request_time "$request_uri" "$http_if_none_match" $connection';
            access_log {home}/access.log requests;
            client_body_temp_path {home}/body;
            proxy_temp_path {home}/proxy;
            fastcgi_temp_path {home}/fastcgi;
            uwsgi_temp_path {home}/uwsgi;
            scgi_temp_path {home}/scgi;
            {servers}
        }}
        "#
    )
}

#[tokio::test]
async fn nginx_serves_files_and_logs_each_request() {
    let dir = tempfile::tempdir().unwrap();
    write_json_files(dir.path(), "users", 1..=2, "first");
    let nginx = Nginx::start(dir.path()).await;
    let client = client();

    let answer = client.get(format!("{}/users/1.json", nginx.url())).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(answer.headers().contains_key("last-modified"));
    let etag = answer.headers()["etag"].clone();
    assert!(answer.text().await.unwrap().contains("number 1"));
    let again = client.get(format!("{}/users/1.json", nginx.url())).header("if-none-match", &etag);
    assert_eq!(again.send().await.unwrap().status(), 304);

    let requests = nginx.requests();
    let seen: Vec<_> = requests.iter().map(|r| (r.status, r.uri.as_str(), r.if_none_match.as_deref())).collect();
    assert_eq!(seen, [(200, "/users/1.json", None), (304, "/users/1.json", Some(etag.to_str().unwrap()))]);
    assert!(requests[0].began() <= requests[1].began());
    assert_eq!(requests[0].connection, requests[1].connection);
}

#[tokio::test]
async fn nginx_can_be_stopped_and_started_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    write_json_files(dir.path(), "users", 1..=1, "first");
    let mut nginx = Nginx::start(dir.path()).await;
    let url = format!("{}/users/1.json", nginx.url());

    nginx.stop();
    assert!(client().get(&url).send().await.unwrap_err().is_connect());
    nginx.start_again().await;
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    assert_eq!(nginx.requests().len(), 1);
}

#[tokio::test]
async fn a_slow_nginx_takes_its_time_for_each_body() {
    let dir = tempfile::tempdir().unwrap();
    write_json_files(dir.path(), "users", 1..=1, &"x".repeat(usize::try_from(PIECE).unwrap() * 2));
    let nginx = Nginx::start_slow(dir.path()).await;
    client().get(format!("{}/users/1.json", nginx.url())).send().await.unwrap().bytes().await.unwrap();
    let requests = nginx.requests();
    assert!(requests[0].took >= PAUSE, "{:?}", requests[0]);
}

fn client() -> reqwest::Client {
    // reqwest was built without a provider of TLS; an error means that another test was first.
    _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::new()
}
