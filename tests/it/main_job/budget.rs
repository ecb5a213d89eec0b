//! A budget that is too small for its keys.

use std::time::Duration;

use super::metrics::value;
use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, Serving, eventually, files_config, get, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(a_day_budget_is_kept_over_a_restart_and_whoever_waits_for_it_is_told);

async fn metrics(serving: &Serving) -> Option<String> {
    get(&serving.url("/metrics")).await.ok()?.text().await.ok()
}

/// Waits until all keys but two wait for the budget.
async fn all_wait(serving: &Serving) -> String {
    eventually("all to wait", Duration::from_secs(120), async || {
        let text = metrics(serving).await?;
        let fresh = value(&text, "headpond_resources{source=\"users\",state=\"fresh\"}");
        let waiting = value(&text, "headpond_upstream_budget_waiting{upstream=\"files\"}");
        (fresh == Some(2.0) && waiting == Some(18.0)).then_some(text)
    })
    .await
}

async fn a_day_budget_is_kept_over_a_restart_and_whoever_waits_for_it_is_told(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=20, "");
    let nginx = Nginx::start(files.path()).await;
    let source = "upstream = \"files\"\nrefresh_every = \"1h\"";
    // A twentieth of it comes at once, the rest over the day.
    let budget = "[upstreams.files]\nbudgets = [{ requests = 40, per = \"1d\" }]\n";
    let headpond = Headpond::with_config(&(files_config(database, &nginx.url(), 20, "", source) + budget));
    let checked = headpond.run(&["check"]).await;
    let warned = "the keys need 480 requests per 1day, more than the 38 that come evenly of 40";
    assert!(checked.code() == Some(0) && (checked.stdout.clone() + &checked.stderr).contains(warned), "{checked:?}");

    let serving = headpond.serve().await;
    let text = all_wait(&serving).await;
    assert_eq!(nginx.requests().len(), 2);
    let left = value(&text, "headpond_upstream_budget_requests{upstream=\"files\",per=\"1day\"}");
    assert!(left.is_some_and(|left| (0.0..1.0).contains(&left)), "{text}");

    let (_, told) = get_json(&serving.url("/v1/-/status")).await;
    let held = &told["upstreams"][0]["pauses"][0];
    assert_eq!((&held["because"], &held["requests"], &held["resources"]), (&"budget".into(), &40.into(), &18.into()));
    let (_, meta) = get_json(&serving.url("/v1/users/20/meta")).await;
    let (because, why) = (&meta["waits"]["because"], &meta["waits"]["why"]);
    assert_eq!(
        (because, why),
        (&"budget".into(), &"the budget of 40 requests per 1day is spread over that time".into())
    );
    let explained = headpond.run(&["explain", "users", "20"]).await.stdout;
    let said = "Its budget of 40 requests per 1day is spread over that time and has nothing left until ";
    assert!(explained.contains(said), "{explained}");
    let status = headpond.run(&["status"]).await.stdout;
    assert!(status.contains("the budget of 40 requests per 1day has nothing left for "), "{status}");
    assert!(status.contains("18 keys wait"), "{status}");

    serving.stop().await;
    let serving = headpond.serve().await;
    all_wait(&serving).await;
    assert_eq!(nginx.requests().len(), 2, "a restart brings no other budget");
    serving.stop().await;
}
