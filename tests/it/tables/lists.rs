//! Lists over the columns of a table, as a client asks for them.

use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::program::{Headpond, Serving, client, get_json};
use crate::support::store::{Database, on_each_empty_database};

on_each_empty_database!(
    rows_are_chosen_sorted_and_paged_as_asked,
    what_is_wrong_in_a_query_is_said,
    the_document_describes_the_rows_that_are_answered,
);

const USERS: [&str; 6] = [
    r#"{"name":"Ada","age":36,"score":1.5,"joined":"2026-05-01T12:00:00+02:00","tags":{"a":[1]}}"#,
    r#"{"name":"Bob","age":41,"score":2.5,"joined":"2026-05-02T12:00:00Z"}"#,
    r#"{"name":"Cyd","score":2.5,"joined":"2026-05-03T12:00:00Z"}"#,
    r#"{"name":"ada","age":36,"score":-7,"joined":"2026-05-04T12:00:00Z"}"#,
    r#"{"name":"O'Neil, (\"Jr\") %","score":0,"joined":"2026-05-05T12:00:00Z"}"#,
    r#"{"name":"Eve","age":9007199254740993,"score":3,"joined":"2026-05-06T12:00:00Z"}"#,
];

/// Serves these users as `u0`, `u1`, …
async fn serving(database: &Database) -> (Serving, MockServer) {
    let server = MockServer::builder().listener(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).start().await;
    for (n, body) in USERS.iter().enumerate() {
        let found = ResponseTemplate::new(200).set_body_raw(*body, "application/json");
        Mock::given(method("GET")).and(path(format!("/u{n}"))).respond_with(found).mount(&server).await;
    }
    let keys: Vec<_> = (0..USERS.len()).map(|n| format!("\"u{n}\"")).collect();
    let headpond = Headpond::with_config(&format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[sources.users]\nurl = \"{}/{{key}}\"\n\
         keys = [{}]\nrefresh_every = \"1h\"\n[sources.users.table]\nname = \"users\"\n[sources.users.table.columns]\n\
         name = {{ path = \"$.name\", type = \"text\" }}\nage = {{ path = \"$.age\", type = \"integer\", nullable = true }}\n\
         score = {{ path = \"$.score\", type = \"real\" }}\njoined = {{ path = \"$.joined\", type = \"timestamp\" }}\n\
         tags = {{ path = \"$.tags\", type = \"json\", nullable = true }}\n",
        database.url(),
        server.uri(),
        keys.join(", ")
    ));
    assert_eq!(headpond.run(&["refresh"]).await.code(), Some(0));
    (headpond.serve().await, server)
}

/// The names that a query finds, in order.
async fn names(serving: &Serving, query: &str) -> Vec<String> {
    let (status, answer) = get_json(&serving.url(&format!("/v1/users?{query}"))).await;
    assert_eq!(status, 200, "{query}: {answer}");
    let name = |item: &Value| item["name"].as_str().unwrap().to_owned();
    answer["items"].as_array().unwrap().iter().map(name).collect()
}

async fn rows_are_chosen_sorted_and_paged_as_asked(database: &Database) {
    let (serving, _server) = serving(database).await;
    for (query, expected) in [
        ("name=eq.Ada", &["Ada"][..]),
        ("name=neq.Ada&age=eq.36", &["ada"]),
        ("age=gte.36&age=lt.41", &["Ada", "ada"]),
        ("age=is.null", &["Cyd", "O'Neil, (\"Jr\") %"]),
        ("age=not.is.null&score=gt.2", &["Bob", "Eve"]),
        ("age=eq.9007199254740993", &["Eve"]),
        ("name=like.A*", &["Ada"]),
        ("name=like._d_", &["Ada", "ada"]),
        ("name=in.(Bob,%22O'Neil, (\\%22Jr\\%22) %25%22)", &["Bob", "O'Neil, (\"Jr\") %"]),
        ("name=eq.'; DROP TABLE headpond_typed; --", &[]),
        ("joined=gte.2026-05-05T14:00:00%2B02:00", &["O'Neil, (\"Jr\") %", "Eve"]),
        ("order=score.desc,name.desc", &["Eve", "Cyd", "Bob", "Ada", "O'Neil, (\"Jr\") %", "ada"]),
        ("order=age.desc,score", &["Eve", "Bob", "ada", "Ada", "O'Neil, (\"Jr\") %", "Cyd"]),
        ("order=joined&state=stale", &[]),
        ("select=name&state=fresh&limit=1", &["Ada"]),
    ] {
        assert_eq!(names(&serving, &query.replace(' ', "%20")).await, expected, "{query}");
    }
    let url = serving.url("/v1/users?select=key,name,age,tags,state&order=age&limit=2");
    let (mut next, mut items, mut pages) = (Some(url), Vec::new(), 0);
    while let Some(url) = next {
        let answer = client().get(&url).header("prefer", "count=exact").send().await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        assert_eq!(answer.headers()["preference-applied"], "count=exact");
        next = link.map(|link| {
            format!("{}{}", serving.url("/v1/users"), link.strip_prefix('<').unwrap().split_once('>').unwrap().0)
        });
        let page: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(page["count"], 6);
        items.extend(page["items"].as_array().unwrap().clone());
        pages += 1;
    }
    assert_eq!(pages, 3);
    assert_eq!(items[0], json!({ "key": "u0", "name": "Ada", "age": 36, "tags": { "a": [1] }, "state": "fresh" }));
    let keys: Vec<_> = items.iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["u0", "u3", "u1", "u5", "u2", "u4"], "who has no age comes last, and all come once");
    // Who has the answer is told so.
    let url = serving.url("/v1/users?select=name&order=name");
    let etag = client().get(&url).send().await.unwrap().headers()["etag"].clone();
    assert_eq!(client().get(&url).header("if-none-match", etag).send().await.unwrap().status(), 304);
    serving.stop().await;
}

