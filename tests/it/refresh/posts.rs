//! Sources that are asked by POST, one body for each key.

use headpond::domain::failure::FailureKind;
use wiremock::matchers::{body_json, method};
use wiremock::{Mock, ResponseTemplate};

use super::{Process, mock_server};
use crate::support::store::{TestStore, on_each_database};

on_each_database!(each_key_is_asked_for_by_its_own_body_and_again_without_conditions);

async fn each_key_is_asked_for_by_its_own_body_and_again_without_conditions(test: &TestStore) {
    let upstream = mock_server().await;
    for (id, size) in [("a\"b", 1), ("2", 2)] {
        let answer = ResponseTemplate::new(200).set_body_string(id).insert_header("etag", "\"v1\"");
        let asked = Mock::given(method("POST")).and(body_json(serde_json::json!({ "id": id, "size": size })));
        asked.respond_with(answer).expect(2).mount(&upstream).await;
    }
    let toml = format!(
        "[sources.users]\nurl = \"{}/search\"\nrefresh_every = \"1h\"\nbody = '{{\"id\":\"{{key}}\",\"size\":{{size}}}}'\n\
         keys = [{{ key = 'a\"b', size = 1 }}, {{ key = '2', size = 2 }}]\n",
        upstream.uri()
    );
    let process = Process::with_config(test, &toml).await;
    let counts = process.refresh().await;
    assert_eq!(counts.new, 2, "{counts:?}");
    process.want("a\"b").await;
    process.want("2").await;
    let counts = process.refresh().await;
    assert_eq!((counts.unchanged, counts.failed), (2, 0), "{counts:?}");

    // A key that came by another way than the config, and without what the body needs.
    process.add("3").await;
    let counts = process.refresh().await;
    assert_eq!(counts.failed, 1, "{counts:?}");
    let failing = test.current("users", "3").await.failing.unwrap();
    assert_eq!(failing.last.kind, FailureKind::BadRequest);
    assert_eq!(failing.last.detail, "the body's variable `size` has no value");
}
