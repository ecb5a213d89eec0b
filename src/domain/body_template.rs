//! The body of a request, as a template: what a search endpoint or GraphQL is asked, without any key being able to ask
//! something else.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use serde::de::IgnoredAny;
use url::form_urlencoded;

use super::resource::{Key, Params};
use super::template::KEY;

/// A body with `{name}` for the key and its parameters. Values are written so that they stay one value in the body's
/// language. Braces around anything but a name are text, as JSON and GraphQL are full of them.
#[derive(Clone, PartialEq, Eq)]
pub struct BodyTemplate {
    text: String,
    pieces: Vec<Piece>,
    language: Language,
    is_secret: bool,
}

/// What a body is written in, which decides how values are put into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// JSON: a value in a text is escaped. Elsewhere it is a number, `true`, `false` or `null` if it reads like one, and a text
    /// in quotes if not.
    Json,
    /// A form: values are percent-encoded.
    Form,
    /// Anything else: values are put in as they are.
    Text,
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// A variable, and whether it is within a JSON text.
    Variable(String, bool),
}

/// Why a text can't be a [`BodyTemplate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("with values in it, it would not be JSON: {0}")]
pub struct NotJson(String);

/// A variable of the template has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body's variable `{0}` has no value")]
pub struct MissingValue(pub String);

impl fmt::Debug for BodyTemplate {
    /// Without the text, which may have a credential in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyTemplate").field("language", &self.language).finish_non_exhaustive()
    }
}

impl Language {
    /// The language of a media type.
    #[must_use]
    pub fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Self::Json,
            "application/x-www-form-urlencoded" => Self::Form,
            other if other.ends_with("+json") => Self::Json,
            _ => Self::Text,
        }
    }
}

impl BodyTemplate {
    /// Checks and wraps a template.
    ///
    /// # Errors
    /// [`NotJson`] when it is to be JSON and isn't. Whether it is does not depend on the values.
    pub fn new(text: &str, language: Language) -> Result<Self, NotJson> {
        let template = Self { text: text.to_owned(), pieces: pieces(text), language, is_secret: false };
        // One that is bare outside of texts, and one that isn't and ends every escape sequence.
        let samples = if language == Language::Json { &["0", "z"][..] } else { &[] };
        for sample in samples {
            let sample = template.written(|_| Some(sample)).map_err(|MissingValue(name)| NotJson(name))?;
            // The parser's words say what was expected and where, and quote nothing.
            serde_json::from_str::<IgnoredAny>(&sample).map_err(|error| NotJson(error.to_string()))?;
        }
        Ok(template)
    }

    /// The same, marked: some of it was put in from outside the configuration file, so that nobody is shown it.
    #[must_use]
    pub fn with_secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    /// Whether nobody may be shown it.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// The template as it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names of its variables.
    #[must_use]
    pub fn variables(&self) -> BTreeSet<String> {
        let variable = |piece: &Piece| match piece {
            Piece::Variable(name, _) => Some(name.clone()),
            Piece::Text(_) => None,
        };
        self.pieces.iter().filter_map(variable).collect()
    }

    /// The body for a resource.
    ///
    /// # Errors
    /// [`MissingValue`].
    pub fn expand(&self, key: &Key, params: &Params) -> Result<Bytes, MissingValue> {
        let value = |name: &str| match params.get(name) {
            None if name == KEY => Some(key.as_str()),
            value => value.map(String::as_str),
        };
        self.written(value).map(Bytes::from)
    }

    fn written<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, MissingValue> {
        let mut written = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => written.push_str(text),
                Piece::Variable(name, in_text) => {
                    let value = value(name).ok_or_else(|| MissingValue(name.clone()))?;
                    written.push_str(&self.escaped(value, *in_text));
                }
            }
        }
        Ok(written)
    }

    fn escaped(&self, value: &str, in_text: bool) -> String {
        let quoted = || serde_json::Value::from(value).to_string();
        match self.language {
            Language::Text => value.to_owned(),
            Language::Form => form_urlencoded::byte_serialize(value.as_bytes()).collect(),
            Language::Json if in_text => {
                let quoted = quoted();
                quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
            }
            Language::Json if is_bare(value) => value.to_owned(),
            Language::Json => quoted(),
        }
    }
}

/// Whether a text is a JSON number, `true`, `false` or `null`.
fn is_bare(value: &str) -> bool {
    let starts_like_one = value.starts_with(|c: char| c.is_ascii_digit() || "-tfn".contains(c));
    starts_like_one && value.trim_end() == value && serde_json::from_str::<IgnoredAny>(value).is_ok()
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    // What is not yet a piece, whether it ends within a JSON text, and right behind a backslash in one.
    let (mut plain, mut in_text, mut escaped) = (String::new(), false, false);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(name) = variable(rest) {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
            pieces.push(Piece::Variable(name.to_owned(), in_text));
            rest = rest.get(name.len() + 2..).unwrap_or_default();
            escaped = false;
            continue;
        }
        in_text ^= first == '"' && !escaped;
        escaped = in_text && first == '\\' && !escaped;
        plain.push(first);
        rest = rest.get(first.len_utf8()..).unwrap_or_default();
    }
    pieces.push(Piece::Text(plain));
    pieces
}

