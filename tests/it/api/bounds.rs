//! What a request's Cache-Control and Prefer get, by the state of the key: the table of `src/api/reading.rs`.

use std::cell::Cell;
use std::time::Duration;

use headpond::domain::observation::Seen;

use super::pond::Pond;
use super::serving::Answer;
use crate::support::outcomes::{content, status};
use crate::support::program::eventually;
use crate::support::store::{TestStore, on_each_database};

on_each_database!(
    what_a_request_gets_depends_on_its_bounds_and_the_keys_state,
    nonsense_in_the_headers_bounds_nothing,
    what_is_retired_is_not_waited_for,
);

/// What a request gets.
#[derive(Debug, Clone, Copy)]
enum Gets {
    /// This status, at once, and nothing is asked of the upstream.
    AtOnce(u16),
    /// The key becomes due and its outcome is waited for: the status if the upstream answers, and if it fails.
    After { success: u16, failure: u16 },
}

/// The copy that is there.
const COPY: Gets = Gets::AtOnce(200);
/// A better one if it can be had.
const WAIT: Gets = Gets::After { success: 200, failure: 200 };
/// A better one or none.
const MUST: Gets = Gets::After { success: 200, failure: 504 };
/// The first one, once it is there.
const COME: Gets = Gets::After { success: 200, failure: 503 };
/// Not there yet.
const SOON: Gets = Gets::AtOnce(503);
/// No copy is good enough.
const NONE: Gets = Gets::AtOnce(504);
const GONE: Gets = Gets::AtOnce(410);

/// A fresh copy is 100 s old and stays fresh for 7,100 s more; a stale one is 10,800 s old, and stale for 3,600 s.
#[rustfmt::skip]
const TABLE: [(&str, [Gets; 4]); 24] = [
    // request                                          fresh stale pending gone
    ("",                                                [COPY, COPY, SOON, GONE]),
    ("Prefer: wait=5",                                  [WAIT, WAIT, COME, GONE]),
    ("Cache-Control: max-age=100",                      [COPY, MUST, COME, GONE]),
    ("Cache-Control: max-age=99",                       [MUST, MUST, COME, GONE]),
    ("Cache-Control: max-age=0",                        [MUST, MUST, COME, GONE]),
    ("Cache-Control: max-age=99999",                    [COPY, MUST, COME, GONE]),
    ("Cache-Control: max-age=10800, max-stale",         [COPY, COPY, COME, GONE]),
    ("Cache-Control: max-age=10799, max-stale",         [COPY, MUST, COME, GONE]),
    ("Cache-Control: max-age=10800, max-stale=3600",    [COPY, COPY, COME, GONE]),
    ("Cache-Control: max-age=10800, max-stale=3599",    [COPY, MUST, COME, GONE]),
    ("Cache-Control: min-fresh=7100",                   [COPY, MUST, COME, GONE]),
    ("Cache-Control: min-fresh=7101",                   [MUST, MUST, COME, GONE]),
    ("Cache-Control: max-stale",                        [COPY, COPY, COME, GONE]),
    ("Cache-Control: max-stale=3600",                   [COPY, COPY, COME, GONE]),
    ("Cache-Control: max-stale=3599",                   [COPY, MUST, COME, GONE]),
    ("Cache-Control: no-cache",                         [MUST, MUST, COME, GONE]),
    ("Pragma: no-cache",                                [MUST, MUST, COME, GONE]),
    ("Cache-Control: max-stale\r\nPragma: no-cache",    [COPY, COPY, COME, GONE]),
    ("Cache-Control: no-cache\r\nPrefer: wait=5",       [MUST, MUST, COME, GONE]),
    ("Cache-Control: only-if-cached",                   [COPY, COPY, NONE, GONE]),
    ("Cache-Control: only-if-cached\r\nPrefer: wait=5", [COPY, COPY, NONE, GONE]),
    ("Cache-Control: only-if-cached, max-age=100",      [COPY, NONE, NONE, GONE]),
    ("Cache-Control: only-if-cached, max-stale=3599",   [COPY, NONE, NONE, GONE]),
    ("Cache-Control: only-if-cached, no-cache",         [NONE, NONE, NONE, GONE]),
];

const STATES: [&str; 4] = ["fresh", "stale", "pending", "gone"];

async fn what_a_request_gets_depends_on_its_bounds_and_the_keys_state(test: &TestStore) {
    // Each request has a key of its own, since it may change it.
    let upstreams = ["answers", "fails"];
    let name = |state: &str, row: usize, upstream: &str| format!("{state}-{row}-{upstream}");
    let cells = STATES.iter().flat_map(|state| {
        (0..TABLE.len()).flat_map(move |row| upstreams.map(|upstream| (state, name(state, row, upstream))))
    });
    let cells: Vec<_> = cells.collect();
    let keys: Vec<&str> = cells.iter().map(|(_, key)| key.as_str()).collect();
    let pond = Pond::with_keys(test, &keys).await;
    for (_, key) in cells.iter().filter(|(state, _)| matches!(**state, "stale" | "gone")) {
        pond.gets(key, &[], "old").await;
    }
    test.clock.advance(Duration::from_secs(10_700));
    for (state, key) in &cells {
        match **state {
            "fresh" => pond.gets(key, &[], "old").await,
            "gone" => pond.sees(key, status(410)).await,
            _ => {}
        }
    }
    test.clock.advance(Duration::from_secs(100));

    for (row, (request, expected)) in TABLE.into_iter().enumerate() {
        for (state, gets) in STATES.into_iter().zip(expected) {
            for upstream in upstreams {
                let seen = if upstream == "answers" { content("new", &[]) } else { status(500) };
                let (answer, asked) = read(&pond, &name(state, row, upstream), request, seen).await;
                Case { request, state, upstream, gets }.check(&answer, asked);
            }
        }
    }
}

