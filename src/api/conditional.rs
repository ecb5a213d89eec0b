//! Preconditions of a GET or HEAD (RFC 9110 §13).

use chrono::{DateTime, SubsecRound, Utc};
use http::{HeaderMap, HeaderName, header};

use crate::domain::time::http_date;

/// What a request's preconditions say about the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preconditions {
    /// Send the content.
    Send,
    /// 304: the client has this content already.
    NotModified,
    /// 412: the client wants other content than this or none.
    Failed,
}

/// Evaluates the preconditions of a request for the content with this strong ETag (without quotes) and time, in the order
/// of RFC 9110 §13.2.2.
#[must_use]
pub fn evaluate(request: &HeaderMap, etag: &str, last_modified: DateTime<Utc>) -> Preconditions {
    // HTTP dates have whole seconds.
    let last_modified = last_modified.trunc_subsecs(0);
    let held = match Tags::of(request, &header::IF_MATCH) {
        // §13.1.1: If-Match compares strongly.
        Some(tags) => tags.name(etag, Comparison::Strong),
        // §13.1.4: If-Unmodified-Since counts only without If-Match.
        None => date(request, &header::IF_UNMODIFIED_SINCE).is_none_or(|since| last_modified <= since),
    };
    if !held {
        return Preconditions::Failed;
    }
    let known = match Tags::of(request, &header::IF_NONE_MATCH) {
        // §13.1.2: If-None-Match compares weakly.
        Some(tags) => tags.name(etag, Comparison::Weak),
        // §13.1.3: If-Modified-Since counts only without If-None-Match, be it as unusable as it may.
        None => date(request, &header::IF_MODIFIED_SINCE).is_some_and(|since| last_modified <= since),
    };
    if known { Preconditions::NotModified } else { Preconditions::Send }
}

/// Whether a request's If-None-Match names this ETag (without quotes), be it as a weak one (§13.1.2).
#[must_use]
pub fn is_held(request: &HeaderMap, etag: &str) -> bool {
    Tags::of(request, &header::IF_NONE_MATCH).is_some_and(|tags| tags.name(etag, Comparison::Weak))
}

/// Whether a request's If-None-Match has this ETag (without quotes) as a weak one only: what its sender holds is then an
/// encoded variant.
#[must_use]
pub fn is_held_weakly(request: &HeaderMap, etag: &[u8]) -> bool {
    let Some(Tags::These(tags)) = Tags::of(request, &header::IF_NONE_MATCH) else { return false };
    let mut held = tags.iter().filter(|(_, opaque)| *opaque == etag).peekable();
    held.peek().is_some() && held.all(|(weak, _)| *weak)
}

/// A single HTTP date; what is none, or more than one, is ignored (§13.1.3, §13.1.4).
fn date(request: &HeaderMap, name: &HeaderName) -> Option<DateTime<Utc>> {
    let mut values = request.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    http_date(value.to_str().ok()?)
}

/// How entity-tags are compared (§8.8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// A weak tag equals none.
    Strong,
    /// Weak and strong tags are equal if their opaque parts are.
    Weak,
}

/// The value of If-Match or If-None-Match.
#[derive(Debug, PartialEq, Eq)]
enum Tags<'a> {
    /// `*`: any content.
    Any,
    /// These tags, each with whether it is weak. What isn't an entity-tag has been left out.
    These(Vec<(bool, &'a [u8])>),
}

impl<'a> Tags<'a> {
    /// Reads all lines of the field, which together are one list (§5.3); `None` when there is none.
    fn of(request: &'a HeaderMap, name: &HeaderName) -> Option<Self> {
        let lines: Vec<&[u8]> = request.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
        match lines.as_slice() {
            [] => None,
            [line] if line.trim_ascii() == b"*" => Some(Self::Any),
            lines => Some(Self::These(lines.iter().flat_map(|line| entity_tags(line)).collect())),
        }
    }

    fn name(&self, etag: &str, comparison: Comparison) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags
                .iter()
                .any(|(weak, opaque)| *opaque == etag.as_bytes() && !(*weak && comparison == Comparison::Strong)),
        }
    }
}

/// The entity-tags of one line (§8.8.3). Opaque parts may contain commas, so the line can't just be split at them.
fn entity_tags(line: &[u8]) -> Vec<(bool, &[u8])> {
    let mut tags = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let (tag, after) = list_member(rest);
        tags.extend(tag);
        rest = after.trim_ascii_start();
    }
    tags
}

/// The list's first member, if it is an entity-tag, and what comes after its comma.
fn list_member(text: &[u8]) -> (Option<(bool, &[u8])>, &[u8]) {
    let (weak, quoted) = match text.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let Some(opaque_on) = quoted.strip_prefix(b"\"") else { return (None, after_comma(text)) };
    let mut halves = opaque_on.splitn(2, |byte| *byte == b'"');
    let (Some(opaque), Some(after)) = (halves.next(), halves.next()) else { return (None, &[]) };
    let ends_here = matches!(after.trim_ascii_start().first(), None | Some(b','));
    (ends_here.then_some((weak, opaque)), after_comma(after))
}

