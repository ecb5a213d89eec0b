//! How connections to an upstream are made: through which proxy, trusting whom, and as whom.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;
use url::Url;

use super::certificates::ClientCertificate;
use super::value::Wrong;

/// How connections to an upstream, and to its token endpoint, are made.
#[derive(Clone, Default, PartialEq)]
pub struct Transport {
    /// Through which proxy; `None` is directly. What the environment says of proxies is not looked at.
    pub proxy: Option<Proxy>,
    /// Certificate authorities that are trusted besides the machine's.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What is shown to whom asks who is calling.
    pub certificate: Option<ClientCertificate>,
    /// Whether only public addresses are connected to.
    pub block_private_networks: bool,
}

/// A host that redirects may lead to, although it is none of the sources'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectHost {
    /// A URL there.
    at: Url,
}

impl RedirectHost {
    /// A host by its name or address, with a port where it is not the scheme's own.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.contains(['/', '?', '#', '@', '\\']) {
            return Err("a host stands alone, without scheme and path".into());
        }
        let at = Url::parse(&format!("https://{text}/")).map_err(|error| format!("not a host ({error})"))?;
        if at.host_str().is_some_and(|host| host.contains('*')) {
            return Err("hosts are named one by one, without `*`".into());
        }
        Ok(Self { at })
    }

    /// Whether a URL is there.
    #[must_use]
    pub fn is_of(&self, url: &Url) -> bool {
        // `port` is none where it is the scheme's own.
        url.host() == self.at.host() && url.port() == self.at.port()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("proxy", &self.proxy)
            .field("authorities", &self.authorities.len())
            .field("certificate", &self.certificate)
            .field("block_private_networks", &self.block_private_networks)
            .finish()
    }
}

/// An HTTP proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Proxy {
    /// Where it is: scheme, host and port, without user and password.
    pub url: Url,
    /// What it is shown, marked as sensitive.
    pub authorization: Option<HeaderValue>,
}

/// Reads `http://user:password@host:port`, or `none`.
pub(super) fn proxy(text: &str) -> Result<Option<Proxy>, Wrong> {
    if text == "none" {
        return Ok(None);
    }
    let mut url = Url::parse(text)
        .map_err(|error| format!("not a URL ({error}); special characters in a password are percent-encoded"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("only HTTP proxies are known, at http:// or https://".into());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("a proxy is a host and a port, without anything behind".into());
    }
    let authorization = authorization(&url)?;
    // Neither has a reason to fail on a URL with a host.
    _ = (url.set_username(""), url.set_password(None));
    Ok(Some(Proxy { url, authorization }))
}

fn authorization(url: &Url) -> Result<Option<HeaderValue>, Wrong> {
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    let decoded = |text| percent_decode_str(text).decode_utf8().map_err(|_| "user and password are not UTF-8 text");
    let pair = format!("{}:{}", decoded(url.username())?, decoded(url.password().unwrap_or_default())?);
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64.encode(pair)))
        .map_err(|_| "has characters that a header can't carry")?;
    value.set_sensitive(true);
    Ok(Some(value))
}
