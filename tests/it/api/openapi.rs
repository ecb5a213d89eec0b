//! The API's description of itself.

use serde_json::{Value, json};

use super::pond::Pond;
use crate::support::store::{TestStore, on_each_database};

on_each_database!(the_api_describes_itself_to_programs_and_people);

async fn the_api_describes_itself_to_programs_and_people(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a"]).await;
    let document = pond.json("/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["components"]["schemas"]["SourceName"]["enum"], json!(["weather"]));
    let page = pond.get("/docs", &[]).await;
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    let html = page.text();
    for (path, operations) in document["paths"].as_object().unwrap() {
        assert!(html.contains(&format!("<code>{path}</code>")), "{path}");
        for operation in operations.as_object().unwrap().values().filter_map(|operation| operation.get("operationId")) {
            assert!(html.contains(&format!("id=\"{}\"", operation.as_str().unwrap())), "{operation}");
        }
    }
    for foreign in ["<script", "src=", "http://", "https://", "@import", "<link"] {
        assert!(!html.contains(foreign), "{foreign}: the page needs nothing from elsewhere");
    }
    assert!(document["components"]["schemas"]["Item"]["properties"].as_object().is_some_and(|all| !all.is_empty()));
    assert_eq!(pond.get("/docs", &["Authorization: Bearer wrong"]).await.status(), 200);
    assert_ne!(document["info"]["version"], Value::Null);
}
