//! Lists of a source, and many keys at once.

use std::collections::BTreeSet;
use std::time::Duration;

use headpond::domain::observation::Seen;
use http::HeaderMap;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};

use super::pond::{JSON, Pond};
use crate::support::outcomes::{HOUR, content, status};
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    an_item_tells_what_a_single_read_tells,
    data_is_the_body_to_the_last_digit,
    links_lead_through_all_of_a_source_whatever_its_keys_are,
    a_list_may_be_of_one_state,
    a_batch_has_the_order_asked_for_and_names_what_is_absent,
    a_thousand_keys_are_answered_at_once,
    an_answer_that_would_be_too_big_goes_on_in_the_next,
    a_retired_key_is_named_but_not_listed,
    wrong_parameters_say_what_would_be_right,
    a_source_that_is_not_there_is_no_empty_list,
    a_page_that_has_not_changed_is_not_sent_again,
    a_whole_source_comes_in_lines,
    lines_are_broken_off_when_they_cannot_be_read_on,
);

fn keys(answer: &Value) -> Vec<&str> {
    answer["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap()).collect()
}

/// The items of a source and where the next ones are.
async fn page(pond: &Pond<'_>, path: &str) -> (Value, Option<String>) {
    let answer = pond.get(path, &[]).await;
    assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
    let next = answer.field("link").map(|link| {
        let reference = link.strip_prefix("<").and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap();
        let base: url::Url = pond.address(path).parse().unwrap();
        let next = base.join(reference).unwrap();
        format!("{}?{}", next.path(), next.query().unwrap())
    });
    (serde_json::from_slice(&answer.body).unwrap(), next)
}

async fn an_item_tells_what_a_single_read_tells(test: &TestStore) {
    let pond = Pond::with_keys(test, &["gone", "never", "sunny"]).await;
    pond.gets("sunny", &[JSON], "{\"t\":12}").await;
    pond.gets("gone", &[JSON], "{}").await;
    test.clock.advance(Duration::from_secs(90));
    pond.sees("gone", status(410)).await;
    let single = pond.get("/v1/weather/sunny", &[]).await;
    let list = pond.json("/v1/weather").await;
    let sunny = json!({
        "key": "sunny", "state": "fresh", "version": 1, "fetched_at": "2027-01-15T08:00:00Z",
        "stale_after": "2027-01-15T10:00:00Z", "changed_at": "2027-01-15T08:00:00Z",
        "etag": single.field("etag").unwrap(), "content_type": "application/json; charset=utf-8", "data": { "t": 12 },
    });
    let never = json!({
        "key": "never", "state": "pending", "version": 0, "fetched_at": null, "stale_after": null,
        "changed_at": null, "etag": null, "content_type": null, "data": null,
    });
    assert_eq!(keys(&list), ["gone", "never", "sunny"]);
    assert_eq!((&list["items"][1], &list["items"][2]), (&never, &sunny));
    let gone = &list["items"][0];
    assert_eq!((&gone["state"], &gone["version"], &gone["data"]), (&json!("gone"), &json!(1), &json!(null)));
    assert_eq!(pond.json("/v1/weather?keys=sunny,never").await["items"], json!([sunny, never]));

    test.clock.advance(2 * HOUR);
    assert_eq!(pond.json("/v1/weather?keys=sunny").await["items"][0]["state"], "stale");
    for path in ["/v1/weather?data=false", "/v1/weather?keys=sunny,never&data=false"] {
        for item in pond.json(path).await["items"].as_array().unwrap() {
            assert_eq!(item.get("data"), None, "{path}");
            assert_eq!(item.as_object().unwrap().len(), 8, "{path}");
        }
    }
}

async fn data_is_the_body_to_the_last_digit(test: &TestStore) {
    let pond = Pond::with_keys(test, &["bytes", "json", "not-json", "problem", "text"]).await;
    let json = "\n{ \"id\": 123456789012345678901.500,\"e\":1E400, \"a\":1,\"a\":2, \"s\":\"\\u00e9\" }";
    pond.gets("json", &[JSON], json).await;
    pond.gets("problem", &[("content-type", "application/problem+json")], "[1.0]").await;
    pond.gets("text", &[("content-type", "text/plain")], "{\"looks\": \"like it\"} \u{0} \"").await;
    pond.gets("not-json", &[], "12").await;
    pond.sees("bytes", Seen::Content { headers: HeaderMap::new(), body: (&b"\xff\x00\xfe"[..]).into() }).await;
    let answer = pond.get("/v1/weather", &[]).await.text();
    for (key, data) in [
        ("json", json.trim_start()),
        ("problem", "[1.0]"),
        ("text", r#""{\"looks\": \"like it\"} \u0000 \"""#),
        ("not-json", "\"12\""),
        ("bytes", r#"{"base64":"/wD+"}"#),
    ] {
        let from = answer.find(&format!("\"key\":\"{key}\"")).unwrap();
        assert!(answer[from..].contains(&format!("\"data\":{data}}}")), "{key}: {answer}");
    }
}

async fn links_lead_through_all_of_a_source_whatever_its_keys_are(test: &TestStore) {
    let odd = [
        "a b",
        "a+b",
        "a,b",
        "a&after=z",
        "50%",
        "%41",
        ">; rel=\"next\"",
        "\u{fc}",
        "\u{1F600}",
        "a/b?c#d",
        "..",
        "\"",
        "k1",
        "k2",
        "K1",
    ];
    let pond = Pond::with_keys(test, &odd).await;
    let sorted: Vec<_> = BTreeSet::from(odd).into_iter().collect();
    for limit in [1, 4, 14, 15] {
        let mut path = format!("/v1/weather?limit={limit}&data=false");
        let mut seen = Vec::new();
        loop {
            let (answer, next) = page(&pond, &path).await;
            seen.extend(keys(&answer).into_iter().map(str::to_owned));
            assert_eq!(answer["items"][0].get("data"), None, "{path} keeps what was asked for");
            let Some(next) = next else { break };
            assert_eq!(seen.len() % limit, 0, "{path}");
            path = next;
        }
        assert_eq!(seen, sorted, "{limit}");
    }
    let (_, next) = page(&pond, "/v1/weather").await;
    assert_eq!(next, None);
    assert_eq!(keys(&pond.json("/v1/weather?after=k0").await)[0], "k1", "the key itself need not be there");
}

async fn a_list_may_be_of_one_state(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "b", "c", "d"]).await;
    pond.gets("a", &[JSON], "{}").await;
    test.clock.advance(2 * HOUR);
    pond.gets("c", &[JSON], "{}").await;
    pond.sees("d", status(404)).await;
    for (state, expected) in [("fresh", "c"), ("stale", "a"), ("pending", "b"), ("gone", "d")] {
        let answer = pond.json(&format!("/v1/weather?state={state}")).await;
        assert_eq!((keys(&answer), &answer["items"][0]["state"]), (vec![expected], &json!(state)));
    }
    pond.gets("b", &[JSON], "{}").await;
    let (first, next) = page(&pond, "/v1/weather?state=fresh&limit=1").await;
    assert_eq!(keys(&first), ["b"]);
    let (second, end) = page(&pond, &next.unwrap()).await;
    assert_eq!((keys(&second), end), (vec!["c"], None));
}

async fn a_batch_has_the_order_asked_for_and_names_what_is_absent(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "b", "a,b", "x y"]).await;
    pond.gets("a,b", &[], "with a comma").await;
    let answer = pond.json("/v1/weather?keys=b,nowhere,a%2Cb,x+y,a,A").await;
    assert_eq!(keys(&answer), ["b", "a,b", "x y", "a"]);
    assert_eq!(answer["items"][1]["data"], "with a comma");
    assert_eq!((&answer["absent"], &answer["rest"]), (&json!(["nowhere", "A"]), &json!([])));
    let none = pond.json("/v1/weather?keys=nowhere").await;
    assert_eq!((keys(&none), &none["absent"]), (vec![], &json!(["nowhere"])));
}

