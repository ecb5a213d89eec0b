//! The command line: what each command says, and how it ends.

mod connect;

use crate::support::program::{Headpond, Printed};

/// A good configuration on a SQLite file, whose upstream nobody asks.
const CONFIG: &str = "\
[server]
listen = \"127.0.0.1:0\"
[sources.users]
url = \"http://127.0.0.1:9/users/{key}\"
keys = [\"a\", \"b/c\"]
refresh_every = \"1h\"
";

/// It ended with this code, and stderr says all of these.
fn assert_says(printed: &Printed, code: i32, parts: &[&str]) {
    assert_eq!(printed.code(), Some(code), "{printed:?}");
    for part in parts {
        assert!(printed.stderr.contains(part), "{part:?} in {printed:?}");
    }
    assert!(!printed.stderr.contains("panicked"), "{printed:?}");
}

#[tokio::test]
async fn init_writes_a_configuration_that_wants_only_a_name_and_never_overwrites_one() {
    let headpond = Headpond::with_config("");
    std::fs::remove_file(headpond.path("headpond.toml")).unwrap();
    let wrote = headpond.run(&["init"]).await;
    assert_eq!(wrote.code(), Some(0), "{wrote:?}");
    assert!(wrote.stdout.contains("user_agent"), "{wrote:?}");
    let example = std::fs::read_to_string(headpond.path("headpond.toml")).unwrap();

    let unnamed = headpond.run(&["check"]).await;
    let line = 1 + example.lines().position(|line| line == "[sources.weather]").unwrap();
    assert_says(&unnamed, 2, &[&format!("headpond.toml:{line}:10: sources.weather: user_agent is not set")]);
    assert!(unnamed.stderr.lines().all(|said| said.contains("user_agent is not set")), "nothing else is: {unnamed:?}");

    headpond.configure(&example.replace("# user_agent =", "user_agent ="));
    let checked = headpond.run(&["check"]).await;
    assert_eq!(checked.code(), Some(0), "{checked:?}");
    assert!(checked.stdout.contains("source weather"), "{checked:?}");
    assert_says(&headpond.run(&["init"]).await, 2, &["headpond.toml is there already"]);
}

#[tokio::test]
async fn a_bad_configuration_ends_every_command_with_its_place() {
    let headpond = Headpond::with_config(
        "[sources.users]\nurl = \"http://127.0.0.1/{key}\"\nkeys = [\"a\"]\nrefresh_evry = \"1h\"\n",
    );
    for command in [&["check"][..], &["serve"], &["refresh"], &["try", "users"], &["get", "users", "a"], &["migrate"]] {
        let printed = headpond.run(command).await;
        assert_says(&printed, 2, &["headpond.toml:4:1", "refresh_evry", "refresh_every"]);
    }
}

#[tokio::test]
async fn a_variable_takes_the_place_of_a_setting_in_every_command() {
    let headpond = Headpond::with_config(CONFIG)
        .with_variable("HEADPOND__DATABASE__URL", "sqlite://elsewhere.db")
        .with_variable("HEADPOND__SOURCES__USERS__KEYS", "['of the variable']");
    headpond.run(&["refresh"]).await;
    assert!(headpond.path("elsewhere.db").exists() && !headpond.path("headpond.db").exists());
    let meta = headpond.run(&["get", "users", "of the variable", "--meta"]).await;
    assert_eq!(meta.code(), Some(0), "{meta:?}");

    let headpond = Headpond::with_config(CONFIG).with_variable("HEADPOND__SOURCES__USERS__REFRESH_EVRY", "1m");
    let remedy = "did you mean `HEADPOND__SOURCES__USERS__REFRESH_EVERY`?";
    for command in [&["check"][..], &["serve"], &["refresh"], &["try", "users"], &["get", "users", "a"], &["migrate"]] {
        assert_says(&headpond.run(command).await, 2, &["HEADPOND__SOURCES__USERS__REFRESH_EVRY: ", remedy]);
    }
}

#[tokio::test]
async fn wrong_usage_ends_with_2() {
    let headpond = Headpond::with_config(CONFIG);
    assert_eq!(headpond.run(&[]).await.code(), Some(2));
    assert_eq!(headpond.run(&["refrsh"]).await.code(), Some(2));
    assert_eq!(headpond.run(&["refresh", "--all", "users"]).await.code(), Some(2));
    assert_eq!(headpond.run(&["refresh", "--due", "--force"]).await.code(), Some(2));
    assert_says(&headpond.run(&["refresh", "weather"]).await, 2, &["no source \"weather\"", "users"]);
    assert_says(&headpond.run(&["refresh", "users", "zzz"]).await, 2, &["no key \"zzz\""]);
    assert_says(&headpond.run(&["check", "--config", "absent.toml"]).await, 2, &["absent.toml"]);
}

#[tokio::test]
async fn a_refresh_whose_resources_fail_ends_with_1_and_names_them() {
    let headpond = Headpond::with_config(CONFIG);
    let printed = headpond.run(&["refresh", "--json"]).await;
    assert_eq!(printed.code(), Some(1), "{printed:?}");
    assert_eq!(printed.json()["failed"], 2);
    let keys: Vec<_> = printed.json()["failures"].as_array().unwrap().iter().map(|f| f["key"].clone()).collect();
    assert!(keys.contains(&"b/c".into()), "{printed:?}");
    assert_eq!(printed.json()["failures"][0]["kind"], "connect");
    let again = headpond.run(&["refresh", "users", "b/c", "--force"]).await;
    assert_eq!(again.code(), Some(1));
    assert!(again.stdout.contains("users/b/c: connect"), "{again:?}");
}

#[tokio::test]
async fn get_tells_unknown_from_never_fetched() {
    let headpond = Headpond::with_config(CONFIG);
    assert_says(&headpond.run(&["get", "users", "a"]).await, 2, &["headpond.db"]);
    headpond.run(&["refresh"]).await;
    assert_says(&headpond.run(&["get", "users", "zzz"]).await, 1, &["users/zzz is not known"]);
    assert_says(&headpond.run(&["get", "users", "a"]).await, 1, &["users/a was never fetched"]);
    let meta = headpond.run(&["get", "users", "a", "--meta"]).await;
    assert_eq!((meta.code(), &meta.json()["state"]), (Some(0), &"pending".into()), "{meta:?}");
}

#[tokio::test]
async fn try_makes_one_request_and_stores_nothing() {
    let upstream = wiremock::MockServer::start().await;
    wiremock::Mock::given(wiremock::matchers::path("/users/a"))
        .respond_with(
            wiremock::ResponseTemplate::new(200)
                .insert_header("etag", "\"v1\"")
                .insert_header("cache-control", "max-age=60")
                .set_body_string("hello"),
        )
        .expect(1)
        .mount(&upstream)
        .await;
    let config = CONFIG.replace("http://127.0.0.1:9", &upstream.uri())
        + "[sources.users.headers]\nauthorization = \"Bearer canary-secret\"\n";
    let headpond = Headpond::with_config(&config);
    let tried = headpond.run(&["try", "users"]).await;
    assert_eq!(tried.code(), Some(0), "{tried:?}");
    for part in ["/users/a", "200", "max-age=60", "\"v1\"", "created", "interval"] {
        assert!(tried.stdout.contains(part), "{part:?} in {tried:?}");
    }
    assert!(!format!("{tried:?}").contains("canary-secret"), "{tried:?}");
    assert!(!headpond.path("headpond.db").exists(), "nothing is stored");
}

#[tokio::test]
async fn try_shows_no_query_and_no_path_that_was_put_in() {
    let upstream = wiremock::MockServer::start().await;
    let onwards = "http://me:canary-secret@elsewhere.example/canary-path?token=canary-secret";
    wiremock::Mock::given(wiremock::matchers::any())
        .respond_with(
            wiremock::ResponseTemplate::new(302)
                .insert_header("location", onwards)
                .insert_header("link", "</?token=canary-secret>; rel=\"next\""),
        )
        .mount(&upstream)
        .await;
    let config = CONFIG.replace("http://127.0.0.1:9", &upstream.uri()).replace("{key}", "{key}?token=canary-secret");
    let headpond = Headpond::with_config(&config);
    let tried = headpond.run(&["try", "users"]).await;
    for part in [&format!("GET {}/users/a\n", upstream.uri()), "location: http://elsewhere.example/canary-path\n"] {
        assert!(tried.stdout.contains(part), "{part:?} in {tried:?}");
    }
    assert!(!format!("{tried:?}").contains("canary-secret"), "{tried:?}");

    std::fs::write(headpond.path("path"), "canary-path").unwrap();
    headpond.configure(&config.replace("users/{key}", "${file:path}/{key}"));
    let tried = headpond.run(&["try", "users"]).await;
    assert!(tried.stdout.contains(&format!("GET {}/…\n", upstream.uri())), "{tried:?}");
    assert!(!format!("{tried:?}").contains("canary"), "{tried:?}");
}

#[tokio::test]
async fn an_address_that_is_taken_is_told_before_anything_is_touched() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let headpond = Headpond::with_config(&CONFIG.replace("127.0.0.1:0", &address));
    assert_says(&headpond.run(&["serve"]).await, 2, &["server.listen", &address]);
    assert!(!headpond.path("headpond.db").exists());
}