async fn what_is_wrong_in_a_query_is_said(database: &Database) {
    let (serving, _server) = serving(database).await;
    for (query, parameter, said) in [
        ("nmae=eq.Ada", "nmae", "there is no such column; the columns are `key`, `version`, `changed_at`"),
        ("age=36", "age", "write an operator and a value, like `eq.5`"),
        ("age=like.3*", "age", "`like` is for columns of text."),
        ("age=eq.9223372036854775808", "age", "no whole number of 64 bits"),
        ("joined=gt.2026-05-01T00:00:00", "joined", "no timestamp with a zone"),
        ("select=name,%22;--", "select", "there is no such column"),
        ("order=name.sideways", "order", "write a column, or one with `.asc` or `.desc`"),
        ("order=name&limit=-1", "limit", "a whole number from 1 to 1000"),
        ("order=name&limit=1e9", "limit", "a whole number from 1 to 1000"),
        ("order=name&after=forged", "after", "it must be what a `Link` of the same list says."),
        ("order=name&order=age", "order", "it may be given once."),
        ("name=eq.Ada&state=gone", "state", "it must be fresh or stale."),
    ] {
        let (status, answer) = get_json(&serving.url(&format!("/v1/users?{query}"))).await;
        assert_eq!((status, answer["parameter"].as_str()), (400, Some(parameter)), "{query}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains(said), "{query}: {answer}");
    }
    // A place of one list leads nowhere in another.
    let first = client().get(serving.url("/v1/users?order=age&limit=1")).send().await.unwrap();
    let link = first.headers()["link"].to_str().unwrap().to_owned();
    let after = link.split("after=").nth(1).unwrap().split('>').next().unwrap().to_owned();
    let (status, _) = get_json(&serving.url(&format!("/v1/users?order=name&after={after}"))).await;
    assert_eq!(status, 400);
    serving.stop().await;
}

async fn the_document_describes_the_rows_that_are_answered(database: &Database) {
    let (serving, _server) = serving(database).await;
    let (_, document) = get_json(&serving.url("/openapi.json")).await;
    let row = &document["components"]["schemas"]["users.row"];
    let typed = |column: &str| &row["properties"][column]["type"];
    assert_eq!((typed("name"), typed("age")), (&json!("string"), &json!(["integer", "null"])));
    assert_eq!(row["properties"]["joined"]["format"], "date-time");
    let (_, page) = get_json(&serving.url("/v1/users?order=key")).await;
    for item in page["items"].as_array().unwrap() {
        let described: Vec<_> = row["properties"].as_object().unwrap().keys().collect();
        assert_eq!(described, item.as_object().unwrap().keys().collect::<Vec<_>>());
        for (column, value) in item.as_object().unwrap() {
            let kind = match value {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(number) if number.is_f64() => "number",
                Value::Number(_) => "integer",
                Value::String(_) => "string",
                Value::Array(_) | Value::Object(_) => continue,
            };
            let said = typed(column);
            let fits =
                said.is_null() || *said == json!(kind) || said.as_array().is_some_and(|all| all.contains(&json!(kind)));
            assert!(fits, "{column}: {value} is described as {said}");
        }
    }
    let parameters = document["paths"]["/v1/users"]["get"]["parameters"].as_array().unwrap();
    for column in ["key", "name", "age", "state", "fetched_at"] {
        let is_condition = parameters.iter().any(|parameter| parameter["name"] == column);
        assert_eq!(is_condition, ["name", "age"].contains(&column), "{column}");
    }
    serving.stop().await;
}
