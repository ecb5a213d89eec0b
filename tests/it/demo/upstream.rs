//! The simulated upstream by itself, by a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use headpond::clock::ManualClock;
use headpond::demo::upstream::Upstream;
use headpond::demo::upstream::cities::CITIES;
use headpond::demo::upstream::faults::Shares;
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::PATIENCE;
use crate::support::program::eventually;
use crate::support::store::start;

/// One on a port of its own; it ends with this.
struct Simulated {
    origin: String,
    clock: Arc<ManualClock>,
    stop: CancellationToken,
}

impl Simulated {
    async fn start(seed: u64, shares: Shares) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let clock = Arc::new(ManualClock::at(start()));
        let stop = CancellationToken::new();
        let upstream = Upstream::new(Arc::clone(&clock) as _, seed, shares);
        tokio::spawn(upstream.serve(listener, stop.clone()));
        Self { origin, clock, stop }
    }

    async fn ask(&self, method: Method, path: &str, fields: &[(&str, &str)]) -> reqwest::Result<Response> {
        _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.request(method, format!("{}{path}", self.origin));
        fields.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await
    }

    async fn get(&self, path: &str, fields: &[(&str, &str)]) -> reqwest::Result<Response> {
        self.ask(Method::GET, path, fields).await
    }

    async fn post(&self, path: &str) -> Response {
        self.ask(Method::POST, path, &[]).await.unwrap()
    }

    /// The ETag and the body of a good answer.
    async fn content(&self, path: &str) -> (String, Value) {
        let answer = self.get(path, &[]).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        (field(&answer, "etag"), json(answer).await)
    }

    async fn stats(&self) -> Value {
        json(self.get("/stats", &[]).await.unwrap()).await
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn json(answer: Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

fn field(answer: &Response, name: &str) -> String {
    answer.headers()[name].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_has_the_content_already_gets_304() {
    let upstream = Simulated::start(1, Shares::NONE).await;
    for path in ["/weather/berlin", "/users/u1"] {
        let first = upstream.get(path, &[]).await.unwrap();
        let (etag, modified) = (field(&first, "etag"), field(&first, "last-modified"));
        assert!(first.headers().contains_key("cache-control"));
        assert!(json(first).await.is_object());
        for condition in [("if-none-match", etag.as_str()), ("if-modified-since", &modified)] {
            let again = upstream.get(path, &[condition]).await.unwrap();
            assert_eq!((again.status().as_u16(), field(&again, "etag")), (304, etag.clone()), "{condition:?}");
            assert_eq!(again.bytes().await.unwrap().len(), 0);
        }
        let other = upstream.get(path, &[("if-none-match", "\"other\"")]).await.unwrap();
        assert_eq!(other.status(), 200);
    }
    let stats = upstream.stats().await;
    assert_eq!((&stats["requests"], &stats["contents"], &stats["not_modified"]), (&8.into(), &4.into(), &4.into()));
}

#[tokio::test]
async fn contents_move_on_with_time_and_only_with_time() {
    let upstream = Simulated::start(1, Shares::NONE).await;
    for (path, longest_step) in [("/weather/berlin", 60), ("/users/u1", 600)] {
        let (etag, body) = upstream.content(path).await;
        assert_eq!(upstream.content(path).await, (etag.clone(), body.clone()));
        upstream.advance(longest_step);
        let later = upstream.get(path, &[("if-none-match", &etag)]).await.unwrap();
        assert_eq!(later.status(), 200, "{path}");
        assert_ne!(field(&later, "etag"), etag);
        assert_ne!(json(later).await, body);
    }
}

#[tokio::test]
async fn upstreams_of_one_seed_answer_the_same_and_others_do_not() {
    let (one, twin, other) = (
        Simulated::start(1, Shares::NONE).await,
        Simulated::start(1, Shares::NONE).await,
        Simulated::start(2, Shares::NONE).await,
    );
    let paths = CITIES.iter().step_by(20).map(|city| format!("/weather/{}", city.key));
    for path in paths.chain(["/users/u1".into(), "/users/u2000".into()]) {
        let content = one.content(&path).await;
        assert_eq!(content, twin.content(&path).await);
        assert_ne!(content, other.content(&path).await);
    }
}

#[tokio::test]
async fn while_it_is_off_no_request_is_answered() {
    let upstream = Simulated::start(1, Shares::NONE).await;
    assert_eq!(upstream.post("/off?for=1m").await.text().await.unwrap(), "off for 1m; POST /on ends it earlier\n");
    let error = upstream.get("/weather/berlin", &[]).await.unwrap_err();
    assert!(error.is_request() && error.status().is_none(), "{error:?}");
    let stats = upstream.stats().await;
    assert_eq!((&stats["requests"], &stats["dropped"]), (&1.into(), &1.into()));
    assert_eq!(stats["off_until"], "2027-01-15T08:01:00Z");
    upstream.advance(59);
    upstream.get("/weather/berlin", &[]).await.unwrap_err();
    upstream.advance(1);
    assert_eq!(upstream.get("/weather/berlin", &[]).await.unwrap().status(), 200, "it comes back by itself");
    assert_eq!(upstream.stats().await["off_until"], Value::Null);

    upstream.post("/off").await;
    upstream.advance(1_000_000);
    upstream.get("/weather/berlin", &[]).await.unwrap_err();
    assert_eq!(upstream.post("/on").await.text().await.unwrap(), "on\n");
    assert_eq!(upstream.get("/weather/berlin", &[]).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_kept_connection_is_closed_too_when_it_is_off() {
    let upstream = Simulated::start(1, Shares::NONE).await;
    _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/weather/berlin", upstream.origin);
    client.get(&url).send().await.unwrap().bytes().await.unwrap();
    upstream.post("/off?for=1m").await;
    client.get(&url).send().await.unwrap_err();
}

#[tokio::test]
async fn faults_are_answered_as_what_they_are() {
    let rate_limited = Simulated::start(1, Shares { rate_limited: 1000, ..Shares::NONE }).await;
    let answer = rate_limited.get("/weather/berlin", &[]).await.unwrap();
    assert_eq!((answer.status().as_u16(), field(&answer, "retry-after").as_str()), (429, "3"));
    assert_eq!(rate_limited.stats().await["rate_limited"], 1);

    let unavailable = Simulated::start(1, Shares { unavailable: 1000, ..Shares::NONE }).await;
    assert_eq!(unavailable.get("/users/u1", &[]).await.unwrap().status(), 503);
    assert_eq!(unavailable.stats().await["unavailable"], 1);
}

#[tokio::test]
async fn a_slow_answer_waits_for_its_time_and_does_not_come_from_an_upstream_that_is_off_by_then() {
    let upstream = Simulated::start(1, Shares { slow: 1000, ..Shares::NONE }).await;
    for is_turned_off in [false, true] {
        let before = upstream.stats().await["requests"].as_u64().unwrap();
        let mut answer = std::pin::pin!(upstream.get("/weather/berlin", &[]));
        let has_come = eventually("the request", PATIENCE, || async {
            (upstream.stats().await["requests"].as_u64() == Some(before + 1)).then_some(())
        });
        tokio::select! {
            early = &mut answer => panic!("{early:?}"),
            () = has_come => {}
        }
        if is_turned_off {
            upstream.post("/off?for=1m").await;
        }
        upstream.advance(2);
        assert_eq!(answer.await.is_err(), is_turned_off);
    }
}

#[tokio::test]
async fn what_it_does_not_know_is_said() {
    let upstream = Simulated::start(1, Shares::NONE).await;
    for (query, parts) in
        [("for=soon", ["for", "30s or 1m"]), ("fro=1m", ["fro", "`for`"]), ("for=1m&for=2m", ["for", "once"])]
    {
        let refused = upstream.post(&format!("/off?{query}")).await;
        assert_eq!(refused.status(), 400);
        let detail = refused.text().await.unwrap();
        assert!(parts.iter().all(|part| detail.contains(part)), "{detail}");
    }
    assert_eq!(upstream.get("/off?for=1m", &[]).await.unwrap().status(), 405);
    for path in ["/weather/atlantis", "/users/u2001", "/"] {
        assert_eq!(upstream.get(path, &[]).await.unwrap().status(), 404, "{path}");
    }
    assert_eq!(upstream.get("/weather/berlin", &[]).await.unwrap().status(), 200, "none of it turned it off");
}
