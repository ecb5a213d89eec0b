//! What is on a page.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use super::{Collection, Paginate, Stamp, link};
use crate::domain::content::{BodyRules, Unfit, inspect, typed};
use crate::domain::failure::FailureKind;
use crate::domain::json_path::JsonPath;
use crate::domain::resource::{Key, scalar};
use crate::domain::snapshot::{ContentHash, Snapshot};

/// A page that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its members, in their order, each once.
    pub items: Vec<Item>,
    /// How many items it has, those that were left out included.
    pub size: usize,
    /// What is wrong with the first item that was left out, and how many more were. While there is one, nobody can say that
    /// a member is missing: it may be this one.
    pub left_out: Option<String>,
    /// The latest time at which a member changed.
    pub newest: Option<Stamp>,
    /// What it says of the next page.
    pub next: Option<String>,
    /// Whether it says that there is no more, whatever else it says.
    pub is_last: bool,
    /// The number of the last page, if it says so.
    pub last: Option<u64>,
    /// Hash of the items: two pages of a walk that have the same one are the same page.
    pub hash: ContentHash,
}

/// A member on a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its key.
    pub key: Key,
    /// Its content.
    pub snapshot: Snapshot,
}

/// Reads a page. The source's rules for bodies hold for each item: what of it is kept, and what counts.
///
/// # Errors
/// [`Unfit`] when it is no JSON, or there is no list where it should be.
pub fn read(collection: &Collection, rules: &BodyRules, headers: &HeaderMap, body: &Bytes) -> Result<Page, Unfit> {
    let unfit =
        |detail| Unfit { kind: FailureKind::Unparsable, detail, body: rules.drop.is_empty().then(|| body.clone()) };
    let document: Value = std::str::from_utf8(body)
        .map_err(|error| unfit(format!("the page is not UTF-8 text: {error}")))
        .and_then(|text| serde_json::from_str(text).map_err(|error| unfit(format!("the page is not JSON: {error}"))))?;
    if let Some(list) = list_of(&collection.items)
        && !list.nodes(&document).iter().any(|node| node.is_array() || node.is_object())
    {
        return Err(unfit(format!("items = {:?}: the page has no list there", collection.items.as_str())));
    }
    let nodes = collection.items.nodes(&document);
    let mut reading =
        Reading { collection, rules, items: Vec::new(), by_key: HashMap::new(), newest: None, wrong: Vec::new() };
    for (number, item) in (1..).zip(&nodes) {
        reading.add(number, item);
    }
    let Reading { items, newest, mut wrong, .. } = reading;
    let texts: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let hash = ContentHash::of(&texts.iter().map(String::as_bytes).collect::<Vec<_>>());
    let more = wrong.len().saturating_sub(1);
    let left_out = (!wrong.is_empty()).then(|| wrong.swap_remove(0)).map(|first| match more {
        0 => first,
        more => format!("{first}; so are {more} more"),
    });
    let (next, is_last, last) = leads_to(&collection.paginate, headers, &document);
    Ok(Page {
        items: items.into_iter().flatten().collect(),
        size: nodes.len(),
        left_out,
        newest,
        next,
        is_last,
        last,
        hash,
    })
}

/// The path of the list itself, of a path that names all of its elements.
fn list_of(items: &JsonPath) -> Option<JsonPath> {
    JsonPath::new(items.as_str().trim_end().strip_suffix("[*]")?).ok()
}

/// A page's items as they are looked at.
struct Reading<'a> {
    collection: &'a Collection,
    rules: &'a BodyRules,
    /// `None` where one was taken out again.
    items: Vec<Option<Item>>,
    by_key: HashMap<Key, usize>,
    newest: Option<Stamp>,
    wrong: Vec<String>,
}

