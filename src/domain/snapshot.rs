//! The last good content of a resource.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// 128 bits of BLAKE3: enough that two contents never share one, short enough for an ETag.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 16]);

impl ContentHash {
    /// The hash of these parts, each told apart from the next by its length.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut short = [0; 16];
        hasher.finalize_xof().fill(&mut short);
        Self(short)
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A body as the upstream sent it, with what is needed to serve it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The body, decompressed.
    pub body: Bytes,
    /// Content-Type and the other [kept](KEPT_HEADERS) header fields.
    pub headers: HeaderMap,
    /// Hash of body and Content-Type: our own strong ETag, the same on every node.
    pub etag: ContentHash,
    /// Hash of what counts as content: as `etag`, but without what `ignore_changes_in` names.
    pub content_hash: ContentHash,
}

/// The header fields that describe a body to whoever reads it; all others are about the exchange.
///
/// `Link` isn't one of them: APIs put the request's own query into it (`rel="next"`), and with it a credential that is part
/// of `url`, which would then be stored and served.
pub const KEPT_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::CONTENT_LANGUAGE, header::CONTENT_DISPOSITION];

/// The kept part of a response's headers.
#[must_use]
pub fn kept(headers: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in KEPT_HEADERS {
        for value in headers.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// Header fields as they are stored: lines as on the wire, since values need not be text.
#[must_use]
pub fn encode_headers(headers: &HeaderMap) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.extend_from_slice(name.as_str().as_bytes());
        block.extend_from_slice(b": ");
        block.extend_from_slice(value.as_bytes());
        block.extend_from_slice(b"\r\n");
    }
    block
}

/// Reads what [`encode_headers`] wrote; `None` when it is something else.
#[must_use]
pub fn decode_headers(block: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut rest = block;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let colon = rest.get(..end)?.windows(2).position(|pair| pair == b": ")?;
        let name = HeaderName::from_bytes(rest.get(..colon)?).ok()?;
        headers.append(name, HeaderValue::from_bytes(rest.get(colon + 2..end)?).ok()?);
        rest = rest.get(end + 2..)?;
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_storage_byte_for_byte() {
        let mut headers = HeaderMap::new();
        headers.append(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        let disposition = HeaderValue::from_bytes(b"attachment; filename=\xff: x").unwrap();
        headers.append(header::CONTENT_DISPOSITION, disposition);
        headers.append(header::CONTENT_DISPOSITION, HeaderValue::from_static(""));
        assert_eq!(decode_headers(&encode_headers(&headers)), Some(headers));
        assert_eq!(decode_headers(b"no colon"), None);
    }

    #[test]
    fn only_what_describes_the_body_is_kept() {
        let mut headers = HeaderMap::new();
        headers.append(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        headers.append(header::SET_COOKIE, HeaderValue::from_static("session=secret"));
        headers.append(header::CONNECTION, HeaderValue::from_static("close"));
        headers
            .append(header::LINK, HeaderValue::from_static("<https://api.example/?token=secret&page=2>; rel=\"next\""));
        assert_eq!(kept(&headers).keys().collect::<Vec<_>>(), [header::CONTENT_TYPE]);
    }
}