async fn a_thousand_keys_are_answered_at_once(test: &TestStore) {
    let uuid = |n: u32| format!("{n:08x}-0000-4000-8000-{:012x}", u64::from(n) * 7919);
    let mut names: Vec<String> = (0..1000).map(uuid).collect();
    let pond = Pond::with_keys(test, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    names.reverse();
    let answer = pond.json(&format!("/v1/weather?keys={}", names.join(","))).await;
    assert_eq!(keys(&answer), names);
    let (list, next) = page(&pond, "/v1/weather?limit=1000").await;
    assert_eq!((keys(&list).len(), next), (1000, None));
    let one_more = pond.get(&format!("/v1/weather?keys={},k", names.join(",")), &[]).await;
    assert_eq!(one_more.status(), 400);
    let problem = one_more.problem("bad-parameter");
    assert_eq!(problem["expected"], "at most 1000 keys can be named at once.");
    assert!(one_more.body.len() < 1000, "it doesn't repeat all of them: {problem}");
}

async fn an_answer_that_would_be_too_big_goes_on_in_the_next(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "b", "c", "d"]).await;
    for key in ["a", "b", "d"] {
        pond.gets(key, &[("content-type", "text/plain")], &key.repeat(4_000_000)).await;
    }
    let (first, next) = page(&pond, "/v1/weather").await;
    assert_eq!(keys(&first), ["a", "b", "c"], "8 MiB of bodies, and what has none");
    let (second, end) = page(&pond, &next.unwrap()).await;
    assert_eq!((keys(&second), end), (vec!["d"], None));
    assert_eq!(second["items"][0]["data"].as_str().unwrap().len(), 4_000_000);
    let answer = pond.json("/v1/weather?keys=d,x,c,b,a").await;
    assert_eq!(keys(&answer), ["d", "c", "b"]);
    assert_eq!((&answer["absent"], &answer["rest"]), (&json!(["x"]), &json!(["a"])));
    let (all, end) = page(&pond, "/v1/weather?data=false").await;
    assert_eq!((keys(&all).len(), end), (4, None));
}

