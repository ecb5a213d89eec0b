//! Last good is never lost for want of credentials, through the whole program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::support::program::Headpond;
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(the_last_good_copy_outlives_a_revoked_token_and_an_endpoint_that_gives_no_other);

async fn the_last_good_copy_outlives_a_revoked_token_and_an_endpoint_that_gives_no_other(database: &Database) {
    let revoked = Arc::new(AtomicBool::new(false));
    let server = upstream(revoked.clone()).await;
    let config = |endpoint: &str| {
        format!(
            "[database]\nurl = \"{}\"\n[upstreams.up]\ntimeout = \"2s\"\n[upstreams.up.auth.oauth2]\ntoken_url = \"{}/{endpoint}\"\n\
             client_id = \"me\"\nclient_secret = \"s3cret\"\n[sources.s]\nupstream = \"up\"\nurl = \"{}/k/{{key}}\"\n\
             keys = [\"k\"]\nrefresh_every = \"1h\"\n",
            database.url(),
            server.uri(),
            server.uri()
        )
    };
    let headpond = Headpond::with_config(&config("token"));
    let first = headpond.run(&["refresh", "--all", "--json"]).await;
    assert_eq!((first.code(), first.json()["new"].as_u64()), (Some(0), Some(1)), "{first:?}");

    revoked.store(true, Ordering::SeqCst);
    let outcomes =
        [("token", "client_error", Some(401)), ("page", "credentials", None), ("silence", "credentials", None)];
    for (endpoint, kind, status) in outcomes {
        headpond.configure(&config(endpoint));
        let refresh = headpond.run(&["refresh", "--all", "--force", "--json"]).await;
        assert_eq!((refresh.code(), refresh.json()["failed"].as_u64()), (Some(1), Some(1)), "{refresh:?}");
        let meta = headpond.run(&["get", "s", "k", "--meta"]).await.json();
        assert_eq!((&meta["failing"]["kind"], meta["failing"]["status"].as_u64()), (&kind.into(), status), "{meta}");
        assert_eq!(headpond.run(&["get", "s", "k"]).await.stdout, "good");
    }

    revoked.store(false, Ordering::SeqCst);
    headpond.configure(&config("token"));
    let healed = headpond.run(&["refresh", "--all", "--force", "--json"]).await;
    assert_eq!((healed.code(), healed.json()["unchanged"].as_u64()), (Some(0), Some(1)), "{healed:?}");
    // Good; twice with a token each, refused both times; none, and none; good again.
    let asked = server.received_requests().await.unwrap().into_iter().filter(|request| request.url.path() == "/k/k");
    assert_eq!(asked.count(), 4);
}

/// Tokens at `/token`, none at `/page` nor, for as long as anyone waits, at `/silence`, and resources for whoever has one that is not revoked.
async fn upstream(revoked: Arc<AtomicBool>) -> MockServer {
    let server = MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await;
    let token = ResponseTemplate::new(200).set_body_string(r#"{"access_token":"t","expires_in":3600}"#);
    let page = ResponseTemplate::new(200).set_body_raw("<html>Sign in</html>", "text/html");
    let silence = token.clone().set_delay(std::time::Duration::from_secs(60));
    for (at, answer) in [("/token", token), ("/page", page), ("/silence", silence)] {
        Mock::given(method("POST")).and(path(at)).respond_with(answer).mount(&server).await;
    }
    let resource = move |request: &Request| {
        let knows = request.headers.get("authorization").is_some_and(|shown| shown == "Bearer t");
        if knows && !revoked.load(Ordering::SeqCst) {
            ResponseTemplate::new(200).set_body_string("good")
        } else {
            ResponseTemplate::new(401)
        }
    };
    Mock::given(method("GET")).respond_with(resource).mount(&server).await;
    server
}
