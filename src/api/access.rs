//! Who may read, and who may administer (RFC 6750).
//!
//! | what | may be done with |
//! |---|---|
//! | reading a source that has `read_tokens`, also its changes alone | one of these, or an admin token |
//! | all other reading, also what is about no single source | one of the server's `read_tokens`, or an admin token; where the server has none, by anyone |
//! | administering | an admin token; where there are none, by anyone on this machine while `listen` is its own address, and through no proxy |
//!
//! What is about several sources shows those that the reader may read. A source that the config no longer has is for admin
//! tokens alone, since its own tokens went with it; only a config without any tokens shows it to all.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use http::{HeaderMap, HeaderName, header};
use secrecy::{ExposeSecret, SecretString};

use super::ApiState;
use super::cors::Cors;
use super::error::{ApiError, Forbidden};
use super::settings::Settings;
use crate::config;
use crate::domain::resource::SourceName;

/// What the config says about it. The default lets everyone read, and nobody administer.
#[derive(Debug, Clone, Default)]
pub struct Access {
    read: Tokens,
    admin: Tokens,
    /// Those of the sources that have tokens of their own.
    sources: BTreeMap<SourceName, Tokens>,
    /// Whether only this machine reaches us.
    on_this_machine: bool,
}

/// Tokens as their hashes: what is compared is then as long as all others, and each comparison takes the same time
/// ([`blake3::Hash`] sees to it), so that none tells how much of a guess was right.
#[derive(Clone, Default)]
struct Tokens(Vec<blake3::Hash>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

impl Tokens {
    fn of(tokens: &[SecretString]) -> Self {
        Self(tokens.iter().map(|token| blake3::hash(token.expose_secret().as_bytes())).collect())
    }

    fn are_none(&self) -> bool {
        self.0.is_empty()
    }

    fn have(&self, token: Option<blake3::Hash>) -> bool {
        let Some(token) = token else { return false };
        // All are looked at, whichever it is.
        self.0.iter().filter(|known| **known == token).count() > 0
    }
}

/// What a token is good for, whatever is asked with it.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// It is an admin token.
    admin: bool,
    /// It is some token of the config.
    known: bool,
}

impl Standing {
    /// Refuses a request.
    fn refuse(self) -> ApiError {
        if self.known { ApiError::Forbidden(Forbidden::OtherToken) } else { ApiError::Unauthorized }
    }
}

impl Access {
    /// What the config says: of the server, and of each source with its own read tokens, if it has any.
    #[must_use]
    pub fn of<'c>(
        server: &config::Server,
        sources: impl Iterator<Item = (&'c SourceName, &'c [SecretString])>,
    ) -> Self {
        let own = sources.filter(|(_, tokens)| !tokens.is_empty());
        Self {
            read: Tokens::of(&server.read_tokens),
            admin: Tokens::of(&server.admin_tokens),
            sources: own.map(|(name, tokens)| (name.clone(), Tokens::of(tokens))).collect(),
            on_this_machine: server.listen.ip().to_canonical().is_loopback(),
        }
    }

    fn has_no_tokens(&self) -> bool {
        self.read.are_none() && self.admin.are_none() && self.sources.is_empty()
    }

    fn standing(&self, token: Option<blake3::Hash>) -> Standing {
        let (admin, reads) = (self.admin.have(token), self.read.have(token));
        let of_a_source = self.sources.values().filter(|tokens| tokens.have(token)).count() > 0;
        Standing { admin, known: admin || reads || of_a_source }
    }

    /// Whether something may be read with this token: a source, or what is about no single one.
    fn read(&self, source: Option<&SourceName>, token: Option<blake3::Hash>) -> Result<Standing, ApiError> {
        let tokens = source.and_then(|source| self.sources.get(source)).unwrap_or(&self.read);
        let (standing, fits) = (self.standing(token), tokens.have(token));
        if tokens.are_none() || fits || standing.admin { Ok(standing) } else { Err(standing.refuse()) }
    }

    fn administer(&self, request: &HeaderMap, token: Option<blake3::Hash>, cors: &Cors) -> Result<(), ApiError> {
        if self.admin.are_none() {
            return self.administer_without_token(request, cors);
        }
        let standing = self.standing(token);
        if standing.admin { Ok(()) } else { Err(standing.refuse()) }
    }

    /// Whoever is on this machine could read and stop this process anyway. But a web page that someone on it looks at can
    /// send requests too, and browsers name its origin in all that change something (Fetch standard, §3.1). Only pages that
    /// the config names may; not those that merely may read because all may.
    fn administer_without_token(&self, request: &HeaderMap, cors: &Cors) -> Result<(), ApiError> {
        if !self.on_this_machine || FORWARDED.iter().any(|field| request.contains_key(field)) {
            Err(ApiError::Forbidden(Forbidden::NoAdminTokens))
        } else if !request.get_all(header::ORIGIN).iter().all(|origin| cors.names(origin)) {
            Err(ApiError::Forbidden(Forbidden::WebPage))
        } else {
            Ok(())
        }
    }
}

