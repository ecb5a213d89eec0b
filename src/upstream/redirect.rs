//! Where a redirect leads, and whether we go there.

use http::{HeaderMap, StatusCode, header};
use url::Url;

use super::Hop;
use crate::config::RedirectHost;

/// How many redirects are followed for one resource.
pub(super) const MOST_HOPS: usize = 5;

/// Whether a redirect is for good (RFC 9110 §15.4.2, §15.4.9); 302, 303 and 307 are for now.
fn is_permanent(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 308)
}

/// Where the resource is for good, by these redirects: as far as they lead before one that is for now. The path, and before
/// it the origin, where that is another one.
pub(super) fn moved_to(hops: &[Hop]) -> Option<String> {
    let permanent = || hops.iter().take_while(|hop| is_permanent(hop.status));
    let origin = permanent().filter_map(|hop| hop.origin.as_deref()).last().unwrap_or_default();
    permanent().last().map(|hop| format!("{origin}{}", hop.path))
}

/// Where this answer of `from` leads.
///
/// # Errors
/// A sentence that says why that is nowhere.
pub(super) fn target(from: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let location = headers.get(header::LOCATION).ok_or("the upstream redirects without a Location")?;
    let location = std::str::from_utf8(location.as_bytes()).ok();
    let mut to = location
        .and_then(|location| from.join(location).ok())
        .filter(|to| matches!(to.scheme(), "http" | "https") && to.username().is_empty() && to.password().is_none())
        .ok_or("the upstream redirects to a Location that is no http or https URL")?;
    to.set_fragment(None);
    Ok(to)
}

/// Whether we go from `from` to `to`, `earlier` being the URLs that led to `from`.
///
/// Another scheme, host or port is only followed if the configuration names the host: limits belong to an origin, and an
/// upstream has no say in whom else we ask. Nothing leads from https to http.
///
/// # Errors
/// A sentence that says why not; of another origin it names the host and no more.
pub(super) fn may_follow(from: &Url, earlier: &[Url], to: &Url, hosts: &[RedirectHost]) -> Result<(), String> {
    if to.origin() != from.origin() {
        let is_listed = hosts.iter().any(|host| host.is_of(to));
        if !is_listed || (from.scheme() == "https" && to.scheme() == "http") {
            return Err(other_origin(to, is_listed));
        }
    }
    if to == from || earlier.contains(to) {
        return Err("the upstream redirects in a loop".into());
    }
    if earlier.len() >= MOST_HOPS {
        return Err(format!("the upstream redirects more than {MOST_HOPS} times"));
    }
    Ok(())
}