impl Reading<'_> {
    fn add(&mut self, number: usize, item: &Value) {
        match self.item(item) {
            Ok(read) => self.put(number, read),
            Err(why) => self.wrong.push(format!("item {number} was left out: {why}")),
        }
    }

    fn item(&mut self, item: &Value) -> Result<Item, String> {
        let key = one(&self.collection.key, item)
            .ok_or_else(|| format!("it has no key at {}", self.collection.key.as_str()))?;
        let key = Key::new(key).map_err(|error| error.to_string())?;
        if let Some(changes) = &self.collection.changes
            && let Some(text) = one(&changes.path, item)
        {
            let stamp = Stamp::parse(&text);
            let stamp = stamp.ok_or_else(|| format!("what is at {} is no time", changes.path.as_str()))?;
            self.newest = self.newest.max(Some(stamp));
        }
        let json = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let snapshot = inspect(&json, item.to_string().into(), self.rules).map_err(|unfit| unfit.detail)?;
        // Its rows are made when it is stored, if it differs from what is there.
        typed(&snapshot, &snapshot.body, self.rules).map_err(|unfit| unfit.detail)?;
        Ok(Item { key, snapshot })
    }

    /// Two items with one key that say the same are one; of two that don't, nobody knows which is right.
    fn put(&mut self, number: usize, item: Item) {
        let at = *self.by_key.entry(item.key.clone()).or_insert(self.items.len());
        match self.items.get_mut(at) {
            None => self.items.push(Some(item)),
            Some(Some(other)) if other.snapshot.content_hash == item.snapshot.content_hash => {}
            Some(other) => {
                self.wrong.push(format!("item {number} was left out: it has the key of another one on its page"));
                *other = None;
            }
        }
    }
}

/// What a page says of the next, whether it says that there is none, and the number of the last.
fn leads_to(paginate: &Paginate, headers: &HeaderMap, page: &Value) -> (Option<String>, bool, Option<u64>) {
    let text = |path: &JsonPath| one(path, page).filter(|text| !text.is_empty());
    match paginate {
        Paginate::Never => (None, true, None),
        Paginate::LinkHeader => (link::next(headers), false, None),
        Paginate::JsonLink { next } => (text(next), false, None),
        Paginate::Cursor { next, more, .. } => {
            let says_no = more.as_ref().is_some_and(|more| matches!(more.nodes(page)[..], [Value::Bool(false)]));
            (text(next), says_no, None)
        }
        Paginate::PageNumber { last, .. } => {
            let last = last.as_ref().and_then(|last| one(last, page)?.parse().ok());
            (None, false, last)
        }
    }
}

