//! A database server that can only be read, from the start or from one moment on.

use std::time::Duration;

use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::postgres::PostgresServer;
use crate::support::program::{Headpond, eventually, get, get_json};
use crate::support::proxy::Proxy;
use crate::support::store::Database;

const PATIENCE: Duration = Duration::from_secs(30);

/// What every command that needs the database says of a standby, and no more.
const SAID: &str = "the database server is a standby, which can't be written to: give the primary's address";

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_refused_and_a_serve_whose_primary_is_lost_reads_on_and_goes_on_when_the_standby_is_promoted() {
    let upstream = upstream().await;
    let primary = PostgresServer::start();
    let database = Database::postgres(primary.url()).await;
    let (mut way, url) = Proxy::to_postgres(&database).await;
    let headpond = Headpond::with_config(&config(&url, &upstream.uri()));
    let serving = headpond.serve().await;
    eventually("ready", PATIENCE, async || get(&serving.url("/readyz")).await.ok().filter(|a| a.status() == 200)).await;

    let standby = primary.standby();
    way.cut().await;
    drop(primary);
    way.mend_to(&standby.url()).await;
    serving.logged("the database is read-only, and Headpond must write").await;
    let answer = get(&serving.url("/v1/users/a")).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "good"), "reads go on");
    for command in [&["serve"][..], &["refresh", "--all", "--force"], &["migrate"], &["status"], &["get", "users", "a"]]
    {
        let refused = headpond.run(command).await;
        assert_eq!((refused.code(), refused.stderr), (Some(2), format!("headpond: {SAID}\n")), "{command:?}");
    }
    let checked = headpond.run(&["check", "--connect"]).await;
    assert!(checked.code() == Some(1) && checked.stdout.contains(&format!("\ndatabase: {SAID}\n")), "{checked:?}");
    let (_, before) = get_json(&serving.url("/v1/users/a/meta")).await;
    let claims = serving.log().into_iter().filter(|line| line.contains("could not claim") && line.contains("WARN"));
    assert!(claims.count() <= 2, "one for the server that was lost, and one for this: {:#?}", serving.log());

    standby.promote();
    let after = eventually("refreshed again", PATIENCE, async || {
        let (_, meta) = get_json(&serving.url("/v1/users/a/meta")).await;
        (meta["fetched_at"].as_str() > before["fetched_at"].as_str()).then_some(meta)
    })
    .await;
    assert_eq!((&after["version"], &after["etag"]), (&1.into(), &before["etag"]), "{after}");
    assert_eq!(headpond.run(&["refresh", "--all", "--force"]).await.code(), Some(0));
    serving.stop().await;
}

async fn upstream() -> MockServer {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = MockServer::builder().listener(listener).start().await;
    let good = ResponseTemplate::new(200).set_body_string("good").insert_header("etag", "\"1\"");
    Mock::given(method("GET")).respond_with(good).mount(&upstream).await;
    upstream
}

fn config(database: &str, origin: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{database}\"\n[sources.users]\n\
         url = \"{origin}/users/{{key}}\"\nkeys = [\"a\"]\nrefresh_every = \"1s\"\n"
    )
}
