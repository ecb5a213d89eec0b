//! From page to page: what leads to one, as it is stored, and as a URL.

use url::Url;

use super::{Collection, Page, Paginate};

/// What leads to a page that is not the first: a cursor, a number, or of a link the path and query.
///
/// It is stored. A link repeats the source's own query, which may have a credential in it: those pieces are known by their
/// places in it alone (`{0}`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step(pub String);

/// Why there is no next page though there should be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadStep {
    /// Limits and credentials belong to one origin.
    #[error("the next link leads to another origin ({0}), where it is not followed")]
    Elsewhere(String),
    /// It can't be requested.
    #[error("the next link is no http or https URL")]
    NoUrl,
    /// To itself, or to an earlier one.
    #[error("the next page is one that this walk has been on before")]
    Back,
    /// Another request brought the same items.
    #[error("the page has the same items as an earlier one of this walk")]
    Repeated,
    /// It does not end.
    #[error("there are more than {0} pages (max_pages)")]
    TooMany(u32),
}

impl Collection {
    /// The URL of a page. `base` is the source's own, `since` what is asked for besides.
    #[must_use]
    pub fn url(&self, base: &Url, since: Option<&str>, step: Option<&Step>) -> Url {
        let mut url = base.clone();
        match (&self.paginate, step) {
            (Paginate::LinkHeader | Paginate::JsonLink { .. }, Some(Step(link))) => return joined(base, link),
            (Paginate::Cursor { param, .. } | Paginate::PageNumber { param, .. }, Some(Step(value))) => {
                set(&mut url, param, value);
            }
            (Paginate::PageNumber { param, first, .. }, None) => set(&mut url, param, &first.to_string()),
            _ => {}
        }
        if let (Some(changes), Some(since)) = (&self.changes, since) {
            set(&mut url, &changes.param, since);
        }
        url
    }

    /// What leads on from a page to which `asked` and `step` led; `None` when it is the last.
    ///
    /// # Errors
    /// [`BadStep`] when that is nowhere.
    pub fn next(&self, base: &Url, asked: &Url, step: Option<&Step>, page: &Page) -> Result<Option<Step>, BadStep> {
        if page.is_last {
            return Ok(None);
        }
        match &self.paginate {
            Paginate::Never => Ok(None),
            Paginate::Cursor { .. } => Ok(page.next.clone().map(Step)),
            Paginate::LinkHeader | Paginate::JsonLink { .. } => {
                page.next.as_deref().map(|link| link_from(base, asked, link)).transpose()
            }
            Paginate::PageNumber { first, size, .. } => {
                let number = step.and_then(|Step(number)| number.parse().ok()).unwrap_or(u64::from(*first));
                let is_short = size.is_some_and(|size| page.size < usize::try_from(size).unwrap_or(usize::MAX));
                let is_last = page.size == 0 || is_short || page.last.is_some_and(|last| number >= last);
                Ok((!is_last).then(|| Step((number.saturating_add(1)).to_string())))
            }
        }
    }
}

fn link_from(base: &Url, asked: &Url, link: &str) -> Result<Step, BadStep> {
    let to = asked.join(link).map_err(|_| BadStep::NoUrl)?;
    if !matches!(to.scheme(), "http" | "https") || !to.username().is_empty() || to.password().is_some() {
        return Err(BadStep::NoUrl);
    }
    if to.origin() != base.origin() {
        // Of another origin no more is told than who it is.
        return Err(BadStep::Elsewhere(to.origin().ascii_serialization()));
    }
    let own: Vec<&str> = pieces(base).collect();
    let query = pieces(&to).map(|piece| match own.iter().position(|own| *own == piece) {
        Some(place) => format!("{{{place}}}"),
        None => piece.replace('{', "%7B"),
    });
    let query: Vec<String> = query.collect();
    Ok(Step(if query.is_empty() { to.path().to_owned() } else { format!("{}?{}", to.path(), query.join("&")) }))
}

fn joined(base: &Url, link: &str) -> Url {
    let (path, query) = link.split_once('?').map_or((link, None), |(path, query)| (path, Some(query)));
    let mut url = base.clone();
    url.set_path(path);
    let own: Vec<&str> = pieces(base).collect();
    let piece = |piece: &str| {
        let place = piece.strip_prefix('{').and_then(|piece| piece.strip_suffix('}')?.parse::<usize>().ok());
        place.and_then(|place| own.get(place).copied()).map_or_else(|| piece.to_owned(), str::to_owned)
    };
    let query = query.map(|query| query.split('&').map(piece).collect::<Vec<_>>().join("&"));
    url.set_query(query.as_deref());
    url
}

fn pieces(url: &Url) -> impl Iterator<Item = &str> {
    url.query().unwrap_or_default().split('&').filter(|piece| !piece.is_empty())
}

