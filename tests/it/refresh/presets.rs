//! Well-known APIs, as they behave.

use std::time::Duration;

use chrono::TimeDelta;
use headpond::domain::schedule::Because;
use headpond::refresh::task::Until;
use headpond::store::Hastened;
use wiremock::matchers::{header, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{HeldServer, Process, asked, mock_server, soon};
use crate::support::store::{TestStore, key, on_each_database, wish};

on_each_database! {
    met_norway_is_asked_as_its_terms_say,
    what_expires_before_it_is_due_is_kept_from_readers_until_then_and_no_longer,
    github_is_asked_one_request_at_a_time,
    a_secondary_limit_of_github_is_a_pause_of_a_minute_and_longer_each_time,
    the_primary_limit_of_github_lasts_until_its_reset,
    a_403_of_github_that_is_a_refusal_stays_one,
}

const AN_HOUR: Duration = Duration::from_secs(3600);
const KEYS: [&str; 4] = ["1", "2", "3", "4"];

/// A time of the test's, as HTTP writes it.
fn http_time(test: &TestStore, seconds: i64) -> String {
    httpdate::fmt_http_date((test.now() + TimeDelta::seconds(seconds)).into())
}

async fn met_norway_is_asked_as_its_terms_say(test: &TestStore) {
    let server = mock_server().await;
    let forecast = |status| {
        ResponseTemplate::new(status)
            .insert_header("date", http_time(test, 0))
            .insert_header("expires", http_time(test, 7200))
            .insert_header("last-modified", http_time(test, -60))
            .set_body_string("{}")
    };
    Mock::given(path("/compact"))
        .and(query_param("lat", "59.9127"))
        .and(query_param("lon", "10.7460"))
        .and(header("user-agent", "acme/1 ops@acme.example"))
        .respond_with(forecast(203))
        .expect(1)
        .mount(&server)
        .await;
    let toml = format!(
        "[upstreams.met]\npreset = \"met-norway\"\nuser_agent = \"acme/1 ops@acme.example\"\n\
         [sources.users]\nupstream = \"met\"\nurl = \"{}/compact?lat={{lat}}&lon={{lon}}\"\n\
         keys = [{{ key = \"oslo\", lat = \"59.912731\", lon = \"10.74609\" }}]\nrefresh_every = \"1h\"\n",
        server.uri()
    );
    let process = Process::with_config(test, &toml).await;
    assert_eq!(process.refresh().await.new, 1);
    let oslo = test.current("users", "oslo").await;
    assert!(oslo.transformed, "203 is shown");
    let due = oslo.due.unwrap();
    assert_eq!(due.because, Because::NotBefore);
    assert!(due.at >= test.now() + 2 * AN_HOUR, "not before Expires: {due:?}");
    let found = test.store.find(process.ids[0].source, &[key("oslo")]).await.unwrap();
    let seen = oslo.freshness.map(|freshness| freshness.fetched_at);
    let hastened = test.store.hasten(found[0].unwrap(), wish(seen, test.now())).await.unwrap();
    assert_eq!(hastened, Hastened::PutOff(due.at), "whoever reads it");
    test.clock.advance(AN_HOUR);
    process.refresh().await;
    server.verify().await;
}

async fn what_expires_before_it_is_due_is_kept_from_readers_until_then_and_no_longer(test: &TestStore) {
    const TEN_MINUTES: Duration = Duration::from_secs(600);
    let server = mock_server().await;
    let forecast = ResponseTemplate::new(200)
        .insert_header("date", http_time(test, 0))
        .insert_header("expires", http_time(test, 600))
        .set_body_string("{}");
    Mock::given(method("GET")).respond_with(forecast).mount(&server).await;
    let toml = format!(
        "[upstreams.met]\npreset = \"met-norway\"\nuser_agent = \"acme/1 ops@acme.example\"\n\
         [sources.users]\nupstream = \"met\"\nurl = \"{}/{{key}}\"\nkeys = [\"oslo\"]\nrefresh_every = \"1h\"\n",
        server.uri()
    );
    let process = Process::with_config(test, &toml).await;
    assert_eq!(process.refresh().await.new, 1);
    let oslo = test.current("users", "oslo").await;
    let due = oslo.due.unwrap();
    assert_eq!(due.because, Because::Interval);
    let (expires, seen) = (test.now() + TEN_MINUTES, oslo.freshness.map(|freshness| freshness.fetched_at));
    assert!(due.at > expires, "{due:?}");
    let id = test.store.find(process.ids[0].source, &[key("oslo")]).await.unwrap()[0].unwrap();
    test.clock.advance(Duration::from_secs(599));
    let hastened = test.store.hasten(id, wish(seen, test.now())).await.unwrap();
    assert_eq!(hastened, Hastened::PutOff(expires), "it is fresh by the upstream's word");
    test.clock.advance(Duration::from_secs(1));
    assert_eq!(test.store.hasten(id, wish(seen, test.now())).await.unwrap(), Hastened::Due);
    process.refresh().await;
    assert_eq!(asked(&server).await.len(), 2);
}

/// Repositories of GitHub, with a token.
fn github(origin: &str) -> String {
    format!(
        "[upstreams.github]\npreset = \"github\"\nauth = {{ bearer = \"a-token\" }}\n\
         [sources.users]\nupstream = \"github\"\nurl = \"{origin}/users/{{key}}\"\nkeys = {KEYS:?}\nrefresh_every = \"1d\"\n"
    )
}

async fn github_is_asked_one_request_at_a_time(test: &TestStore) {
    let mut held = HeldServer::start().await;
    let process = Process::with_config(test, &github(&held.origin())).await;
    let running = process.start(Until::NothingIsLeft);
    for one in 1..=KEYS.len() {
        held.arrival().await;
        assert_eq!(held.requests(), one);
        held.answer(one);
    }
    assert_eq!(soon(running).await.unwrap().total(), 4);
}

async fn limits(server: &MockServer, answer: ResponseTemplate) {
    server.reset().await;
    Mock::given(method("GET")).respond_with(answer).mount(server).await;
}

fn found() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string("{}").insert_header("x-ratelimit-remaining", "4999")
}

