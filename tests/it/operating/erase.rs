//! Replaced contents and erasing, at the command line.

use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::Headpond;
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(a_user_is_read_by_versions_and_then_erased_for_good);

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