async fn a_retired_key_is_named_but_not_listed(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "never"]).await;
    pond.gets("a", &[JSON], "{}").await;
    test.retire_keys_except(pond.source.source, &BTreeSet::new()).await.unwrap();
    assert_eq!(keys(&pond.json("/v1/weather").await), Vec::<&str>::new());
    let named = pond.json("/v1/weather?keys=a,never").await;
    assert_eq!((keys(&named), &named["absent"]), (vec!["a"], &json!(["never"])), "as single reads answer");
}

async fn wrong_parameters_say_what_would_be_right(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "b"]).await;
    let known = "the parameters here are `after`, `cursor`, `data`, `key`, `keys`, `limit`, `state`, `version`.";
    let (limit, state) = ("it must be a whole number from 1 to 1000.", "it must be fresh, stale, pending or gone.");
    let (data, utf8) = ("it must be true or false.", "it must be UTF-8, percent-encoded.");
    let once = "it may be given once.";
    let long = "k".repeat(3000);
    let empty = "a key can't be empty";
    for (query, parameter, expected) in [
        ("limit=0", "limit", limit),
        ("limit=1001", "limit", limit),
        ("limit=-1", "limit", limit),
        ("limit=", "limit", limit),
        ("limit=ten", "limit", limit),
        ("limit=1e2", "limit", limit),
        ("limit=99999999999999999999999999", "limit", limit),
        ("limit=1&limit=1", "limit", once),
        ("state=", "state", state),
        ("state=FRESH", "state", state),
        ("state=fresh,stale", "state", state),
        ("state=fresh&state=stale", "state", once),
        ("data=1", "data", data),
        ("data=", "data", data),
        ("data=TRUE", "data", data),
        ("after=", "after", "a key can't be empty."),
        ("after=%00", "after", "a key can't have control characters, this one has '\\0'."),
        ("after=%ff", "after", utf8),
        (&format!("after={long}"), "after", "a key has at most 2048 bytes, this one has 3000."),
        ("key=%ff", "key", utf8),
        ("key=a&key=b", "key", once),
        ("key=a&limit=1", "limit", "it can't be given together with `key`."),
        ("key=a&keys=b", "keys", "it can't be given together with `key`."),
        ("keys=a&limit=1", "limit", "it can't be given together with `keys`."),
        ("keys=a&after=a", "after", "it can't be given together with `keys`."),
        ("keys=a&state=fresh", "state", "it can't be given together with `keys`."),
        ("keys=a&keys=b", "keys", once),
        ("keys=a,%ff", "keys", utf8),
        ("keys=", "keys", &format!("{empty} (number 1; a `,` in a key is written %2C).")),
        ("keys=a,", "keys", &format!("{empty} (number 2; a `,` in a key is written %2C).")),
        ("keys=a,,b", "keys", &format!("{empty} (number 2; a `,` in a key is written %2C).")),
        ("keys=a,b,a", "keys", "each key may be named once (number 3 has been before)."),
        ("keys=a,%61", "keys", "each key may be named once (number 2 has been before)."),
        ("Limit=1", "Limit", known),
        ("offset=1", "offset", known),
        ("%00", "\0", known),
        ("=", "", known),
        ("%ff=%ff", "%ff", utf8),
    ] {
        let answer = pond.get(&format!("/v1/weather?{query}"), &[]).await;
        assert_eq!(answer.status(), 400, "{query}");
        let problem = answer.problem("bad-parameter");
        assert_eq!((&problem["parameter"], &problem["expected"]), (&json!(parameter), &json!(expected)), "{query}");
        assert!(answer.body.len() < 1000, "{query}");
    }
    for (path, status) in [
        ("/v1/weather/a?key=a", 400),
        ("/v1/weather/a/meta?limit=1", 400),
        ("/v1/weather?&&limit=1&", 200),
        ("/v1/weather?", 200),
    ] {
        assert_eq!(pond.get(path, &[]).await.status(), status, "{path}");
    }
}