async fn a_secondary_limit_of_github_is_a_pause_of_a_minute_and_longer_each_time(test: &TestStore) {
    let server = mock_server().await;
    let limit = |status| {
        let said = "{\"message\":\"You have exceeded a Secondary Rate Limit. Please wait a few minutes before you try again.\"}";
        ResponseTemplate::new(status).insert_header("x-ratelimit-remaining", "4990").set_body_string(said)
    };
    let process = Process::with_config(test, &github(&server.uri())).await;
    let mut wait = 60;
    for status in [403, 403, 429] {
        limits(&server, limit(status)).await;
        let counts = process.refresh().await;
        assert_eq!((counts.failed, asked(&server).await.len()), (1, 1), "{counts:?}");
        let waited = &counts.waits[0];
        assert_eq!(waited.why, format!("the upstream is left alone: {status} whose body speaks of a limit"));
        let left = (waited.until - test.now()).num_seconds();
        assert_eq!(left, wait);
        test.clock.advance(Duration::from_secs(left.unsigned_abs()));
        wait *= 2;
    }
    let failing = test.current("users", "1").await.failing.unwrap().last;
    assert_eq!((failing.kind.as_str(), failing.status), ("rate_limited", Some(403)));
    limits(&server, found()).await;
    assert_eq!(process.refresh().await.waits, []);
}

async fn the_primary_limit_of_github_lasts_until_its_reset(test: &TestStore) {
    let server = mock_server().await;
    let process = Process::with_config(test, &github(&server.uri())).await;
    let reset = (test.now() + AN_HOUR).timestamp().to_string();
    let limit = ResponseTemplate::new(403)
        .insert_header("date", http_time(test, 0))
        .insert_header("x-ratelimit-remaining", "0")
        .insert_header("x-ratelimit-reset", reset)
        .set_body_string("{\"message\":\"API rate limit exceeded for user ID 1.\"}");
    limits(&server, limit).await;
    let counts = process.refresh().await;
    assert_eq!((counts.failed, asked(&server).await.len()), (1, 1), "{counts:?}");
    assert_eq!(counts.waits[0].until, test.now() + AN_HOUR);
    assert_eq!(
        counts.waits[0].why,
        "the upstream is left alone: 403 that says that its allowance is spent until 2027-01-15T09:00:00Z"
    );
    let failing = test.current("users", "1").await.failing.unwrap().last;
    assert_eq!((failing.kind.as_str(), failing.status), ("rate_limited", Some(403)));
    limits(&server, found()).await;
    test.clock.advance(AN_HOUR);
    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.waits), (4, vec![]));
}

async fn a_403_of_github_that_is_a_refusal_stays_one(test: &TestStore) {
    let server = mock_server().await;
    let process = Process::with_config(test, &github(&server.uri())).await;
    let refusal = ResponseTemplate::new(403)
        .insert_header("x-ratelimit-remaining", "4000")
        .set_body_string("{\"message\":\"Resource not accessible by personal access token\"}");
    limits(&server, refusal).await;
    let counts = process.refresh().await;
    assert_eq!((counts.failed, counts.waits, asked(&server).await.len()), (4, vec![], 4));
    assert_eq!(test.current("users", "1").await.failing.unwrap().last.kind.as_str(), "client_error");
}