/// Reads a key, beside an upstream that answers with this as soon as it is asked; says whether it was.
async fn read(pond: &Pond<'_>, key: &str, request: &str, seen: Seen) -> (Answer, bool) {
    let asked = Cell::new(false);
    let upstream = async {
        let wanted = async || pond.test.current("weather", key).await.wanted_at;
        eventually("a wish", Duration::from_secs(30), wanted).await;
        asked.set(true);
        pond.sees(key, seen).await;
        std::future::pending::<()>().await;
    };
    let path = format!("/v1/weather/{key}");
    let lines: Vec<&str> = request.split("\r\n").filter(|line| !line.is_empty()).collect();
    let answer = tokio::select! {
        answer = pond.get(&path, &lines) => answer,
        () = upstream => unreachable!(),
    };
    (answer, asked.get())
}

#[derive(Debug)]
struct Case {
    request: &'static str,
    state: &'static str,
    upstream: &'static str,
    gets: Gets,
}

impl Case {
    fn check(&self, answer: &Answer, asked: bool) {
        let (status, waits) = match self.gets {
            Gets::AtOnce(status) => (status, false),
            Gets::After { success, .. } if self.upstream == "answers" => (success, true),
            Gets::After { failure, .. } => (failure, true),
        };
        assert_eq!((answer.status(), asked), (status, waits), "{self:?}: {}", answer.text());
        let is_new = waits && self.upstream == "answers";
        match status {
            200 => {
                assert_eq!(answer.text(), if is_new { "new" } else { "old" }, "{self:?}");
                let ttl = if is_new { 7200 } else { [7100, -3600][usize::from(self.state == "stale")] };
                let way = match (waits, self.state) {
                    (false, _) => "hit",
                    (true, "fresh") => "fwd=request",
                    (true, "stale") => "fwd=stale",
                    (true, _) => "fwd=uri-miss",
                };
                let came = match (waits, is_new) {
                    (false, _) => "",
                    (true, true) => ";fwd-status=200;stored",
                    (true, false) => ";fwd-status=500",
                };
                let expected = format!("headpond;{way}{came};ttl={ttl}");
                assert_eq!(answer.field("cache-status"), Some(expected.as_str()), "{self:?}");
            }
            504 => {
                let bound = answer.problem("bound-not-kept")["bound"].as_str().unwrap().to_owned();
                assert!(self.request.contains(&bound), "{self:?}: {bound}");
                assert_eq!(answer.field("headpond-fetched-at").is_some(), self.state != "pending", "{self:?}");
                assert_eq!(answer.field("cache-status"), None, "{self:?}");
            }
            503 => _ = answer.problem("pending"),
            _ => _ = answer.problem("gone"),
        }
        let state = if is_new { "fresh" } else { self.state };
        assert_eq!(answer.field("headpond-state"), Some(state), "{self:?}");
        let failure = (waits && !is_new).then_some("server_error");
        assert_eq!(answer.field("headpond-last-failure"), failure, "{self:?}");
        let applies = self.request.contains("wait=5") && !self.request.contains("only-if-cached");
        assert_eq!(answer.field("preference-applied"), applies.then_some("wait=5"), "{self:?}");
    }
}

async fn nonsense_in_the_headers_bounds_nothing(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin"]).await;
    pond.gets("berlin", &[], "old").await;
    test.clock.advance(Duration::from_secs(10_800));
    let endless = format!("Cache-Control: max-stale={}", "9".repeat(5000));
    for lines in [
        &b"Cache-Control: \xff\xfe"[..],
        b"Cache-Control: max-age=\xff",
        b"Cache-Control:",
        b"Cache-Control: ,,,",
        b"Cache-Control: max-age",
        b"Cache-Control: max-age=-1, max-age=1.5, max-age=1e3",
        b"Cache-Control: \"no-cache, max-age=0",
        b"Cache-Control: stale-if-error=0, no-store, s-maxage=0",
        endless.as_bytes(),
        b"Pragma: no-cached",
        b"Prefer: wait=\xff",
        b"Prefer:",
        b"Prefer: wait",
        b"Prefer: wait=soon\r\nPrefer: wait=5",
        b"Prefer: return=minimal; wait=5",
    ] {
        let request = [b"GET /v1/weather/berlin HTTP/1.1\r\nHost: x\r\n", lines, b"\r\n\r\n"].concat();
        let answer = pond.exchange(&request).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "old"), "{}", lines.escape_ascii());
        assert_eq!(answer.field("cache-status"), Some("headpond;hit;ttl=-3600"), "{}", lines.escape_ascii());
        assert_eq!(answer.field("preference-applied"), None, "{}", lines.escape_ascii());
        assert_eq!(test.current("weather", "berlin").await.wanted_at, None, "{}", lines.escape_ascii());
    }
}

async fn what_is_retired_is_not_waited_for(test: &TestStore) {
    let pond = Pond::with_keys(test, &["berlin", "never"]).await;
    pond.gets("berlin", &[], "old").await;
    test.retire_keys_except(pond.source.source, &[].into()).await.unwrap();
    for (key, line, status) in [
        ("berlin", "Prefer: wait=5", 200),
        ("berlin", "Cache-Control: no-cache", 504),
        ("never", "Prefer: wait=5", 404),
        ("nowhere", "Prefer: wait=5", 404),
    ] {
        assert_eq!(pond.get(&format!("/v1/weather/{key}"), &[line]).await.status(), status, "{key} {line}");
    }
}