fn other_origin(to: &Url, is_listed: bool) -> String {
    let port = to.port().map(|port| format!(", port {port}")).unwrap_or_default();
    let host = to.host_str().unwrap_or_default();
    let scheme = to.scheme();
    let why = if is_listed {
        "which is not followed, since it leads from https to http"
    } else {
        "which is not followed: if that is where the resource is now, change the source's url, or name the host in \
         allow_redirect_hosts"
    };
    format!("the upstream redirects to another origin ({scheme} at {host}{port}), {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn hosts() -> Vec<RedirectHost> {
        ["cdn.example", "files.example:8080", "10.0.0.1"].map(|host| RedirectHost::new(host).ok().unwrap()).into()
    }

    fn follow(visited: &[&str], location: &[u8]) -> Result<String, String> {
        let visited: Vec<Url> = visited.iter().map(|url| url.parse().unwrap()).collect();
        let (from, earlier) = visited.split_last().unwrap();
        let headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_bytes(location).unwrap())]);
        let to = target(from, &headers)?;
        may_follow(from, earlier, &to, &hosts()).map(|()| to.into())
    }

    #[test]
    fn the_same_origin_is_followed_however_it_is_written() {
        let from = "https://api.example/a/b?key=1";
        for (location, to) in [
            (&b"c"[..], "https://api.example/a/c"),
            (b"/x?y=1", "https://api.example/x?y=1"),
            (b"https://API.example:443/x", "https://api.example/x"),
            (b"//api.example/x#part", "https://api.example/x"),
            ("/für".as_bytes(), "https://api.example/f%C3%BCr"),
            (b"?key=2", "https://api.example/a/b?key=2"),
        ] {
            assert_eq!(follow(&[from], location).as_deref(), Ok(to));
        }
    }

    #[test]
    fn another_origin_is_not_followed_and_only_its_host_is_named() {
        for (location, named) in [
            (&b"https://evil.example/?token=s3cret"[..], "(https at evil.example)"),
            (b"http://api.example/a", "(http at api.example)"),
            (b"https://api.example:8443/a", "(https at api.example, port 8443)"),
            (b"//www.api.example/a", "(https at www.api.example)"),
        ] {
            let why = follow(&["https://api.example/a"], location).unwrap_err();
            assert!(why.contains(named) && !why.contains("s3cret"), "{why}");
        }
    }

    #[test]
    fn a_listed_host_is_followed_at_its_port_and_never_from_https_to_http() {
        for (from, to, follows) in [
            ("https://api.example/a", "https://cdn.example/b", true),
            ("https://api.example/a", "https://cdn.example:443/b", true),
            ("https://api.example/a", "https://CDN.example/b", true),
            ("https://api.example/a", "https://cdn.example:8443/b", false),
            ("https://api.example/a", "https://x.cdn.example/b", false),
            ("https://api.example/a", "https://cdn.example.evil.example/b", false),
            ("https://api.example/a", "https://files.example:8080/b", true),
            ("https://api.example/a", "https://files.example/b", false),
            ("https://api.example/a", "http://cdn.example/b", false),
            ("http://api.example/a", "http://cdn.example/b", true),
            ("http://api.example/a", "https://cdn.example/b", true),
            ("http://api.example/a", "http://0x0a000001/b", true),
        ] {
            assert_eq!(follow(&[from], to.as_bytes()).is_ok(), follows, "{from} {to}");
        }
        assert!(
            follow(&["https://api.example/a"], b"http://cdn.example/b").unwrap_err().contains("from https to http")
        );
    }

    #[test]
    fn only_what_leads_on_for_good_from_the_start_is_remembered() {
        let hop = |(status, to): &(u16, &str)| {
            let (origin, path) = to.split_at(to.rfind('/').unwrap());
            let origin = (!origin.is_empty()).then(|| origin.to_owned());
            Hop { status: StatusCode::from_u16(*status).unwrap(), origin, path: path.to_owned() }
        };
        for (hops, remembered) in [
            (&[][..], None),
            (&[(301, "/b")], Some("/b")),
            (&[(308, "/b"), (301, "/c")], Some("/c")),
            (&[(301, "/b"), (302, "/c")], Some("/b")),
            (&[(301, "https://new.example/b")], Some("https://new.example/b")),
            (&[(301, "https://new.example/b"), (308, "/c")], Some("https://new.example/c")),
            (&[(301, "/b"), (307, "https://cdn.example/c")], Some("/b")),
            (&[(302, "/b"), (301, "/c")], None),
            (&[(307, "/b")], None),
            (&[(303, "/b")], None),
        ] {
            let hops: Vec<_> = hops.iter().map(hop).collect();
            assert_eq!(moved_to(&hops).as_deref(), remembered, "{hops:?}");
        }
    }

    #[test]
    fn what_is_no_url_for_us_is_not_followed() {
        for location in [
            &b"http://"[..],
            b"ftp://api.example/a",
            b"javascript:alert(1)",
            b"file:///etc/passwd",
            b"/\xff",
            b"https://me:pw@api.example/a",
        ] {
            assert!(follow(&["https://api.example/a"], location).unwrap_err().contains("no http or https URL"));
        }
        let from = "https://api.example/a".parse().unwrap();
        assert!(target(&from, &HeaderMap::new()).unwrap_err().contains("without"));
    }

    #[test]
    fn loops_and_long_chains_end() {
        let a = "https://api.example/a";
        let b = "https://api.example/b";
        assert!(follow(&[a], b"/a#x").unwrap_err().contains("loop"));
        assert!(follow(&[a, b], b"/a").unwrap_err().contains("loop"));
        let chain: Vec<_> = (0..6).map(|hop| format!("https://api.example/{hop}")).collect();
        let chain: Vec<_> = chain.iter().map(String::as_str).collect();
        assert!(follow(&chain[..5], b"/next").is_ok());
        assert!(follow(&chain, b"/next").unwrap_err().contains("more than 5 times"));
    }
}