async fn a_source_that_is_not_there_is_no_empty_list(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a"]).await;
    test.source_with_keys("old", 1).await;
    for path in ["/v1/users", "/v1/users?keys=a", "/v1/Weather", "/v1/old", "/v1/weather%20"] {
        let answer = pond.get(path, &[]).await;
        assert_eq!(answer.status(), 404, "{path}");
        answer.problem("unknown-source");
    }
}

/// What else a query may have (RFC 3986 §3.4, without `&`): the HTTP library refuses other bytes itself.
const LEGAL_IN_A_QUERY: &str = "[!$%'()*+,./0-9:;=?@A-Z_a-z~-]{0,40}";

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_query_says_is_answered_or_refused() {
    TestStore::sqlite()
        .await
        .check(async |test: &TestStore| {
            let pond = Pond::with_keys(test, &["a", "b", "c"]).await;
            let mut runner = proptest::test_runner::TestRunner::deterministic();
            let name = prop_oneof!["(after|cursor|data|keys?|limit|state)", LEGAL_IN_A_QUERY];
            let value =
                prop_oneof!["(a|b|a,b,c|1|1000|fresh|gone|true|false)", LEGAL_IN_A_QUERY, "(%[0-9a-f]{2}){1,8}"];
            let query = prop::collection::vec((name, value), 0..4);
            for _ in 0..300 {
                let query = query.new_tree(&mut runner).unwrap().current();
                let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
                for path in ["/v1/weather", "/v1/weather/a", "/v1/-/changes", "/v1/nowhere"] {
                    let path = format!("{path}?{}", pairs.join("&"));
                    let answer = pond.get(&path, &[]).await;
                    assert!(matches!(answer.status(), 200 | 400 | 404 | 410 | 503), "{path}: {}", answer.head);
                    assert!(serde_json::from_slice::<Value>(&answer.body).is_ok(), "{path}");
                }
            }
        })
        .await;
}