/// The text or number that a path names within a value, if it names one.
fn one(path: &JsonPath, value: &Value) -> Option<String> {
    match path.nodes(value)[..] {
        [value] => scalar(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> JsonPath {
        JsonPath::new(path).unwrap()
    }

    fn collection(paginate: Paginate) -> Collection {
        Collection {
            items: path("$.data[*]"),
            key: path("$.id"),
            paginate,
            max_pages: 10,
            changes: None,
            gone_after: 1,
        }
    }

    fn page_of(paginate: Paginate, body: &str) -> Result<Page, Unfit> {
        read(&collection(paginate), &BodyRules::default(), &HeaderMap::new(), &Bytes::copy_from_slice(body.as_bytes()))
    }

    fn keys(page: &Page) -> Vec<&str> {
        page.items.iter().map(|item| item.key.as_str()).collect()
    }

    #[test]
    fn items_become_members_with_all_digits_of_their_keys() {
        let page =
            page_of(Paginate::Never, r#"{"data":[{"id":123456789012345678901,"x":1},{"id":"b","x":2}]}"#).unwrap();
        assert_eq!(keys(&page), ["123456789012345678901", "b"]);
        assert_eq!(page.items[1].snapshot.body, r#"{"id":"b","x":2}"#);
        assert_eq!(page.items[1].snapshot.headers[header::CONTENT_TYPE], "application/json");
        assert_eq!((page.size, page.left_out), (2, None));
    }

    #[test]
    fn an_empty_list_is_one_and_no_list_is_none() {
        assert_eq!(page_of(Paginate::Never, r#"{"data":[]}"#).unwrap().size, 0);
        for body in [r#"{"error":"try later"}"#, r#"{"data":null}"#, "[]", "<html>", r#"{"data":["#] {
            assert_eq!(page_of(Paginate::Never, body).unwrap_err().kind, FailureKind::Unparsable, "{body}");
        }
    }

    #[test]
    fn an_item_without_a_usable_key_is_left_out_and_told() {
        for (item, why) in [
            (r#"{"x":1}"#, "it has no key at $.id"),
            (r#"{"id":null}"#, "it has no key at $.id"),
            (r#"{"id":{"a":1}}"#, "it has no key at $.id"),
            (r#"{"id":""}"#, "a key can't be empty"),
            (r#"{"id":"a\u0000b"}"#, "a key can't have control characters"),
        ] {
            let page = page_of(Paginate::Never, &format!(r#"{{"data":[{{"id":1}},{item},{{"id":3}}]}}"#)).unwrap();
            assert_eq!((keys(&page), page.size), (vec!["1", "3"], 3));
            let told = page.left_out.unwrap();
            assert!(told.starts_with("item 2 was left out: ") && told.contains(why), "{told}");
        }
    }

    #[test]
    fn of_two_items_with_one_key_that_differ_neither_is_taken() {
        let page =
            page_of(Paginate::Never, r#"{"data":[{"id":1,"x":1},{"id":2},{"id":1,"x":2},{"id":1,"x":1}]}"#).unwrap();
        assert_eq!(keys(&page), ["2"]);
        assert_eq!(
            page.left_out.unwrap(),
            "item 3 was left out: it has the key of another one on its page; so are 1 more"
        );
        let same = page_of(Paginate::Never, r#"{"data":[{"id":1,"x":1},{"id":1,"x":1}]}"#).unwrap();
        assert_eq!((keys(&same), same.left_out.as_ref()), (vec!["1"], None));
    }

    #[test]
    fn rules_for_bodies_hold_for_each_item() {
        let rules = BodyRules {
            data: Some(path("$.user")),
            drop: vec![path("$.user.email")],
            ignore_changes_in: vec![path("$.user.seen")],
            kind: None,
            table: None,
        };
        let of = |body: &'static str| {
            read(&collection(Paginate::Never), &rules, &HeaderMap::new(), &Bytes::from_static(body.as_bytes())).unwrap()
        };
        let one = of(r#"{"data":[{"id":1,"user":{"email":"a@b.example","seen":1,"x":1}}]}"#);
        assert_eq!(one.items[0].snapshot.body, r#"{"seen":1,"x":1}"#);
        let other = of(r#"{"data":[{"id":1,"user":{"email":"c@d.example","seen":2,"x":1}}]}"#);
        assert_eq!(one.items[0].snapshot.content_hash, other.items[0].snapshot.content_hash);
    }

    #[test]
    fn each_paginator_finds_the_next_page_and_the_last() {
        let cursor = |more: Option<&str>| Paginate::Cursor {
            param: "cursor".into(),
            next: path("$.next"),
            more: more.map(path),
        };
        let numbers =
            || Paginate::PageNumber { param: "page".into(), first: 1, size: None, last: Some(path("$.pages")) };
        let json_link = || Paginate::JsonLink { next: path("$.links.next") };
        for (paginate, body, next, is_last, last) in [
            (cursor(None), r#"{"data":[],"next":"abc"}"#, Some("abc"), false, None),
            (cursor(None), r#"{"data":[],"next":17}"#, Some("17"), false, None),
            (cursor(None), r#"{"data":[],"next":null}"#, None, false, None),
            (cursor(None), r#"{"data":[],"next":""}"#, None, false, None),
            (cursor(None), r#"{"data":[]}"#, None, false, None),
            (cursor(Some("$.more")), r#"{"data":[],"next":"abc","more":false}"#, Some("abc"), true, None),
            (cursor(Some("$.more")), r#"{"data":[],"next":"abc","more":true}"#, Some("abc"), false, None),
            (json_link(), r#"{"data":[],"links":{"next":"/b"}}"#, Some("/b"), false, None),
            (json_link(), r#"{"data":[],"links":{}}"#, None, false, None),
            (numbers(), r#"{"data":[],"pages":7}"#, None, false, Some(7)),
            (numbers(), r#"{"data":[],"pages":"x"}"#, None, false, None),
            (Paginate::Never, r#"{"data":[]}"#, None, true, None),
        ] {
            let page = page_of(paginate, body).unwrap();
            assert_eq!((page.next.as_deref(), page.is_last, page.last), (next, is_last, last), "{body}");
        }
    }
}