#[tokio::test]
async fn a_database_that_can_not_be_used_is_told_in_one_sentence() {
    let with_database = |url: &str| format!("{CONFIG}[database]\nurl = \"{url}\"\n");
    let headpond = Headpond::with_config(&with_database("sqlite://other.db"));
    std::fs::write(headpond.path("other.db"), "this is a shopping list, not a database").unwrap();
    assert_says(&headpond.run(&["refresh"]).await, 2, &["database.url: other.db: it is not a SQLite database"]);
    assert_eq!(std::fs::read_to_string(headpond.path("other.db")).unwrap().len(), 39, "and not touched");

    headpond.configure(&with_database("postgres://someone:canary-secret@127.0.0.1:9/db"));
    let printed = headpond.run(&["refresh"]).await;
    assert_says(&printed, 2, &["database.url: can't connect to 127.0.0.1:9/db: ", "; is the server running"]);
    assert!(!printed.stderr.contains("canary-secret"), "{printed:?}");

    headpond.configure(&with_database("sqlite://nowhere/headpond.db"));
    assert_says(&headpond.run(&["refresh"]).await, 2, &["database.url: nowhere/headpond.db: the directory nowhere"]);
    headpond.configure(&with_database("sqlite://headpond.db?mode=ro"));
    assert_says(&headpond.run(&["check"]).await, 2, &["headpond.toml:8:7: database.url", "a path alone"]);
}

