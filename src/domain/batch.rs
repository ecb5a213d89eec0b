//! One request for many keys (`batch`), and what its answer says of each of them.
//!
//! To a decision, each key's item is an answer of its own: its body is the item, and what the answer says of freshness holds for
//! all. Nothing else of the answer does: its validators are about all items together, so they belong to no key, and a status
//! that says "not here" is about the request, not about a resource.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::failure::{Failure, FailureKind};
use super::json_path::JsonPath;
use super::observation::Seen;
use super::resource::{Key, scalar};

/// How many keys of a source are asked for at once, and where they are in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// How many at the most; at least 1.
    pub size: u32,
    /// The items of the answer.
    pub items: JsonPath,
    /// The key within an item.
    pub key: JsonPath,
    /// Whether a key without an item counts as answered with 404; else it is a failure of that key.
    pub absent_means_gone: bool,
}

/// What an answer comes to.
#[derive(Debug, Clone)]
pub struct Shares {
    /// What each key is answered with, in the order in which they were asked for.
    pub seen: Vec<Seen>,
    /// What else was in the answer that should not be, for a log line.
    pub odd: Option<String>,
}

/// What there is for one key.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Share<'v> {
    Absent,
    Item(&'v Value),
    /// Items that are not the same.
    Several,
}

/// What items came for no key.
#[derive(Debug, Default)]
struct Odd {
    keyless: usize,
    unasked: usize,
}

impl Batch {
    /// Parts what came to a request for these keys.
    #[must_use]
    pub fn shares(&self, seen: Seen, keys: &[&Key]) -> Shares {
        let of_all = |seen: &Seen| Shares { seen: keys.iter().map(|_| seen.clone()).collect(), odd: None };
        match seen {
            Seen::Content { headers, body } => match self.parted(&headers, &body, keys) {
                Ok(shares) => shares,
                Err(detail) => {
                    let failure = Failure { kind: FailureKind::Unparsable, status: Some(200), detail };
                    of_all(&Seen::Unreachable { failure })
                }
            },
            // No key is gone because the address of the request is.
            Seen::Refused { status: StatusCode::NOT_FOUND | StatusCode::GONE, failure, .. } => {
                let detail = format!("{}, to the request for all keys of a batch", failure.detail);
                let failure = Failure { kind: FailureKind::ClientError, detail, ..failure };
                of_all(&Seen::Unreachable { failure })
            }
            other => of_all(&other),
        }
    }

    fn parted(&self, headers: &HeaderMap, body: &Bytes, keys: &[&Key]) -> Result<Shares, String> {
        let document: Value = std::str::from_utf8(body)
            .map_err(|error| format!("the answer is not UTF-8 text: {error}"))
            .and_then(|text| serde_json::from_str(text).map_err(|error| format!("the answer is not JSON: {error}")))?;
        let (shares, odd) = self.read(&document, keys)?;
        let headers = for_items(headers);
        // One that is missing may be one of those without a key.
        let may_be_gone = self.absent_means_gone && odd.keyless == 0;
        let seen = keys.iter().map(|key| match shares.get(key.as_str()) {
            Some(Share::Item(item)) => Seen::Content { headers: headers.clone(), body: item.to_string().into() },
            Some(Share::Several) => failed(FailureKind::Unparsable, "the answer has several items with this key"),
            Some(Share::Absent) | None if may_be_gone => absent(),
            Some(Share::Absent) | None => failed(FailureKind::NotFound, "the answer has no item with this key"),
        });
        Ok(Shares { seen: seen.collect(), odd: odd.told() })
    }

