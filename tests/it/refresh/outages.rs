//! An upstream that goes away and comes back.

use std::collections::HashMap;

use headpond::domain::failure::FailureKind;
use headpond::domain::schedule::Because;
use headpond::store::Selection;
use wiremock::matchers::method;
use wiremock::{Mock, ResponseTemplate};

use super::{Process, asked, mock_server};
use crate::support::store::{TestStore, on_each_database};

on_each_database!(what_failed_while_the_upstream_was_down_is_due_at_once_when_it_is_back);

const KEYS: [&str; 5] = ["1", "2", "3", "4", "5"];

async fn what_failed_while_the_upstream_was_down_is_due_at_once_when_it_is_back(test: &TestStore) {
    let upstream = mock_server().await;
    let status = |code| Mock::given(method("GET")).respond_with(ResponseTemplate::new(code).set_body_string("back"));
    status(503).mount(&upstream).await;
    // The clock of this test stands still: neither interval nor backoff passes.
    let far = "backoff_initial = \"30d\"\nbackoff_cap = \"30d\"";
    let process = Process::with_users(test, &upstream.uri(), &KEYS, far).await;
    let counts = process.refresh().await;
    assert_eq!(counts.failed, 5, "{counts:?}");
    for key in KEYS {
        let current = test.current("users", key).await;
        assert_eq!(current.failing.unwrap().last.kind, FailureKind::ServerError);
        assert_eq!(current.due.unwrap().because, Because::Outage, "{key}");
    }
    assert_eq!(test.store.backlog(&Selection::All, test.now()).await.unwrap().waiting, 0);

    upstream.reset().await;
    status(200).mount(&upstream).await;
    process.want("1").await;
    let counts = process.refresh().await;
    assert_eq!((counts.new, counts.failed), (5, 0), "{counts:?}");
    let requests = asked(&upstream).await.into_iter().fold(HashMap::<_, usize>::new(), |mut requests, path| {
        *requests.entry(path).or_default() += 1;
        requests
    });
    let once_each = KEYS.map(|key| (format!("/users/{key}"), 1));
    assert_eq!(requests, HashMap::from(once_each));
    for key in KEYS {
        assert_eq!(test.current("users", key).await.failing, None, "{key}");
    }
}
