//! URL templates (RFC 6570): where a resource is, without any key being able to say where the request goes.

use std::collections::BTreeSet;
use std::fmt;

use iri_string::spec::UriSpec;
use iri_string::template::UriTemplateString;
use iri_string::template::simple_context::{SimpleContext, Value};
use url::{Origin, Url};

use super::resource::{Key, Params};

/// The variable that stands for the key itself.
pub const KEY: &str = "key";

/// The variable that stands for the keys of a batch, with commas between them.
pub const KEYS: &str = "keys";

/// A template whose scheme, host and port are fixed, with plain (`{x}`) and query (`{?x,y}`, `{&x}`) expressions in path
/// and query. Values are percent-encoded, so that a key stays one path segment or one query value.
#[derive(Clone, PartialEq, Eq)]
pub struct UrlTemplate {
    template: UriTemplateString,
    variables: BTreeSet<String>,
    base: Url,
    origin: String,
    has_secret_path: bool,
}

impl fmt::Debug for UrlTemplate {
    /// The origin alone: path and query may have a credential in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlTemplate").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Why a text can't be a [`UrlTemplate`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// The braces or names in it are not RFC 6570.
    #[error("not a URI template (RFC 6570)")]
    Syntax,
    /// An expression that could change where the request goes.
    #[error(
        "`{{{0}…}}` could change host or path: only {{name}}, {{?name}} and {{&name}} are allowed, without modifiers"
    )]
    Operator(String),
    /// Variables in scheme, host or port.
    #[error("scheme, host and port must be written out, without variables")]
    VariableOrigin,
    /// Not an absolute http or https URL.
    #[error("must be an absolute http:// or https:// URL with a host")]
    NotHttp,
    /// A user or password in the URL.
    #[error("a user or password in the URL would show up in logs: send credentials in a header")]
    Credentials,
    /// A fragment, which is never sent.
    #[error("a fragment (`#…`) is never sent to a server")]
    Fragment,
}

/// Why no URL can be made for a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// A variable of the template has no value.
    #[error("the URL template's variable `{0}` has no value")]
    Missing(String),
    /// The expanded URL isn't the one that the template means (`..` as a path segment).
    #[error("with this key or parameter the URL's path would be another one (`.` and `..` are steps in a path)")]
    ChangesPath,
}