    /// Finds the items of these keys.
    fn read<'k, 'v>(
        &self,
        document: &'v Value,
        keys: &[&'k Key],
    ) -> Result<(HashMap<&'k str, Share<'v>>, Odd), String> {
        if let Some(list) = self.list()
            && !list.nodes(document).iter().any(|node| node.is_array() || node.is_object())
        {
            return Err(format!("items = {:?}: the answer has no list there", self.items.as_str()));
        }
        let mut shares: HashMap<&str, Share<'_>> = keys.iter().map(|key| (key.as_str(), Share::Absent)).collect();
        let (items, mut odd) = (self.items.nodes(document), Odd::default());
        for item in &items {
            let Some(key) = self.key_of(item) else {
                odd.keyless += 1;
                continue;
            };
            match shares.get_mut(key.as_str()) {
                None => odd.unasked += 1,
                Some(share @ Share::Absent) => *share = Share::Item(item),
                Some(Share::Item(same)) if same == item => {}
                Some(share) => *share = Share::Several,
            }
        }
        if odd.keyless > 0 && odd.keyless == items.len() {
            return Err(format!("item_key = {:?}: no item of the answer has a key there", self.key.as_str()));
        }
        Ok((shares, odd))
    }

    fn key_of(&self, item: &Value) -> Option<String> {
        match self.key.nodes(item)[..] {
            [key] => scalar(key),
            _ => None,
        }
    }

    /// The list itself, where `items` names all elements of one: so one that is empty is told from one that is not there.
    fn list(&self) -> Option<JsonPath> {
        JsonPath::new(self.items.as_str().trim_end().strip_suffix("[*]")?).ok()
    }
}

impl Odd {
    fn told(&self) -> Option<String> {
        let told = [(self.unasked, "that nobody asked for"), (self.keyless, "without a key")];
        let told: Vec<_> =
            told.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        (!told.is_empty()).then(|| told.join(", "))
    }
}

/// The fields of an answer that hold for each of its items.
fn for_items(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [header::ETAG, header::LAST_MODIFIED, header::CONTENT_DISPOSITION] {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

fn failed(kind: FailureKind, detail: &str) -> Seen {
    Seen::Unreachable { failure: Failure { kind, status: Some(200), detail: detail.into() } }
}

fn absent() -> Seen {
    let detail = "the answer has no item with this key".into();
    let failure = Failure { kind: FailureKind::NotFound, status: Some(200), detail };
    Seen::Refused { status: StatusCode::NOT_FOUND, headers: HeaderMap::new(), failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn batch(absent_means_gone: bool) -> Batch {
        let path = |path| JsonPath::new(path).unwrap();
        Batch { size: 100, items: path("$.data[*]"), key: path("$.id"), absent_means_gone }
    }

    fn answer(body: &str) -> Seen {
        let fields = [
            (header::ETAG, "\"all\""),
            (header::LAST_MODIFIED, "Tue, 15 Nov 1994 08:12:31 GMT"),
            (header::CACHE_CONTROL, "max-age=60"),
            (header::CONTENT_TYPE, "application/vnd.api+json"),
        ];
        let headers = fields.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
        Seen::Content { headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    /// What each of these keys is told, in a word or two.
    fn told(batch: &Batch, seen: Seen, keys: &[&str]) -> (Vec<String>, Option<String>) {
        let keys: Vec<Key> = keys.iter().map(|key| Key::new(*key).unwrap()).collect();
        let Shares { seen, odd } = batch.shares(seen, &keys.iter().collect::<Vec<_>>());
        let told = seen.iter().map(|seen| match seen {
            Seen::Content { body, .. } => String::from_utf8(body.to_vec()).unwrap(),
            Seen::Refused { status, .. } => status.as_str().to_owned(),
            Seen::Unreachable { failure } => format!("{}: {}", failure.kind, failure.detail),
            Seen::NotModified { .. } => "304".into(),
        });
        (told.collect(), odd)
    }

    #[test]
    fn each_key_gets_its_item_and_nothing_else() {
        let body = r#"{ "data": [{ "id": 12345678901234567890, "n": 1.50 }, { "id": "a,b" }, { "id": true }] }"#;
        let (told, odd) = told(&batch(false), answer(body), &["true", "a,b", "12345678901234567890"]);
        assert_eq!(told, [r#"{"id":true}"#, r#"{"id":"a,b"}"#, r#"{"id":12345678901234567890,"n":1.50}"#]);
        assert_eq!(odd, None);
    }

    #[test]
    fn what_is_said_of_the_whole_answer_is_said_of_no_key() {
        let key = Key::new("a").unwrap();
        let Shares { seen, .. } = batch(false).shares(answer(r#"{"data":[{"id":"a"}]}"#), &[&key]);
        let Seen::Content { headers, .. } = &seen[0] else { panic!("{seen:?}") };
        assert!(!headers.contains_key(header::ETAG) && !headers.contains_key(header::LAST_MODIFIED));
        assert_eq!(
            (&headers[header::CONTENT_TYPE], &headers[header::CACHE_CONTROL]),
            (&HeaderValue::from_static("application/json"), &HeaderValue::from_static("max-age=60"),)
        );
    }

    #[test]
    fn a_key_that_is_absent_fails_or_counts_as_404() {
        let missing = "not_found: the answer has no item with this key";
        let unparsable = |detail| format!("unparsable: {detail}");
        let no_list = unparsable("items = \"$.data[*]\": the answer has no list there");
        let keyless = unparsable("item_key = \"$.id\": no item of the answer has a key there");
        for (body, gone, fails) in [
            (r#"{"data":[]}"#, "404", missing.to_owned()),
            (r#"{"data":[{"id":"b"}]}"#, "404", missing.to_owned()),
            // It may be the one without a key.
            (r#"{"data":[{"id":"b"},{"name":"c"}]}"#, missing, missing.to_owned()),
            (r#"{"error":"no"}"#, no_list.as_str(), no_list.clone()),
            (r#"{"data":null}"#, no_list.as_str(), no_list.clone()),
            (r#"{"data":[{"name":"a"}]}"#, keyless.as_str(), keyless.clone()),
        ] {
            assert_eq!(told(&batch(true), answer(body), &["a"]).0, [gone], "{body}");
            assert_eq!(told(&batch(false), answer(body), &["a"]).0, [fails], "{body}");
        }
    }

    #[test]
    fn items_that_nobody_asked_for_and_doubles_are_told_from_the_others() {
        let body = json!({ "data": [
            { "id": "a" }, { "id": "x" }, { "id": "b", "n": 1 }, { "id": "a" }, { "id": "b", "n": 2 }, { "id": "b", "n": 1 },
            { "id": null }, { "id": ["a"] }, 7,
        ] });
        let (told, odd) = told(&batch(true), answer(&body.to_string()), &["a", "b"]);
        assert_eq!(told, [r#"{"id":"a"}"#, "unparsable: the answer has several items with this key"]);
        assert_eq!(odd.unwrap(), "1 that nobody asked for, 3 without a key");
    }

    #[test]
    fn what_is_wrong_with_the_request_is_no_absence_of_any_key() {
        for status in [StatusCode::NOT_FOUND, StatusCode::GONE] {
            let detail = format!("the upstream answered {}", status.as_u16());
            let failure = Failure { kind: FailureKind::NotFound, status: Some(status.as_u16()), detail };
            let seen = Seen::Refused { status, headers: HeaderMap::new(), failure };
            let (told, _) = told(&batch(true), seen, &["a", "b"]);
            assert!(told.len() == 2 && told.iter().all(|told| told.starts_with("client_error: ")), "{told:?}");
        }
        let failure = Failure { kind: FailureKind::ServerError, status: Some(503), detail: "down".into() };
        let seen = Seen::Refused { status: StatusCode::SERVICE_UNAVAILABLE, headers: HeaderMap::new(), failure };
        assert_eq!(told(&batch(true), seen, &["a", "b"]).0, ["503", "503"], "Retry-After is for all");
    }

    proptest! {
        #[test]
        fn whatever_comes_each_key_gets_one_share_and_no_other_keys_item(
            items in prop::collection::vec((0_u8..6, 0_u8..3), 0..12),
            asked in prop::collection::btree_set(0_u8..6, 1..6),
            absent_means_gone: bool,
        ) {
            let list: Vec<_> = items.iter().map(|(id, n)| json!({ "id": id.to_string(), "n": n })).collect();
            let keys: Vec<Key> = asked.iter().map(|id| Key::new(id.to_string()).unwrap()).collect();
            let body = json!({ "data": list }).to_string();
            let shares = batch(absent_means_gone).shares(answer(&body), &keys.iter().collect::<Vec<_>>());
            prop_assert_eq!(shares.seen.len(), keys.len());
            for (key, seen) in keys.iter().zip(&shares.seen) {
                let mut own: Vec<u8> =
                    items.iter().filter(|(id, _)| id.to_string() == key.as_str()).map(|(_, n)| *n).collect();
                own.dedup_by_key(|n| *n);
                own.sort_unstable();
                own.dedup();
                match seen {
                    Seen::Content { body, .. } => {
                        let item: Value = serde_json::from_slice(body).unwrap();
                        prop_assert_eq!(item["id"].as_str(), Some(key.as_str()));
                        prop_assert_eq!(own.len(), 1);
                    }
                    Seen::Refused { .. } => prop_assert!(own.is_empty() && absent_means_gone),
                    Seen::Unreachable { failure } => {
                        prop_assert!(own.len() > 1 || (own.is_empty() && !absent_means_gone), "{failure:?}");
                    }
                    Seen::NotModified { .. } => prop_assert!(false),
                }
            }
            let unasked = items.iter().filter(|(id, _)| !asked.contains(id)).count();
            prop_assert_eq!(shares.odd.is_some(), unasked > 0);
        }
    }
}
