//! What a token endpoint answers (RFC 6749 §5).

use std::time::Duration;

use http::HeaderValue;
use serde_json::Value;

/// How long a token is used whose life nobody tells. A 401 ends it earlier.
const UNTOLD_LIFE: Duration = Duration::from_secs(300);

/// No token is used for longer, whatever its life is said to be.
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

/// The errors that an endpoint may name (§5.2). What else it says is not repeated: it could be anything.
const ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
];

/// A token that was given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// The Authorization field that it makes, marked as sensitive.
    pub value: HeaderValue,
    /// How long it lives.
    pub life: Duration,
}

/// Reads a good answer (§5.1).
///
/// # Errors
/// What is wrong with it, without anything of it.
pub(super) fn given(body: &[u8]) -> Result<Given, &'static str> {
    let Ok(Value::Object(answer)) = serde_json::from_slice(body) else {
        let is_markup = body.trim_ascii_start().starts_with(b"<");
        return Err(if is_markup { "it answers with a page, not with JSON" } else { "its answer is no JSON object" });
    };
    let token = answer.get("access_token").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err("its answer has no access_token");
    }
    // §7.1: a client must not use a token whose type it doesn't know. Where none is said, bearer is what everyone means.
    let kind = answer.get("token_type").map_or("bearer", |kind| kind.as_str().unwrap_or_default());
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err("its answer has a token_type other than bearer");
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "its access_token has characters that a header can't carry")?;
    value.set_sensitive(true);
    let life = match answer.get("expires_in") {
        None | Some(Value::Null) => UNTOLD_LIFE,
        Some(told) => seconds(told).ok_or("its expires_in is not a number of seconds above 0")?,
    };
    Ok(Given { value, life: life.min(LONGEST_LIFE) })
}

/// A number of seconds above 0; some endpoints write it as a text.
fn seconds(told: &Value) -> Option<Duration> {
    let seconds = match told {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_LIFE))
}

/// The error that a bad answer names, if it is one of the standard's.
pub(super) fn named_error(body: &[u8]) -> Option<&'static str> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let named = answer.get("error")?.as_str()?;
    ERRORS.into_iter().find(|known| *known == named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(expires_in: &str) -> Result<Duration, &'static str> {
        given(format!(r#"{{"access_token":"a","token_type":"Bearer","expires_in":{expires_in}}}"#).as_bytes())
            .map(|given| given.life)
    }

    #[test]
    fn a_life_is_a_number_of_seconds_and_never_longer_than_a_day() {
        for (told, expected) in
            [("10", 10), ("\"3600\"", 3600), ("1e300", 86_400), ("99999999999999999999", 86_400), ("null", 300)]
        {
            assert_eq!(life(told), Ok(Duration::from_secs(expected)), "{told}");
        }
        for told in ["0", "-5", "\"soon\"", "[]", "\"NaN\""] {
            assert!(life(told).is_err(), "{told}");
        }
    }

    #[test]
    fn what_is_no_token_is_explained_without_repeating_it() {
        for (body, why) in [
            (&b" <!doctype html><p>s3cret"[..], "page"),
            (b"", "no JSON"),
            (b"\"s3cret\"", "no JSON object"),
            (b"{}", "no access_token"),
            (b"{\"access_token\":\"\"}", "no access_token"),
            (b"{\"access_token\":7}", "no access_token"),
            (b"{\"access_token\":\"s3cret\\n\"}", "can't carry"),
            (b"{\"access_token\":\"s3cret\",\"token_type\":\"mac\"}", "token_type"),
            (b"{\"access_token\":\"s3cret\",\"token_type\":null}", "token_type"),
        ] {
            let said = given(body).unwrap_err();
            assert!(said.contains(why) && !said.contains("s3cret"), "{said}");
        }
        assert!(!format!("{:?}", given(b"{\"access_token\":\"s3cret\"}").unwrap()).contains("s3cret"));
    }

    #[test]
    fn only_errors_of_the_standard_are_named() {
        assert_eq!(named_error(b"{\"error\":\"invalid_client\"}"), Some("invalid_client"));
        for body in [&b"{\"error\":\"s3cret is wrong\"}"[..], b"{\"error\":{}}", b"<html>", b""] {
            assert_eq!(named_error(body), None);
        }
    }
}
