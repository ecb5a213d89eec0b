//! Is this body fit to replace the last good one, and does it differ from it?

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use super::failure::FailureKind;
use super::json_path::without;
use super::project::{Typed, project};
use super::snapshot::{ContentHash, Snapshot, kept};
use super::table::Table;

pub use super::json_path::JsonPath;

/// What a body must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentKind {
    /// JSON (RFC 8259), whatever it calls itself.
    Json,
    /// UTF-8.
    Text,
    /// Anything.
    Bytes,
}

impl ContentKind {
    /// The name used in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
            Self::Bytes => "bytes",
        }
    }
}

/// What a source's bodies must be, and which part of them is kept. All paths are about the body as it comes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyRules {
    /// What they must be; `None` is JSON for those that call themselves so or of which parts are named, and else anything.
    pub kind: Option<ContentKind>,
    /// The part that is kept instead of the whole.
    pub data: Option<JsonPath>,
    /// Parts that are stored nowhere.
    pub drop: Vec<JsonPath>,
    /// Parts whose changes don't count.
    pub ignore_changes_in: Vec<JsonPath>,
    /// What rows are made of what is kept.
    pub table: Option<Arc<Table>>,
}

/// Why a body can't be the resource's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// [`FailureKind::Empty`], [`FailureKind::Unparsable`] or [`FailureKind::Misfit`].
    pub kind: FailureKind,
    /// A sentence that says what is wrong with it, and quotes nothing of it.
    pub detail: String,
    /// What may be kept of it.
    pub body: Option<Bytes>,
}

impl BodyRules {
    fn name_parts(&self) -> bool {
        self.data.is_some() || !self.drop.is_empty() || !self.ignore_changes_in.is_empty()
    }

    fn kind_of(&self, content_type: &[u8]) -> ContentKind {
        let is_to_be_parsed = self.name_parts() || self.table.is_some() || is_json(content_type);
        self.kind.unwrap_or(if is_to_be_parsed { ContentKind::Json } else { ContentKind::Bytes })
    }

    /// The hash of what counts of a body of which parts are named.
    ///
    /// With other parts to keep or to drop it is another one, also where the same counts: what is stored is another.
    fn hash(&self, headers: &HeaderMap, counts: &[u8]) -> ContentHash {
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let mut parts = vec![content_type, counts];
        if self.data.is_some() || !self.drop.is_empty() {
            parts.push(self.data.as_ref().map_or("", JsonPath::as_str).as_bytes());
            parts.extend(self.drop.iter().map(|path| path.as_str().as_bytes()));
        }
        ContentHash::of(&parts)
    }

    /// What may be kept of a body in which the parts to drop can't be found.
    fn unparsed(&self, body: &Bytes) -> Option<Bytes> {
        self.drop.is_empty().then(|| body.clone())
    }
}

/// Makes a snapshot of a 200, or says why the body can't be the resource's content.
///
/// An empty body is always refused, and so is one that calls itself JSON and isn't, unless any bytes will do: both are what
/// broken upstreams send.
///
/// # Errors
/// [`Unfit`] when it is not what `rules` ask for.
pub fn inspect(headers: &HeaderMap, body: Bytes, rules: &BodyRules) -> Result<Snapshot, Unfit> {
    if body.is_empty() {
        let detail = "the upstream answered 200 with an empty body".into();
        return Err(Unfit { kind: FailureKind::Empty, detail, body: None });
    }
    let unparsable = |detail| Unfit { kind: FailureKind::Unparsable, detail, body: rules.unparsed(&body) };
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match rules.kind_of(content_type) {
        ContentKind::Bytes => Ok(whole(headers, body)),
        ContentKind::Text => match std::str::from_utf8(&body) {
            Ok(_) => Ok(whole(headers, body)),
            Err(error) => Err(unparsable(format!("the body is not UTF-8 text: {error}"))),
        },
        ContentKind::Json if rules.name_parts() => {
            let document = parsed(&body).map_err(|error| unparsable(format!("the body is not JSON: {error}")))?;
            parts(headers, body, &document, rules)
        }
        ContentKind::Json => match parsed::<serde::de::IgnoredAny>(&body) {
            Ok(_) => Ok(whole(headers, body)),
            Err(error) => Err(unparsable(format!("the body is not JSON: {error}"))),
        },
    }
}

