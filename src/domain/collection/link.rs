//! `Link` (RFC 8288).

use http::{HeaderMap, HeaderValue, header};

/// The target of the first link that leads to the next page.
#[must_use]
pub(super) fn next(headers: &HeaderMap) -> Option<String> {
    let fields = headers.get_all(header::LINK).iter().filter_map(|field| text(field));
    fields.flat_map(links).find(|link| link.is_next).map(|link| link.target)
}

fn text(field: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(field.as_bytes()).ok()
}

struct Link {
    target: String,
    is_next: bool,
}

/// The links of one field: `<target>; name=value; name="value", <target>…`. What is malformed ends it.
fn links(mut field: &str) -> Vec<Link> {
    let mut links = Vec::new();
    while let Some(rest) = field.trim_start_matches([' ', '\t', ',']).strip_prefix('<') {
        let Some((target, rest)) = rest.split_once('>') else { break };
        let (params, rest) = rest.split_at(end_of_link(rest));
        links.push(Link { target: target.trim().to_owned(), is_next: is_next(params) });
        field = rest;
    }
    links
}

/// Where the next comma is that stands in no quoted text.
fn end_of_link(rest: &str) -> usize {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in rest.char_indices() {
        match c {
            ',' if !is_quoted => return at,
            '"' if !is_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        is_escaped = c == '\\' && is_quoted && !is_escaped;
    }
    rest.len()
}

/// Whether one of the relation types is `next` (§3.3: several may stand in one parameter, the first of that name counts).
fn is_next(params: &str) -> bool {
    let named = params.split(';').filter_map(|param| param.split_once('='));
    let mut rels = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("rel"));
    let types = rels.next().map_or("", |(_, value)| value.trim().trim_matches('"'));
    types.split_ascii_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_to_the_next_page_is_found_among_others() {
        for (fields, expected) in [
            (&["</b>; rel=\"next\""][..], Some("/b")),
            (&["<https://api.example/u?page=1>; rel=\"prev\", <https://api.example/u?page=3>; rel=\"next\""], {
                Some("https://api.example/u?page=3")
            }),
            (&["</a>; rel=last", "</b>;title=\"a, \\\"b\\\" <c>\" ; REL=Next"], Some("/b")),
            (&["</a,b;c>; rel=\"prefetch next\""], Some("/a,b;c")),
            (&["</a>; rel=prev; rel=next"], None),
            (&["</a>; rev=next"], None),
            (&["</a>; rel=nextish"], None),
            (&["</a"], None),
            (&["next"], None),
            (&[""], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::LINK, HeaderValue::from_static(field));
            }
            assert_eq!(next(&headers).as_deref(), expected, "{fields:?}");
        }
    }
}
