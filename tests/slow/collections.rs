//! The same users by a collection, by batches and by single keys, behind OAuth2: requests, time, and how many answers of a second pass are
//! 304, printed beside each other.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use headpond::clock::monotonic;
use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

use crate::support::program::Headpond;

const PAGE: u64 = 100;

/// How many users: `HEADPOND_USERS`, or 50,000.
fn users() -> u64 {
    std::env::var("HEADPOND_USERS").ok().and_then(|users| users.parse().ok()).unwrap_or(50_000)
}

/// Lists users and has each by itself, for who shows a token that it gave.
#[derive(Default)]
struct Directory {
    users: u64,
    tokens: AtomicU64,
    requests: AtomicU64,
    confirmed: AtomicU64,
}

#[derive(Clone)]
struct Responder(Arc<Directory>);

impl Respond for Responder {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let path = request.url.path();
        if path == "/token" {
            self.0.tokens.fetch_add(1, Ordering::Relaxed);
            let token = json!({ "access_token": "t0ken", "token_type": "bearer", "expires_in": 3600 });
            return ResponseTemplate::new(200).set_body_json(token);
        }
        if request.headers.get("authorization").is_none_or(|shown| shown != "Bearer t0ken") {
            return ResponseTemplate::new(401);
        }
        self.0.requests.fetch_add(1, Ordering::Relaxed);
        let parameter = |name: &str| {
            let found = request.url.query_pairs().find(|(known, _)| known == name);
            found.map(|(_, value)| value.into_owned())
        };
        let after = parameter("after").map_or(0, |after| after.parse().unwrap());
        let body = match (path.strip_prefix("/users/"), parameter("ids")) {
            (Some(id), _) => user(id.parse().unwrap()),
            (None, Some(ids)) => {
                let data: Vec<Value> = ids.split(',').map(|id| user(id.parse().unwrap())).collect();
                json!({ "data": data })
            }
            (None, None) => {
                let last = (after + PAGE).min(self.0.users);
                let data: Vec<Value> = (after + 1..=last).map(user).collect();
                json!({ "data": data, "after": (last < self.0.users).then_some(last) })
            }
        };
        let etag = format!("\"{path}-{after}\"");
        if request.headers.get("if-none-match").is_some_and(|known| known.as_bytes() == etag.as_bytes()) {
            self.0.confirmed.fetch_add(1, Ordering::Relaxed);
            return ResponseTemplate::new(304).insert_header("etag", etag);
        }
        ResponseTemplate::new(200).insert_header("etag", etag).set_body_json(body)
    }
}

fn user(id: u64) -> Value {
    json!({ "id": id, "name": format!("User {id}"), "email": format!("user-{id}@example.com"), "points": id * 7 % 1000 })
}

/// What one pass cost.
struct Pass {
    requests: u64,
    confirmed: u64,
    seconds: f64,
}

async fn pass(directory: &Directory, headpond: &Headpond) -> Pass {
    directory.requests.store(0, Ordering::Relaxed);
    directory.confirmed.store(0, Ordering::Relaxed);
    let began: Instant = monotonic();
    let printed = headpond.run(&["refresh", "--force", "--json"]).await;
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(printed.code(), Some(0), "{printed:?}");
    let counts = printed.json();
    let done = ["new", "unchanged"].map(|name| counts[name].as_u64().unwrap()).iter().sum::<u64>();
    assert_eq!(done, directory.users, "{counts}");
    Pass {
        requests: directory.requests.load(Ordering::Relaxed),
        confirmed: directory.confirmed.load(Ordering::Relaxed),
        seconds,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_batches_and_single_keys_beside_each_other() {
    let directory = Arc::new(Directory { users: users(), ..Directory::default() });
    let server = MockServer::builder().disable_request_recording().start().await;
    Mock::given(any()).respond_with(Responder(Arc::clone(&directory))).mount(&server).await;
    let origin = server.uri();
    let files = tempfile::tempdir().unwrap();
    let keys = files.path().join("users.txt");
    std::fs::write(&keys, (1..=users()).map(|id| format!("{id}\n")).collect::<String>()).unwrap();
    let upstream = format!(
        "[upstreams.api]\nmax_concurrent_requests = 32\nauth.oauth2 = {{ token_url = '{origin}/token', client_id = 'me', \
         client_secret = 's3cret' }}\n[sources.users]\nupstream = 'api'\nrefresh_every = '1h'\n"
    );
    let collection = format!(
        "{upstream}kind = 'collection'\nurl = '{origin}/users'\nitems = '$.data[*]'\nitem_key = '$.id'\n\
         paginate = {{ by = 'cursor', param = 'after', next = '$.after' }}\n"
    );
    let listed = format!("keys_from = {{ file = '{}' }}\n", keys.display());
    let batch = format!(
        "{upstream}url = '{origin}/users?ids={{keys}}'\nbatch = {PAGE}\nitems = '$.data[*]'\nitem_key = '$.id'\n{listed}"
    );
    let single = format!("{upstream}url = '{origin}/users/{{key}}'\n{listed}");
    let mut table =
        String::from("| | requests | seconds | second pass | seconds | of these 304 |\n|---|---|---|---|---|---|\n");
    for (name, config) in [("collection, pages of 100", collection), ("batches of 100", batch), ("single keys", single)]
    {
        let headpond = Headpond::with_config(&config);
        let (first, second) = (pass(&directory, &headpond).await, pass(&directory, &headpond).await);
        _ = writeln!(
            table,
            "| {name} | {} | {:.1} | {} | {:.1} | {} % |",
            first.requests,
            first.seconds,
            second.requests,
            second.seconds,
            100 * second.confirmed / second.requests
        );
    }
    println!("{} users, {} access tokens\n{table}", users(), directory.tokens.load(Ordering::Relaxed));
}