impl UrlTemplate {
    /// Checks and wraps a template.
    ///
    /// # Errors
    /// [`BadTemplate`] says which rule it breaks.
    pub fn new(text: &str) -> Result<Self, BadTemplate> {
        let template = UriTemplateString::try_from(text).map_err(|_| BadTemplate::Syntax)?;
        for expression in text.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
            if let Some(operator) = expression.chars().next().filter(|c| "+#./;".contains(*c)) {
                return Err(BadTemplate::Operator(operator.into()));
            }
            if expression.contains([':', '*']) {
                return Err(BadTemplate::Operator(expression.into()));
            }
        }
        if text.contains('#') {
            return Err(BadTemplate::Fragment);
        }
        let scheme_end = text.find("://").ok_or(BadTemplate::NotHttp)? + 3;
        let after_scheme = text.get(scheme_end..).unwrap_or_default();
        let authority = after_scheme.split(['/', '?']).next().unwrap_or_default();
        if text.get(..scheme_end).is_some_and(|scheme| scheme.contains('{')) || authority.contains('{') {
            return Err(BadTemplate::VariableOrigin);
        }
        let base = Url::parse(&format!("{}{authority}", text.get(..scheme_end).unwrap_or_default()))
            .map_err(|_| BadTemplate::NotHttp)?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(BadTemplate::NotHttp);
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(BadTemplate::Credentials);
        }
        let Origin::Tuple(..) = base.origin() else { return Err(BadTemplate::NotHttp) };
        let variables = template.variables().map(|name| name.as_str().to_owned()).collect();
        Ok(Self { template, variables, origin: base.origin().ascii_serialization(), base, has_secret_path: false })
    }

    /// The same, marked: some of it was put in from outside the configuration file, so that nobody is shown its path.
    #[must_use]
    pub fn with_secret_path(self) -> Self {
        Self { has_secret_path: true, ..self }
    }

    /// Whether no more than the origin of its URLs may be shown. Their queries never may.
    #[must_use]
    pub fn has_secret_path(&self) -> bool {
        self.has_secret_path
    }

    /// The template as text. It may have a credential in it: not to be shown.
    pub(super) fn text(&self) -> &str {
        self.template.as_str()
    }

    /// `scheme://host[:port]` of every URL that it makes.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The names of its variables.
    #[must_use]
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// The URL of a resource.
    ///
    /// # Errors
    /// [`BadUrl`] when a variable has no value, or a value would make it another path.
    pub fn expand(&self, key: &Key, params: &Params) -> Result<Url, BadUrl> {
        self.fill(&[key], params)
    }

    /// The one URL of many resources, by their keys.
    ///
    /// # Errors
    /// As [`expand`](Self::expand).
    pub fn expand_all(&self, keys: &[&Key]) -> Result<Url, BadUrl> {
        self.fill(keys, &Params::new())
    }

    /// Where one key is asked for, it is the first.
    fn fill(&self, keys: &[&Key], params: &Params) -> Result<Url, BadUrl> {
        let mut context = SimpleContext::new();
        for name in &self.variables {
            if name == KEYS && !params.contains_key(KEYS) {
                // A comma within a key is percent-encoded, those between them are not.
                context.insert(KEYS, Value::List(keys.iter().map(|key| key.as_str().to_owned()).collect()));
                continue;
            }
            let value = match params.get(name) {
                Some(value) => value.as_str(),
                None if name == KEY => keys.first().map_or("", |key| key.as_str()),
                None => return Err(BadUrl::Missing(name.clone())),
            };
            context.insert(name.as_str(), value);
        }
        let expanded = self.template.expand::<UriSpec, _>(&context).map_err(|_| BadUrl::ChangesPath)?.to_string();
        let url = Url::parse(&expanded).map_err(|_| BadUrl::ChangesPath)?;
        if url.path() != written_path(&expanded) || !has_origin_of(&url, &self.base) {
            return Err(BadUrl::ChangesPath);
        }
        Ok(url)
    }
}

/// Whether scheme, host and port are the same.
fn has_origin_of(url: &Url, base: &Url) -> bool {
    url.scheme() == base.scheme()
        && url.host() == base.host()
        && url.port_or_known_default() == base.port_or_known_default()
}

