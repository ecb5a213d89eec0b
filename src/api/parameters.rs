//! Query parameters.

use std::collections::BTreeMap;

use http::Uri;
use percent_encoding::percent_decode;

use super::error::ApiError;

/// Entries in a page when the request doesn't say.
const DEFAULT_LIMIT: u32 = 100;
/// Entries in a page at the most.
const LARGEST_LIMIT: u32 = 1000;
/// How much of a wrong value an answer repeats, in characters.
const SHOWN: usize = 100;

/// The query parameters of a request, each of them one that the route knows, and given once.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameters(BTreeMap<String, Given>);

/// A parameter's value.
#[derive(Debug, PartialEq, Eq)]
struct Given {
    /// As it was sent.
    encoded: String,
    /// As it is meant.
    text: String,
}

impl Parameters {
    /// Reads the parameters of a route that knows these.
    ///
    /// A route that knows none refuses them too: in `/v1/users/who?me` the `?` was most likely meant to be part of the key,
    /// and the content of the key `who` would be a wrong answer.
    ///
    /// # Errors
    /// [`ApiError::BadParameter`] for one that the route doesn't know, that comes twice, or that isn't UTF-8.
    pub fn of(uri: &Uri, known: &[&str]) -> Result<Self, ApiError> {
        let mut parameters = BTreeMap::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, encoded) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name).unwrap_or_else(|| name.to_owned());
            let Some(text) = decoded(encoded) else { return Err(bad(&name, encoded, UTF_8)) };
            if !known.contains(&name.as_str()) {
                return Err(bad(&name, &text, unknown(known)));
            }
            if parameters.contains_key(&name) {
                return Err(bad(&name, &text, "it may be given once."));
            }
            parameters.insert(name, Given { encoded: encoded.to_owned(), text });
        }
        Ok(Self(parameters))
    }

    /// The parameter of that name, read by `parse`; `None` when it isn't given.
    ///
    /// # Errors
    /// [`ApiError::BadParameter`] with `expected` when `parse` finds nothing.
    pub fn get<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        self.checked(name, |value| parse(value).ok_or_else(|| expected.to_owned()))
    }

    /// The parameter of that name, read by `check`, which says what would be right; `None` when it isn't given.
    ///
    /// # Errors
    /// [`ApiError::BadParameter`] with what `check` says.
    pub fn checked<T>(&self, name: &str, check: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, ApiError> {
        let Some(Given { text, .. }) = self.0.get(name) else { return Ok(None) };
        check(text).map(Some).map_err(|expected| bad(name, text, expected))
    }

    /// The members of a list with commas between them, each read by `check` with its number from 1; `None` when there is no
    /// parameter of that name. A comma within a member is written %2C.
    ///
    /// # Errors
    /// [`ApiError::BadParameter`] with what `check` says of the first wrong member.
    pub fn list<T>(
        &self,
        name: &str,
        mut check: impl FnMut(usize, &str) -> Result<T, String>,
    ) -> Result<Option<Vec<T>>, ApiError> {
        let Some(Given { encoded, text }) = self.0.get(name) else { return Ok(None) };
        // Split first: decoded, a comma within a member would look like one between two.
        let members = encoded.split(',').enumerate().map(|(index, member)| {
            let member = decoded(member).ok_or_else(|| UTF_8.to_owned())?;
            check(index + 1, &member)
        });
        members.collect::<Result<_, _>>().map(Some).map_err(|expected| bad(name, text, expected))
    }

    /// How many entries a page may have: `limit`.
    ///
    /// # Errors
    /// [`ApiError::BadParameter`] when it is no number from 1 to 1000.
    pub fn limit(&self) -> Result<u32, ApiError> {
        let limit = self.get("limit", "it must be a whole number from 1 to 1000.", limit)?;
        Ok(limit.unwrap_or(DEFAULT_LIMIT))
    }

    /// Checks that `name` comes with no others but these, if it comes.
    ///
    /// # Errors
    /// [`ApiError::BadParameter`] for the first other one.
    pub fn only_with(&self, name: &str, others: &[&str]) -> Result<(), ApiError> {
        let mut others = self.0.iter().filter(|(other, _)| *other != name && !others.contains(&other.as_str()));
        match others.next() {
            Some((other, given)) if self.0.contains_key(name) => {
                Err(bad(other, &given.text, format!("it can't be given together with `{name}`.")))
            }
            _ => Ok(()),
        }
    }
}

