//! What a source asks for, as a number: whether a changed configuration asks for something else.

use http::HeaderMap;

use super::content::{BodyRules, ContentKind};
use super::policy::Heed;
use super::snapshot::ContentHash;
use super::template::UrlTemplate;

/// A number for everything that decides what content a key has: the URL template, the header fields, what a body must be,
/// which part of it is kept and what of that counts, and what is kept with it of the upstream's terms. While it stays, validators may be sent again; when it differs, they were given for something else, and a 304 to
/// them would hide what is there now.
///
/// It is stored. So values of secret header fields are left out (a credential rotates and stands for the same client), and
/// of a URL that was put in from outside the configuration file, which may have a secret in it, 16 bits are kept: too few
/// to find it by, and they miss one change in 65,536.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fingerprint(pub i64);

impl Fingerprint {
    /// The fingerprint of a source that asks these URLs with these fields, and keeps what these rules say.
    #[must_use]
    pub fn of(url: &UrlTemplate, headers: &HeaderMap, body: &BodyRules, heeded: Heed) -> Self {
        let mut fields: Vec<(&[u8], &[u8])> = headers
            .iter()
            .map(|(name, value)| {
                (name.as_str().as_bytes(), if value.is_sensitive() { &b""[..] } else { value.as_bytes() })
            })
            .collect();
        fields.sort_unstable();
        // How many fields there are tells them from the paths.
        let count = fields.len().to_le_bytes();
        let mut parts = vec![url.text().as_bytes(), &count];
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
        if url.has_secret_path() {
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
    use crate::domain::content::JsonPath;
    use http::{HeaderName, HeaderValue};

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

    fn ignoring(ignore: &[&str]) -> BodyRules {
        BodyRules { ignore_changes_in: paths(ignore), ..BodyRules::default() }
    }

    fn of(url: &str, headers: &[(&'static str, &'static str)], ignore: &[&str]) -> Fingerprint {
        Fingerprint::of(&UrlTemplate::new(url).unwrap(), &fields(headers), &ignoring(ignore), Heed::Schedule)
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
        let of = |rules: &BodyRules, heeded| Fingerprint::of(&url, &HeaderMap::new(), rules, heeded);
        let rules = |data: &[&str], drop: &[&str], ignore: &[&str], kind| BodyRules {
            kind,
            data: paths(data).pop(),
            drop: paths(drop),
            ignore_changes_in: paths(ignore),
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
    fn the_order_of_fields_and_the_value_of_a_secret_make_none() {
        let same = of(URL, &[("accept", "*/*"), ("authorization", "Bearer a")], &[]);
        assert_eq!(of(URL, &[("authorization", "Bearer b"), ("accept", "*/*")], &[]), same);
    }

    #[test]
    fn of_what_may_be_a_secret_no_more_than_16_bits_are_kept() {
        let secret = |text: &str| UrlTemplate::new(text).unwrap().with_secret_path();
        let hidden = Fingerprint::of(
            &secret("https://api.example/s3cret/{key}"),
            &HeaderMap::new(),
            &BodyRules::default(),
            Heed::Schedule,
        );
        assert!((0..=0xffff).contains(&hidden.0), "{hidden:?}");
        assert_ne!(
            Fingerprint::of(
                &secret("https://api.example/other/{key}"),
                &HeaderMap::new(),
                &BodyRules::default(),
                Heed::Schedule
            ),
            hidden
        );
    }
}