fn after_comma(text: &[u8]) -> &[u8] {
    match text.iter().position(|byte| *byte == b',') {
        Some(comma) => text.get(comma + 1..).unwrap_or_default(),
        None => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: &str = "0123abc";
    const BEFORE: &str = "Tue, 15 Nov 1994 08:12:30 GMT";
    const MODIFIED: &str = "Tue, 15 Nov 1994 08:12:31 GMT";
    const AFTER: &str = "Tue, 15 Nov 1994 08:12:32 GMT";

    fn evaluated(fields: &[(HeaderName, &'static str)]) -> Preconditions {
        let mut request = HeaderMap::new();
        for (name, value) in fields {
            request.append(name, http::HeaderValue::from_static(value));
        }
        let within_the_second = http_date(MODIFIED).unwrap() + chrono::TimeDelta::milliseconds(700);
        evaluate(&request, ETAG, within_the_second)
    }

    #[test]
    fn if_none_match_finds_the_tag_wherever_it_stands() {
        use Preconditions::{NotModified, Send};
        for (value, expected) in [
            ("\"0123abc\"", NotModified),
            ("W/\"0123abc\"", NotModified),
            ("*", NotModified),
            (" * ", NotModified),
            ("\"x\", \"0123abc\"", NotModified),
            ("\"x\",,W/\"0123abc\" , \"y\"", NotModified),
            ("\"a,b\",\"0123abc\"", NotModified),
            ("garbage, \"0123abc\"", NotModified),
            ("w/\"x\", \"0123abc\"", NotModified),
            ("\"x\"y, \"0123abc\"", NotModified),
            ("\t\"0123abc\"\t", NotModified),
            ("", Send),
            (",", Send),
            ("\"x\"", Send),
            ("0123abc", Send),
            ("'0123abc'", Send),
            ("\"0123abc", Send),
            ("0123abc\"", Send),
            ("w/\"0123abc\"", Send),
            ("W/ \"0123abc\"", Send),
            ("\"0123abc\"x", Send),
            ("\"x,\"0123abc\"", Send),
            ("\"0123ABC\"", Send),
            ("*, \"x\"", Send),
            ("\"*\"", Send),
        ] {
            assert_eq!(evaluated(&[(header::IF_NONE_MATCH, value)]), expected, "{value:?}");
        }
    }

    #[test]
    fn what_is_held_weakly_has_no_strong_tag_beside_it() {
        for (value, expected) in [
            ("W/\"0123abc\"", true),
            ("\"x\", W/\"0123abc\"", true),
            ("\"0123abc\"", false),
            ("W/\"0123abc\", \"0123abc\"", false),
            ("W/\"x\"", false),
            ("*", false),
            ("", false),
        ] {
            let request = HeaderMap::from_iter([(header::IF_NONE_MATCH, http::HeaderValue::from_static(value))]);
            assert_eq!(is_held_weakly(&request, ETAG.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [(header::IF_NONE_MATCH, "\"x\""), (header::IF_NONE_MATCH, "W/\"0123abc\"")];
        assert_eq!(evaluated(&lines), Preconditions::NotModified);
    }

    #[test]
    fn bytes_that_are_not_text_are_compared_as_bytes() {
        let value = http::HeaderValue::from_bytes(b"\"\xff\xfe\", \"0123abc\"").unwrap();
        let request = HeaderMap::from_iter([(header::IF_NONE_MATCH, value)]);
        assert_eq!(evaluate(&request, ETAG, DateTime::UNIX_EPOCH), Preconditions::NotModified);
    }

    #[test]
    fn if_modified_since_compares_whole_seconds() {
        use Preconditions::{NotModified, Send};
        for (value, expected) in [
            (BEFORE, Send),
            (MODIFIED, NotModified),
            (AFTER, NotModified),
            ("Tuesday, 15-Nov-94 08:12:31 GMT", NotModified),
            ("Tue Nov 15 08:12:31 1994", NotModified),
            ("1994-11-15T08:12:32Z", Send),
            ("yesterday", Send),
            ("", Send),
        ] {
            assert_eq!(evaluated(&[(header::IF_MODIFIED_SINCE, value)]), expected, "{value:?}");
        }
        let twice = [(header::IF_MODIFIED_SINCE, AFTER), (header::IF_MODIFIED_SINCE, AFTER)];
        assert_eq!(evaluated(&twice), Send, "more than one date is none");
    }

    #[test]
    fn preconditions_are_evaluated_in_order() {
        use Preconditions::{Failed, NotModified, Send};
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE};
        for (fields, expected) in [
            (&[][..], Send),
            (&[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, AFTER)], Send),
            (&[(IF_NONE_MATCH, "garbage"), (IF_MODIFIED_SINCE, AFTER)], Send),
            (&[(IF_NONE_MATCH, "\"0123abc\""), (IF_MODIFIED_SINCE, BEFORE)], NotModified),
            (&[(IF_MATCH, "\"0123abc\"")], Send),
            (&[(IF_MATCH, "*")], Send),
            (&[(IF_MATCH, "W/\"0123abc\"")], Failed),
            (&[(IF_MATCH, "\"x\""), (IF_NONE_MATCH, "\"0123abc\"")], Failed),
            (&[(IF_MATCH, "\"0123abc\""), (IF_NONE_MATCH, "\"0123abc\"")], NotModified),
            (&[(IF_MATCH, "\"0123abc\""), (IF_UNMODIFIED_SINCE, BEFORE)], Send),
            (&[(IF_UNMODIFIED_SINCE, BEFORE)], Failed),
            (&[(IF_UNMODIFIED_SINCE, MODIFIED)], Send),
            (&[(IF_UNMODIFIED_SINCE, "garbage")], Send),
        ] {
            assert_eq!(evaluated(fields), expected, "{fields:?}");
        }
    }
}
