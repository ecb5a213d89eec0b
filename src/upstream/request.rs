//! The header fields that a request carries.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::config::RequestSettings;
use crate::domain::validators::Validators;

/// What the client can decompress.
const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("gzip, br, zstd");

/// Configured fields whose values can't be secret. All others are taken for secrets: who knows what `X-Whatever` is.
const HARMLESS: [HeaderName; 6] = [
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::FROM,
    header::USER_AGENT,
];

/// The fields of a request: what is configured, and the validators byte for byte as the upstream sent them.
pub(super) fn headers(settings: &RequestSettings, validators: Option<&Validators>) -> HeaderMap {
    let mut headers = settings.headers.clone();
    for (name, value) in &mut headers {
        if !HARMLESS.contains(name) {
            value.set_sensitive(true);
        }
    }
    headers.insert(header::USER_AGENT, settings.user_agent.clone());
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.entry(header::ACCEPT_ENCODING).or_insert(ACCEPT_ENCODING);
    if let Some(validators) = validators {
        // If-Modified-Since goes along even where there is an ETag: who understands If-None-Match ignores it (RFC 9110
        // §13.1.3), and some upstreams understand nothing else. It is never a date of our own: clocks differ.
        set(&mut headers, header::IF_NONE_MATCH, validators.etag.as_deref());
        set(&mut headers, header::IF_MODIFIED_SINCE, validators.last_modified.as_deref());
    }
    headers
}

/// Of these fields those that go to another origin, too: nothing that is configured but who asks and for what. Validators are
/// among them, as they came from where the redirect led the last time.
pub(super) fn for_elsewhere(headers: &HeaderMap) -> HeaderMap {
    let kept =
        [header::ACCEPT, header::ACCEPT_ENCODING, header::USER_AGENT, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE];
    kept.into_iter().filter_map(|name| Some((name.clone(), headers.get(&name)?.clone()))).collect()
}

/// Whether these fields ask for an answer only if something has changed.
pub(super) fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(header::IF_NONE_MATCH) || headers.contains_key(header::IF_MODIFIED_SINCE)
}

/// Sets a field; one that can't be sent (a line break in it, from a damaged database) is left out.
fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<&[u8]>) {
    if let Some(value) = value.and_then(|bytes| HeaderValue::from_bytes(bytes).ok()) {
        headers.insert(name, value);
    }
}

/// Header fields for a person to read, one for each value; secrets are replaced by `(hidden)`.
pub fn shown(headers: &HeaderMap) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    headers.iter().map(|(name, value)| {
        let text =
            if value.is_sensitive() { Cow::Borrowed("(hidden)") } else { String::from_utf8_lossy(value.as_bytes()) };
        (name.as_str(), text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::time::Duration;

    fn settings(headers: &[(&'static str, &'static str)]) -> RequestSettings {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        RequestSettings {
            method: http::Method::GET,
            body: None,
            redirect_hosts: Vec::new(),
            headers: headers.iter().map(pair).collect(),
            user_agent: HeaderValue::from_static("test/1"),
            limit_phrases: Vec::new(),
            timeout: Duration::from_secs(1),
            max_body: 1,
        }
    }

    fn validators(etag: Option<&'static [u8]>, last_modified: Option<&'static [u8]>) -> Validators {
        Validators { etag: etag.map(Bytes::from_static), last_modified: last_modified.map(Bytes::from_static) }
    }

    #[test]
    fn validators_are_sent_as_the_bytes_that_came() {
        for etag in [&b"\"a\""[..], b"W/\"a\"", b"unquoted", b"\"\xff\xfe\""] {
            let sent = headers(&settings(&[]), Some(&validators(Some(etag), Some(b"Thu, 1 Jan"))));
            assert_eq!(sent[header::IF_NONE_MATCH].as_bytes(), etag);
            assert_eq!(sent[header::IF_MODIFIED_SINCE].as_bytes(), b"Thu, 1 Jan");
            assert!(is_conditional(&sent));
        }
    }

    #[test]
    fn a_validator_that_can_not_be_sent_is_left_out() {
        let sent = headers(&settings(&[]), Some(&validators(Some(b"a\r\nX-Evil: 1"), Some(b"Thu"))));
        assert!(!sent.contains_key(header::IF_NONE_MATCH));
        assert!(is_conditional(&sent), "the other one is sent all the same");
        assert!(!is_conditional(&headers(&settings(&[]), Some(&validators(Some(b"\n"), None)))));
        assert!(!is_conditional(&headers(&settings(&[]), None)));
    }

    #[test]
    fn a_configured_accept_stands_and_the_default_takes_anything() {
        assert_eq!(headers(&settings(&[]), None)[header::ACCEPT], "*/*");
        let json = settings(&[("accept", "application/json"), ("accept-encoding", "identity")]);
        assert_eq!(headers(&json, None)[header::ACCEPT], "application/json");
        assert_eq!(headers(&json, None)[header::ACCEPT_ENCODING], "identity");
    }

    #[test]
    fn secrets_are_neither_shown_nor_in_debug() {
        let settings =
            settings(&[("authorization", "Bearer s3cret"), ("x-api-key", "s3cret"), ("from", "ops@x.example")]);
        let sent = headers(&settings, None);
        let shown: std::collections::BTreeMap<_, _> = shown(&sent).collect();
        assert_eq!((&*shown["authorization"], &*shown["x-api-key"]), ("(hidden)", "(hidden)"));
        assert_eq!((&*shown["from"], &*shown["user-agent"]), ("ops@x.example", "test/1"));
        assert!(!format!("{sent:?}").contains("s3cret"));
    }
}
