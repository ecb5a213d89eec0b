//! Query parameters.

use std::collections::BTreeMap;

use http::Uri;

use super::error::ApiError;

/// The query parameters of a request, each of them one that the route knows, and given once.
#[derive(Debug, PartialEq, Eq)]
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Reads the parameters of a route that knows these.
    ///
    /// A route that knows none refuses them too: in `/v1/users/who?me` the `?` was most likely meant to be part of the key,
    /// and the content of the key `who` would be a wrong answer.
    ///
    /// # Errors
    /// [`ApiError::BadParameter`] for one that the route doesn't know, or that comes twice.
    pub fn of(uri: &Uri, known: &[&str]) -> Result<Self, ApiError> {
        let mut parameters = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                return Err(bad(&name, &value, unknown(known)));
            }
            if parameters.insert(name.to_string(), value.to_string()).is_some() {
                return Err(bad(&name, &value, "it may be given once."));
            }
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
        let Some(value) = self.0.get(name) else { return Ok(None) };
        parse(value).map(Some).ok_or_else(|| bad(name, value, expected))
    }
}

fn unknown(known: &[&str]) -> String {
    match known {
        [] => "there are none here (a `?` in a key is written %3F).".into(),
        known => format!("the parameters here are `{}`.", known.join("`, `")),
    }
}

fn bad(parameter: &str, value: &str, expected: impl Into<String>) -> ApiError {
    ApiError::BadParameter { parameter: parameter.into(), value: value.into(), expected: expected.into() }
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
            ("/?x=%00", Err("x=\0: the parameters here are `limit`, `since`.")),
        ] {
            assert_eq!(number(query), expected.map_err(str::to_owned), "{query}");
        }
    }
}
