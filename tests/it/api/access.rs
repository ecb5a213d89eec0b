//! Who may read and who may administer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use headpond::api::access::{Access, Admin};
use headpond::api::settings::Settings;
use headpond::api::{ApiState, router};
use headpond::config::{self, CorsOrigins};
use headpond::domain::resource::SourceName;
use http::HeaderValue;
use secrecy::SecretString;
use tokio::sync::watch;

use super::pond;
use super::serving::{Answer, Served, settings};
use crate::support::outcomes::content;
use crate::support::store::{TestStore, on_each_database};

const READ: &str = "read-whatever-has-no-own";
const USERS: &str = "read-the-users-and-only-these";
const ADMIN: &str = "administer-everything";

on_each_database!(
    each_token_opens_what_it_is_for,
    the_feed_shows_what_its_reader_may_read,
    a_source_that_the_config_no_longer_has_is_for_admins,
);

/// A server whose store has the sources `weather` and `users`, each with the key `k0`, and `old`, which is in the config no
/// more. `users` has tokens of its own, if any source has.
async fn guarded(test: &TestStore, read: &[&str], users: &[&str], admin: &[&str]) -> Served {
    for name in ["weather", "users", "old"] {
        let source = test.source_with_keys(name, 1).await;
        test.settle(&test.claim_one(source.upstream).await, content(name, &[])).await;
    }
    let server = server(read, admin);
    let state = state(test, &server, users);
    Served::start(router(state), server).await
}

fn server(read: &[&str], admin: &[&str]) -> config::Server {
    config::Server { read_tokens: tokens(read), admin_tokens: tokens(admin), ..settings() }
}

fn tokens(tokens: &[&str]) -> Vec<SecretString> {
    tokens.iter().map(|token| SecretString::from(*token)).collect()
}

fn state(test: &TestStore, server: &config::Server, users: &[&str]) -> ApiState {
    let [weather_name, users_name] = ["weather", "users"].map(|name| SourceName::new(name).unwrap());
    let of_users = tokens(users);
    let access = Access::of(server, [(&weather_name, &[][..]), (&users_name, &of_users[..])].into_iter());
    let sources = [weather_name, users_name].into();
    let (_, settings) = watch::channel(Arc::new(Settings { sources, access, ..pond::reading(server) }));
    let (store, clock) = (Arc::clone(&test.store), Arc::clone(&test.clock) as _);
    ApiState { settings, ..pond::state(store, clock, server) }
}

async fn ask(served: &Served, method: &str, path: &str, fields: &[String]) -> Answer {
    let fields = [&["Host: x".into(), "Content-Length: 0".into()], fields, &[String::new(), String::new()]].concat();
    served.exchange(method, format!("{method} {path} HTTP/1.1\r\n{}", fields.join("\r\n"))).await
}

fn bearer(token: &str) -> Vec<String> {
    vec![format!("Authorization: Bearer {token}")]
}

/// Asserts the status, and what goes with it.
fn assert_status(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status(), status, "{what}: {}", answer.text());
    assert_eq!(answer.field("www-authenticate"), (status == 401).then_some("Bearer"), "{what}");
    match status {
        401 => _ = answer.problem("unauthorized"),
        403 => _ = answer.problem("forbidden"),
        _ => {}
    }
    for token in [READ, USERS, ADMIN] {
        assert!(!answer.text().contains(token), "{what}");
    }
}

