//! Requests per second against nginx: a bare loop that stores nothing, and Headpond.

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use headpond::announce::Announcer;
use headpond::config;
use headpond::domain::resource::SourceId;
use headpond::refresh::once::{Manner, Run, Target};
use headpond::refresh::tally::Counts;
use headpond::refresh::{Refresher, Roster};
use headpond::store::{Authority, SourceSpec};
use headpond::upstream::{Fetcher, Quiet};
use tokio_util::sync::CancellationToken;

use crate::databases::{Database, clock};
use crate::nginx::{Nginx, write_json_files};

const FILES: u32 = 10_000;
/// The bare loop needs no more than a few requests at once to keep the machine busy. For Headpond more of them make larger
/// commits.
const CONCURRENT: [usize; 2] = [64, 256];
/// Each rate is the median of so many rounds, taken in turn.
const ROUNDS: usize = 3;

pub(crate) async fn run() {
    let files = tempfile::tempdir().expect("a temp dir");
    write_json_files(files.path(), "users", 1..=FILES, &" ".repeat(400));
    let nginx = Nginx::start(files.path()).await;
    println!("{FILES} JSON files behind nginx; median of {ROUNDS} rounds, requests/s");
    println!("floor: all-304 on SQLite at least 0.5 of the bare loop");
    for concurrent in CONCURRENT {
        compare(&nginx, concurrent).await;
    }
    println!();
}

/// With so many requests at once.
async fn compare(nginx: &Nginx, concurrent: usize) {
    let (mut bare_cold, mut bare_304) = (Vec::new(), Vec::new());
    let mut rates = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for round in 0..ROUNDS {
        let etags = bare_loop(nginx, concurrent, &[], &mut bare_cold).await;
        bare_loop(nginx, concurrent, &etags, &mut bare_304).await;
        let databases = [Database::sqlite(), Database::postgres(&format!("requests_{concurrent}_{round}")).await];
        for (database, (cold, unchanged)) in databases.into_iter().zip(&mut rates) {
            headpond(nginx, concurrent, database, cold, unchanged).await;
        }
    }
    let (bare_cold, bare_304) = (median(&mut bare_cold), median(&mut bare_304));
    let heading = format!("{concurrent} requests at once");
    println!("{heading:<28}{:>10}{:>10}{:>10}{:>10}", "cold", "ratio", "all-304", "ratio");
    println!("{:<28}{bare_cold:>10.0}{:>10}{bare_304:>10.0}{:>10}", "bare loop, stores nothing", "", "");
    for (name, (cold, unchanged)) in ["Headpond on SQLite", "Headpond on Postgres"].iter().zip(&mut rates) {
        let (cold, unchanged) = (median(cold), median(unchanged));
        println!("{name:<28}{cold:>10.0}{:>10.2}{unchanged:>10.0}{:>10.2}", cold / bare_cold, unchanged / bare_304);
    }
}

/// Asks for every file once, with the ETags of an earlier round if there are any; returns this round's ETags.
async fn bare_loop(nginx: &Nginx, concurrent: usize, etags: &[String], rates: &mut Vec<f64>) -> Vec<String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let started = now();
    let answers = futures_util::stream::iter(0..FILES)
        .map(|file| {
            let mut request = client.get(format!("{}/users/{}.json", nginx.url(), file + 1));
            if let Some(etag) = etags.get(file as usize) {
                request = request.header("if-none-match", etag);
            }
            async move {
                let answer = request.send().await.expect("an answer");
                let etag = answer.headers()["etag"].to_str().expect("text").to_owned();
                answer.bytes().await.expect("a body");
                etag
            }
        })
        .buffered(concurrent)
        .collect()
        .await;
    rates.push(rate(started));
    answers
}

/// Refreshes every file on a new database, then again with everything unchanged.
async fn headpond(nginx: &Nginx, concurrent: usize, database: Database, cold: &mut Vec<f64>, unchanged: &mut Vec<f64>) {
    let clock = clock();
    let dir = tempfile::tempdir().expect("a temp dir");
    let path = dir.path().join("headpond.toml");
    let keys: Vec<_> = (1..=FILES).map(|file| format!("\"{file}\"")).collect();
    let text = format!(
        "[defaults]\nmax_concurrent_requests = {concurrent}\n[sources.users]\nurl = \"{}/users/{{key}}.json\"\n\
         refresh_every = \"1h\"\nkeys = [{}]\n",
        nginx.url(),
        keys.join(", ")
    );
    std::fs::write(&path, text).expect("a config file");
    let config = config::load(&path, &config::ProcessEnvironment, clock.now()).expect("a good config").config;
    let store = database.connect(Arc::clone(&clock)).await;
    let specs: Vec<_> =
        config.sources.iter().map(|source| SourceSpec::of(source, &config.upstreams[&source.upstream])).collect();
    let registered = store.register(&specs, Authority::Owns).await.expect("to register");
    let source = registered[0].source;
    store.add_keys(source, &config.sources[0].keys, Authority::Owns).await.expect("to add keys");
    let refresher = Arc::new(Refresher {
        roster: Roster::new(&config, &registered),
        fetchers: Fetcher::new(Arc::clone(&clock)).expect("a client").into(),
        announcer: Announcer::new(),
        worker: "bench".into(),
        quiet: Quiet::default(),
        store: Arc::clone(&store),
        clock,
    });
    let first = refresh_all(&refresher, source, cold).await;
    assert_eq!(first.new, u64::from(FILES), "{first:?}");
    let second = refresh_all(&refresher, source, unchanged).await;
    assert_eq!(second.unchanged, u64::from(FILES), "{second:?}");
    store.close().await;
    database.drop().await;
}

async fn refresh_all(refresher: &Arc<Refresher>, source: SourceId, rates: &mut Vec<f64>) -> Counts {
    let never = CancellationToken::new();
    let manner = Manner { force: true, wait: false, patience: std::time::Duration::from_secs(60) };
    let run = Run::begin(Arc::clone(refresher), Target::Sources(vec![source]), manner).await.expect("to begin");
    let started = now();
    let counts = run.finish(&never, &never).await.expect("to finish");
    rates.push(rate(started));
    counts
}

fn now() -> Instant {
    headpond::clock::monotonic()
}

fn rate(started: Instant) -> f64 {
    f64::from(FILES) / started.elapsed().as_secs_f64()
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
