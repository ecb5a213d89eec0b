//! How the HTTP client is set up: nothing happens that wasn't asked for.

use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder, redirect, retry};
use rustls::crypto::{CryptoProvider, ring};

use super::progress::WatchConnecting;

/// How long a kept-alive connection may be idle: less than the 5 s after which common servers close it.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// The HTTP client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client can't be set up: {0}")]
pub struct BadClient(String);

/// The client for all upstreams: trusts the machine's certificate authorities and these.
///
/// A machine without any (a container without `ca-certificates`) can still ask `http` upstreams; the handshake with
/// `https` ones then fails.
pub(super) fn build(also_trusted: &[Vec<u8>]) -> Result<Client, BadClient> {
    // The client takes the process's provider and panics without one. An error means that there is one already.
    _ = CryptoProvider::install_default(ring::default_provider());
    let also_trusted: Vec<_> = also_trusted
        .iter()
        .map(|pem| Certificate::from_pem(pem))
        .collect::<Result<_, _>>()
        .map_err(|error| BadClient(format!("a certificate to trust is not PEM: {error}")))?;
    match plain().tls_certs_merge(also_trusted.clone()).build() {
        Ok(client) => Ok(client),
        Err(error) => {
            tracing::warn!(
                error = with_causes(&error),
                "no certificate authorities on this machine: https upstreams can't be trusted"
            );
            plain().tls_certs_only(also_trusted).build().map_err(|error| BadClient(with_causes(&error)))
        }
    }
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
        build(&[]).unwrap();
        build(&[]).unwrap();
        plain().tls_certs_only([]).build().unwrap();
    }

    #[test]
    fn a_certificate_that_is_none_is_an_error() {
        let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec();
        assert!(build(&[broken]).unwrap_err().to_string().starts_with("the HTTP client can't be set up: "));
    }
}
