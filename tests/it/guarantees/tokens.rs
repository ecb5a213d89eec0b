//! Access tokens through the whole program, by the real clock: one request for each life, however many are at work, and what
//! becomes of the copies when no token is taken any more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use headpond::clock::monotonic;
use serde_json::Value;
use tokio::sync::Barrier;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::{Headpond, Serving, client, eventually, get, get_json};
use crate::support::raw_server::{Connection, RawServer};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(two_hundred_at_once_buy_one_token_for_each_life_and_keep_their_copies_when_none_is_taken);

/// Keys, which are all refreshed at once.
const KEYS: usize = 200;

/// How long a token lives. A fifth before its end the next one is bought.
const LIFE: Duration = Duration::from_secs(10);

/// From when it was asked for on, which is a moment before it was sold.
const RENEWED_AFTER: Duration = Duration::from_secs(8);

/// No request for a token is longer under way than this.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What has been sold, and who came with it.
struct Upstream {
    /// When each token was sold.
    sold: Mutex<Vec<Instant>>,
    /// How often each was shown, and taken.
    taken: Mutex<BTreeMap<usize, usize>>,
    refused: AtomicUsize,
    revoked: AtomicBool,
    /// Answers nobody before all are here.
    all_here: Barrier,
}

impl Upstream {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            sold: Mutex::default(),
            taken: Mutex::default(),
            refused: AtomicUsize::new(0),
            revoked: AtomicBool::new(false),
            all_here: Barrier::new(KEYS),
        })
    }

    fn sell(&self) -> ResponseTemplate {
        let mut sold = self.sold.lock().unwrap();
        let token = format!("t0ken-{}", sold.len());
        sold.push(monotonic());
        let answer = serde_json::json!({ "access_token": token, "expires_in": LIFE.as_secs(), "token_type": "bearer" });
        ResponseTemplate::new(200).set_body_json(answer)
    }

    /// The number of the token that a request shows, if it lives.
    fn living(&self, head: &str) -> Option<usize> {
        let shown = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer t0ken-"))?;
        let number: usize = shown.parse().unwrap();
        let lives = self.sold.lock().unwrap()[number].elapsed() < LIFE;
        (lives && !self.revoked.load(Ordering::SeqCst)).then_some(number)
    }

    async fn answer(self: Arc<Self>, mut connection: Connection) {
        while let Some(head) = connection.head().await {
            let answer = if let Some(number) = self.living(&head) {
                *self.taken.lock().unwrap().entry(number).or_default() += 1;
                self.all_here.wait().await;
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
            } else {
                self.refused.fetch_add(1, Ordering::SeqCst);
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
            };
            connection.say(answer.as_bytes()).await;
        }
    }

    fn sold(&self) -> Vec<Instant> {
        self.sold.lock().unwrap().clone()
    }
}

async fn two_hundred_at_once_buy_one_token_for_each_life_and_keep_their_copies_when_none_is_taken(database: &Database) {
    let upstream = Upstream::new();
    let answering = upstream.clone();
    let resources = RawServer::start(move |connection| answering.clone().answer(connection)).await;
    let tokens = MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await;
    let selling = upstream.clone();
    let selling = move |_: &wiremock::Request| selling.sell();
    Mock::given(method("POST")).and(path("/token")).respond_with(selling).mount(&tokens).await;
    let headpond = Headpond::with_config(&config(database, &resources, &tokens));
    let serving = headpond.serve().await;
    eventually("all fetched", PATIENCE, async || get(&serving.url("/readyz")).await.ok().filter(|a| a.status() == 200))
        .await;

    let mut wave = tokio::time::interval(Duration::from_secs(1));
    let mut waves = 1;
    while upstream.taken.lock().unwrap().len() < 3 {
        wave.tick().await;
        let metas = refresh_all(&serving).await;
        assert!(metas.iter().all(|meta| meta["failing"] == Value::Null), "{metas:?}");
        waves += 1;
    }
    let (sold, taken) = (upstream.sold(), upstream.taken.lock().unwrap().clone());
    assert_eq!((sold.len(), upstream.refused.load(Ordering::SeqCst)), (3, 0), "one for each life, and all were taken");
    assert_eq!(taken.values().sum::<usize>(), waves * KEYS, "{taken:?}");
    assert!(sold.windows(2).all(|pair| pair[1] - pair[0] + UNDER_WAY >= RENEWED_AFTER), "{sold:?}");

    upstream.revoked.store(true, Ordering::SeqCst);
    for meta in refresh_all(&serving).await {
        let failing = (meta["failing"]["kind"].as_str(), meta["failing"]["status"].as_u64());
        assert_eq!((failing, &meta["version"]), ((Some("client_error"), Some(401)), &1.into()), "{meta}");
    }
    assert_eq!(upstream.sold().len(), 4, "one more for all who were refused");
    let refused = upstream.refused.load(Ordering::SeqCst);
    assert!((KEYS + 1..=2 * KEYS).contains(&refused), "each is asked for once more at most: {refused}");
    let answer = get(&serving.url("/v1/s/7")).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "good"));
    let (_, status) = get_json(&serving.url("/v1/-/status")).await;
    assert!(status.to_string().contains(&format!("\"failing\":{KEYS}")), "{status}");
    serving.stop().await;
}

/// Has all keys refreshed at once, and waits for what becomes of each.
async fn refresh_all(serving: &Serving) -> Vec<Value> {
    let client = client();
    let all = (0..KEYS).map(async |key| {
        let asked = client.post(serving.url(&format!("/v1/s/{key}/refresh"))).header("prefer", "wait=25");
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), 200, "it came in time");
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    });
    join_all(all).await
}

fn config(database: &Database, resources: &RawServer, tokens: &MockServer) -> String {
    let keys: Vec<_> = (0..KEYS).map(|key| format!("\"{key}\"")).collect();
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n\
         [upstreams.up]\nmax_concurrent_requests = {KEYS}\n\
         [upstreams.up.auth.oauth2]\ntoken_url = \"{}/token\"\nclient_id = \"me\"\nclient_secret = \"s3cret\"\n\
         [sources.s]\nupstream = \"up\"\nurl = \"{}{{key}}\"\nkeys = [{}]\nrefresh_every = \"1h\"\n",
        database.url(),
        tokens.uri(),
        resources.url("/"),
        keys.join(", ")
    )
}