/// What a proxy adds to what it passes on: then who asks may be anywhere.
const FORWARDED: [HeaderName; 4] =
    [header::FORWARDED, header::VIA, HeaderName::from_static("x-forwarded-for"), HeaderName::from_static("x-real-ip")];

/// The token of a request, as its hash; `None` when there isn't exactly one.
fn presented(request: &HeaderMap) -> Option<blake3::Hash> {
    let mut fields = request.get_all(header::AUTHORIZATION).iter();
    let (field, None) = (fields.next()?, fields.next()) else { return None };
    // RFC 9110 §11.1: the scheme is case-insensitive; §11.4: spaces follow it.
    let (scheme, token) = field.as_bytes().split_at_checked("Bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer") && token.first() == Some(&b' ');
    is_bearer.then(|| blake3::hash(token.trim_ascii()))
}

/// Someone who may read what the request's path is about. As a layer of a router it keeps all others out.
#[derive(Clone)]
pub struct Reader {
    settings: Arc<Settings>,
    token: Option<blake3::Hash>,
}

impl Reader {
    /// Whether this source may be shown, where several are.
    #[must_use]
    pub fn sees(&self, source: &SourceName) -> bool {
        self.check(Some(source)).is_ok()
    }

    /// Whoever sends these header fields, allowed or not: for handlers that look themselves at what may be read.
    #[must_use]
    pub fn of(api: &ApiState, request: &HeaderMap) -> Self {
        Self { settings: api.settings(), token: presented(request) }
    }

    /// Refuses those who may not read this source, or, without one, what is about no single source.
    ///
    /// # Errors
    /// What to answer them with.
    pub fn check(&self, source: Option<&SourceName>) -> Result<(), ApiError> {
        let Settings { access, sources, .. } = self.settings.as_ref();
        let standing = access.read(source, self.token)?;
        match source {
            Some(source) if !(standing.admin || access.has_no_tokens() || sources.contains(source)) => {
                Err(ApiError::UnknownSource { source: source.to_string() })
            }
            _ => Ok(()),
        }
    }
}

impl FromRequestParts<ApiState> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, ApiError> {
        let reader = Self::of(api, &parts.headers);
        // A path that isn't text names no source: its handler says so, to those who may know.
        let parameters = RawPathParams::from_request_parts(parts, api).await.ok();
        let source = parameters.as_ref().and_then(|all| all.iter().find(|(name, _)| *name == "source"));
        reader.check(source.and_then(|(_, name)| SourceName::new(name).ok()).as_ref())?;
        Ok(reader)
    }
}

/// Someone who may administer. A handler that takes it is for nobody else.
#[derive(Debug, Clone, Copy)]
pub struct Admin;

impl FromRequestParts<ApiState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, ApiError> {
        let settings = api.settings();
        settings.access.administer(&parts.headers, presented(&parts.headers), &settings.cors)?;
        Ok(Self)
    }
}
