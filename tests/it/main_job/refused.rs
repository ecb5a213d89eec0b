//! Two upstreams, of which one has had enough: it answers 429 for a while, and the program is killed in the middle of that.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use headpond::clock::monotonic;
use http::StatusCode;
use serde_json::Value;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::REFUSED;
use crate::support::program::{Headpond, eventually, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(an_upstream_that_has_had_enough_is_left_alone_even_by_the_one_who_comes_after_a_kill);

/// How much is asked for, and for how long it is refused.
pub struct Refused {
    /// Keys of each of the two upstreams.
    pub keys: usize,
    /// What the one that refuses says.
    pub retry_after: Duration,
    /// For how long it refuses.
    pub lasts: Duration,
}

const PATIENCE: Duration = Duration::from_secs(180);
const AT_ONCE: usize = 8;

/// An origin with a log of its own.
#[derive(Default)]
struct Origin {
    /// When each request arrived, and what was answered.
    log: Mutex<Vec<(Instant, StatusCode)>>,
    refuses_for: Duration,
}

impl Origin {
    /// Starts one that refuses for so long from its first request on.
    async fn start(refuses_for: Duration) -> (Arc<Self>, MockServer) {
        let origin = Arc::new(Self { refuses_for, ..Self::default() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = MockServer::builder().listener(listener).disable_request_recording().start().await;
        let answers = Arc::clone(&origin);
        Mock::given(any()).respond_with(move |asked: &wiremock::Request| answers.answer(asked)).mount(&server).await;
        (origin, server)
    }

    fn answer(&self, asked: &wiremock::Request) -> ResponseTemplate {
        let now = monotonic();
        let mut log = self.log.lock().unwrap();
        let first = log.first().map_or(now, |(first, _)| *first);
        // Whoever comes back first is refused once more, however late that is on a busy machine.
        let is_first_back = log.last().is_some_and(|(last, _)| *last - first < REFUSED.retry_after);
        let refuses = now - first < self.refuses_for || (!self.refuses_for.is_zero() && is_first_back);
        let status = if refuses { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
        log.push((now, status));
        match status {
            StatusCode::OK => ResponseTemplate::new(status).set_body_string(format!("{:?}", asked.url.path())),
            _ => ResponseTemplate::new(status).insert_header("retry-after", REFUSED.retry_after.as_secs().to_string()),
        }
    }

    fn log(&self) -> Vec<(Instant, StatusCode)> {
        self.log.lock().unwrap().clone()
    }

    fn count(&self, status: StatusCode) -> usize {
        self.log().iter().filter(|(_, answered)| *answered == status).count()
    }
}

async fn an_upstream_that_has_had_enough_is_left_alone_even_by_the_one_who_comes_after_a_kill(database: &Database) {
    let (busy, busy_at) = Origin::start(REFUSED.lasts).await;
    let (calm, calm_at) = Origin::start(Duration::ZERO).await;
    let keys = (1..=REFUSED.keys).map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join(", ");
    let headpond = Headpond::with_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n\
         [defaults]\nmax_concurrent_requests = {AT_ONCE}\nrefresh_every = \"1d\"\n\
         [sources.busy]\nurl = \"{}/{{key}}\"\nkeys = [{keys}]\n\
         [sources.calm]\nurl = \"{}/{{key}}\"\nkeys = [{keys}]\n",
        database.url(),
        busy_at.uri(),
        calm_at.uri()
    ));
    let began = monotonic();
    let killed = headpond.serve().await;
    let is_paused = async || {
        let (_, status) = get_json(&killed.url("/v1/-/status")).await;
        let is = |upstream: &Value| !upstream["pauses"].as_array().unwrap().is_empty() && upstream["in_flight"] == 0;
        status["upstreams"].as_array().unwrap().iter().any(is).then_some(())
    };
    eventually("all that was under way is stored, and a pause", PATIENCE, is_paused).await;
    // The other one is asked for all that it has while this one is left alone.
    eventually("all of the calm one", PATIENCE, async || (calm.log().len() == REFUSED.keys).then_some(())).await;
    let calm_took = monotonic() - began;
    let before = busy.log().len();
    killed.signal("KILL");
    killed.ended().await;
    let paused = database.number("SELECT count(*) FROM {upstream} WHERE standing IS NOT NULL").await;
    assert_eq!(paused, 1, "that is what the next one finds");

    let serving = headpond.serve().await;
    eventually("all of the busy one", PATIENCE, async || (busy.count(StatusCode::OK) == REFUSED.keys).then_some(()))
        .await;
    let (_, health) = get_json(&serving.url("/v1/-/status")).await;
    serving.stop().await;

    assert_eq!(calm.count(StatusCode::OK), REFUSED.keys, "the calm one is asked for each once");
    let log = busy.log();
    let refused: Vec<_> = log.iter().filter(|(_, status)| *status == StatusCode::TOO_MANY_REQUESTS).collect();
    // Those that were under way when the first of them was refused; none of them is late.
    let first = log[0].0;
    let wave = log.iter().take_while(|(at, _)| *at - first < REFUSED.retry_after).count();
    assert!(
        wave <= AT_ONCE && before >= wave,
        "{wave} requests before the first pause was over, {before} before the kill"
    );
    // From then on, one at a time finds out, and none comes before the time that the last one was told.
    for pair in log[wave - 1..].windows(2).filter(|pair| pair[0].1 == StatusCode::TOO_MANY_REQUESTS) {
        let apart = pair[1].0 - pair[0].0;
        assert!(apart >= REFUSED.retry_after, "{apart:?} after it was told to wait {:?}", REFUSED.retry_after);
    }
    assert!(refused.len() > wave, "it refused for longer than it was first told to wait: {health}");
    println!(
        "calm: {} requests in {calm_took:.1?} with the start; busy: {wave} refused at once, then one each at {:?} s, then {} answered",
        REFUSED.keys,
        refused[wave..].iter().map(|(at, _)| (*at - first).as_secs()).collect::<Vec<_>>(),
        busy.count(StatusCode::OK)
    );
}