/// The path of a URL as it is written, before a parser resolves `.` and `..`.
fn written_path(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
    let from_path = after_scheme.find(['/', '?']).and_then(|start| after_scheme.get(start..)).unwrap_or_default();
    match from_path.split('?').next() {
        Some(path) if !path.is_empty() => path,
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(template: &str, key: &str) -> Result<String, BadUrl> {
        UrlTemplate::new(template).unwrap().expand(&Key::new(key).unwrap(), &Params::new()).map(String::from)
    }

    #[test]
    fn no_key_can_change_host_or_path() {
        let template = "https://api.example/users/{key}/profile";
        for (key, expected) in [
            ("1", "https://api.example/users/1/profile"),
            ("a/b", "https://api.example/users/a%2Fb/profile"),
            ("a b%", "https://api.example/users/a%20b%25/profile"),
            ("../../admin", "https://api.example/users/..%2F..%2Fadmin/profile"),
            ("?x=1#y", "https://api.example/users/%3Fx%3D1%23y/profile"),
            ("@evil.example", "https://api.example/users/%40evil.example/profile"),
            ("…🦆", "https://api.example/users/%E2%80%A6%F0%9F%A6%86/profile"),
        ] {
            assert_eq!(expand(template, key).unwrap(), expected);
        }
        assert_eq!(expand(template, ".."), Err(BadUrl::ChangesPath));
        assert_eq!(expand(template, "."), Err(BadUrl::ChangesPath));
        assert_eq!(expand("https://api.example/u?id={key}&p=/a", "..").unwrap(), "https://api.example/u?id=..&p=/a");
        assert_eq!(expand("https://api.example?id={key}&p=/a", "x/y").unwrap(), "https://api.example/?id=x%2Fy&p=/a");
        assert_eq!(expand("https://api.example/u{?key}", "a&b=c").unwrap(), "https://api.example/u?key=a%26b%3Dc");
    }

    #[test]
    fn templates_that_leave_the_target_open_are_refused() {
        for (template, error) in [
            ("https://{key}.example/", BadTemplate::VariableOrigin),
            ("https://api.example:{key}/", BadTemplate::VariableOrigin),
            ("{key}://api.example/", BadTemplate::VariableOrigin),
            ("https://api.example{key}", BadTemplate::VariableOrigin),
            ("https://api.example/{+key}", BadTemplate::Operator("+".into())),
            ("https://api.example/x{/key}", BadTemplate::Operator("/".into())),
            ("https://api.example/{key:3}", BadTemplate::Operator("key:3".into())),
            ("https://api.example/{key", BadTemplate::Syntax),
            ("https://api.example/#x", BadTemplate::Fragment),
            ("https://me:secret@api.example/{key}", BadTemplate::Credentials),
            ("ftp://api.example/{key}", BadTemplate::NotHttp),
            ("/users/{key}", BadTemplate::NotHttp),
            ("https:///users/{key}", BadTemplate::NotHttp),
        ] {
            assert_eq!(UrlTemplate::new(template), Err(error), "{template}");
        }
    }

    #[test]
    fn debugging_shows_the_origin_alone() {
        let template = UrlTemplate::new("https://api.example/s3cret/{key}?token=s3cret").unwrap();
        assert_eq!(format!("{template:?}"), "UrlTemplate { origin: \"https://api.example\", .. }");
    }

    #[test]
    fn many_keys_stand_in_one_url_and_each_stays_one() {
        let keys = ["1", "a,b", "c d&e=f", "…"].map(|key| Key::new(key).unwrap());
        for (template, expected) in [
            ("https://api.example/users?ids={keys}", "https://api.example/users?ids=1,a%2Cb,c%20d%26e%3Df,%E2%80%A6"),
            ("https://api.example/users{?keys}", "https://api.example/users?keys=1,a%2Cb,c%20d%26e%3Df,%E2%80%A6"),
            ("https://api.example/users/{keys}", "https://api.example/users/1,a%2Cb,c%20d%26e%3Df,%E2%80%A6"),
        ] {
            let template = UrlTemplate::new(template).unwrap();
            assert_eq!(template.expand_all(&keys.iter().collect::<Vec<_>>()).unwrap().as_str(), expected);
        }
        assert_eq!(
            expand("https://api.example/users?ids={keys}", "a,b").unwrap(),
            "https://api.example/users?ids=a%2Cb"
        );
        assert_eq!(expand("https://api.example/{keys}", ".."), Err(BadUrl::ChangesPath));
    }

    #[test]
    fn parameters_stand_for_other_variables() {
        let template = UrlTemplate::new("https://api.example/f?lat={lat}&lon={lon}").unwrap();
        let key = Key::new("berlin").unwrap();
        let params = Params::from([("lat".into(), "52.52".into())]);
        assert_eq!(template.expand(&key, &params), Err(BadUrl::Missing("lon".into())));
        let params = Params::from([("lat".into(), "52.52".into()), ("lon".into(), "13.4&x=1".into())]);
        assert_eq!(
            template.expand(&key, &params).unwrap().as_str(),
            "https://api.example/f?lat=52.52&lon=13.4%26x%3D1"
        );
    }
}
