//! What `serve` tells Prometheus.

use std::collections::BTreeSet;
use std::time::Duration;

use headpond::telemetry::metrics::{ALL, Kind};

use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, eventually, files_config, get};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(what_happened_is_counted_by_source_and_upstream_and_never_by_key);

async fn what_happened_is_counted_by_source_and_upstream_and_never_by_key(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=19, "");
    let nginx = Nginx::start(files.path()).await;
    // The twentieth has no file, and nobody listens where the other source is.
    let config = files_config(database, &nginx.url(), 20, "", "upstream = \"files\"\nrefresh_every = \"1h\"");
    let lost = "[upstreams.files]\n[sources.lost]\nurl = \"http://127.0.0.1:1/{key}\"\nkeys = [\"x\"]\nrefresh_every = \"1h\"\n\
                upstream = \"nowhere\"\n[upstreams.nowhere]\n";
    let headpond = Headpond::with_config(&format!("{config}{lost}"));
    let serving = headpond.serve().await;
    let new = "headpond_refreshes_total{source=\"users\",upstream=\"files\",outcome=\"new\"}";
    let failed = "headpond_refreshes_total{source=\"lost\",upstream=\"nowhere\",outcome=\"failed\"}";
    let all = eventually("all refreshed", Duration::from_secs(20), async || {
        let text = get(&serving.url("/metrics")).await.ok()?.text().await.ok()?;
        (value(&text, new) == Some(19.0) && value(&text, failed) >= Some(1.0)).then_some(())
    });
    all.await;
    for key in ["1", "1", "20", "unknown"] {
        get(&serving.url(&format!("/v1/users/{key}"))).await.unwrap();
    }
    let answer = get(&serving.url("/metrics")).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let text = answer.text().await.unwrap();
    serving.stop().await;

    for (sample, expected) in [
        ("headpond_reads_total{source=\"users\",state=\"fresh\"}", 2.0),
        ("headpond_reads_total{source=\"users\",state=\"gone\"}", 1.0),
        ("headpond_upstream_exchange_duration_seconds_count{upstream=\"files\",status=\"200\"}", 19.0),
        ("headpond_upstream_exchange_duration_seconds_count{upstream=\"files\",status=\"404\"}", 1.0),
        ("headpond_http_request_duration_seconds_count{route=\"/v1/{source}/{key}\",status=\"200\"}", 2.0),
        ("headpond_http_request_duration_seconds_count{route=\"/v1/{source}/{key}\",status=\"404\"}", 2.0),
        ("headpond_upstream_in_flight{upstream=\"files\"}", 0.0),
        ("headpond_resources{source=\"users\",state=\"fresh\"}", 19.0),
        ("headpond_resources{source=\"users\",state=\"gone\"}", 1.0),
        ("headpond_resources{source=\"lost\",state=\"pending\"}", 1.0),
        ("headpond_resources_failing{source=\"lost\"}", 1.0),
        ("headpond_due_resources{upstream=\"files\"}", 0.0),
    ] {
        assert_eq!(value(&text, sample), Some(expected), "{sample} in {text}");
    }
    let failures = "headpond_refresh_failures_total{source=\"lost\",upstream=\"nowhere\",kind=\"connect\"}";
    assert!(value(&text, failures) >= Some(1.0), "{text}");
    assert!(value(&text, "headpond_store_duration_seconds_count{operation=\"apply\"}") >= Some(1.0), "{text}");
    assert_eq!(documented(), described(&text), "each metric that was reported is in the list, with its kind");
    assert!(!text.contains("unknown\"") && !text.contains("key="), "{text}");
}

/// The value of a sample.
pub(super) fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
}

/// Name and kind of each metric in the list that this story reports.
fn documented() -> BTreeSet<(String, &'static str)> {
    let kind = |kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    // No token was needed, there was no budget, nothing waited for a grant or in a pause, no reader asked for an unlisted key or followed the feed,
    // and the database did not fail.
    let silent = [
        "headpond_access_token_requests_total",
        "headpond_grants_waiting",
        "headpond_demanded_keys_total",
        "headpond_store_errors_total",
        "headpond_streams",
        "headpond_upstream_budget_requests",
        "headpond_upstream_pauses_total",
        "headpond_webhook_messages_total",
    ];
    let told = ALL.iter().filter(|metric| !silent.contains(&metric.name));
    told.map(|metric| (metric.name.to_owned(), kind(metric.kind))).collect()
}

/// Name and kind of each metric that is described in the text.
fn described(text: &str) -> BTreeSet<(String, &str)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind)).collect()
}
