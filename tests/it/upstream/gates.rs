//! What a gate allows and forbids.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use headpond::clock::{Clock, ManualClock};
use headpond::domain::failure::FailureKind;
use headpond::domain::observation::Seen;
use headpond::store::StoreError;
use headpond::upstream::{FetchRequest, Fetcher, Gate, Halt, NoPass};
use wiremock::matchers::{any, path};
use wiremock::{Mock, ResponseTemplate};

use super::{failure, fetcher, kind, mock_server, settings, url};

/// A gate that counts, and closes when it is told to.
#[derive(Default)]
pub struct TestGate {
    first: Option<fn() -> NoPass>,
    hop: Option<fn() -> NoPass>,
    hops: AtomicUsize,
    moves: Option<Arc<ManualClock>>,
}

impl TestGate {
    /// How many hops were let pass.
    pub fn hops(&self) -> usize {
        self.hops.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Gate for TestGate {
    async fn first(&self, _: Duration) -> Result<(), NoPass> {
        if let Some(clock) = &self.moves {
            clock.advance(Duration::from_secs(5));
        }
        self.first.map_or(Ok(()), |closed| Err(closed()))
    }

    async fn hop(&self, _: Instant) -> Result<(), NoPass> {
        if let Some(closed) = self.hop {
            return Err(closed());
        }
        self.hops.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn too_late() -> NoPass {
    NoPass::TooLate("waited for 3s".into())
}

fn store_fault() -> NoPass {
    StoreError::Busy("another writer".into()).into()
}

#[tokio::test]
async fn nothing_is_sent_when_the_gate_stays_closed() {
    let server = mock_server().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).expect(0).mount(&server).await;
    let (settings, url) = (settings(), url(&server, "/"));
    let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
    let late = fetcher().fetch(&request, &TestGate { first: Some(too_late), ..TestGate::default() }).await.unwrap();
    assert!(matches!(late.seen, Seen::Unreachable { .. }));
    assert_eq!((kind(&late), failure(&late).detail.as_str()), (FailureKind::Limited, "waited for 3s"));
    let fault = fetcher().fetch(&request, &TestGate { first: Some(store_fault), ..TestGate::default() }).await;
    assert!(matches!(fault, Err(Halt::Store(StoreError::Busy(_)))), "{fault:?}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_when_the_gate_stays_closed() {
    let server = mock_server().await;
    let answer = ResponseTemplate::new(302).insert_header("location", "/to");
    Mock::given(path("/from")).respond_with(answer).expect(2).mount(&server).await;
    Mock::given(path("/to")).respond_with(ResponseTemplate::new(200)).expect(0).mount(&server).await;
    let (settings, url) = (settings(), url(&server, "/from"));
    let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
    let late = fetcher().fetch(&request, &TestGate { hop: Some(too_late), ..TestGate::default() }).await.unwrap();
    assert_eq!((kind(&late), failure(&late).status), (FailureKind::Limited, Some(302)));
    assert_eq!(failure(&late).detail, "at a redirect: waited for 3s");
    let fault = fetcher().fetch(&request, &TestGate { hop: Some(store_fault), ..TestGate::default() }).await;
    assert!(matches!(fault, Err(Halt::Store(StoreError::Busy(_)))), "{fault:?}");
}

#[tokio::test]
async fn the_request_counts_from_when_the_gate_let_it_pass() {
    let server = mock_server().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(304)).mount(&server).await;
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let (settings, url) = (settings(), url(&server, "/"));
    let request = FetchRequest { url: &url, settings: &settings, body: None, validators: None };
    let gate = TestGate { moves: Some(clock.clone()), ..TestGate::default() };
    let observation = Fetcher::new(clock.clone()).unwrap().fetch(&request, &gate).await.unwrap();
    assert_eq!(observation.requested_at, clock.now());
    assert_eq!(clock.now().to_rfc3339(), "2026-01-01T00:00:05+00:00");
}
