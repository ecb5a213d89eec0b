//! Parts of JSON documents, named by JSONPath (RFC 9535).

use std::collections::HashSet;
use std::ptr;

use jsonpath_rust::parser::model::JpQuery;
use jsonpath_rust::parser::parse_json_path;
use jsonpath_rust::query::js_path_process;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A JSONPath that has been checked. It is stored as its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct JsonPath {
    text: String,
    query: JpQuery,
}

impl PartialEq for JsonPath {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for JsonPath {}

impl TryFrom<String> for JsonPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(text)
    }
}

impl From<JsonPath> for String {
    fn from(path: JsonPath) -> Self {
        path.text
    }
}

impl JsonPath {
    /// Checks and wraps a path.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(path: impl Into<String>) -> Result<Self, String> {
        let text = path.into();
        match parse_json_path(&text) {
            Ok(query) => Ok(Self { text, query }),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parts that it names: none where it does not fit the document.
    #[must_use]
    pub fn nodes<'v>(&self, document: &'v Value) -> Vec<&'v Value> {
        let nodes = js_path_process(&self.query, document).unwrap_or_default();
        nodes.into_iter().map(|node| node.val).collect()
    }

    /// The path of the list or object all of whose members this one names, if it ends with `[*]` or `.*`.
    #[must_use]
    pub fn parent_of_all(&self) -> Option<Self> {
        let text = self.text.trim_end();
        let parent = text.strip_suffix("[*]").or_else(|| text.strip_suffix(".*"))?;
        // Of `$..*`, what is left is no path.
        Self::new(parent).ok()
    }
}

/// A document without the parts that these paths name; what is left of a document that is named itself is `null`.
///
/// All paths are about the document as it is given. The parts are known by where they are in memory, so that no name of a
/// member, however odd, and no order of deletions can lead to another part than the one that was named.
#[must_use]
pub fn without(document: &Value, paths: &[JsonPath]) -> Value {
    let named: HashSet<*const Value> =
        paths.iter().flat_map(|path| path.nodes(document)).map(ptr::from_ref::<Value>).collect();
    if named.is_empty() { document.clone() } else { rest_of(document, &named).unwrap_or_default() }
}

fn rest_of(part: &Value, named: &HashSet<*const Value>) -> Option<Value> {
    if named.contains(&ptr::from_ref(part)) {
        return None;
    }
    Some(match part {
        Value::Array(elements) => Value::Array(elements.iter().filter_map(|element| rest_of(element, named)).collect()),
        Value::Object(members) => {
            let rest = |(name, member): (&String, &Value)| Some((name.clone(), rest_of(member, named)?));
            Value::Object(members.iter().filter_map(rest).collect())
        }
        scalar => scalar.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn left(document: &Value, paths: &[&str]) -> Value {
        let paths: Vec<_> = paths.iter().map(|path| JsonPath::new(*path).unwrap()).collect();
        without(document, &paths)
    }

    #[test]
    fn all_that_is_named_goes_and_nothing_else() {
        let document = json!({ "a": [1, 2, 3, 1], "b": { "a": 1, "c": { "a": null } }, "d": true });
        for (paths, expected) in [
            (&["$.a[0]", "$.a[1]"][..], json!({ "a": [3, 1], "b": { "a": 1, "c": { "a": null } }, "d": true })),
            (&["$.a[-1]", "$.a[0]"], json!({ "a": [2, 3], "b": { "a": 1, "c": { "a": null } }, "d": true })),
            (&["$..a"], json!({ "b": { "c": {} }, "d": true })),
            (&["$.b.*", "$.b.c.a", "$..a"], json!({ "b": {}, "d": true })),
            (&["$.a[?@ == 1]"], json!({ "a": [2, 3], "b": { "a": 1, "c": { "a": null } }, "d": true })),
            (&["$.a['x']", "$.none", "$[0]"], document.clone()),
            (&["$", "$.a"], json!(null)),
        ] {
            assert_eq!(left(&document, paths), expected, "{paths:?}");
        }
    }

    #[test]
    fn members_with_odd_names_go_too() {
        let names = ["it's", "a\"b", "a/b", "a~b", "", "[0]", "ü", "a\nb", "\\"];
        let document: Value = names.iter().map(|name| (*name, json!({ "secret": name }))).collect();
        let rest: Value = names.iter().map(|name| (*name, json!({}))).collect();
        assert_eq!(left(&document, &["$.*.secret"]), rest);
        assert_eq!(left(&document, &["$[?@.secret]"]), json!({}));
        assert_eq!(left(&json!([document, [document]]), &["$..secret"]), json!([rest, [rest]]));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["", "a", "$.", "$[", "$.a[?"] {
            assert!(JsonPath::new(path).is_err(), "{path}");
        }
    }
}
