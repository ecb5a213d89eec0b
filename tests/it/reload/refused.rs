//! Configurations that are not taken over, or not wholly.

use serde_json::Value;

use super::{PATIENCE, answer, asked, config, reads, reload, upstream};
use crate::support::program::{Headpond, Serving, eventually, get};
use crate::support::proxy::Proxy;
use crate::support::store::{Database, on_database, on_each_empty_database};

on_each_empty_database!(what_broke_off_in_the_middle_is_completed_by_the_next_reload);
on_database!(
    on_postgres_alone,
    crate::support::store::Database::on_test_server().await,
    while_the_database_is_away_the_old_configuration_stays_and_a_later_reload_gets_through
);

const SQLITE: &str = "sqlite://headpond.db";

#[tokio::test]
async fn a_wrong_file_is_refused_with_all_its_errors_and_changes_nothing() {
    let upstream = upstream().await;
    answer(&upstream, "/1", "1").await;
    let good = config(SQLITE, &[("users", &upstream.uri(), "[\"1\"]", "")]).replace("\"1h\"", "\"1s\"");
    let headpond = Headpond::with_config(&good);
    let serving = headpond.serve().await;
    reads(&serving, "/v1/users/1", "1").await;

    let wrong =
        config(SQLITE, &[("users", "http://localhost/canary/{+key}?token=canary", "[]", "refresh_evry = \"1m\"")]);
    headpond.configure(&wrong);
    serving.signal("HUP");
    serving.logged("not reloaded: the old configuration stays in force").await;
    let (status, problem) = serving.post("/v1/-/reload", None).await;
    assert_eq!((status, &problem["type"]), (422, &Value::from("/problems/bad-configuration")), "{problem}");
    let told: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap()).collect();
    assert_eq!(told.len(), 2, "{told:#?}");
    for (place, what) in
        [("headpond.toml:6:7: sources.users.url", "host or path"), ("headpond.toml:9:1", "refresh_every")]
    {
        let is_told = |line: &str| line.contains(place) && line.contains(what);
        assert!(told.iter().any(|error| is_told(error)), "{place}: {told:#?}");
        assert!(serving.log().iter().any(|line| is_told(line)), "{place}: {:#?}", serving.log());
    }
    assert!(!format!("{problem}{:?}", serving.log()).contains("token=canary"));

    let polled = asked(&upstream, "/1").await;
    eventually("polling goes on", PATIENCE, async || (asked(&upstream, "/1").await > polled + 1).then_some(())).await;
    std::fs::remove_file(headpond.path("headpond.toml")).unwrap();
    let (status, problem) = serving.post("/v1/-/reload", None).await;
    assert!(status == 422 && problem["errors"][0].as_str().unwrap().contains("no such file"), "{problem}");
    headpond.configure(&good);
    assert_eq!(reload(&serving).await, [] as [Value; 0]);
    serving.stop().await;
}

#[tokio::test]
async fn what_can_not_change_is_named_and_the_rest_is_taken_over() {
    let upstream = upstream().await;
    answer(&upstream, "/1", "1").await;
    answer(&upstream, "/2", "2").await;
    let headpond = Headpond::with_config(&config(SQLITE, &[("users", &upstream.uri(), "[\"1\"]", "")]));
    let serving = headpond.serve().await;
    let elsewhere = config("sqlite://elsewhere.db", &[("users", &upstream.uri(), "[\"1\", \"2\"]", "")])
        .replace("127.0.0.1:0\"", "127.0.0.1:1\"\nmax_connections = 9")
        .replace("[database]", "[database]\nreaders = 9");
    headpond.configure(&elsewhere);
    let warnings = reload(&serving).await;
    let named: Vec<_> = warnings.iter().filter_map(|warning| warning.as_str()?.split_once(": ")).collect();
    let needs = "this needs a restart; until then the old value holds";
    let settings = ["server.listen", "server.max_connections", "database.url", "database.readers"];
    assert_eq!(named, settings.map(|setting| (setting, needs)));
    serving.logged("database.readers: this needs a restart").await;
    reads(&serving, "/v1/users/2", "2").await;
    assert!(!headpond.path("elsewhere.db").exists());
    serving.stop().await;
}

#[tokio::test]
async fn an_api_that_others_reach_does_not_lose_its_tokens_by_an_address_that_is_not_used() {
    let reachable = |server: &str| config(SQLITE, &[]).replace("listen = \"127.0.0.1:0\"", server);
    let token = "0123456789abcdef";
    let tokens = format!("read_tokens = [\"{token}\"]\nadmin_tokens = [\"admin-{token}\"]");
    let headpond = Headpond::with_config(&reachable(&format!("listen = \"0.0.0.0:0\"\n{tokens}")));
    let serving = headpond.serve().await;
    let read = async || get(&serving.url("/v1/-/changes")).await.unwrap().status().as_u16();
    assert_eq!(read().await, 401);
    assert_eq!(serving.post("/v1/-/reload", Some(token)).await.0, 403, "a read token reloads nothing");
    headpond.configure(&reachable("listen = \"127.0.0.1:0\""));
    let (status, problem) = serving.post("/v1/-/reload", Some(&format!("admin-{token}"))).await;
    assert_eq!(status, 422, "{problem}");
    assert!(problem["errors"][0].as_str().unwrap().starts_with("server.listen: "), "{problem}");
    assert_eq!(read().await, 401);
    // Said out loud it is another matter.
    headpond.configure(&reachable("listen = \"0.0.0.0:0\"\nallow_anonymous_reads = true"));
    assert_eq!(serving.post("/v1/-/reload", Some(&format!("admin-{token}"))).await.0, 200);
    assert_eq!(read().await, 200);
    serving.stop().await;
}

