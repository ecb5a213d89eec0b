//! What `check --plan` says, and that it is all that it does.

use wiremock::matchers::{path, query_param, query_param_is_missing};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::nginx::{Nginx, write_json_files};
use crate::support::program::{Headpond, files_config};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(
    a_plan_tells_of_requests_keys_and_tables_and_changes_nothing,
    a_plan_counts_one_page_of_changes_and_all_pages_as_often_as_they_are_swept,
);

async fn a_plan_tells_of_requests_keys_and_tables_and_changes_nothing(database: &Database) {
    let files = tempfile::tempdir().unwrap();
    write_json_files(files.path(), "users", 1..=60, "");
    let mut nginx = Nginx::start(files.path()).await;
    let origin = nginx.url();
    let listed =
        |keys: u32, more: &str| files_config(database, &origin, keys, "", &format!("refresh_every = \"1h\"\n{more}"));
    let headpond = Headpond::with_config(&listed(60, ""));
    let plan = async || {
        let planned = headpond.run(&["check", "--plan"]).await;
        assert_eq!(planned.code(), Some(0), "{planned:?}");
        planned.stdout
    };
    let says = |planned: &str, parts: &[&str]| {
        for part in parts {
            assert!(planned.contains(part), "{part:?} in {planned}");
        }
    };
    says(
        &plan().await,
        &[
            "plan: as if nothing were stored yet: there is no database yet",
            " in the next day, at most 60 in a minute",
            "60 requests for what was never fetched are sent as fast as it answers",
            "source users: 60 (1, 10, 11, 12, 13, …) keys would be added",
        ],
    );
    assert_eq!(headpond.run(&["refresh", "--all"]).await.code(), Some(0));
    nginx.stop();

    // All is there: an hour asks for each once, and nothing about keys would change.
    let settled = plan().await;
    says(&settled, &["60 requests in the next hour, 1440 in the next day"]);
    assert!(!settled.contains("keys would be") && !settled.contains("never fetched"), "{settled}");

    // Fewer keys, more of another source, a limit and a budget that is too small, and a table.
    std::fs::write(headpond.path("more.txt"), "61\n62\n3\n").unwrap();
    let table = "[sources.users.table]\nname = \"users\"\n[sources.users.table.columns]\nid = { path = \"$.id\", type = \"integer\" }\n";
    let file = "keys_from = [{ file = \"more.txt\" }]\n";
    let changed = listed(50, &format!("{file}{table}"));
    headpond.configure(&changed);
    says(
        &plan().await,
        &[
            "source users: 2 (61, 62) keys would be added",
            "source users: 10 (51, 52, 53, 54, 55, …) keys would be polled no more",
            "2 requests for what was never fetched",
            "table users of source users: new",
        ],
    );
    headpond.configure(&changed.replace("more.txt", "absent.txt"));
    says(&plan().await, &["source users: file: ", "absent.txt"]);
    headpond.configure(&changed.replace("[sources.users", "[sources.people"));
    says(&plan().await, &["source users: not in the configuration: its 60 keys would be polled no more"]);
    assert_eq!(database.number("SELECT count(*) FROM {resource}").await, 60, "nothing is stored");

    // What is erased stays away, whoever lists it.
    headpond.configure(&changed);
    assert_eq!(headpond.run(&["erase", "users", "61", "7", "--unseen"]).await.code(), Some(0));
    let erased = plan().await;
    says(&erased, &["source users: 1 (62) keys would be added", "1 requests for what was never fetched"]);
}

async fn a_plan_counts_one_page_of_changes_and_all_pages_as_often_as_they_are_swept(database: &Database) {
    let server = MockServer::start().await;
    for page in 1..=4 {
        let item = format!(r#"[{{"id":"{page}","at":"2026-01-01T00:00:0{page}Z"}}]"#);
        let mut answer = ResponseTemplate::new(200).set_body_raw(item, "application/json");
        if page < 4 {
            answer = answer.insert_header("link", format!("<{}/items?page={}>; rel=\"next\"", server.uri(), page + 1));
        }
        let asked = Mock::given(path("/items"));
        let asked = if page == 1 {
            asked.and(query_param_is_missing("page"))
        } else {
            asked.and(query_param("page", page.to_string()))
        };
        asked.respond_with(answer).mount(&server).await;
    }
    let config = |more: &str| {
        format!(
            "[database]\nurl = \"{}\"\n[sources.items]\nkind = \"collection\"\nurl = \"{}/items\"\nitems = \"$[*]\"\n\
             item_key = \"$.id\"\npaginate = {{ by = \"link_header\" }}\nrefresh_every = \"1h\"\n{more}\n",
            database.url(),
            server.uri()
        )
    };
    let changes = "updated_since = { param = \"since\", path = \"$.at\" }\nsweep_every = \"24h\"";
    let headpond = Headpond::with_config(&config(changes));
    let plan = async || {
        let planned = headpond.run(&["check", "--plan"]).await;
        assert_eq!(planned.code(), Some(0), "{planned:?}");
        planned.stdout
    };
    let unknown = "source items: its pages are not known yet; counted as one";
    let before = plan().await;
    assert!(before.contains("25 in the next day") && before.contains(unknown), "{before}");
    assert_eq!(headpond.run(&["refresh", "--all"]).await.code(), Some(0));
    let swept = plan().await;
    // One of the 24 walks of a day looks at three pages more.
    assert!(swept.contains("27 in the next day") && !swept.contains("not known"), "{swept}");
    headpond.configure(&config(""));
    let whole = plan().await;
    assert!(whole.contains("100 in the next day"), "{whole}");
}
