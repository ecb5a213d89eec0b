//! Web pages that read.

use headpond::config::{self, CorsOrigins};
use http::HeaderValue;

use super::pond::{JSON, Pond};
use super::serving::{Answer, settings};
use crate::support::store::TestStore;

const APP: &str = "https://app.example";
const BERLIN: &str = "/v1/weather/berlin";

fn with(origins: CorsOrigins) -> config::Server {
    config::Server { cors_origins: origins, ..settings() }
}

fn named(origins: &[&'static str]) -> CorsOrigins {
    CorsOrigins::These(origins.iter().map(|origin| HeaderValue::from_static(origin)).collect())
}

/// Asks as a browser does for a page of this origin.
async fn from(pond: &Pond<'_>, origin: &str, path: &str) -> Answer {
    pond.get(path, &[&format!("Origin: {origin}")]).await
}

async fn preflight(pond: &Pond<'_>, origin: &str, method: &str) -> Answer {
    let lines = [format!("Origin: {origin}"), format!("Access-Control-Request-Method: {method}")];
    let headers = "Access-Control-Request-Headers: authorization,if-none-match";
    pond.ask("OPTIONS", BERLIN, &[&lines[0], &lines[1], headers]).await
}

fn allowed(answer: &Answer) -> Option<&str> {
    answer.field("access-control-allow-origin")
}

fn lists(answer: &Answer, field: &str, name: &str) -> bool {
    answer.field(field).is_some_and(|list| list.split(',').any(|member| member.trim().eq_ignore_ascii_case(name)))
}

async fn on_sqlite(rule: impl AsyncFnOnce(&TestStore)) {
    TestStore::sqlite().await.check(rule).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_default_no_page_reads() {
    on_sqlite(async |test: &TestStore| {
        let pond = Pond::with_keys(test, &["berlin"]).await;
        pond.gets("berlin", &[JSON], "{}").await;
        let answer = from(&pond, APP, BERLIN).await;
        assert_eq!((answer.status(), allowed(&answer)), (200, None), "the browser keeps it from the page");
        assert_eq!(answer.field("vary"), Some("accept-encoding"));
        let preflight = preflight(&pond, APP, "GET").await;
        assert_eq!((preflight.status(), allowed(&preflight)), (405, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_named_origins_read() {
    on_sqlite(async |test: &TestStore| {
        let origins = named(&[APP, "http://localhost:3000"]);
        let pond = Pond::with_settings(test, &["berlin"], with(origins)).await;
        pond.gets("berlin", &[JSON], "{}").await;
        for (origin, path, status) in [
            (APP, BERLIN, 200),
            ("http://localhost:3000", BERLIN, 200),
            (APP, "/v1/weather", 200),
            (APP, "/v1/weather/nowhere", 404),
            (APP, "/nowhere", 404),
        ] {
            let answer = from(&pond, origin, path).await;
            assert_eq!((answer.status(), allowed(&answer)), (status, Some(origin)), "{path}");
            for name in [
                "etag",
                "age",
                "link",
                "cache-status",
                "headpond-state",
                "headpond-cursor",
                "headpond-fetched-at",
                "retry-after",
            ] {
                assert!(lists(&answer, "access-control-expose-headers", name), "{name}: {}", answer.head);
            }
            assert_eq!(answer.field("access-control-allow-credentials"), None, "{path}");
            assert!(answer.head.to_lowercase().contains("vary: origin"), "{}", answer.head);
        }
        for origin in ["https://app.example:444", "http://app.example", "https://evil.example", "null", "*"] {
            let answer = from(&pond, origin, BERLIN).await;
            assert_eq!((answer.status(), allowed(&answer)), (200, None), "{origin}");
        }
        let without = pond.get(BERLIN, &[]).await;
        assert!(without.head.to_lowercase().contains("vary: origin"), "a cache must not give this to a page");

        let answer = preflight(&pond, APP, "GET").await;
        assert_eq!((answer.status(), allowed(&answer)), (200, Some(APP)));
        for method in ["GET", "HEAD", "POST"] {
            assert!(lists(&answer, "access-control-allow-methods", method), "{method}");
        }
        for name in ["authorization", "if-none-match", "cache-control", "prefer"] {
            assert!(lists(&answer, "access-control-allow-headers", name), "{name}");
        }
        assert_eq!(answer.field("access-control-max-age"), Some("86400"));
        assert_eq!(allowed(&preflight(&pond, "https://evil.example", "GET").await), None);
        let plain = pond.ask("OPTIONS", BERLIN, &[&format!("Origin: {APP}")]).await;
        assert_eq!(plain.status(), 405, "an OPTIONS that is no preflight");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_may_read_and_only_read() {
    on_sqlite(async |test: &TestStore| {
        let pond = Pond::with_settings(test, &["berlin"], with(CorsOrigins::All)).await;
        pond.gets("berlin", &[JSON], "{}").await;
        let answer = from(&pond, "https://anyone.example", BERLIN).await;
        assert_eq!((answer.status(), allowed(&answer)), (200, Some("*")));
        assert_eq!(answer.field("access-control-allow-credentials"), None);
        let preflight = preflight(&pond, "https://anyone.example", "POST").await;
        assert_eq!(allowed(&preflight), Some("*"));
        assert!(!lists(&preflight, "access-control-allow-methods", "POST"), "{}", preflight.head);
    })
    .await;
}
