//! Cache-Control as answers have it (RFC 9111 §5.2.2), with `stale-*` (RFC 5861). We are a shared cache.
//!
//! `immutable` (RFC 8246) isn't looked for: it asks that nobody revalidates what is fresh, and a lifetime always keeps the
//! schedule from asking while it lasts.
//!
//! Directives that contradict each other: the stricter counts, and of one that is given twice the first (§4.2.1).

use http::{HeaderMap, HeaderName, header};

use super::directive::{Directive, directives, split_outside_quotes};

/// A directive that is there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flag {
    NoStore,
    NoCache,
    Private,
    Public,
    MustUnderstand,
    /// Or `proxy-revalidate`, which is the same to a shared cache.
    MustRevalidate,
}

/// The directives of an answer. None of them where it has no such field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheControl {
    flags: Vec<Flag>,
    s_maxage: Option<u32>,
    max_age: Option<u32>,
    stale_while_revalidate: Option<u32>,
    stale_if_error: Option<u32>,
    /// The fields that `private="…"` and `no-cache="…"` name.
    restricted: Vec<HeaderName>,
}

impl CacheControl {
    /// Reads every Cache-Control field; a number of seconds that is no number counts as 0.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        for directive in values.flat_map(directives) {
            found.add(directive);
        }
        found
    }

    fn add(&mut self, directive: Directive<'_>) {
        let seconds = || directive.seconds().map_or(0, |span| u32::try_from(span.as_secs()).unwrap_or(u32::MAX));
        let fields = directive.argument.filter(|argument| !argument.is_empty());
        match directive.name.to_ascii_lowercase().as_str() {
            "s-maxage" => _ = self.s_maxage.get_or_insert_with(seconds),
            "max-age" => _ = self.max_age.get_or_insert_with(seconds),
            "stale-while-revalidate" => _ = self.stale_while_revalidate.get_or_insert_with(seconds),
            "stale-if-error" => _ = self.stale_if_error.get_or_insert_with(seconds),
            "no-store" => self.flags.push(Flag::NoStore),
            "public" => self.flags.push(Flag::Public),
            "must-understand" => self.flags.push(Flag::MustUnderstand),
            "must-revalidate" | "proxy-revalidate" => self.flags.push(Flag::MustRevalidate),
            // With an argument, these speak of single fields (§5.2.2.4, §5.2.2.7).
            "no-cache" | "private" if fields.is_some() => {
                let named = split_outside_quotes(fields.unwrap_or_default(), ',');
                self.restricted.extend(named.filter_map(|name| name.trim().parse::<HeaderName>().ok()));
            }
            "no-cache" => self.flags.push(Flag::NoCache),
            "private" => self.flags.push(Flag::Private),
            _ => {}
        }
    }

    fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// §5.2.2.3: who understands the status, as we do what we take as content, heeds `must-understand` and not `no-store`.
    fn no_store(&self) -> bool {
        self.has(Flag::NoStore) && !self.has(Flag::MustUnderstand)
    }

    /// The lifetime in seconds: `s-maxage` before `max-age` (§4.2.1), and none where the answer must not be reused.
    #[must_use]
    pub fn lifetime(&self) -> Option<u32> {
        if self.forbids_reuse() { None } else { self.s_maxage.or(self.max_age) }
    }

    /// Whether a shared cache may not answer with it again as it is.
    #[must_use]
    pub fn forbids_reuse(&self) -> bool {
        self.no_store() || self.has(Flag::NoCache) || self.has(Flag::Private)
    }

    /// Why a shared cache may not store the answer at all (§3), as the rest of a sentence that begins with "it"; `None` when
    /// it may. `authorized`: the request had an Authorization field.
    #[must_use]
    pub fn keeps_from_storing(&self, authorized: bool) -> Option<&'static str> {
        // §3.5.
        let is_shared = self.has(Flag::Public) || self.has(Flag::MustRevalidate) || self.s_maxage.is_some();
        if self.no_store() {
            Some("says no-store")
        } else if self.has(Flag::Private) {
            Some("says private")
        } else if authorized && !is_shared {
            Some("answers a request with Authorization and says neither public nor must-revalidate nor s-maxage")
        } else {
            None
        }
    }

    /// Whether it is not to be answered with without asking first (§5.2.2.4).
    #[must_use]
    pub fn no_cache(&self) -> bool {
        self.has(Flag::NoCache)
    }

    /// Whether it is not to be answered with when it is stale: `must-revalidate` (§5.2.2.2), `proxy-revalidate` (§5.2.2.8),
    /// and `s-maxage`, which says the same (§5.2.2.10).
    #[must_use]
    pub fn forbids_stale(&self) -> bool {
        self.has(Flag::MustRevalidate) || self.s_maxage.is_some()
    }

    /// For how many seconds after it has become stale it may be answered while it is asked for again (RFC 5861 §3).
    #[must_use]
    pub fn stale_while_revalidate(&self) -> u32 {
        self.stale_while_revalidate.unwrap_or_default()
    }

    /// For how many seconds after it has become stale it may be answered because asking ended in an error (RFC 5861 §4).
    #[must_use]
    pub fn stale_if_error(&self) -> u32 {
        self.stale_if_error.unwrap_or_default()
    }

    /// The fields that a shared cache leaves out when it stores the answer, or that it may not repeat without asking; both
    /// are the same to us, who leave them out.
    #[must_use]
    pub fn restricted(&self) -> &[HeaderName] {
        &self.restricted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn control(values: &[&str]) -> CacheControl {
        let field = |value: &&str| (header::CACHE_CONTROL, HeaderValue::from_str(value).unwrap());
        let mut headers = HeaderMap::new();
        values.iter().map(field).for_each(|(name, value)| _ = headers.append(name, value));
        CacheControl::of(&headers)
    }

    #[test]
    fn of_conflicting_directives_the_stricter_counts() {
        for (values, lifetime, unstorable, forbids_stale) in [
            (&["max-age=600"][..], Some(600), false, false),
            (&["max-age=600, no-cache"], None, false, false),
            (&["max-age=600, no-store, public"], None, true, false),
            (&["public, private, max-age=600"], None, true, false),
            (&["max-age=600", "NO-STORE"], None, true, false),
            (&["max-age=600, s-maxage=0"], Some(0), false, true),
            (&["s-maxage=60", "max-age=600"], Some(60), false, true),
            (&["max-age=600, max-age=60"], Some(600), false, false),
            (&["max-age=600, must-revalidate, stale-if-error=60"], Some(600), false, true),
            (&["max-age=600, proxy-revalidate"], Some(600), false, true),
            (&["no-store, must-understand, max-age=600"], Some(600), false, false),
            (&["max-age=ten, max-age=600"], Some(0), false, false),
        ] {
            let control = control(values);
            assert_eq!(control.lifetime(), lifetime, "{values:?}");
            assert_eq!(control.keeps_from_storing(false).is_some(), unstorable, "{values:?}");
            assert_eq!(control.forbids_stale(), forbids_stale, "{values:?}");
        }
    }

    #[test]
    fn an_answer_to_authorization_is_stored_only_if_it_says_that_it_may_be_shared() {
        for (value, storable) in [
            ("max-age=600", false),
            ("", false),
            ("public, max-age=600", true),
            ("must-revalidate, max-age=600", true),
            ("s-maxage=600", true),
            ("s-maxage=600, no-store", false),
        ] {
            assert_eq!(control(&[value]).keeps_from_storing(true).is_none(), storable, "{value}");
        }
    }

    #[test]
    fn with_an_argument_no_cache_and_private_speak_of_single_fields() {
        let control = control(&["private=\"Content-Language, x y\", max-age=600, no-cache=content-disposition"]);
        assert_eq!(control.restricted(), [header::CONTENT_LANGUAGE, header::CONTENT_DISPOSITION]);
        assert_eq!((control.lifetime(), control.keeps_from_storing(false)), (Some(600), None));
    }

    #[test]
    fn windows_that_are_no_number_are_none() {
        let control = control(&["stale-while-revalidate=-5, stale-if-error"]);
        assert_eq!((control.stale_while_revalidate(), control.stale_if_error()), (0, 0));
    }
}
