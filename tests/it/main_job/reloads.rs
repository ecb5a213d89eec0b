//! Readers at a steady pace, while the configuration changes again and again and the program is restarted.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use headpond::clock::monotonic;
use reqwest::Client;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Interval, interval};
use tokio_util::sync::CancellationToken;

use crate::support::nginx::Nginx;
use crate::support::program::{Headpond, Serving, client, eventually, get};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(readers_notice_neither_reloads_nor_restarts);

const PATIENCE: Duration = Duration::from_secs(120);
const READERS: u32 = 4;

/// How much there is of it.
pub struct Reloads {
    pub files: u32,
    /// The interval of refreshes, at the least.
    pub every: Duration,
    /// How often the configuration changes; the program is restarted after a third and after two thirds of that.
    pub times: usize,
    /// How many reads there are before each of these.
    pub reads: u64,
    /// How often each reader reads, or tries again.
    pub read_every: Duration,
}

async fn readers_notice_neither_reloads_nor_restarts(database: &Database) {
    let size = super::RELOADS;
    let files = tempfile::tempdir().unwrap();
    write_revision(files.path(), 1..=size.files, 1);
    let nginx = Nginx::start(files.path()).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = |step| config(database, &nginx.url(), port, &size, step);
    let headpond = Headpond::with_config(&config(0));
    let mut serving = headpond.serve().await;
    until_ready(&serving).await;

    let readers = Readers::start(&serving, &size);
    let (mut reloaded, mut longest) = (0, Duration::ZERO);
    for step in 1..=size.times {
        readers.have_read(size.reads).await;
        write_revision(files.path(), changed(&size, step), step + 1);
        headpond.configure(&config(step));
        reloaded += 1;
        let began = monotonic();
        serving.signal("HUP");
        serving.logged_times("reloaded: the configuration was read again and holds", reloaded).await;
        longest = longest.max(began.elapsed());
        if step == size.times / 3 || step == size.times * 2 / 3 {
            readers.have_read(size.reads).await;
            readers.counts.is_restarting.store(true, Ordering::SeqCst);
            serving.stop().await;
            (serving, reloaded) = (headpond.serve().await, 0);
            readers.have_read(100).await;
            readers.counts.is_restarting.store(false, Ordering::SeqCst);
        }
    }
    // What was written last arrives for every key that is still listed.
    for key in changed(&size, size.times).filter(|key| key % 2 == 1).take(5) {
        eventually(&format!("the last revision of {key}"), PATIENCE, async || {
            let answer = get(&serving.url(&format!("/v1/users/{key}"))).await.ok()?;
            let body = serde_json::from_slice(&answer.bytes().await.ok()?).ok()?;
            (revision(&body) == size.times as u64 + 1).then_some(())
        })
        .await;
    }
    let (reads, retries) = readers.stop().await;
    println!(
        "{reads} reads, all of them right, and {retries} retries at {} reloads, of which the longest took {longest:.1?}, and \
         2 restarts",
        size.times
    );
    assert!(reads > 0);
    serving.stop().await;
}

/// Another configuration for each step: keys, limits, intervals, the URL, what counts of a body, and the sources.
fn config(database: &Database, origin: &str, port: u16, size: &Reloads, step: usize) -> String {
    // The even ones come and go. Their copies are read on.
    let keys: Vec<_> =
        (1..=size.files).filter(|key| step % 3 != 1 || key % 2 == 1).map(|key| format!("\"{key}\"")).collect();
    let every = size.every.as_secs() + [0, 1, 2][step % 3];
    let limits = ["max_concurrent_requests = 8", "requests_per_second_limit = 2000", "max_concurrent_requests = 32"];
    let query = if step % 4 == 2 { format!("?step={step}") } else { String::new() };
    let ignore = if step % 5 == 3 { "ignore_changes_in = [\"$.absent\"]" } else { "" };
    let more = if step % 2 == 1 {
        format!("[sources.more]\nurl = \"{origin}/users/{{key}}.json\"\nkeys = [\"1\"]\nrefresh_every = \"1s\"\n")
    } else {
        String::new()
    };
    format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\n[database]\nurl = \"{}\"\n[defaults]\n{}\n\
         [sources.users]\nurl = \"{origin}/users/{{key}}.json{query}\"\nkeys = [{}]\nrefresh_every = \"{every}s\"\n{ignore}\n\
         {more}",
        database.url(),
        limits[step % 3],
        keys.join(", ")
    )
}

/// The files that change before a step: each of them in some.
fn changed(size: &Reloads, step: usize) -> impl Iterator<Item = u32> {
    (1..=size.files).filter(move |file| *file as usize % 7 == step % 7)
}