/// The rows of what is to be kept, if the source has a table.
///
/// # Errors
/// [`Unfit`] when it does not fit the table. Of `body`, which is what came, no more is kept than by `rules`.
pub fn typed(snapshot: &Snapshot, body: &Bytes, rules: &BodyRules) -> Result<Option<Typed>, Unfit> {
    let Some(table) = &rules.table else { return Ok(None) };
    match project(table, &snapshot.body) {
        Ok(rows) => Ok(Some(Typed { table: Arc::clone(table), rows })),
        Err(misfit) => {
            let detail = misfit.to_string();
            let rest = || parsed::<Value>(body).map_or_else(|_| None, |all| Some(text_of(&without(&all, &rules.drop))));
            let body = if rules.drop.is_empty() { Some(body.clone()) } else { rest() };
            Err(Unfit { kind: FailureKind::Misfit, detail, body })
        }
    }
}

fn whole(headers: &HeaderMap, body: Bytes) -> Snapshot {
    let headers = kept(headers);
    let etag = hash(&headers, &body);
    Snapshot { body, headers, etag, content_hash: etag }
}

fn hash(headers: &HeaderMap, body: &[u8]) -> ContentHash {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    ContentHash::of(&[content_type, body])
}

/// Numbers keep their digits (serde_json's `arbitrary_precision`), so two large ids never look the same.
fn parsed<'b, T: serde::Deserialize<'b>>(body: &'b [u8]) -> serde_json::Result<T> {
    serde_json::from_str(std::str::from_utf8(body).map_err(serde::de::Error::custom)?)
}

/// A snapshot of a document of which parts are named.
///
/// Where any are to be dropped, the document is always written anew: of a member that is there twice, the text has more
/// than what was parsed.
fn parts(headers: &HeaderMap, body: Bytes, document: &Value, rules: &BodyRules) -> Result<Snapshot, Unfit> {
    let rest = without(document, &rules.drop);
    let is_rewritten = rules.data.is_some() || !rules.drop.is_empty();
    let stored = if is_rewritten {
        let part = selected(&rest, rules.data.as_ref()).map_err(|detail| {
            let body = if rules.drop.is_empty() { body.clone() } else { text_of(&rest) };
            Unfit { kind: FailureKind::Unparsable, detail, body: Some(body) }
        })?;
        text_of(part)
    } else {
        body
    };
    let mut headers = kept(headers);
    if is_rewritten && !headers.get(header::CONTENT_TYPE).is_some_and(|value| is_json(value.as_bytes())) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let significant = without(&rest, &rules.ignore_changes_in);
    // Where all of the part is ignored, nothing of it counts.
    let counts = text_of(selected(&significant, rules.data.as_ref()).unwrap_or(&Value::Null));
    let etag = hash(&headers, &stored);
    Ok(Snapshot { body: stored, content_hash: rules.hash(&headers, &counts), headers, etag })
}

/// The one part that `data` names, or all of it.
fn selected<'v>(document: &'v Value, data: Option<&JsonPath>) -> Result<&'v Value, String> {
    let Some(path) = data else { return Ok(document) };
    match path.nodes(document)[..] {
        [node] => Ok(node),
        ref nodes => {
            Err(format!("data = {:?} names {} parts of the body, and must name one", path.as_str(), nodes.len()))
        }
    }
}

fn text_of(part: &Value) -> Bytes {
    part.to_string().into()
}

