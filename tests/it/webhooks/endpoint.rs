//! An endpoint that checks signatures as its own library would, and answers as a test wants.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;
use url::Url;
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

type Answers = Box<dyn Fn(&str) -> u16 + Send>;

struct Manner {
    answers: Answers,
    takes: Duration,
}

pub struct Endpoint {
    server: MockServer,
    manner: Arc<Mutex<Manner>>,
    /// How many requests are not looked at any more.
    forgotten: Mutex<usize>,
}

/// A message that came, whose signature is right.
pub struct Told {
    pub id: String,
    pub body: Value,
}

impl Told {
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }

    pub fn key(&self) -> &str {
        self.body["data"]["key"].as_str().unwrap()
    }
}

struct Responder(Arc<Mutex<Manner>>);

impl Respond for Responder {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let manner = self.0.lock().unwrap();
        let status = (manner.answers)(body["data"]["key"].as_str().unwrap_or_default());
        let answer = ResponseTemplate::new(status).set_delay(manner.takes);
        match status {
            307 => answer.insert_header("location", "/elsewhere"),
            429 => answer.insert_header("retry-after", "120"),
            _ => answer,
        }
    }
}

impl Endpoint {
    pub async fn start() -> Self {
        let server = MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await;
        let manner = Arc::new(Mutex::new(Manner { answers: Box::new(|_| 200), takes: Duration::ZERO }));
        Mock::given(any()).respond_with(Responder(Arc::clone(&manner))).mount(&server).await;
        Self { server, manner, forgotten: Mutex::new(0) }
    }

    pub fn url(&self) -> Url {
        Url::parse(&format!("{}/hooks?who=me", self.server.uri())).unwrap()
    }

    /// It answers so from now on, by the key of the resource.
    pub fn answers(&self, answers: impl Fn(&str) -> u16 + Send + 'static) {
        self.manner.lock().unwrap().answers = Box::new(answers);
    }

    /// It takes so long from now on.
    pub fn takes(&self, time: Duration) {
        self.manner.lock().unwrap().takes = time;
    }

    /// What came until now is not told any more.
    pub async fn forget(&self) {
        let asked = self.server.received_requests().await.unwrap().len();
        *self.forgotten.lock().unwrap() = asked;
    }

    /// Returns when something has come.
    pub async fn has_been_asked(&self) {
        while self.server.received_requests().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    /// All messages in their order, each checked: its signature, and that it was signed no later than now.
    pub async fn told(&self, now: DateTime<Utc>) -> Vec<Told> {
        let requests = self.server.received_requests().await.unwrap();
        let forgotten = *self.forgotten.lock().unwrap();
        requests.iter().skip(forgotten).map(|request| told(request, now)).collect()
    }
}

/// As the specification says: the base64 of the HMAC-SHA256 of id, time and body, with the bytes of the secret's base64.
fn told(request: &Request, now: DateTime<Utc>) -> Told {
    assert_eq!((request.method.as_str(), request.url.path(), request.url.query()), ("POST", "/hooks", Some("who=me")));
    let field = |name: &str| request.headers.get(name).unwrap().to_str().unwrap().to_owned();
    let (id, timestamp) = (field("webhook-id"), field("webhook-timestamp"));
    assert!(timestamp.parse::<i64>().unwrap() <= now.timestamp());
    let secret = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&request.body);
    assert_eq!(field("webhook-signature"), format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
    assert_eq!(field("content-type"), "application/json");
    Told { id, body: serde_json::from_slice(&request.body).unwrap() }
}