/// Sets a parameter; the others stay as they are written.
fn set(url: &mut Url, param: &str, value: &str) {
    let is_other = |piece: &&str| url::form_urlencoded::parse(piece.as_bytes()).all(|(name, _)| name != *param);
    let others = pieces(url).filter(is_other).collect::<Vec<_>>().join("&");
    url.set_query((!others.is_empty()).then_some(others.as_str()));
    url.query_pairs_mut().append_pair(param, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::json_path::JsonPath;
    use crate::domain::snapshot::ContentHash;

    fn path(path: &str) -> JsonPath {
        JsonPath::new(path).unwrap()
    }

    fn by(paginate: Paginate) -> Collection {
        Collection { items: path("$[*]"), key: path("$.id"), paginate, max_pages: 10, changes: None, gone_after: 1 }
    }

    fn links() -> Collection {
        by(Paginate::LinkHeader)
    }

    fn numbers(size: Option<u32>) -> Collection {
        by(Paginate::PageNumber { param: "page".into(), first: 1, size, last: None })
    }

    fn page(size: usize, next: Option<&str>) -> Page {
        Page {
            items: Vec::new(),
            size,
            left_out: None,
            newest: None,
            next: next.map(str::to_owned),
            is_last: false,
            last: None,
            hash: ContentHash([0; 16]),
        }
    }

    fn followed(base: &str, link: &str) -> Result<(String, String), BadStep> {
        let base: Url = base.parse().unwrap();
        let step = links().next(&base, &base, None, &page(1, Some(link)))?.unwrap();
        Ok((links().url(&base, None, Some(&step)).into(), step.0))
    }

    #[test]
    fn a_link_is_followed_as_it_is_written() {
        let base = "https://api.example/users?per_page=2&key=s3cret";
        for (link, url) in [
            ("?per_page=2&page=2&key=s3cret", "https://api.example/users?per_page=2&page=2&key=s3cret"),
            ("/v2/users?after=a%20b,c", "https://api.example/v2/users?after=a%20b,c"),
            ("https://api.example:443/x", "https://api.example/x"),
            ("/users?x={0}", "https://api.example/users?x=%7B0}"),
            ("/users?key=other", "https://api.example/users?key=other"),
        ] {
            assert_eq!(followed(base, link).unwrap().0, url);
        }
    }

    #[test]
    fn what_the_source_has_in_its_own_query_is_not_in_a_step() {
        let (_, step) = followed("https://api.example/users?per_page=2&key=s3cret", "?page=2&key=s3cret").unwrap();
        assert_eq!(step, "/users?page=2&{1}");
    }

    #[test]
    fn no_link_leads_to_another_origin() {
        for link in
            ["https://evil.example/?t=s3cret", "http://api.example/a", "https://api.example:8443/", "//x.example/"]
        {
            let why = followed("https://api.example/users", link).unwrap_err();
            assert!(matches!(why, BadStep::Elsewhere(_)) && !why.to_string().contains("s3cret"), "{why}");
        }
        for link in ["ftp://api.example/", "https://me:pw@api.example/", "https://", "javascript:alert(1)"] {
            assert_eq!(followed("https://api.example/users", link), Err(BadStep::NoUrl), "{link}");
        }
    }

    #[test]
    fn parameters_are_set_and_the_others_stay() {
        let base: Url = "https://api.example/u?a=%2c&page=9&b".parse().unwrap();
        let collection = numbers(None);
        assert_eq!(collection.url(&base, None, None).as_str(), "https://api.example/u?a=%2c&b&page=1");
        let step = Step("7".into());
        assert_eq!(collection.url(&base, None, Some(&step)).as_str(), "https://api.example/u?a=%2c&b&page=7");
        let cursors = by(Paginate::Cursor { param: "c".into(), next: path("$.n"), more: None });
        let step = Step("a&b=c".into());
        assert_eq!(cursors.url(&base, None, Some(&step)).as_str(), "https://api.example/u?a=%2c&page=9&b&c=a%26b%3Dc");
    }

    #[test]
    fn numbers_go_on_until_a_page_is_empty_or_short() {
        let base: Url = "https://api.example/u".parse().unwrap();
        let next = |collection: &Collection, step: Option<&str>, page: &Page| {
            let step = step.map(|step| Step(step.into()));
            collection.next(&base, &base, step.as_ref(), page).unwrap().map(|step| step.0)
        };
        assert_eq!(next(&numbers(None), None, &page(3, None)).as_deref(), Some("2"));
        assert_eq!(next(&numbers(None), Some("2"), &page(1, None)).as_deref(), Some("3"));
        assert_eq!(next(&numbers(None), Some("3"), &page(0, None)), None);
        assert_eq!(next(&numbers(Some(2)), None, &page(2, None)).as_deref(), Some("2"));
        assert_eq!(next(&numbers(Some(2)), Some("2"), &page(1, None)), None);
        let of_two = Page { last: Some(2), ..page(2, None) };
        assert_eq!(next(&numbers(None), None, &of_two).as_deref(), Some("2"));
        assert_eq!(next(&numbers(None), Some("2"), &of_two), None);
    }
}