/// Each file says whose it is, and has a note as long as its revision: nginx's ETag knows sizes, not what changes within a
/// second. A file takes the place of the one before as a whole.
fn write_revision(files: &Path, ids: impl Iterator<Item = u32>, revision: usize) {
    let folder = files.join("users");
    std::fs::create_dir_all(&folder).unwrap();
    let new = folder.join("new");
    for id in ids {
        std::fs::write(&new, serde_json::json!({ "id": id, "note": "x".repeat(revision) }).to_string()).unwrap();
        std::fs::rename(&new, folder.join(format!("{id}.json"))).unwrap();
    }
}

fn revision(body: &Value) -> u64 {
    body["note"].as_str().unwrap().len() as u64
}

async fn until_ready(serving: &Serving) {
    eventually("ready", PATIENCE, async || {
        get(&serving.url("/readyz")).await.ok()?.status().is_success().then_some(())
    })
    .await;
}

/// What has been seen of one key, by whichever reader.
#[derive(Default)]
struct Seen {
    version: AtomicU64,
    revision: AtomicU64,
}

/// Clients that try again when there is no answer, and take no wrong one.
struct Readers {
    reading: JoinSet<()>,
    counts: Arc<Counts>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    retries: AtomicU64,
    /// Only then there may be no answer.
    is_restarting: AtomicBool,
}

impl Readers {
    fn start(serving: &Serving, size: &Reloads) -> Self {
        let (mut reading, counts, stop) = (JoinSet::new(), Arc::<Counts>::default(), CancellationToken::new());
        let seen: Arc<[Seen]> = (0..=size.files).map(|_| Seen::default()).collect();
        for _ in 0..READERS {
            let reader = Reader {
                url: serving.url("/v1/users/"),
                client: client(),
                files: size.files,
                seen: Arc::clone(&seen),
                counts: Arc::clone(&counts),
            };
            reading.spawn(reader.read_on(size.read_every, stop.clone()));
        }
        Self { reading, counts, stop }
    }

    /// Returns when there have been so many more reads.
    async fn have_read(&self, more: u64) {
        let before = self.counts.reads.load(Ordering::SeqCst);
        eventually("more reads", PATIENCE, async || {
            (self.counts.reads.load(Ordering::SeqCst) >= before + more).then_some(())
        })
        .await;
    }

    /// Ends them; how many reads there were, and how many were tried again. A wrong answer fails the test here.
    async fn stop(self) -> (u64, u64) {
        self.stop.cancel();
        self.reading.join_all().await;
        (self.counts.reads.load(Ordering::SeqCst), self.counts.retries.load(Ordering::SeqCst))
    }
}

struct Reader {
    url: String,
    client: Client,
    files: u32,
    seen: Arc<[Seen]>,
    counts: Arc<Counts>,
}

impl Reader {
    async fn read_on(self, every: Duration, stop: CancellationToken) {
        let mut pace = interval(every);
        while stop.run_until_cancelled(pace.tick()).await.is_some() {
            self.read(fastrand::u32(1..=self.files), &mut pace).await;
        }
    }

    async fn read(&self, key: u32, pace: &mut Interval) {
        let seen = &self.seen[key as usize];
        loop {
            // What anyone has seen before this request is sent, it must not go back behind.
            let (version, known) = (seen.version.load(Ordering::SeqCst), seen.revision.load(Ordering::SeqCst));
            let answer = self.ask(key).await;
            let Ok((status, headers, body)) = answer else {
                assert!(self.counts.is_restarting.load(Ordering::SeqCst), "{key}: dropped by a reload: {answer:?}");
                self.counts.retries.fetch_add(1, Ordering::SeqCst);
                pace.tick().await;
                continue;
            };
            assert_eq!(status, 200, "{key}: {body:?}");
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["id"], key, "{body}");
            let now: u64 = headers["headpond-version"].to_str().unwrap().parse().unwrap();
            assert!(now >= version && revision(&body) >= known, "{key}: version {now} after {version}: {body}");
            seen.version.fetch_max(now, Ordering::SeqCst);
            seen.revision.fetch_max(revision(&body), Ordering::SeqCst);
            self.counts.reads.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }

    async fn ask(&self, key: u32) -> reqwest::Result<(u16, reqwest::header::HeaderMap, bytes::Bytes)> {
        let answer = self.client.get(format!("{}{key}", self.url)).send().await?;
        Ok((answer.status().as_u16(), answer.headers().clone(), answer.bytes().await?))
    }
}
