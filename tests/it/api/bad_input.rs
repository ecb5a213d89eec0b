//! Requests that make no sense: each is answered or refused, and the next one is served as if nothing had been.

use super::pond::{JSON, Pond};
use crate::support::store::TestStore;

const BERLIN: &str = "/v1/weather/berlin";

/// All header fields that anything looks at.
const FIELDS: [&str; 16] = [
    "Accept-Encoding",
    "Access-Control-Request-Headers",
    "Access-Control-Request-Method",
    "Authorization",
    "Cache-Control",
    "Connection",
    "Content-Length",
    "Content-Type",
    "Expect",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Unmodified-Since",
    "Origin",
    "Prefer",
    "Range",
];

async fn answered(pond: &Pond<'_>, method: &[u8], target: &[u8], field: &str, value: &[u8]) -> u16 {
    let lines = [method, b" ", target, b" HTTP/1.1\r\nHost: x\r\n", field.as_bytes(), b": ", value, b"\r\n\r\n"];
    pond.raw(&lines.concat()).await.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_value_does_harm() {
    TestStore::sqlite().await.check(header_values).await;
}

async fn header_values(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON], "{}").await;
    let (long, list) = (b"x".repeat(40_000), b"\"x\",".repeat(10_000));
    let values: [&[u8]; 12] = [
        b"",
        b"\xff\xfe",
        b"\xc3\xa9\x80",
        b"\t",
        b",,,;;;===",
        b"\"",
        b"W/\"",
        b"*",
        b"-1",
        b"99999999999999999999999999",
        &long,
        &list,
    ];
    for field in FIELDS {
        for value in values {
            for method in [&b"GET"[..], b"HEAD", b"OPTIONS", b"POST"] {
                let status = answered(&pond, method, BERLIN.as_bytes(), field, value).await;
                let shown = String::from_utf8_lossy(&value[..value.len().min(20)]);
                let expected = [200, 202, 304, 400, 401, 403, 405, 406, 412, 417, 431];
                assert!(expected.contains(&status), "{method:?} {field}: {shown} → {status}");
            }
        }
        for control in [&b"a\0b"[..], b"a\x01b", b"a\x7fb", b"a\rb"] {
            assert_eq!(answered(&pond, b"GET", BERLIN.as_bytes(), field, control).await, 400, "{field} {control:?}");
        }
        assert_eq!(pond.get(BERLIN, &[]).await.status(), 200, "after {field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused() {
    TestStore::sqlite().await.check(requests).await;
}

async fn requests(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[JSON], "{}").await;
    let (path, method) =
        (b"/v1/weather/".iter().copied().chain(b"k".repeat(70_000)).collect::<Vec<_>>(), b"X".repeat(100));
    let query = [BERLIN.as_bytes(), b"?", &b"a=b&".repeat(14_000)].concat();
    for (method, target, status) in [
        (&b"get"[..], BERLIN.as_bytes(), 405),
        (b"PURGE", BERLIN.as_bytes(), 405),
        (b"!#$", BERLIN.as_bytes(), 405),
        (&method, BERLIN.as_bytes(), 405),
        (b"", BERLIN.as_bytes(), 400),
        (b"GE T", BERLIN.as_bytes(), 400),
        (b"G\xc3\x89T", BERLIN.as_bytes(), 400),
        (b"CONNECT", b"example.com:80", 404),
        (b"OPTIONS", b"*", 404),
        (b"GET", b"*", 404),
        (b"GET", b"http://elsewhere.example/v1/weather/berlin", 200),
        (b"GET", b"/v1/weather/\xff\xfe", 400),
        (b"GET", b"", 400),
        (b"GET", b"v1/weather/berlin", 400),
        (b"GET", &path, 431),
        (b"GET", &query, 400),
    ] {
        let answered = answered(&pond, method, target, "X", b"y").await;
        let shown = String::from_utf8_lossy(&target[..target.len().min(40)]);
        assert_eq!(answered, status, "{:?} {shown}", String::from_utf8_lossy(method));
    }
    for request in [
        &b"GET / HTTP/9.9\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
    ] {
        let status = pond.raw(request).await.status();
        assert!((400..=505).contains(&status), "{:?} → {status}", String::from_utf8_lossy(request));
    }
    assert_eq!(pond.get(BERLIN, &[]).await.status(), 200);
}