/// The name between the braces that a text begins with.
fn variable(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (starts && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expand(text: &str, language: Language, key: &str) -> String {
        let template = BodyTemplate::new(text, language).unwrap();
        let body = template.expand(&Key::new(key).unwrap(), &Params::new()).unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn a_value_in_json_stays_one_value() {
        for (text, key, body) in [
            (r#"{"id":"{key}"}"#, "7", r#"{"id":"7"}"#),
            (r#"{"id":"{key}"}"#, r#"a","admin":"1"#, r#"{"id":"a\",\"admin\":\"1"}"#),
            (r#"{"id":"<{key}>"}"#, r#""quoted""#, r#"{"id":"<\"quoted\">"}"#),
            (r#"{"id":"\\{key}"}"#, r"\", r#"{"id":"\\\\"}"#),
            (r#"{"id":"\"{key}"}"#, "x", r#"{"id":"\"x"}"#),
            (r#"{"id":{key}}"#, "7", r#"{"id":7}"#),
            (r#"{"id":{key}}"#, "-1.5e3", r#"{"id":-1.5e3}"#),
            (r#"{"id":{key}}"#, "true", r#"{"id":true}"#),
            (r#"{"id":{key}}"#, "berlin", r#"{"id":"berlin"}"#),
            (r#"{"id":{key}}"#, r#"1, "admin": true"#, r#"{"id":"1, \"admin\": true"}"#),
            (r#"{"id":{key}}"#, "7 ", r#"{"id":"7 "}"#),
            (r#"{"id":{key}}"#, "NaN", r#"{"id":"NaN"}"#),
            (r#"{"id":{key}}"#, "[1]", r#"{"id":"[1]"}"#),
            (
                r#"{"q":"query { me { name } }","v":{"id":"{key}"}}"#,
                "k",
                r#"{"q":"query { me { name } }","v":{"id":"k"}}"#,
            ),
        ] {
            assert_eq!(expand(text, Language::Json, key), body, "{text}");
        }
    }

    #[test]
    fn in_a_form_values_are_encoded_and_elsewhere_they_are_as_they_are() {
        assert_eq!(expand("q={key}&page=1", Language::Form, "a&b=c d"), "q=a%26b%3Dc+d&page=1");
        assert_eq!(expand("<q>{key}</q>{ key }{}{1}{key", Language::Text, "a&b"), "<q>a&b</q>{ key }{}{1}{key");
    }

    #[test]
    fn a_template_that_is_not_json_is_refused_without_being_quoted() {
        for text in [
            "",
            "{",
            "{key",
            "{\"s3cret\":}",
            "{{key}:1}",
            "{\"a\":1}{key}",
            "\"{key}",
            "{\"a\":\"{key}\"\"}",
            "[1{key}]",
            "[\"\\u000{key}\"]",
        ] {
            let error = BodyTemplate::new(text, Language::Json).unwrap_err().to_string();
            assert!(
                error.starts_with("with values in it, it would not be JSON: ") && !error.contains("s3cret"),
                "{error}"
            );
        }
        assert!(BodyTemplate::new("{", Language::Text).is_ok());
        let template = BodyTemplate::new("{\"s3cret\":\"{key}{b}\"}", Language::Json).unwrap();
        assert!(!format!("{template:?}").contains("s3cret"));
        assert_eq!(template.variables(), ["b".to_owned(), "key".to_owned()].into());
        assert_eq!(template.expand(&Key::new("k").unwrap(), &Params::new()), Err(MissingValue("b".into())));
    }

    #[test]
    fn the_media_type_says_which_language_a_body_is_in() {
        for (content_type, language) in [
            ("application/json", Language::Json),
            ("Application/JSON; charset=utf-8", Language::Json),
            ("application/vnd.api+json", Language::Json),
            ("application/x-www-form-urlencoded", Language::Form),
            ("application/graphql", Language::Text),
            ("text/plain", Language::Text),
        ] {
            assert_eq!(Language::of(content_type), language, "{content_type}");
        }
    }

    proptest! {
        /// Whatever the key is, the body is JSON of the same shape, with the key where its place is.
        #[test]
        fn no_key_can_ask_something_else(key in "[^\\p{Cc}]{1,20}") {
            let text = r#"{"a":{key},"b":["<{key}>"],"c":{"d":"{key}"}}"#;
            let body: serde_json::Value = serde_json::from_str(&expand(text, Language::Json, &key)).unwrap();
            prop_assert_eq!(&body["b"][0], &format!("<{key}>"));
            prop_assert_eq!(&body["c"]["d"], &key);
            prop_assert_eq!(body.as_object().unwrap().len(), 3);
            prop_assert!(!body["a"].is_array() && !body["a"].is_object());
        }
    }
}