#[tokio::test]
async fn many_hangups_at_once_end_with_the_last_file() {
    let upstream = upstream().await;
    for key in 0..10 {
        answer(&upstream, &format!("/{key}"), &key.to_string()).await;
    }
    let with_key = |key: u32| config(SQLITE, &[("users", &upstream.uri(), &format!("[\"{key}\"]"), "")]);
    let headpond = Headpond::with_config(&with_key(0));
    let serving = headpond.serve().await;
    for key in 1..10 {
        headpond.configure(&with_key(key));
        serving.signal("HUP");
    }
    reads(&serving, "/v1/users/9", "9").await;
    serving.stop().await;
}

#[tokio::test]
async fn a_variable_holds_after_a_reload_too() {
    let upstream = upstream().await;
    answer(&upstream, "/v", "variable").await;
    answer(&upstream, "/1", "1").await;
    let headpond = Headpond::with_config(&config(SQLITE, &[("users", "http://127.0.0.1:9", "[\"1\"]", "")]))
        .with_variable("HEADPOND__SOURCES__USERS__URL", format!("{}/{{key}}", upstream.uri()));
    let serving = headpond.serve().await;
    reads(&serving, "/v1/users/1", "1").await;
    headpond.configure(&config(SQLITE, &[("users", "http://127.0.0.1:9", "[\"1\", \"v\"]", "")]));
    reload(&serving).await;
    reads(&serving, "/v1/users/v", "variable").await;
    serving.stop().await;
}

#[tokio::test]
async fn a_reload_is_asked_for_by_post_and_without_parameters() {
    let headpond = Headpond::with_config(&config(SQLITE, &[]));
    let serving = headpond.serve().await;
    let answer = get(&serving.url("/v1/-/reload")).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["allow"]), (405, &"POST".parse().unwrap()));
    assert_eq!(serving.post("/v1/-/reload?now=1", None).await.0, 400);
    assert!(!serving.log().iter().any(|line| line.contains("reloaded")));
    let (status, answer) = serving.post("/v1/-/reload", None).await;
    assert_eq!((status, answer["warnings"].as_array().unwrap().len()), (200, 1), "there are no sources: {answer}");
    serving.logged("reloaded").await;
    serving.stop().await;
}

async fn is_ready(serving: &Serving) -> Option<()> {
    get(&serving.url("/readyz")).await.unwrap().status().is_success().then_some(())
}

async fn while_the_database_is_away_the_old_configuration_stays_and_a_later_reload_gets_through(database: &Database) {
    let upstream = upstream().await;
    answer(&upstream, "/old/1", "old").await;
    answer(&upstream, "/new/1", "new").await;
    let (mut way, url) = Proxy::to_postgres(database).await;
    let with = |path: &str| config(&url, &[("users", &format!("{}/{path}", upstream.uri()), "[\"1\"]", "")]);
    let headpond = Headpond::with_config(&with("old"));
    let serving = headpond.serve().await;
    reads(&serving, "/v1/users/1", "old").await;

    way.cut().await;
    headpond.configure(&with("new"));
    serving.signal("HUP");
    serving.logged("not reloaded: the database is not available").await;
    serving.logged("the old configuration stays in force").await;
    let (status, problem) = serving.post("/v1/-/reload", None).await;
    assert_eq!((status, &problem["type"]), (503, &Value::from("/problems/not-reloaded")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("the old configuration stays in force"), "{problem}");

    way.mend().await;
    eventually("the database is back", PATIENCE, || is_ready(&serving)).await;
    reads(&serving, "/v1/users/1", "old").await;
    assert_eq!(asked(&upstream, "/new/1").await, 0);
    reload(&serving).await;
    reads(&serving, "/v1/users/1", "new").await;
    serving.stop().await;
}

/// Sources are registered first, and then their keys are added.
async fn what_broke_off_in_the_middle_is_completed_by_the_next_reload(database: &Database) {
    let upstream = upstream().await;
    for at in ["/old/1", "/new/1", "/new/2"] {
        answer(&upstream, at, at).await;
    }
    let with = |path: &str, keys: &str| {
        let source = config(&database.url(), &[("users", &format!("{}/{path}", upstream.uri()), keys, "")]);
        source.replace("\"1h\"", "\"1s\"")
    };
    let headpond = Headpond::with_config(&with("old", "[\"1\"]"))
        .with_variable("HEADPOND_LOG", "info,headpond::refresh::lane=debug");
    let serving = headpond.serve().await;
    reads(&serving, "/v1/users/1", "/old/1").await;
    database.refuse("resource", "NEW.key = 'refused'").await;

    headpond.configure(&with("new", "[\"1\", \"2\", \"refused\"]"));
    let (status, problem) = serving.post("/v1/-/reload", None).await;
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("the old configuration stays in force"), "{problem}");
    // The database has the new URL already. Whoever knows only the old one asks for nothing with it.
    serving.logged("left to whoever holds the configuration").await;
    let before = asked(&upstream, "/old/1").await;
    reads(&serving, "/v1/users/1", "/old/1").await;
    assert_eq!(asked(&upstream, "/new/1").await, 0);

    headpond.configure(&with("new", "[\"1\", \"2\"]"));
    reload(&serving).await;
    reads(&serving, "/v1/users/1", "/new/1").await;
    reads(&serving, "/v1/users/2", "/new/2").await;
    assert_eq!(asked(&upstream, "/old/1").await, before);
    serving.stop().await;
}