/// Whether a Content-Type says JSON: `application/json`, `application/problem+json`, `text/json; charset=utf-8`, …
#[must_use]
pub fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    essence.ends_with(b"/json") || essence.ends_with(b"+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap())])
    }

    fn paths(paths: &[&str]) -> Vec<JsonPath> {
        paths.iter().map(|path| JsonPath::new(*path).unwrap()).collect()
    }

    fn ignoring(ignore: &[&str]) -> BodyRules {
        BodyRules { ignore_changes_in: paths(ignore), ..BodyRules::default() }
    }

    fn any() -> BodyRules {
        BodyRules::default()
    }

    fn hash(body: &'static str, ignore: &[&str]) -> ContentHash {
        inspect(&json(), Bytes::from_static(body.as_bytes()), &ignoring(ignore)).unwrap().content_hash
    }

    #[test]
    fn ignored_paths_do_not_make_a_difference() {
        let ignore = ["$.meta.updated_at", "$.items[*].seen"];
        let base = hash(r#"{"a":1,"meta":{"updated_at":1},"items":[{"seen":1,"x":1}]}"#, &ignore);
        assert_eq!(base, hash(r#"{"a":1,"meta":{"updated_at":2},"items":[{"seen":9,"x":1}]}"#, &ignore));
        assert_eq!(
            base,
            hash(r#"{"a":1,"meta":{},"items":[{"x":1}]}"#, &ignore),
            "absent or present makes none either"
        );
        assert_ne!(base, hash(r#"{"a":2,"meta":{"updated_at":1},"items":[{"seen":1,"x":1}]}"#, &ignore));
    }

    #[test]
    fn numbers_differ_to_the_last_digit() {
        let ignore = ["$.at"];
        assert_ne!(hash(r#"{"id":123456789012345678901}"#, &ignore), hash(r#"{"id":123456789012345678902}"#, &ignore));
    }

    #[test]
    fn bodies_that_can_not_be_content_are_refused() {
        for (body, kind) in [
            (&b""[..], FailureKind::Empty),
            (b"{\"a\":", FailureKind::Unparsable),
            (b"<html>maintenance</html>", FailureKind::Unparsable),
            (b"{\"a\":\"\xff\xfe\"}", FailureKind::Unparsable),
            (b"{} trailing", FailureKind::Unparsable),
        ] {
            let refused = inspect(&json(), Bytes::from_static(body), &any()).unwrap_err();
            assert_eq!(refused.kind, kind, "{body:?}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(inspect(&json(), deep.into(), &any()).unwrap_err().kind, FailureKind::Unparsable);
    }

    #[test]
    fn what_does_not_call_itself_json_is_kept_as_it_is() {
        let body = Bytes::from_static(b"caf\xe9");
        assert_eq!(inspect(&HeaderMap::new(), body.clone(), &any()).unwrap().body, body);
    }

    #[test]
    fn the_etag_covers_the_content_type() {
        let text = HeaderMap::from_iter([(header::CONTENT_TYPE, "text/plain".parse().unwrap())]);
        let body = Bytes::from_static(b"1");
        assert_ne!(inspect(&json(), body.clone(), &any()).unwrap().etag, inspect(&text, body, &any()).unwrap().etag);
    }

    fn inspect_as(kind: ContentKind, content_type: &'static str, body: &'static [u8]) -> Result<Snapshot, Unfit> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        inspect(&headers, Bytes::from_static(body), &BodyRules { kind: Some(kind), ..BodyRules::default() })
    }

    #[test]
    fn a_body_must_be_what_the_source_says_and_not_what_it_calls_itself() {
        use ContentKind::{Json, Text};
        for (kind, content_type, body, fits) in [
            (Json, "text/html", &b"{\"a\":1}"[..], true),
            (Json, "text/html", b"<html>", false),
            (Json, "application/json", b"\xef\xbb\xbf{}", false),
            (Text, "application/json", b"<html>", true),
            (Text, "text/plain", b"caf\xe9", false),
            (ContentKind::Bytes, "application/json", b"caf\xe9", true),
            (ContentKind::Bytes, "application/json", b"", false),
        ] {
            match inspect_as(kind, content_type, body) {
                Ok(snapshot) => assert!(fits && snapshot.body == body, "{kind:?} {body:?}"),
                Err(unfit) => {
                    assert!(!fits, "{kind:?} {body:?}: {}", unfit.detail);
                    assert_eq!(unfit.body.as_deref(), Some(body).filter(|body| !body.is_empty()));
                }
            }
        }
    }

    fn kept_of(body: &'static str, data: Option<&str>, drop: &[&str], ignore: &[&str]) -> Result<Snapshot, Unfit> {
        let data = data.map(|path| JsonPath::new(path).unwrap());
        let rules = BodyRules { data, drop: paths(drop), ignore_changes_in: paths(ignore), ..BodyRules::default() };
        inspect(&json(), Bytes::from_static(body.as_bytes()), &rules)
    }

    #[test]
    fn a_part_is_kept_as_it_is_in_the_body_with_an_etag_of_its_own() {
        let body = r#"{"meta":{"at":1},"data":[{"id":123456789012345678901,"x":1.10}]}"#;
        let part = kept_of(body, Some("$.data[0]"), &[], &[]).unwrap();
        assert_eq!(part.body, r#"{"id":123456789012345678901,"x":1.10}"#);
        let other =
            kept_of(r#"{"meta":{"at":2},"data":[{"id":123456789012345678901,"x":1.10}]}"#, Some("$.data[0]"), &[], &[]);
        assert_eq!((other.as_ref().unwrap().etag, other.unwrap().content_hash), (part.etag, part.content_hash));
        assert_eq!(kept_of("[1,null]", Some("$[1]"), &[], &[]).unwrap().body, "null");
    }

    #[test]
    fn data_names_exactly_one_part_or_the_body_is_refused() {
        for (path, count) in [("$.none", 0), ("$.a[*]", 2), ("$..b", 0)] {
            let unfit = kept_of(r#"{"a":[1,2]}"#, Some(path), &[], &[]).unwrap_err();
            assert_eq!(unfit.kind, FailureKind::Unparsable);
            assert_eq!(unfit.detail, format!("data = {path:?} names {count} parts of the body, and must name one"));
            assert_eq!(unfit.body.unwrap(), r#"{"a":[1,2]}"#);
        }
    }

    #[test]
    fn what_is_dropped_is_nowhere_in_what_is_kept() {
        let body = r#"{"id":1,"email":"a@b.example","list":[{"email":"c@d.example","x":[1]}]}"#;
        for (body, data, drop, kept) in [
            (body, None, &["$.email"][..], r#"{"id":1,"list":[{"email":"c@d.example","x":[1]}]}"#),
            (body, None, &["$..email"], r#"{"id":1,"list":[{"x":[1]}]}"#),
            (body, Some("$.list[0]"), &["$..email"], r#"{"x":[1]}"#),
            (body, None, &["$.none"], r#"{"email":"a@b.example","id":1,"list":[{"email":"c@d.example","x":[1]}]}"#),
            // The text has a member twice, of which parsers see the last one.
            (r#"{"a":{"email":"a@b.example"},"a":{"x":1}}"#, None, &["$.a.email"], r#"{"a":{"x":1}}"#),
        ] {
            assert_eq!(kept_of(body, data, drop, &[]).unwrap().body, kept, "{drop:?}");
        }
        let changed = kept_of(r#"{"id":1,"email":"new@b.example"}"#, None, &["$.email"], &[]).unwrap();
        let before = kept_of(r#"{"id":1,"email":"old@b.example"}"#, None, &["$.email"], &[]).unwrap();
        assert_eq!((changed.etag, changed.content_hash), (before.etag, before.content_hash), "nor in what is hashed");
    }

    #[test]
    fn nothing_of_what_is_dropped_is_kept_of_a_refused_body() {
        let refused = |body| kept_of(body, Some("$.user"), &["$..email"], &[]).unwrap_err();
        assert_eq!(refused(r#"{"error":1,"by":{"email":"a@b.example"}}"#).body.unwrap(), r#"{"by":{},"error":1}"#);
        assert_eq!(refused(r#"{"error":1,"by":{"email":"a@b.example""#).body, None);
        let detail = refused("{\"email\":\"a@b.example\"").detail;
        assert!(detail.starts_with("the body is not JSON: ") && !detail.contains("example"), "{detail}");
        assert!(kept_of(r#"{"user":{"email":"a@b.example"}}"#, Some("$.user.email"), &["$..email"], &[]).is_err());
    }

    /// Else a copy that was stored before would keep what is dropped from now on.
    #[test]
    fn what_is_dropped_from_now_on_makes_another_content_though_it_was_ignored_before() {
        let body = r#"{"email":"a@b.example","id":1}"#;
        let ignored = kept_of(body, None, &[], &["$.email"]).unwrap();
        for ignore in [&[][..], &["$.email"]] {
            let dropped = kept_of(body, None, &["$.email"], ignore).unwrap();
            assert_ne!(dropped.content_hash, ignored.content_hash);
            assert_eq!(dropped.body, r#"{"id":1}"#);
        }
    }

    #[test]
    fn all_paths_are_about_the_body_as_it_comes() {
        let with = |at: &'static str| kept_of(at, Some("$.data"), &["$.data.email"], &["$.data.at"]).unwrap();
        let one = with(r#"{"data":{"at":1,"email":"a","x":1}}"#);
        let two = with(r#"{"data":{"at":2,"email":"b","x":1}}"#);
        assert_eq!((one.body, one.content_hash), (r#"{"at":1,"x":1}"#.into(), two.content_hash));
        assert_ne!(one.etag, two.etag);
    }

    #[test]
    fn what_is_written_anew_calls_itself_json() {
        let rules = BodyRules { data: Some(JsonPath::new("$.a").unwrap()), ..BodyRules::default() };
        for (was, is) in [("text/html", "application/json"), ("application/hal+json", "application/hal+json")] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(was))]);
            let snapshot = inspect(&headers, r#"{"a":1}"#.into(), &rules).unwrap();
            assert_eq!(snapshot.headers[header::CONTENT_TYPE], is);
        }
    }
}
