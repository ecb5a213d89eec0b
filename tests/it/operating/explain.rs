//! Why a resource is as it is, as an operator is told.

use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, files_config, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(each_state_is_explained_by_the_rules_that_led_to_it);

async fn each_state_is_explained_by_the_rules_that_led_to_it(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=1, "");
    let mut nginx = Nginx::start(files.path()).await;
    // nginx has no second file: what never was there is told apart from what is gone.
    let config = files_config(database, &nginx.url(), 2, "", "refresh_every = \"1h\"\nstale_after = \"30m\"");
    let headpond = Headpond::with_config(&config);
    assert_eq!(headpond.run(&["refresh", "--all"]).await.code(), Some(0));
    let explained = async |key: &str| {
        let printed = headpond.run(&["explain", "users", key]).await;
        assert_eq!(printed.code(), Some(0), "{printed:?}");
        printed.stdout
    };
    let fresh = explained("1").await;
    for said in [
        "reader    A reader now gets 200 with the copy, which is fresh.",
        "The copy is version 1, confirmed by the upstream ",
        "It is asked after by its ETag.",
        "by stale_after = 30m.",
        "stale_after = 30m is shorter than the 1h between two refreshes",
        "It is refreshed every 1h",
        "that is its schedule.",
        "as many requests as fit",
        "Of the source's 2 keys 1 are fresh, 0 stale, 0 pending and 1 gone",
    ] {
        assert!(fresh.contains(said), "{said:?} in {fresh}");
    }
    let absent = explained("2").await;
    assert!(absent.contains("A reader now gets 404: the upstream has never had it."), "{absent}");
    assert!(absent.contains("it is gone, and looked for again now and then."), "{absent}");

    nginx.stop();
    assert_eq!(headpond.run(&["refresh", "users", "1", "--force"]).await.code(), Some(1));
    let failing = explained("1").await;
    assert!(failing.contains("failures  The latest refresh failed ") && failing.contains("as connect: "), "{failing}");
    assert!(failing.contains("its upstream is out of reach"), "{failing}");

    let serving = headpond.serve_with(&["--offline"]).await;
    let (status, told) = get_json(&serving.url("/v1/users/1/explain")).await;
    assert_eq!((status, &told["source"], &told["key"]), (200, &"users".into(), &"1".into()));
    let about: Vec<_> = told["says"].as_array().unwrap().iter().map(|said| said["about"].clone()).collect();
    assert_eq!(
        about,
        ["reader", "copy", "freshness", "freshness", "schedule", "schedule", "failures", "upstream", "keys"]
    );
    assert_eq!(get_json(&serving.url("/v1/users/nobody/explain")).await.0, 404);
    serving.stop().await;
    let json = headpond.run(&["explain", "users", "1", "--json"]).await;
    assert_eq!(json.json()["says"].as_array().map(Vec::len), Some(9), "{json:?}");
    let unknown = headpond.run(&["explain", "users", "nobody"]).await;
    assert!(unknown.code() == Some(1) && unknown.stderr.contains("users/nobody is not known"), "{unknown:?}");
}
