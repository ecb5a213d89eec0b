//! What an upstream is shown with each request: the configured credentials, or an access token that they buy.

mod answer;
mod endpoint;
mod tokens;

use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::gate::{Gate, NoPass};
use crate::clock::Clock;
use crate::config::{Credentials, Upstream};
use crate::domain::failure::Failure;
use endpoint::{Endpoint, LONGEST_TIMEOUT};
use tokens::{AccessToken, Tokens};

/// Has what an upstream is shown.
#[derive(Debug, Clone)]
pub(super) enum Auth {
    /// The same each time.
    Fixed(Shown),
    /// A token, as long as it lives.
    Tokens(Arc<Tokens>),
}

/// What one request shows. It goes to the origins of the config alone.
#[derive(Clone)]
pub(super) enum Shown {
    Nothing,
    Field(HeaderName, HeaderValue),
    Parameter { name: String, value: SecretString },
    Token(AccessToken),
}

/// Why there is nothing to show.
pub(super) enum NoToken {
    /// No token could be had.
    Failed(Failure),
    /// It would have taken a request to the upstream itself, which may not be sent.
    NoPass(NoPass),
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Field(..) => "Field",
            Self::Parameter { .. } => "Parameter",
            Self::Token(_) => "Token",
        })
    }
}

impl Auth {
    /// For the upstream of this name, whose token endpoint is asked by this client.
    pub(super) fn new(name: &str, upstream: &Upstream, client: &Client, clock: &Arc<dyn Clock>) -> Self {
        match &upstream.credentials {
            Credentials::None => Self::Fixed(Shown::Nothing),
            Credentials::Header(name, value) => Self::Fixed(Shown::Field(name.clone(), value.clone())),
            Credentials::Query { name, value } => {
                Self::Fixed(Shown::Parameter { name: name.clone(), value: value.clone() })
            }
            Credentials::OAuth2(settings) => {
                let endpoint = Endpoint {
                    upstream: name.to_owned(),
                    settings: (**settings).clone(),
                    client: client.clone(),
                    timeout: upstream.longest_timeout.min(LONGEST_TIMEOUT),
                };
                Self::Tokens(Arc::new(Tokens::new(endpoint, Arc::clone(clock))))
            }
        }
    }

    /// What to show to `url` now.
    ///
    /// # Errors
    /// [`NoToken`] when a token is needed and none can be had.
    pub(super) async fn shown(&self, url: &Url, gate: &dyn Gate) -> Result<Shown, NoToken> {
        match self {
            Self::Fixed(shown) => Ok(shown.clone()),
            Self::Tokens(tokens) => tokens.get(url, gate).await.map(Shown::Token),
        }
    }

    /// What to show after a 401 to `refused`; `None` when there is nothing else.
    ///
    /// # Errors
    /// As [`shown`](Self::shown).
    pub(super) async fn after(&self, refused: &Shown, url: &Url, gate: &dyn Gate) -> Result<Option<Shown>, NoToken> {
        match (self, refused) {
            (Self::Tokens(tokens), Shown::Token(token)) => {
                Ok(tokens.another(token, url, gate).await?.map(Shown::Token))
            }
            _ => Ok(None),
        }
    }

    /// Takes out of a URL that the upstream sent what is shown in URLs.
    pub(super) fn take_out_of(&self, url: &mut Url) {
        if let Self::Fixed(shown) = self {
            shown.take_out_of(url);
        }
    }

    /// Notes that the upstream took what was shown.
    pub(super) fn was_taken(&self, shown: &Shown) {
        if let (Self::Tokens(tokens), Shown::Token(token)) = (self, shown) {
            tokens.was_taken(token);
        }
    }
}

impl Shown {
    /// Puts itself into a request.
    pub(super) fn put_into(&self, url: &mut Url, headers: &mut HeaderMap) {
        match self {
            Self::Nothing => {}
            Self::Field(name, value) => _ = headers.insert(name, value.clone()),
            Self::Token(token) => _ = headers.insert(header::AUTHORIZATION, token.value.clone()),
            Self::Parameter { name, value } => {
                self.take_out_of(url);
                url.query_pairs_mut().append_pair(name, value.expose_secret());
            }
        }
    }

    /// Takes the parameter out of a URL, as of one that the upstream redirects to. So it is part of no URL that is kept, and
    /// of none on another origin.
    pub(super) fn take_out_of(&self, url: &mut Url) {
        let Self::Parameter { name: own, .. } = self else { return };
        let Some(query) = url.query() else { return };
        // Piece by piece, so that the others stay as they are written.
        let is_own = |piece: &&str| url::form_urlencoded::parse(piece.as_bytes()).any(|(name, _)| name == *own);
        let kept: Vec<_> = query.split('&').filter(|piece| !is_own(piece)).collect();
        if kept.len() < query.split('&').count() {
            let kept = kept.join("&");
            url.set_query((!kept.is_empty()).then_some(kept.as_str()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str, take_out: bool) -> String {
        let parameter = Shown::Parameter { name: "api key".into(), value: "a&b".into() };
        let (mut url, mut headers): (Url, _) = (url.parse().unwrap(), HeaderMap::new());
        if take_out {
            parameter.take_out_of(&mut url);
        } else {
            parameter.put_into(&mut url, &mut headers);
        }
        url.into()
    }

    #[test]
    fn a_parameter_is_put_into_the_query_once_and_the_others_stay_as_they_are() {
        for (without, with) in
            [("http://x/a", "http://x/a?api+key=a%26b"), ("http://x/a?q=1%2C2&r", "http://x/a?q=1%2C2&r&api+key=a%26b")]
        {
            assert_eq!(shown(without, false), with);
            assert_eq!(shown(with, false), with);
            assert_eq!(shown(with, true), without);
            assert_eq!(shown(without, true), without);
        }
        assert_eq!(shown("http://x/?api%20key=old&a=%20&api+key=older", true), "http://x/?a=%20");
    }
}
