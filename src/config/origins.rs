//! Origins of web pages.

use http::HeaderValue;
use url::Url;

use super::CorsOrigins;
use super::kinds::Kind;
use super::value::{Value, Wants, Wrong};

pub(super) static ORIGINS: Kind<CorsOrigins> = Kind {
    wants: Wants { noun: "a list of origins", example: "[\"https://app.example\"]" },
    read: |reader, value, wants| {
        let elements: Vec<_> = value.list(reader, wants)?.iter().map(|node| Value { node, ..value }).collect();
        let wants = Wants { noun: "an origin", example: "\"https://app.example\"" };
        let alone = elements.len() == 1;
        let origins = elements.into_iter().map(|element| element.parsed(reader, &wants, |text| origin(text, alone)));
        let origins: Vec<_> = origins.collect::<Vec<_>>().into_iter().collect::<Option<_>>()?;
        Some(if origins.iter().any(|origin| origin == "*") { CorsOrigins::All } else { CorsOrigins::These(origins) })
    },
};

/// An origin as browsers write it, since the two are compared byte by byte; or `*`.
fn origin(text: &str, alone: bool) -> Result<HeaderValue, Wrong> {
    if text == "*" && !alone {
        return Err(Wrong::with_remedy("stands for all origins, and others are listed beside it", "list it alone"));
    }
    if text != "*" && text.contains('*') {
        return Err(Wrong::with_remedy("a `*` can't be part of an origin", "list each origin"));
    }
    let url = (text != "*").then(|| Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https")));
    let written = match url {
        None => "*".to_owned(),
        Some(Some(url)) => url.origin().ascii_serialization(),
        Some(None) => return Err("not an origin: a scheme, http or https, and a host".into()),
    };
    if written != text {
        return Err(Wrong::with_remedy("not as browsers write it", format!("write {written:?}")));
    }
    HeaderValue::try_from(written).map_err(|_| "not an origin".into())
}
