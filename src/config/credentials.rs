//! `auth` of an upstream: what it is shown with each request, so that it answers.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{self, HeaderName, HeaderValue};
use secrecy::SecretString;
use url::Url;

use super::fields::Fields;
use super::headers;
use super::reader::{Reader, Shows};
use super::value::{Value, Wants, Wrong};

/// What an upstream is shown with each request to the origins of its sources.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// A header field; its value is marked as sensitive.
    Header(HeaderName, HeaderValue),
    /// A parameter of the URL's query.
    Query {
        /// Its name.
        name: String,
        /// Its value.
        value: SecretString,
    },
    /// An access token that is asked for first.
    OAuth2(Box<OAuth2>),
}

/// Where access tokens come from (RFC 6749 §4.4, client credentials).
#[derive(Clone)]
pub struct OAuth2 {
    /// The token endpoint.
    pub token_url: Url,
    /// Who asks.
    pub client_id: String,
    /// The proof of it.
    pub client_secret: SecretString,
    /// What for, if the endpoint wants to know.
    pub scope: Option<String>,
    /// Which resource the token is for, where the endpoint wants to know (not in the RFC; Auth0 and others).
    pub audience: Option<String>,
    /// Where id and secret are sent.
    pub sends: SendsSecret,
}

/// Where a token request has the client's id and secret (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendsSecret {
    /// In the Authorization header, which every endpoint must understand.
    InHeader,
    /// In the body, for endpoints that understand nothing else.
    InBody,
}

impl fmt::Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL's path and query may have a secret in them.
        f.debug_struct("OAuth2").field("origin", &self.token_url.origin().ascii_serialization()).finish_non_exhaustive()
    }
}

/// The ways to authenticate.
const WAYS: [&str; 5] = ["bearer", "basic", "header", "query", "oauth2"];

const OAUTH2: [&str; 6] = ["token_url", "client_id", "client_secret", "scope", "audience", "secret_in"];

