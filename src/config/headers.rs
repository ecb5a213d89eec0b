//! Header fields that a source sends.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use toml::Spanned;
use toml::de::{DeString, DeValue};

use super::reader::{Reader, Shows, Spot};
use super::value::{Value, Wants, Wrong, dotted};

/// Fields that are not the operator's to set, and why.
const REFUSED: &[(&[&str], &str, &str)] = &[
    (&["user-agent"], "the User-Agent has its own setting", "set `user_agent`"),
    (
        &["if-none-match", "if-modified-since", "if-match", "if-unmodified-since", "if-range", "range"],
        "Headpond makes its requests conditional itself",
        "leave it out",
    ),
    (&["accept-encoding"], "Headpond asks for the encodings that it can decompress", "leave it out"),
    (&["content-type"], "the type of a body has its own setting", "set `content_type`, or leave it out"),
    (&["host"], "the host is part of `url`", "leave it out"),
    (&["referer"], "a Referer would tell one upstream about another", "leave it out"),
    (
        &[
            "connection",
            "content-length",
            "expect",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ],
        "it belongs to the connection, not to the request",
        "leave it out",
    ),
];

/// Fields whose values are secret wherever they come from.
const SECRET: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-api-key"];

/// Reads a table of names and values.
pub(super) fn read(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<HeaderMap> {
    let table = value.table(reader, wants)?;
    let mut headers = HeaderMap::new();
    let mut complete = true;
    for (name, node) in table {
        match field(reader, value.path, name, node) {
            Some((name, value)) => _ = headers.insert(name, value),
            None => complete = false,
        }
    }
    // Names differ by case only: TOML takes them for two, HTTP for one.
    if complete && headers.len() < table.len() {
        reader.error(&value.spot(), "has a header twice, in upper and lower case", "write each header once");
        complete = false;
    }
    complete.then_some(headers)
}

/// The name of a field that may be set.
pub(super) fn name(text: &str) -> Result<HeaderName, Wrong> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| Wrong::with_remedy("not a header name", "write it like \"accept-language\""))?;
    match REFUSED.iter().find(|(names, ..)| names.contains(&name.as_str())) {
        Some((_, problem, remedy)) => Err(Wrong::with_remedy(*problem, *remedy)),
        None => Ok(name),
    }
}

fn field(
    reader: &mut Reader<'_>,
    path: &str,
    name: &Spanned<DeString<'_>>,
    node: &Spanned<DeValue<'_>>,
) -> Option<(HeaderName, HeaderValue)> {
    let path = dotted(path, name.get_ref());
    let value = Value { path: &path, shows: Shows::Secret, node };
    let at = Spot { path: path.clone(), span: name.span(), shows: Shows::Name };
    let name = match self::name(name.get_ref()) {
        Ok(name) => name,
        Err(Wrong { problem, remedy }) => {
            reader.error(&at, problem, remedy.unwrap_or_default());
            return None;
        }
    };
    let wants = Wants { noun: "the value of a header", example: "\"application/json\"" };
    let text = value.scalar(reader, &wants)?;
    let Ok(mut field) = HeaderValue::from_str(&text.text) else {
        reader.error(&value.spot(), "has characters that a header can't carry", "write visible ASCII in one line");
        return None;
    };
    field.set_sensitive(text.expanded || SECRET.contains(&name.as_str()));
    Some((name, field))
}

/// An upstream's fields with a source's put over them.
pub(super) fn merged(mut of_upstream: HeaderMap, of_source: HeaderMap) -> HeaderMap {
    for (name, value) in of_source {
        if let Some(name) = name {
            of_upstream.insert(name, value);
        }
    }
    of_upstream
}

/// The User-Agent for this machine, where nobody needs to be told whom to write to.
pub(super) fn own_user_agent() -> HeaderValue {
    HeaderValue::from_static(concat!("headpond/", env!("CARGO_PKG_VERSION")))
}
