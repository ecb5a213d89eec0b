//! Where a redirect leads, and whether we go there.

use http::{HeaderMap, StatusCode, header};
use url::Url;

use super::Hop;

/// How many redirects are followed for one resource.
pub(super) const MOST_HOPS: usize = 5;

/// Whether a status sends us elsewhere (RFC 9110 §15.4). All of these mean the same to a GET.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Whether a redirect is for good (RFC 9110 §15.4.2, §15.4.9); 302, 303 and 307 are for now.
fn is_permanent(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 308)
}

/// Where the resource is for good, by these redirects: as far as they lead before one that is for now.
pub(super) fn moved_to(hops: &[Hop]) -> Option<&str> {
    hops.iter().take_while(|hop| is_permanent(hop.status)).last().map(|hop| hop.path.as_str())
}

/// Where this answer of `from` leads, `earlier` being the URLs that led there.
///
/// Only the same scheme, host and port are followed: headers may hold secrets, and limits belong to an origin.
///
/// # Errors
/// A sentence that says why it isn't followed; of another origin it names the host and no more.
pub(super) fn next(from: &Url, earlier: &[Url], headers: &HeaderMap) -> Result<Url, String> {
    let location = headers.get(header::LOCATION).ok_or("the upstream redirects without a Location")?;
    let location = std::str::from_utf8(location.as_bytes()).ok();
    let mut to = location
        .and_then(|location| from.join(location).ok())
        .filter(|to| matches!(to.scheme(), "http" | "https") && to.username().is_empty() && to.password().is_none())
        .ok_or("the upstream redirects to a Location that is no http or https URL")?;
    to.set_fragment(None);
    if to.origin() != from.origin() {
        return Err(other_origin(&to));
    }
    if to == *from || earlier.contains(&to) {
        return Err("the upstream redirects in a loop".into());
    }
    if earlier.len() >= MOST_HOPS {
        return Err(format!("the upstream redirects more than {MOST_HOPS} times"));
    }
    Ok(to)
}

fn other_origin(to: &Url) -> String {
    let port = to.port().map(|port| format!(", port {port}")).unwrap_or_default();
    let host = to.host_str().unwrap_or_default();
    let scheme = to.scheme();
    format!(
        "the upstream redirects to another origin ({scheme} at {host}{port}), which is not followed: if that is where \
         the resource is now, change the source's url"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn follow(visited: &[&str], location: &'static [u8]) -> Result<String, String> {
        let visited: Vec<Url> = visited.iter().map(|url| url.parse().unwrap()).collect();
        let (from, earlier) = visited.split_last().unwrap();
        let headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_bytes(location).unwrap())]);
        next(from, earlier, &headers).map(String::from)
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
    fn what_is_no_url_for_us_is_not_followed() {
        for location in
            [&b"http://"[..], b"ftp://api.example/a", b"javascript:alert(1)", b"/\xff", b"https://me:pw@api.example/a"]
        {
            assert!(follow(&["https://api.example/a"], location).unwrap_err().contains("no http or https URL"));
        }
        assert!(
            next(&"https://api.example/a".parse().unwrap(), &[], &HeaderMap::new()).unwrap_err().contains("without")
        );
    }

    #[test]
    fn only_what_leads_on_for_good_from_the_start_is_remembered() {
        let hop = |(status, path): &(u16, &str)| Hop {
            status: StatusCode::from_u16(*status).unwrap(),
            path: (*path).to_owned(),
        };
        for (hops, remembered) in [
            (&[][..], None),
            (&[(301, "/b")], Some("/b")),
            (&[(308, "/b"), (301, "/c")], Some("/c")),
            (&[(301, "/b"), (302, "/c")], Some("/b")),
            (&[(302, "/b"), (301, "/c")], None),
            (&[(307, "/b")], None),
            (&[(303, "/b")], None),
        ] {
            let hops: Vec<_> = hops.iter().map(hop).collect();
            assert_eq!(moved_to(&hops), remembered, "{hops:?}");
        }
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