async fn a_page_that_has_not_changed_is_not_sent_again(test: &TestStore) {
    let pond = Pond::with_keys(test, &["a", "b", "c"]).await;
    for key in ["a", "b", "c"] {
        pond.gets(key, &[JSON], "1").await;
    }
    let first = pond.get("/v1/weather?limit=2", &[]).await;
    let etag = first.field("etag").unwrap().to_owned();
    assert!(etag.starts_with("W/\""), "{etag}");
    pond.gets("c", &[JSON], "2").await;
    let held = format!("If-None-Match: \"other\", {etag}");
    let again = pond.get("/v1/weather?limit=2", &[&held]).await;
    assert_eq!((again.status(), again.text().as_str()), (304, ""), "what is on another page is none of its business");
    assert_eq!(again.field("etag"), Some(etag.as_str()));
    assert_ne!(again.field("headpond-cursor"), first.field("headpond-cursor"), "the place to follow from moves on");
    assert!(again.field("link").unwrap().contains("after=b"));
    pond.gets("b", &[JSON], "2").await;
    let changed = pond.get("/v1/weather?limit=2", &[&held]).await;
    assert_eq!(changed.status(), 200);
    assert_ne!(changed.field("etag"), Some(etag.as_str()));
    let etag = changed.field("etag").unwrap().to_owned();
    test.clock.advance(3 * HOUR);
    let stale = pond.get("/v1/weather?limit=2", &[&format!("If-None-Match: {etag}")]).await;
    assert_eq!(stale.status(), 200, "it says that it is fresh, and is no longer");
}

async fn a_whole_source_comes_in_lines(test: &TestStore) {
    let names: Vec<String> = (0..1_100).map(|n| format!("k{n:04}")).collect();
    let pond = Pond::with_keys(test, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    test.settle_all(pond.source.upstream, |_| content("{\r\n \"t\":\n1.50}", &[JSON])).await;
    let ndjson = "Accept: application/x-ndjson";
    let lines = async |path: &str| {
        let answer = pond.get(path, &[ndjson]).await;
        assert_eq!((answer.status(), answer.field("content-type")), (200, Some("application/x-ndjson")));
        assert!(answer.field("headpond-cursor").is_none_or(|cursor| cursor.starts_with("1100-")));
        let body = answer.text();
        assert!(body.is_empty() || body.ends_with('\n'));
        body.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let all = lines("/v1/weather").await;
    assert_eq!(all.iter().map(|item| item["key"].as_str().unwrap()).collect::<Vec<_>>(), names);
    assert_eq!(all[..100], pond.json("/v1/weather").await["items"].as_array().unwrap()[..], "as a page shows them");
    assert_eq!(all[0]["data"]["t"].to_string(), "1.50");
    assert_eq!(lines("/v1/weather?after=k1097&data=false").await.len(), 2);
    assert_eq!(lines("/v1/weather?state=stale").await.len(), 0);
    for (query, parameter) in [("limit=5", "limit"), ("cursor=1-00000000", "cursor"), ("state=old", "state")] {
        let answer = pond.get(&format!("/v1/weather?{query}"), &[ndjson]).await;
        assert_eq!(answer.problem("bad-parameter")["parameter"], parameter);
    }
    let encoded = pond.get("/v1/weather", &[ndjson, "Accept-Encoding: gzip"]).await;
    assert_eq!(encoded.field("content-encoding"), Some("gzip"));
    assert!(encoded.body.len() < 100_000, "{}, and it has come to its end", encoded.body.len());
    pond.get("/v1/nothing", &[ndjson]).await.problem("unknown-source");
    assert_eq!(pond.get("/v1/weather?key=k0001", &[ndjson]).await.field("content-type"), Some(JSON.1));
}

async fn lines_are_broken_off_when_they_cannot_be_read_on(test: &TestStore) {
    let names: Vec<String> = (0..600).map(|n| format!("k{n:03}")).collect();
    let pond = Pond::with_keys(test, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    test.settle_all(pond.source.upstream, |_| content("1", &[JSON])).await;
    // The last one is corrupt; 500 are read at once.
    test.execute("UPDATE {content} SET etag = headers WHERE resource_id = (SELECT max(id) FROM {resource})")
        .await
        .unwrap();
    let mut wire = pond.served.connect().await;
    wire.send("GET /v1/weather HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: application/x-ndjson\r\n\r\n").await;
    let came = wire.until_closed().await;
    assert!(came.is_empty() || came.starts_with(b"HTTP/1.1 200"), "it may be broken off at once");
    assert!(!came.ends_with(b"\r\n0\r\n\r\n"), "a part is not taken for the whole");
}
