//! What a source asks for, as a number: whether a changed configuration asks for something else.

use http::{HeaderMap, HeaderValue, Method};

use super::body_template::BodyTemplate;
use super::content::JsonPath;
use super::snapshot::ContentHash;
use super::template::UrlTemplate;

/// A number for everything that decides what content a key has: the method, the URL template, the header fields, the body
/// that is sent, and what of the body that comes counts. While it stays, validators may be sent again; when it differs, they were given for something else, and a 304 to
/// them would hide what is there now.
///
/// It is stored. So values of secret header fields are left out (a credential rotates and stands for the same client), and
/// where a URL or a body was put in from outside the configuration file, so that it may have a secret in it, 16 bits are
/// kept: too few to find it by, and they miss one change in 65,536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint(pub i64);

impl Fingerprint {
    /// The fingerprint of a source that asks these URLs in this way, with these fields and this body of that media type, and
    /// leaves these parts of the bodies that come out.
    #[must_use]
    pub fn of(
        method: &Method,
        url: &UrlTemplate,
        headers: &HeaderMap,
        body: Option<(&BodyTemplate, &HeaderValue)>,
        ignore_changes_in: &[JsonPath],
    ) -> Self {
        let mut fields: Vec<(&[u8], &[u8])> = headers
            .iter()
            .map(|(name, value)| {
                (name.as_str().as_bytes(), if value.is_sensitive() { &b""[..] } else { value.as_bytes() })
            })
            .collect();
        fields.sort_unstable();
        // How many fields there are tells them from the paths.
        let count = fields.len().to_le_bytes();
        let (sent, content_type) =
            body.map_or((&b""[..], &b""[..]), |(body, media)| (body.text().as_bytes(), media.as_bytes()));
        let mut parts = vec![method.as_str().as_bytes(), url.text().as_bytes(), sent, content_type, &count];
        parts.extend(fields.into_iter().flat_map(|(name, value)| [name, value]));
        parts.extend(ignore_changes_in.iter().map(|path| path.as_str().as_bytes()));
        let ContentHash(hash) = ContentHash::of(&parts);
        let [first, second, rest @ ..] = hash;
        let mut kept = [0; 8];
        if url.has_secret_path() || body.is_some_and(|(body, _)| body.is_secret()) {
            (kept[0], kept[1]) = (first, second);
        } else {
            kept.copy_from_slice(&rest[..8]);
        }
        Self(i64::from_le_bytes(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::body_template::Language;
    use http::HeaderName;

    const URL: &str = "https://api.example/users/{key}";

    fn fields(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let mut field = HeaderValue::from_static(value);
            field.set_sensitive(*name == "authorization");
            (HeaderName::from_static(name), field)
        };
        all.iter().map(pair).collect()
    }

    fn asked(url: &UrlTemplate, headers: &HeaderMap, ignore: &[JsonPath]) -> Fingerprint {
        Fingerprint::of(&Method::GET, url, headers, None, ignore)
    }

    fn posted(body: &BodyTemplate, content_type: &'static str) -> Fingerprint {
        let content_type = HeaderValue::from_static(content_type);
        let url = UrlTemplate::new(URL).unwrap();
        Fingerprint::of(&Method::POST, &url, &HeaderMap::new(), Some((body, &content_type)), &[])
    }

    fn text(body: &str) -> BodyTemplate {
        BodyTemplate::new(body, Language::Text).unwrap()
    }

    fn of(url: &str, headers: &[(&'static str, &'static str)], ignore: &[&str]) -> Fingerprint {
        let ignore: Vec<_> = ignore.iter().map(|path| JsonPath::new(*path).unwrap()).collect();
        asked(&UrlTemplate::new(url).unwrap(), &fields(headers), &ignore)
    }

    #[test]
    fn whatever_decides_the_content_makes_another_one() {
        let headers = [("accept", "text/plain"), ("x-tenant", "5"), ("authorization", "Bearer a")];
        let same = of(URL, &headers, &["$.a", "$.b"]);
        for other in [
            of("https://api.example/v2/users/{key}", &headers, &["$.a", "$.b"]),
            of(URL, &[("accept", "text/html"), headers[1], headers[2]], &["$.a", "$.b"]),
            of(URL, &headers[..2], &["$.a", "$.b"]),
            of(URL, &headers, &["$.a"]),
            of(URL, &headers, &[]),
            of(URL, &[], &["accept", "text/plain"].map(|_| "$.a")),
        ] {
            assert_ne!(other, same);
        }
    }

    #[test]
    fn the_method_and_the_body_with_its_media_type_make_another_one() {
        let url = UrlTemplate::new(URL).unwrap();
        let posts_nothing = Fingerprint::of(&Method::POST, &url, &HeaderMap::new(), None, &[]);
        assert_ne!(posts_nothing, of(URL, &[], &[]));
        let same = posted(&text("q={key}"), "text/plain");
        assert_eq!(posted(&text("q={key}"), "text/plain"), same);
        for other in [posts_nothing, posted(&text("p={key}"), "text/plain"), posted(&text("q={key}"), "text/csv")] {
            assert_ne!(other, same);
        }
    }

    #[test]
    fn the_order_of_fields_and_the_value_of_a_secret_make_none() {
        let same = of(URL, &[("accept", "*/*"), ("authorization", "Bearer a")], &[]);
        assert_eq!(of(URL, &[("authorization", "Bearer b"), ("accept", "*/*")], &[]), same);
    }

    #[test]
    fn of_what_may_be_a_secret_no_more_than_16_bits_are_kept() {
        let secret = |text: &str| UrlTemplate::new(text).unwrap().with_secret_path();
        let hidden = asked(&secret("https://api.example/s3cret/{key}"), &HeaderMap::new(), &[]);
        assert!((0..=0xffff).contains(&hidden.0), "{hidden:?}");
        assert_ne!(asked(&secret("https://api.example/other/{key}"), &HeaderMap::new(), &[]), hidden);
        let hidden = posted(&text("s3cret {key}").with_secret(), "text/plain");
        assert!((0..=0xffff).contains(&hidden.0), "{hidden:?}");
        assert_ne!(posted(&text("other {key}").with_secret(), "text/plain"), hidden);
    }
}
