//! Keys that readers ask for in vain: impossible ones, and too many.

use super::{config, listed, read};
use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, client};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(keys_that_can_not_be_are_refused_and_asked_for_nowhere, too_many_new_keys_are_refused_politely);

async fn keys_that_can_not_be_are_refused_and_asked_for_nowhere(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(files.path()).await;
    let more = "on_demand = true\nrefresh_every = \"1h\"";
    let config = config(database, &nginx.url(), more).replace("{key}.json", "{key}");
    let headpond = Headpond::with_config(&config);
    let serving = headpond.serve().await;
    let long = "k".repeat(10_000);
    for (key, status, kind) in [
        (long.as_str(), 400, "impossible-key"),
        ("a%00b", 400, "impossible-key"),
        ("a%0Ab", 400, "impossible-key"),
        ("a%C2%85b", 400, "impossible-key"),
        ("%FF", 400, "unreadable-path"),
        ("%2E%2E", 422, "unusable-key"),
    ] {
        let url = serving.url(if key == "%2E%2E" { "/v1/users?key=.." } else { "/v1/users/" });
        let url = if key == "%2E%2E" { url } else { url + key };
        let (answered, _, problem) = read(&client(), url).await;
        assert_eq!((answered, problem.contains(kind)), (status, true), "{problem}");
    }
    assert!(nginx.requests().is_empty());
    serving.stop().await;
    assert_eq!(listed(&headpond).await.join("").matches("demand").count(), 0);
}

async fn too_many_new_keys_are_refused_politely(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=200, "");
    let nginx = Nginx::start(files.path()).await;
    let more = "on_demand = { new_keys_per_minute = 10, max_keys = 4 }\nrefresh_every = \"1h\"";
    let headpond = Headpond::with_config(&config(database, &nginx.url(), more));
    let serving = headpond.serve().await;
    let client = client();
    let mut refused = 0;
    for n in 1..=200 {
        let answer = client.get(serving.url(&format!("/v1/users/{n}"))).send().await.unwrap();
        if answer.status() == 429 {
            let retry_after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert!((1..=61).contains(&retry_after), "{retry_after}");
            assert!(answer.text().await.unwrap().contains("/problems/too-many-new-keys"));
            refused += 1;
        } else {
            assert_eq!(answer.status(), 200);
        }
    }
    // The test may run over the end of a minute.
    assert!((180..=190).contains(&refused), "{refused}");
    assert!(nginx.requests().len() <= 20);
    let kept = listed(&headpond).await.join("\n").matches("demand").count();
    assert_eq!(kept, 4, "and no more are kept than there may be");
    assert_eq!(read(&client, serving.url("/v1/users/10")).await.0, 200, "what is known is answered all the same");
    serving.stop().await;
}