async fn each_token_opens_what_it_is_for(test: &TestStore) {
    let served = guarded(test, &[READ, "another-reader-of-it-all"], &[USERS], &[ADMIN]).await;
    let [weather, meta, users, feed, health, ready] =
        ["/v1/weather/k0", "/v1/weather/k0/meta", "/v1/users/k0", "/v1/-/changes", "/healthz", "/readyz"];
    for (who, fields, expected) in [
        ("nobody", vec![], [401, 401, 401, 401]),
        ("a reader", bearer(READ), [200, 200, 403, 200]),
        ("the other reader", bearer("another-reader-of-it-all"), [200, 200, 403, 200]),
        ("a reader of users", bearer(USERS), [403, 403, 200, 403]),
        ("an admin", bearer(ADMIN), [200, 200, 200, 200]),
        ("in lower case", vec![format!("authorization: bearer {READ}")], [200, 200, 403, 200]),
        ("with more spaces", vec![format!("Authorization: BEARER   {READ}")], [200, 200, 403, 200]),
        ("a prefix", bearer(&READ[..READ.len() - 1]), [401; 4]),
        ("one more letter", bearer(&format!("{READ}x")), [401; 4]),
        ("another case", bearer(&READ.to_uppercase()), [401; 4]),
        ("two tokens in one", bearer(&format!("{READ} {ADMIN}")), [401; 4]),
        ("nothing", bearer(""), [401; 4]),
        ("no scheme", vec![format!("Authorization: {READ}")], [401; 4]),
        ("no space", vec![format!("Authorization: Bearer{READ}")], [401; 4]),
        ("another scheme", vec![format!("Authorization: Basic {READ}")], [401; 4]),
        ("an empty field", vec!["Authorization:".into()], [401; 4]),
        ("two fields", [bearer(READ), bearer(ADMIN)].concat(), [401; 4]),
        ("the query", vec![format!("X-Token: {READ}")], [401; 4]),
        ("a long one", bearer(&"x".repeat(12_000)), [401; 4]),
    ] {
        for (path, status) in [weather, meta, users, feed].into_iter().zip(expected) {
            assert_status(&ask(&served, "GET", path, &fields).await, status, &format!("{who}: {path}"));
        }
        for (path, status) in [
            ("/v1/weather", expected[0]),
            ("/v1/weather?key=k0", expected[0]),
            ("/v1/weather?keys=k0", expected[0]),
            ("/v1/users", expected[2]),
            ("/v1/users?key=k0", expected[2]),
            ("/v1/users?keys=k0", expected[2]),
            ("/v1/%75sers/k0", expected[2]),
            // There are no metrics in this test.
            ("/metrics", if expected[3] == 200 { 404 } else { expected[3] }),
        ] {
            assert_status(&ask(&served, "GET", path, &fields).await, status, &format!("{who}: {path}"));
        }
        for path in [health, ready] {
            assert_eq!(ask(&served, "GET", path, &fields).await.status(), 200, "{who}: {path}");
        }
    }
    let bytes = b"GET /v1/weather/k0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n";
    assert_status(&served.exchange("GET", bytes).await, 401, "bytes that are no text");
    let head = ask(&served, "HEAD", weather, &[]).await;
    assert_eq!((head.status(), head.field("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(ask(&served, "GET", &format!("{weather}?access_token={READ}"), &[]).await.status(), 401);
}

async fn the_feed_shows_what_its_reader_may_read(test: &TestStore) {
    let served = guarded(test, &[READ], &[USERS], &[ADMIN]).await;
    let sources = async |token: &str, query: &str| {
        let answer = ask(&served, "GET", &format!("/v1/-/changes{query}"), &bearer(token)).await;
        let page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let changes = page["changes"].as_array().unwrap();
        let sources: Vec<_> = changes.iter().map(|change| change["source"].as_str().unwrap().to_owned()).collect();
        (sources, page["next"].as_str().unwrap().to_owned())
    };
    let (all, end) = sources(ADMIN, "").await;
    assert_eq!(all, ["weather", "users", "old"]);
    assert_eq!(sources(READ, "").await, (vec!["weather".into()], end.clone()), "and its end is the same place");
    let (first, place) = sources(READ, "?limit=1").await;
    assert_eq!(first, ["weather"]);
    let (none, further) = sources(READ, &format!("?limit=1&since={place}")).await;
    assert!(none.is_empty() && further != place, "what is hidden is passed over");
    assert_eq!(sources(READ, &format!("?since={further}")).await, (vec![], end));
    assert_eq!(sources(USERS, "?source=users").await.0, ["users"], "a source's own token opens its part");
    assert_eq!(sources(ADMIN, "?source=old").await.0, ["old"]);
    for (token, source, status) in [
        (READ, "users", 403),
        (USERS, "weather", 403),
        (READ, "old", 404),
        (ADMIN, "nothing", 404),
        (ADMIN, "No-Name", 404),
        ("none-of-these-tokens", "weather", 401),
    ] {
        let answer = ask(&served, "GET", &format!("/v1/-/changes?source={source}"), &bearer(token)).await;
        assert_eq!(answer.status(), status, "{token}, {source}: {}", answer.text());
    }
}

async fn a_source_that_the_config_no_longer_has_is_for_admins(test: &TestStore) {
    let served = guarded(test, &[READ], &[USERS], &[ADMIN]).await;
    for (token, status) in [(READ, 404), (ADMIN, 200)] {
        let answer = ask(&served, "GET", "/v1/old/k0", &bearer(token)).await;
        assert_eq!(answer.status(), status, "{token}");
        if status == 404 {
            answer.problem("unknown-source");
        }
    }
    let answer = ask(&served, "GET", "/v1/old/k0", &bearer(USERS)).await;
    assert_status(&answer, 403, "whether there is one is for readers");
    assert_status(&ask(&served, "GET", "/v1/nowhere/k0", &bearer(USERS)).await, 403, "in the same words");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_read_tokens_anyone_reads_what_has_no_own() {
    TestStore::sqlite()
        .await
        .check(async |test: &TestStore| {
            let served = guarded(test, &[], &[USERS], &[]).await;
            for (fields, path, status) in [
                (vec![], "/v1/weather/k0", 200),
                (bearer("whatever-it-may-be"), "/v1/weather/k0", 200),
                (vec![], "/v1/-/changes", 200),
                (vec![], "/v1/users/k0", 401),
                (bearer(USERS), "/v1/users/k0", 200),
                (vec![], "/v1/old/k0", 404),
            ] {
                assert_status(&ask(&served, "GET", path, &fields).await, status, path);
            }
            let open = Served::start(router(state(test, &server(&[], &[]), &[])), settings()).await;
            for path in ["/v1/weather/k0", "/v1/users/k0", "/v1/old/k0", "/v1/-/changes"] {
                assert_eq!(ask(&open, "GET", path, &[]).await.status(), 200, "no token is configured: {path}");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn administering_takes_an_admin_token_or_this_machine() {
    TestStore::sqlite().await.check(administering).await;
}

async fn administering(test: &TestStore) {
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let with_tokens = server(&[READ], &[ADMIN]);
    let (local, remote) = (settings(), config::Server { listen: anywhere, ..settings() });
    let origin = HeaderValue::from_static("http://127.0.0.1:8080");
    let naming = config::Server { cors_origins: CorsOrigins::These(vec![origin]), ..settings() };
    let all = config::Server { cors_origins: CorsOrigins::All, ..settings() };
    let from_page = vec!["Origin: http://127.0.0.1:8080".to_owned()];
    for (server, fields, status, why) in [
        (&with_tokens, bearer(ADMIN), 200, ""),
        (&with_tokens, [bearer(ADMIN), from_page.clone()].concat(), 200, ""),
        (&with_tokens, bearer(READ), 403, "not one of those"),
        (&with_tokens, bearer(USERS), 403, "not one of those"),
        (&with_tokens, bearer(&ADMIN[1..]), 401, ""),
        (&with_tokens, vec![], 401, ""),
        (&local, vec![], 200, ""),
        (&local, from_page.clone(), 403, "from a web page"),
        (&local, vec!["Origin: null".into()], 403, "from a web page"),
        (&naming, from_page.clone(), 200, ""),
        (&naming, vec!["Origin: https://evil.example".into()], 403, "from a web page"),
        (&naming, [from_page.clone(), vec!["Origin: null".into()]].concat(), 403, "from a web page"),
        (&all, from_page.clone(), 403, "from a web page"),
        (&remote, vec![], 403, "set server.admin_tokens"),
        (&remote, bearer(USERS), 403, "set server.admin_tokens"),
    ] {
        let done =
            Router::new().route("/do", post(|_: Admin| async { "done" })).with_state(state(test, server, &[USERS]));
        let served = Served::start(done, settings()).await;
        let answer = ask(&served, "POST", "/do", &fields).await;
        assert_status(&answer, status, why);
        assert!(answer.text().contains(why), "{}", answer.text());
    }
}