const UTF_8: &str = "it must be UTF-8, percent-encoded.";

/// A name or value as it is meant: `+` is a space and `%2B` a `+`, as forms and URLs of browsers have it. `None` when it is
/// not UTF-8.
fn decoded(encoded: &str) -> Option<String> {
    let spaced = encoded.replace('+', " ");
    percent_decode(spaced.as_bytes()).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn limit(value: &str) -> Option<u32> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|limit| digits && (1..=LARGEST_LIMIT).contains(limit))
}

fn unknown(known: &[&str]) -> String {
    match known {
        [] => "there are none here (a `?` in a key is written %3F).".into(),
        known => format!("the parameters here are `{}`.", known.join("`, `")),
    }
}

/// All names and values of a query in their order; `None` for a value that is not UTF-8.
pub(super) fn pairs(uri: &Uri) -> impl Iterator<Item = (String, Option<String>)> {
    uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, encoded) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name).unwrap_or_else(|| name.to_owned()), decoded(encoded))
    })
}

/// The error about a parameter.
pub(super) fn bad(parameter: &str, value: &str, expected: impl Into<String>) -> ApiError {
    ApiError::BadParameter { parameter: shortened(parameter), value: shortened(value), expected: expected.into() }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(query: &'static str) -> Result<Option<u32>, String> {
        let uri = Uri::from_static(query);
        let parameters = Parameters::of(&uri, &["limit", "since"]);
        let number = parameters.and_then(|all| all.get("limit", "a number.", |value| value.parse().ok()));
        number.map_err(|error| match error {
            ApiError::BadParameter { parameter, value, expected } => format!("{parameter}={value}: {expected}"),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn a_limit_is_between_1_and_1000() {
        for (value, expected) in [
            ("1", Some(1)),
            ("1000", Some(1000)),
            ("0", None),
            ("1001", None),
            ("99999999999999999999", None),
            ("-1", None),
            ("+1", None),
            (" 1", None),
            ("1.0", None),
            ("", None),
        ] {
            assert_eq!(limit(value), expected, "{value:?}");
        }
    }

    #[test]
    fn members_of_a_list_may_have_commas_of_their_own() {
        let members = |query: &'static str| {
            let parameters = Parameters::of(&Uri::from_static(query), &["keys"]).unwrap();
            parameters.list("keys", |_, member| Ok(member.to_owned())).unwrap()
        };
        for (query, expected) in [
            ("/?keys=a", vec!["a"]),
            ("/?keys=a,b", vec!["a", "b"]),
            ("/?keys=a%2Cb,c", vec!["a,b", "c"]),
            ("/?keys=a%252Cb", vec!["a%2Cb"]),
            ("/?keys=a+b%2Bc%20d,%C3%BC", vec!["a b+c d", "\u{fc}"]),
            ("/?keys=a%26b%3Dc=d", vec!["a&b=c=d"]),
            ("/?keys=", vec![""]),
            ("/?keys", vec![""]),
            ("/?keys=,a,", vec!["", "a", ""]),
        ] {
            assert_eq!(members(query), Some(expected.into_iter().map(str::to_owned).collect()), "{query}");
        }
        assert_eq!(members("/"), None);
    }

    #[test]
    fn a_wrong_parameter_is_named_with_its_value_and_what_would_be_right() {
        for (query, expected) in [
            ("/?limit=5", Ok(Some(5))),
            ("/?since=x&limit=%35", Ok(Some(5))),
            ("/", Ok(None)),
            ("/?", Ok(None)),
            ("/?limit=five", Err("limit=five: a number.")),
            ("/?limit=", Err("limit=: a number.")),
            ("/?limit", Err("limit=: a number.")),
            ("/?limit=1&limit=2", Err("limit=2: it may be given once.")),
            ("/?Limit=1", Err("Limit=1: the parameters here are `limit`, `since`.")),
            ("/?limit=%ff", Err("limit=%ff: it must be UTF-8, percent-encoded.")),
            ("/?%ff=1", Err("%ff=1: the parameters here are `limit`, `since`.")),
            ("/?&limit=5&&", Ok(Some(5))),
            ("/?=5", Err("=5: the parameters here are `limit`, `since`.")),
            ("/?x=%00", Err("x=\0: the parameters here are `limit`, `since`.")),
        ] {
            assert_eq!(number(query), expected.map_err(str::to_owned), "{query}");
        }
    }
}