#[tokio::test]
async fn serve_without_migrating_refuses_a_database_that_is_not_up_to_date() {
    let headpond = Headpond::with_config(CONFIG);
    assert_says(&headpond.run(&["serve", "--no-migrate"]).await, 2, &["headpond migrate"]);
    assert_eq!(headpond.run(&["migrate"]).await.code(), Some(0));
    let serving = headpond.serve().await;
    serving.stop().await;
}

#[tokio::test]
async fn a_second_signal_ends_serve_at_once() {
    // An upstream that never answers: there is always something under way.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", silent.local_addr().unwrap());
    let headpond = Headpond::with_config(&CONFIG.replace("http://127.0.0.1:9", &origin));
    let serving = headpond.serve().await;
    let (_held, _) = silent.accept().unwrap();
    serving.signal("TERM");
    serving.logged("stopping").await;
    serving.signal("TERM");
    let (status, log) = serving.ended().await;
    assert_eq!(status.code(), Some(1), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("stopped at once")), "{log:#?}");
    // What it had in hand is still there, and due once its lease has expired.
    let again = headpond.run(&["get", "users", "a", "--meta"]).await;
    assert_eq!(again.json()["state"], "pending");
}

#[tokio::test]
async fn serve_finishes_what_is_under_way_within_its_grace_and_gives_back_the_rest() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", silent.local_addr().unwrap());
    let config = CONFIG.replace("http://127.0.0.1:9", &origin).replace("[server]", "[server]\nshutdown_grace = \"1s\"");
    let headpond = Headpond::with_config(&config);
    let serving = headpond.serve().await;
    let (_held, _) = silent.accept().unwrap();
    serving.stop().await;
    let meta = headpond.run(&["get", "users", "a", "--meta"]).await;
    assert_eq!(meta.json()["leased_until"], serde_json::Value::Null, "given back, not left to expire: {meta:?}");
}