/// Reads the table: one way.
pub(super) fn read(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<Credentials> {
    let fields = Fields::open(reader, value, wants, &WAYS)?;
    let mut given = WAYS.into_iter().filter(|way| fields.has(way));
    let Some(way) = given.next() else {
        reader.error(&fields.spot(), "no way to authenticate is set", wants.remedy());
        return None;
    };
    if let Some(other) = given.next() {
        reader.error(&fields.spot(), format!("{way} and {other} are both set"), "keep one of them");
        return None;
    }
    match way {
        "bearer" => fields.required(reader, way, bearer),
        "basic" => fields.required(reader, way, basic),
        "header" => fields.required(reader, way, header),
        "query" => fields.required(reader, way, query),
        _ => fields.required(reader, way, oauth2),
    }
}

fn bearer(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Credentials> {
    let wants = Wants { noun: "a token", example: "\"${env:TOKEN}\"" };
    let token = value.parsed(reader, &wants, |text| field(&format!("Bearer {}", some(text)?)))?;
    Some(Credentials::Header(header::AUTHORIZATION, token))
}

fn basic(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Credentials> {
    let wants = Wants { noun: "a user and a password", example: "{ user = \"me\", password = \"${env:PASSWORD}\" }" };
    let fields = Fields::open(reader, value, &wants, &["user", "password"])?;
    let user = fields.required(reader, "user", |reader, value| {
        let wants = Wants { noun: "the name of a user", example: "\"me\"" };
        value.parsed(reader, &wants, |text| {
            // RFC 7617 §2: what is before the first one is the user.
            if text.contains(':') {
                Err("a user's name can't have a `:` in it".into())
            } else {
                some(text).map(str::to_owned)
            }
        })
    });
    let password = fields.required(reader, "password", |reader, value| secret(reader, value).map(|text| text.text));
    let pair = BASE64.encode(format!("{}:{}", user?, password?));
    Some(Credentials::Header(header::AUTHORIZATION, field(&format!("Basic {pair}")).ok()?))
}

fn header(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Credentials> {
    let wants = Wants { noun: "a header", example: "{ name = \"x-api-key\", value = \"${env:API_KEY}\" }" };
    let fields = Fields::open(reader, value, &wants, &["name", "value"])?;
    let name = fields.required(reader, "name", |reader, value| {
        let wants = Wants { noun: "a header name", example: "\"x-api-key\"" };
        value.parsed(reader, &wants, headers::name)
    });
    let value = fields.required(reader, "value", |reader, value| {
        let wants = Wants { noun: "the value of a header", example: "\"${env:API_KEY}\"" };
        value.parsed(reader, &wants, |text| field(some(text)?))
    });
    Some(Credentials::Header(name?, value?))
}

fn query(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Credentials> {
    let wants =
        Wants { noun: "a parameter of the query", example: "{ name = \"api_key\", value = \"${env:API_KEY}\" }" };
    let fields = Fields::open(reader, value, &wants, &["name", "value"])?;
    let name = fields.required(reader, "name", |reader, value| {
        let wants = Wants { noun: "the name of a parameter", example: "\"api_key\"" };
        value.parsed(reader, &wants, |text| some(text).map(str::to_owned))
    });
    let value = fields.required(reader, "value", secret);
    Some(Credentials::Query { name: name?, value: value?.text.into() })
}

fn oauth2(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Credentials> {
    let wants = Wants {
        noun: "what a token request needs",
        example: "{ token_url = \"https://auth.example/token\", client_id = \"…\", client_secret = \"${env:SECRET}\" }",
    };
    let fields = Fields::open(reader, value, &wants, &OAUTH2)?;
    let text = |reader: &mut Reader<'_>, value: Value<'_>| secret(reader, value).map(|text| text.text);
    let token_url = fields.required(reader, "token_url", |reader, value| {
        let wants = Wants { noun: "the URL of a token endpoint", example: "\"https://auth.example/token\"" };
        let url = Value { shows: Shows::Url, ..value }.parsed(reader, &wants, endpoint)?;
        warn_of_plain_http(reader, &value, &url);
        Some(url)
    });
    let client_id = fields.required(reader, "client_id", text);
    let client_secret = fields.required(reader, "client_secret", text);
    let scope = fields.optional(reader, "scope", text);
    let audience = fields.optional(reader, "audience", text);
    let sends = fields.optional(reader, "secret_in", |reader, value| {
        let wants = Wants { noun: "where the client's secret is sent", example: "\"header\" or \"body\"" };
        value.parsed(reader, &wants, |text| match text {
            "header" => Ok(SendsSecret::InHeader),
            "body" => Ok(SendsSecret::InBody),
            _ => Err("neither header nor body".into()),
        })
    });
    Some(Credentials::OAuth2(Box::new(OAuth2 {
        token_url: token_url?,
        client_id: client_id?,
        client_secret: client_secret?.into(),
        scope: scope?,
        audience: audience?,
        sends: sends?.unwrap_or(SendsSecret::InHeader),
    })))
}

fn warn_of_plain_http(reader: &mut Reader<'_>, value: &Value<'_>, url: &Url) {
    if url.scheme() == "http" && !super::source::is_loopback(url) {
        let at = value.spot().named(value.path);
        reader.warn(&at, "the client's secret is sent without encryption", "use https");
    }
}

/// An https or http URL without user and fragment.
fn endpoint(text: &str) -> Result<Url, Wrong> {
    let url = Url::parse(text).map_err(|error| format!("not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("not an absolute http:// or https:// URL with a host".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::with_remedy("has a user or password in it", "use client_id and client_secret"));
    }
    if url.fragment().is_some() {
        return Err("a fragment (`#…`) is never sent to a server".into());
    }
    Ok(url)
}

/// A text that isn't empty.
fn secret(reader: &mut Reader<'_>, value: Value<'_>) -> Option<super::environment::Text> {
    let wants = Wants { noun: "a text that isn't empty", example: "\"${env:SECRET}\"" };
    let text = value.text(reader, &wants)?;
    value.parsed(reader, &wants, |text| some(text).map(drop))?;
    Some(text)
}

/// Not empty: an empty variable is an accident.
fn some(text: &str) -> Result<&str, Wrong> {
    if text.is_empty() { Err("is empty".into()) } else { Ok(text) }
}

fn field(text: &str) -> Result<HeaderValue, Wrong> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "has characters that a header can't carry")?;
    value.set_sensitive(true);
    Ok(value)
}
