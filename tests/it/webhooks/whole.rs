//! The whole program: `serve` calls an endpoint that its configuration names.

use std::time::Duration;

use headpond::clock::{Clock, SystemClock};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::endpoint::{Endpoint, SECRET};
use crate::support::program::{Headpond, eventually};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(serve_calls_and_what_is_given_up_is_resumed_by_hand);

const PATIENCE: Duration = Duration::from_secs(60);

async fn serve_calls_and_what_is_given_up_is_resumed_by_hand(database: &Database) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = MockServer::builder().listener(listener).start().await;
    Mock::given(any())
        .respond_with(ResponseTemplate::new(200).set_body_raw("{}", "application/json"))
        .mount(&upstream)
        .await;
    let endpoint = Endpoint::start().await;
    endpoint.answers(|_| 410);
    let headpond = Headpond::with_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[sources.users]\nurl = \"{}/{{key}}\"\n\
         keys = [\"ada\", \"bob\"]\nrefresh_every = \"1h\"\n\
         [[webhooks]]\nname = \"app\"\nurl = \"{}\"\nsecret = \"{SECRET}\"\n",
        database.url(),
        upstream.uri(),
        endpoint.url()
    ));
    let none = headpond.run(&["webhooks", "list"]).await;
    assert_eq!(none.code(), Some(2), "there is no database yet: {none:?}");
    let serving = headpond.serve().await;
    serving.logged("nothing is sent to it any more").await;
    let listed = headpond.run(&["webhooks", "list"]).await;
    assert!(listed.stdout.contains("dead since") && listed.stdout.contains("410"), "{listed:?}");
    let wrong = headpond.run(&["webhooks", "resume", "ap"]).await;
    assert!(wrong.code() == Some(2) && wrong.stderr.contains("known are app"), "{wrong:?}");
    endpoint.answers(|_| 200);
    endpoint.forget().await;
    assert_eq!(headpond.run(&["webhooks", "resume", "app"]).await.code(), Some(0));
    let now = SystemClock::new().now() + chrono::TimeDelta::hours(1);
    eventually("both are told", PATIENCE, async || (endpoint.told(now).await.len() == 2).then_some(())).await;
    let mut keys: Vec<_> = endpoint.told(now).await.iter().map(|one| one.key().to_owned()).collect();
    keys.sort();
    assert_eq!(keys, ["ada", "bob"]);
    serving.stop().await;
    let listed = headpond.run(&["webhooks", "list", "--json"]).await.json();
    assert_eq!((&listed[0]["name"], &listed[0]["delivered"]), (&"app".into(), &2.into()));
}
