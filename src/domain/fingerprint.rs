//! What a source asks for, as a number: whether a changed configuration asks for something else.

use http::{HeaderMap, HeaderValue, Method};

use super::body_template::BodyTemplate;
use super::content::{BodyRules, ContentKind};
use super::policy::Heed;
use super::snapshot::ContentHash;
use super::template::UrlTemplate;

/// A number for everything that decides what content a key has: how it is asked for, what the body that comes must be, which
/// part of it is kept and what of that counts, and what is kept with it of the upstream's terms. While it stays, validators
/// may be sent again; when it differs, they were given for something else, and a 304 to them would hide what is there now.
///
/// It is stored. So values of secret header fields are left out (a credential rotates and stands for the same client), and
/// where a URL or a body was put in from outside the configuration file, so that it may have a secret in it, 16 bits are
/// kept: too few to find it by, and they miss one change in 65,536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint(pub i64);

/// How a source asks.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// Where its resources are.
    pub url: &'a UrlTemplate,
    /// The header fields that are sent.
    pub headers: &'a HeaderMap,
    /// The body that is sent, and its media type.
    pub sent: Option<(&'a BodyTemplate, &'a HeaderValue)>,
}

impl Fingerprint {
    /// The fingerprint of a source that asks so, and keeps what these rules say.
    #[must_use]
    pub fn of(asked: &Asked<'_>, body: &BodyRules, heeded: Heed) -> Self {
        let Asked { method, url, headers, sent } = *asked;
        let mut fields: Vec<(&[u8], &[u8])> = headers
            .iter()
            .map(|(name, value)| {
                (name.as_str().as_bytes(), if value.is_sensitive() { &b""[..] } else { value.as_bytes() })
            })
            .collect();
        fields.sort_unstable();
        // How many fields there are tells them from the paths.
        let count = fields.len().to_le_bytes();
        let (text, content_type) =
            sent.map_or((&b""[..], &b""[..]), |(sent, media)| (sent.text().as_bytes(), media.as_bytes()));
        let mut parts = vec![method.as_str().as_bytes(), url.text().as_bytes(), text, content_type, &count];
        parts.extend(fields.into_iter().flat_map(|(name, value)| [name, value]));
        // So do the numbers of paths tell these from each other.
        let (kept, dropped) = (body.data.iter().count().to_le_bytes(), body.drop.len().to_le_bytes());
        parts.extend([&kept[..], &dropped]);
        let paths = body.data.iter().chain(&body.drop).chain(&body.ignore_changes_in);
        parts.extend(paths.map(|path| path.as_str().as_bytes()));
        parts.extend([body.kind.map_or("", ContentKind::as_str).as_bytes(), heeded.as_str().as_bytes()]);
        let ContentHash(hash) = ContentHash::of(&parts);
        let [first, second, rest @ ..] = hash;
        let mut kept = [0; 8];
        if url.has_secret_path() || sent.is_some_and(|(sent, _)| sent.is_secret()) {
            (kept[0], kept[1]) = (first, second);
        } else {
            kept.copy_from_slice(&rest[..8]);
        }
        Self(i64::from_le_bytes(kept))
    }

    /// That of what is asked for in the same way, and with this besides, which is no secret.
    #[must_use]
    pub fn with(self, more: &str) -> Self {
        let ContentHash(hash) = ContentHash::of(&[&self.0.to_le_bytes(), more.as_bytes()]);
        let mut kept = [0; 8];
        kept.copy_from_slice(&hash[..8]);
        Self(i64::from_le_bytes(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::body_template::Language;
    use crate::domain::content::JsonPath;
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

    fn paths(paths: &[&str]) -> Vec<JsonPath> {
        paths.iter().map(|path| JsonPath::new(*path).unwrap()).collect()
    }

    fn keeping(asked: &Asked<'_>, ignore: &[&str]) -> Fingerprint {
        let rules = BodyRules { ignore_changes_in: paths(ignore), ..BodyRules::default() };
        Fingerprint::of(asked, &rules, Heed::Schedule)
    }

    fn asked(url: &UrlTemplate, headers: &HeaderMap, ignore: &[&str]) -> Fingerprint {
        keeping(&Asked { method: &Method::GET, url, headers, sent: None }, ignore)
    }

    fn posted(body: Option<(&BodyTemplate, &'static str)>) -> Fingerprint {
        let content_type = HeaderValue::from_static(body.map_or("", |(_, media)| media));
        let sent = body.map(|(body, _)| (body, &content_type));
        let url = UrlTemplate::new(URL).unwrap();
        keeping(&Asked { method: &Method::POST, url: &url, headers: &HeaderMap::new(), sent }, &[])
    }

    fn text(body: &str) -> BodyTemplate {
        BodyTemplate::new(body, Language::Text).unwrap()
    }

    fn of(url: &str, headers: &[(&'static str, &'static str)], ignore: &[&str]) -> Fingerprint {
        asked(&UrlTemplate::new(url).unwrap(), &fields(headers), ignore)
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
    fn whatever_decides_what_is_kept_of_a_body_makes_another_one() {
        let url = UrlTemplate::new(URL).unwrap();
        let asked = Asked { method: &Method::GET, url: &url, headers: &HeaderMap::new(), sent: None };
        let of = |rules: &BodyRules, heeded| Fingerprint::of(&asked, rules, heeded);
        let rules = |data: &[&str], drop: &[&str], ignore: &[&str], kind| BodyRules {
            kind,
            data: paths(data).pop(),
            drop: paths(drop),
            ignore_changes_in: paths(ignore),
            table: None,
        };
        let all = [
            of(&rules(&[], &[], &[], None), Heed::Schedule),
            of(&rules(&[], &[], &[], None), Heed::Respect),
            of(&rules(&[], &[], &[], Some(ContentKind::Json)), Heed::Schedule),
            of(&rules(&[], &[], &[], Some(ContentKind::Text)), Heed::Schedule),
            of(&rules(&["$.a"], &[], &[], None), Heed::Schedule),
            of(&rules(&[], &["$.a"], &[], None), Heed::Schedule),
            of(&rules(&[], &[], &["$.a"], None), Heed::Schedule),
            of(&rules(&[], &["$.a", "$.b"], &[], None), Heed::Schedule),
            of(&rules(&[], &["$.a"], &["$.b"], None), Heed::Schedule),
        ];
        let different: std::collections::HashSet<_> = all.iter().map(|one| one.0).collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn the_method_and_the_body_with_its_media_type_make_another_one() {
        let posts_nothing = posted(None);
        assert_ne!(posts_nothing, of(URL, &[], &[]));
        let (q, p) = (text("q={key}"), text("p={key}"));
        let same = posted(Some((&q, "text/plain")));
        assert_eq!(posted(Some((&q, "text/plain"))), same);
        for other in [posts_nothing, posted(Some((&p, "text/plain"))), posted(Some((&q, "text/csv")))] {
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
        let hidden = posted(Some((&text("s3cret {key}").with_secret(), "text/plain")));
        assert!((0..=0xffff).contains(&hidden.0), "{hidden:?}");
        assert_ne!(posted(Some((&text("other {key}").with_secret(), "text/plain"))), hidden);
    }
}
