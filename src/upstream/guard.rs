//! Which addresses are asked, where private networks are blocked.
//!
//! A name is checked where it is resolved, for each connection: the client connects to the addresses that were checked and no
//! others, so that a name which stands for something else a moment later (DNS rebinding) gains nothing. An address that is
//! written in a URL is never resolved, so each URL is looked at too, also those that redirects lead to.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::domain::network::is_public;

/// Resolves a name.
type Lookup = dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync;

/// Lets only some addresses pass.
#[derive(Clone)]
pub(super) struct Guard {
    allows: fn(IpAddr) -> bool,
    lookup: Arc<Lookup>,
}

/// None of a host's addresses may be asked.
#[derive(Debug, thiserror::Error)]
#[error("block_private_networks is set, and it has no public address")]
pub(super) struct Blocked;

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

impl Guard {
    /// Lets the public internet pass.
    pub(super) fn public() -> Self {
        Self { allows: is_public, lookup: Arc::new(|name| ask_system(name).boxed()) }
    }

    /// Whether a URL may be asked, as far as can be told before its name is resolved.
    ///
    /// # Errors
    /// [`Blocked`] when there is no name in it, but an address that may not be.
    pub(super) fn check(&self, url: &Url) -> Result<(), Blocked> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if (self.allows)(address) { Ok(()) } else { Err(Blocked) }
    }
}

async fn ask_system(name: String) -> io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (allows, looking) = (self.allows, (self.lookup)(name.as_str().to_owned()));
        Box::pin(async move {
            let mut addresses = looking.await?;
            addresses.retain(|address| allows(*address));
            if addresses.is_empty() {
                return Err(Blocked.into());
            }
            // The client puts the port in.
            let addresses = addresses.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}

#[cfg(test)]
impl Guard {
    /// Lets 127.0.0.1 pass alone, and resolves all names to what `lookup` gives.
    pub(super) fn for_tests(lookup: impl Fn() -> Vec<IpAddr> + Send + Sync + 'static) -> Self {
        let lookup = move |_| std::future::ready(Ok(lookup())).boxed();
        Self { allows: |address| address == IpAddr::from([127, 0, 0, 1]), lookup: Arc::new(lookup) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_seen_through_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
            "127.0.0.1.",
            "１２７.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[0:0:0:0:0:ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "169.254.169.254",
            "0xa9fea9fe",
            "10.1",
            "0",
        ] {
            let url = format!("http://{host}/").parse().unwrap();
            assert!(Guard::public().check(&url).is_err(), "{host}");
        }
        for host in ["8.8.8.8", "134744072", "[2606:4700:4700::1111]", "api.example", "localhost"] {
            assert!(Guard::public().check(&format!("http://{host}/").parse().unwrap()).is_ok(), "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_stands_for_its_public_addresses_alone() {
        let resolved = async |addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            let lookup = move |_| std::future::ready(Ok(addresses.clone())).boxed();
            let guard = Guard { lookup: Arc::new(lookup), ..Guard::public() };
            let resolved = guard.resolve("api.example".parse().unwrap()).await;
            resolved.map(|addresses| addresses.map(|address| address.ip().to_string()).collect::<Vec<_>>())
        };
        assert_eq!(resolved(&["10.0.0.1", "8.8.8.8", "::1"]).await.unwrap(), ["8.8.8.8"]);
        for private in [&["127.0.0.1"][..], &["169.254.169.254", "fd00::1"], &[]] {
            assert!(resolved(private).await.unwrap_err().is::<Blocked>());
        }
    }
}
