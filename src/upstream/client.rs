//! How the HTTP client is set up: nothing happens that wasn't asked for.

use std::fmt;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, Identity, Proxy, redirect, retry};
use rustls::crypto::{CryptoProvider, ring};
use secrecy::ExposeSecret;

use super::guard::Guard;
use super::progress::WatchConnecting;
use crate::config::{ClientCertificate, Transport};

/// How long a kept-alive connection may be idle: less than the 5 s after which common servers close it.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// The HTTP client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client can't be set up: {0}")]
pub struct BadClient(String);

impl BadClient {
    /// The same, with the upstream that it was for.
    pub(super) fn of_upstream(self, name: &str) -> Self {
        Self(format!("upstream {name}: {}", self.0))
    }
}

/// The clients of one upstream.
#[derive(Clone)]
pub(super) struct Clients {
    /// For the origins of the config, and for the token endpoint.
    pub own: Client,
    /// For other origins that redirects lead to: those are not shown who is calling.
    pub elsewhere: Client,
    /// What both connect to; `None` is anything.
    pub guard: Option<Guard>,
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the library shows of a client is its own affair.
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

impl Clients {
    /// The clients for this transport.
    ///
    /// # Errors
    /// [`BadClient`] when the network library refuses it.
    pub(super) fn new(transport: &Transport) -> Result<Self, BadClient> {
        Self::guarded(transport, transport.block_private_networks.then(Guard::public))
    }

    fn guarded(transport: &Transport, guard: Option<Guard>) -> Result<Self, BadClient> {
        let elsewhere = build(transport, None, guard.as_ref())?;
        let own = match &transport.certificate {
            Some(certificate) => build(transport, Some(certificate), guard.as_ref())?,
            None => elsewhere.clone(),
        };
        Ok(Self { own, elsewhere, guard })
    }

    /// Plain clients that connect to what this guard lets pass.
    #[cfg(test)]
    pub(super) fn for_tests(guard: Guard) -> Self {
        Self::guarded(&Transport::default(), Some(guard)).unwrap()
    }
}

/// A client that trusts the machine's certificate authorities and those of the transport.
///
/// A machine without any (a container without `ca-certificates`) can still ask `http` upstreams; the handshake with
/// `https` ones then fails.
fn build(
    transport: &Transport,
    certificate: Option<&ClientCertificate>,
    guard: Option<&Guard>,
) -> Result<Client, BadClient> {
    // The client takes the process's provider and panics without one. An error means that there is one already.
    _ = CryptoProvider::install_default(ring::default_provider());
    let authorities: Vec<_> = transport
        .authorities
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect::<Result<_, _>>()
        .map_err(|error| BadClient(with_causes(&error)))?;
    match configured(transport, certificate, guard)?.tls_certs_merge(authorities.clone()).build() {
        Ok(client) => Ok(client),
        Err(error) => {
            let client = configured(transport, certificate, guard)?.tls_certs_only(authorities).build();
            let client = client.map_err(|error| BadClient(with_causes(&error)))?;
            tracing::warn!(
                error = with_causes(&error),
                "no certificate authorities on this machine: https upstreams can't be trusted"
            );
            Ok(client)
        }
    }
}

/// With the transport's proxy, this certificate to show, and this guard.
fn configured(
    transport: &Transport,
    certificate: Option<&ClientCertificate>,
    guard: Option<&Guard>,
) -> Result<ClientBuilder, BadClient> {
    let mut builder = plain();
    if let Some(guard) = guard {
        builder = builder.dns_resolver(guard.clone());
    }
    if let Some(proxy) = &transport.proxy {
        let mut to = Proxy::all(proxy.url.clone()).map_err(|error| BadClient(with_causes(&error.without_url())))?;
        if let Some(authorization) = &proxy.authorization {
            to = to.custom_http_auth(authorization.clone());
        }
        builder = builder.proxy(to);
    }
    if let Some(certificate) = certificate {
        let identity = Identity::from_pem(certificate.pem.expose_secret().as_bytes());
        builder = builder.identity(identity.map_err(|error| BadClient(with_causes(&error)))?);
    }
    Ok(builder)
}

/// HTTP/1.1, no proxy from the environment, no redirects, no repetitions, no Referer, no cookies (that feature is not
/// compiled in), gzip, br and zstd.
fn plain() -> ClientBuilder {
    Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .pool_idle_timeout(POOL_IDLE)
        .connector_layer(WatchConnecting)
}

fn with_causes(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_can_be_built_again_and_again_and_without_any_certificate_authority() {
        Clients::new(&Transport::default()).unwrap();
        Clients::new(&Transport::default()).unwrap();
        plain().tls_certs_only([]).build().unwrap();
    }

    #[test]
    fn a_certificate_that_is_none_is_an_error() {
        let transport = Transport { authorities: vec![b"none".to_vec().into()], ..Transport::default() };
        assert!(Clients::new(&transport).unwrap_err().to_string().starts_with("the HTTP client can't be set up: "));
    }
}
