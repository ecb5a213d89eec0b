//! Replaced contents and erasing, at the command line.

use std::time::Duration;

use headpond::clock::{Clock, SystemClock};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::{Headpond, eventually};
use crate::support::store::{Database, on_each_empty_database};
use crate::webhooks::endpoint::{Endpoint, SECRET};

on_each_empty_database!(
    a_user_is_read_by_versions_and_then_erased_for_good,
    what_is_erased_is_out_of_the_webhooks_and_stays_so_for_all_processes,
);

const CANARY: &str = "canary-51c0";

async fn answers(server: &MockServer, body: &str) {
    server.reset().await;
    for key in ["/ada", "/bob"] {
        let found = ResponseTemplate::new(200).set_body_raw(body.to_owned(), "application/json");
        Mock::given(method("GET")).and(path(key)).respond_with(found).mount(server).await;
    }
}

async fn a_user_is_read_by_versions_and_then_erased_for_good(database: &Database) {
    let server = MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await;
    let headpond = Headpond::with_config(&format!(
        "[database]\nurl = \"{}\"\n[sources.users]\nurl = \"{}/{{key}}\"\nkeys = [\"ada\", \"bob\"]\n\
         refresh_every = \"1h\"\nhistory = {{ versions = 3 }}\n",
        database.url(),
        server.uri()
    ));
    for n in 1..=2 {
        answers(&server, &format!(r#"{{"n":{n},"name":"{CANARY}"}}"#)).await;
        assert_eq!(headpond.run(&["refresh", "--force"]).await.code(), Some(0));
    }
    let version = async |n: &str| headpond.run(&["get", "users", "ada", "--version", n]).await;
    assert_eq!(version("1").await.stdout, format!(r#"{{"n":1,"name":"{CANARY}"}}"#));
    assert_eq!(version("2").await.stdout, format!(r#"{{"n":2,"name":"{CANARY}"}}"#));
    let missing = version("3").await;
    assert_eq!(missing.code(), Some(1));
    assert!(
        missing.stderr.contains("users/ada has no version 3, or keeps it no longer: there are 2, 1"),
        "{missing:?}"
    );
    assert_eq!(version("0").await.code(), Some(2));
    let status = headpond.run(&["status"]).await;
    assert!(status.stdout.contains("REPLACED CONTENTS KEPT"), "{status:?}");

    let erased = headpond.run(&["erase", "users", "ada", "nobody", "bob"]).await;
    assert_eq!(erased.code(), Some(1), "{erased:?}");
    assert!(
        erased.stdout.starts_with("ada: erased\nnobody: there is no such key, so nothing was erased"),
        "{erased:?}"
    );
    assert_eq!(database.places_of(CANARY).await, Vec::<String>::new());
    let read = headpond.run(&["get", "users", "ada"]).await;
    assert!(read.code() == Some(1) && read.stderr.contains("users/ada is erased"), "{read:?}");
    server.reset().await;
    assert_eq!(headpond.run(&["refresh", "--force"]).await.code(), Some(0));
    let added = headpond.run(&["keys", "add", "users", "ada"]).await;
    assert!(added.code() == Some(1) && added.stdout.contains("ada: not polled, since it is erased"), "{added:?}");
    assert_eq!(server.received_requests().await.unwrap().len(), 0, "nobody asks for it");

    let allowed = headpond.run(&["erase", "users", "ada", "--allow"]).await;
    assert_eq!((allowed.code(), allowed.stdout.as_str()), (Some(0), "ada: allowed; it is due now\n"), "{allowed:?}");
    assert_eq!(headpond.run(&["erase", "users", "ada", "--allow"]).await.code(), Some(1));
    answers(&server, r#"{"n":3}"#).await;
    assert_eq!(headpond.run(&["refresh"]).await.code(), Some(0));
    assert_eq!(headpond.run(&["get", "users", "ada"]).await.stdout, r#"{"n":3}"#);
    assert_eq!(headpond.run(&["erase", "usres", "ada"]).await.code(), Some(2));
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Two of them refresh every second, while a webhook's endpoint takes nothing.
async fn what_is_erased_is_out_of_the_webhooks_and_stays_so_for_all_processes(database: &Database) {
    let server = MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await;
    let found = |body: String| ResponseTemplate::new(200).set_body_raw(body, "application/json");
    Mock::given(path("/ada")).respond_with(found(format!("{{\"name\":\"{CANARY}\"}}"))).mount(&server).await;
    Mock::given(path("/bob")).respond_with(found("{\"name\":\"Bob\"}".into())).mount(&server).await;
    let endpoint = Endpoint::start().await;
    endpoint.answers(|_| 503);
    let headpond = Headpond::with_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[sources.users]\nurl = \"{}/{{key}}\"\n\
         keys = [\"ada\", \"bob\"]\nrefresh_every = \"1s\"\nhistory = {{ versions = 3 }}\n\
         [[webhooks]]\nname = \"app\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\ninclude = \"data\"\n",
        database.url(),
        server.uri(),
        endpoint.url()
    ));
    let (first, second) = (headpond.serve().await, headpond.serve().await);
    let queued = async || {
        let listed = headpond.run(&["webhooks", "list", "--json"]).await;
        (listed.json()[0]["queued"].as_u64() >= Some(2)).then_some(())
    };
    eventually("both keys wait for the endpoint", PATIENCE, queued).await;
    assert_ne!(database.places_of(CANARY).await, Vec::<String>::new());

    assert_eq!(headpond.run(&["erase", "users", "ada"]).await.code(), Some(0));
    let asked = async |of: &str| {
        let all = server.received_requests().await.unwrap();
        all.iter().filter(|request| request.url.path() == of).count()
    };
    // Nobody claims it any more. What was under way may still arrive; but then it is quiet, while the other is asked for again and again.
    let later = SystemClock::new().now() + chrono::TimeDelta::hours(1);
    let heard = async || {
        let told = endpoint.told(later).await;
        (asked("/ada").await, told.iter().filter(|message| message.body.to_string().contains(CANARY)).count())
    };
    let is_quiet = async || {
        let (before, round) = (heard().await, asked("/bob").await);
        eventually("rounds", PATIENCE, async || (asked("/bob").await >= round + 4).then_some(())).await;
        (heard().await == before).then_some(())
    };
    eventually("it is asked for no more, and nobody is told of it", PATIENCE, is_quiet).await;
    first.stop().await;
    second.stop().await;
    assert_eq!(database.places_of(CANARY).await, Vec::<String>::new());
}
