//! The first reads of keys.

use futures_util::future::join_all;

use super::{config, listed, read};
use crate::support::nginx::{Nginx, PIECE, write_json_files};
use crate::support::program::{Headpond, client, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(
    five_hundred_first_readers_of_two_processes_cause_one_request,
    a_key_that_was_read_is_polled_and_listed,
    what_is_not_there_is_told_without_asking_again,
    a_reader_who_does_not_want_to_wait_does_not,
);

const ON_DEMAND: &str = "on_demand = true\nrefresh_every = \"1h\"";

async fn five_hundred_first_readers_of_two_processes_cause_one_request(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    // A body of 40 pieces takes nginx two seconds: all readers come before it is there.
    let note = "x".repeat(usize::try_from(PIECE).unwrap() * 40);
    write_json_files(files.path(), "users", 1..=1, &note);
    let nginx = Nginx::start_slow(files.path()).await;
    let more = "on_demand = { wait = \"25s\" }\nrefresh_every = \"1h\"";
    let headpond = Headpond::with_config(&config(database, &nginx.url(), more));
    let serving = [headpond.serve().await, headpond.serve().await];

    let client = client();
    let answers = join_all((0..500).map(|n| read(&client, serving[n % 2].url("/v1/users/1")))).await;
    let requests = nginx.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    let body = std::fs::read_to_string(files.path().join("users/1.json")).unwrap();
    let good = answers.iter().filter(|(status, _, answer)| *status == 200 && *answer == body);
    assert_eq!(good.count(), 500, "all have what that request brought");
    let ways = |way: &str| answers.iter().filter(|(_, said, _)| said.starts_with(way)).count();
    let collapsed = ways("headpond;fwd=uri-miss;fwd-status=200;stored;collapsed;ttl=");
    let alone = ways("headpond;fwd=uri-miss;fwd-status=200;stored;ttl=");
    assert!(alone <= 1 && collapsed >= 400, "{alone} and {collapsed}");
    for serving in serving {
        serving.stop().await;
    }
}

async fn a_key_that_was_read_is_polled_and_listed(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=2, "");
    let nginx = Nginx::start(files.path()).await;
    let headpond = Headpond::with_config(&config(database, &nginx.url(), &format!("keys = [\"2\"]\n{ON_DEMAND}")));
    let serving = headpond.serve().await;
    let (status, way, _) = read(&client(), serving.url("/v1/users/1")).await;
    assert_eq!((status, way.contains("fwd=uri-miss;fwd-status=200;stored")), (200, true), "{way}");
    let (_, way, _) = read(&client(), serving.url("/v1/users?key=1")).await;
    assert!(way.starts_with("headpond;hit;ttl="), "{way}");
    let (_, batch) = get_json(&serving.url("/v1/users?keys=1,2,3")).await;
    assert_eq!(batch["absent"], serde_json::json!(["3"]), "a batch adds no keys");
    let (_, meta) = get_json(&serving.url("/v1/users/1/meta")).await;
    assert_eq!((&meta["state"], &meta["due"]["because"]), (&"fresh".into(), &"interval".into()));
    serving.stop().await;
    assert_eq!(listed(&headpond).await.join("\n").matches("demand").count(), 1);

    // It is there after a restart, and when `on_demand` is taken out it is not polled any more.
    let serving = headpond.serve().await;
    assert!(read(&client(), serving.url("/v1/users/1")).await.1.starts_with("headpond;hit"));
    headpond.configure(&config(database, &nginx.url(), "keys = [\"2\"]\nrefresh_every = \"1h\""));
    serving.signal("HUP");
    serving.logged("reloaded").await;
    let (_, list) = get_json(&serving.url("/v1/users")).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(read(&client(), serving.url("/v1/users/3")).await.0, 404);
    serving.stop().await;
    assert_eq!(nginx.requests().len(), 2);
}

async fn what_is_not_there_is_told_without_asking_again(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=1, "");
    let nginx = Nginx::start(files.path()).await;
    let headpond = Headpond::with_config(&config(database, &nginx.url(), ON_DEMAND));
    let serving = headpond.serve().await;
    let client = client();
    let (status, way, problem) = read(&client, serving.url("/v1/users/9")).await;
    assert_eq!((status, problem.contains("/problems/absent")), (404, true), "{problem}");
    assert!(way.starts_with("headpond;fwd=uri-miss"), "{way}");
    for _ in 0..20 {
        assert_eq!(read(&client, serving.url("/v1/users/9")).await.0, 404);
    }
    assert_eq!(nginx.requests().len(), 1);

    // With no time at all, each reader who comes after the last answer has it looked for again.
    headpond.configure(&config(
        database,
        &nginx.url(),
        "on_demand = { negative_for = \"0s\" }\nrefresh_every = \"1h\"",
    ));
    serving.signal("HUP");
    serving.logged("reloaded").await;
    assert_eq!(read(&client, serving.url("/v1/users/9")).await.0, 404);
    assert_eq!(nginx.requests().len(), 2);
    write_json_files(files.path(), "users", 9..=9, "");
    assert_eq!(read(&client, serving.url("/v1/users/9")).await.0, 200, "what has come to be is found");
    serving.stop().await;
}

async fn a_reader_who_does_not_want_to_wait_does_not(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=1, &"x".repeat(usize::try_from(PIECE).unwrap() * 20));
    let nginx = Nginx::start_slow(files.path()).await;
    let headpond = Headpond::with_config(&config(database, &nginx.url(), ON_DEMAND));
    let serving = headpond.serve().await;
    let client = client();
    let ask = async |name, value| {
        let answer = client.get(serving.url("/v1/users/1")).header(name, value).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
    };
    assert_eq!(ask("cache-control", "only-if-cached").await, (504, false));
    assert_eq!(listed(&headpond).await.join("").matches("demand").count(), 0, "and asks for nothing");
    assert_eq!(ask("prefer", "wait=0").await, (503, true));
    let (status, way, _) = read(&client, serving.url("/v1/users/1")).await;
    assert_eq!((status, way.contains(";collapsed")), (200, true), "{way}");
    assert_eq!(nginx.requests().len(), 1);
    serving.stop().await;
}
