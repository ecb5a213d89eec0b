//! Answers in an encoding that their reader accepts (RFC 9110 §12.5.3). Stored bodies are never encoded.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Extensions, HeaderMap, HeaderValue, StatusCode, Version, header};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{Predicate, SizeAbove};

use super::conditional::is_held_weakly;
use super::error::ApiError;

/// Bytes below which compressing gains nothing: with its header, such an answer fits in one packet as it is.
const SMALLEST: u64 = 860;

/// Types that compress, besides text and what is JSON or XML by its suffix. All others are left alone: most are compressed
/// already.
const COMPRESSIBLE: [&str; 11] = [
    "application/ecmascript",
    "application/graphql",
    "application/javascript",
    "application/json",
    "application/toml",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "image/bmp",
];

/// Encodes what is worth it.
#[must_use]
pub fn compression() -> CompressionLayer<impl Predicate> {
    let worth_it = |_: StatusCode, _: Version, answer: &HeaderMap, _: &Extensions| is_compressible(answer);
    CompressionLayer::new().compress_when(SizeAbove::new(SMALLEST).and(worth_it))
}

fn is_compressible(answer: &HeaderMap) -> bool {
    let Some(Ok(content_type)) = answer.get(header::CONTENT_TYPE).map(HeaderValue::to_str) else { return false };
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // An event must not wait until an encoder has enough of them.
    let is_text = essence.starts_with("text/") && essence != "text/event-stream";
    is_text || essence.ends_with("+json") || essence.ends_with("+xml") || COMPRESSIBLE.contains(&essence.as_str())
}

/// Tells variants apart for whoever keeps answers: outside of [`compression`].
pub async fn variants(request: Request, next: Next) -> Response {
    let held = request.headers().get_all(header::IF_NONE_MATCH).iter().cloned();
    let held: HeaderMap = held.map(|value| (header::IF_NONE_MATCH, value)).collect();
    let mut response = next.run(request).await;
    if response.status() == StatusCode::NOT_ACCEPTABLE {
        // The layer only changes the status, and sends what was refused.
        response = ApiError::NotAcceptable.into_response();
    }
    let status = response.status();
    let fields = response.headers_mut();
    // Every answer, also one that was not encoded, or that stands for another one (a 304): no cache may give an encoded one
    // to someone who did not ask for it (RFC 9110 §12.5.5).
    if !varies_by_encoding(fields) {
        fields.append(header::VARY, header::ACCEPT_ENCODING.into());
    }
    // RFC 9110 §8.8.3.3: what differs in its bytes needs another strong ETag, or the weak one. A 304 has the one that was
    // asked with, so that a cache finds what it is to freshen (RFC 9111 §4.3.4).
    let is_other = fields.contains_key(header::CONTENT_ENCODING)
        || (status == StatusCode::NOT_MODIFIED && opaque(fields).is_some_and(|etag| is_held_weakly(&held, etag)));
    if is_other && let Some(weak) = opaque(fields).and_then(weak) {
        fields.insert(header::ETAG, weak);
    }
    response
}

fn varies_by_encoding(answer: &HeaderMap) -> bool {
    let members = answer.get_all(header::VARY).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).any(|name| name.eq_ignore_ascii_case(header::ACCEPT_ENCODING.as_str().as_bytes()))
}

/// What is between the quotes of a strong ETag.
fn opaque(answer: &HeaderMap) -> Option<&[u8]> {
    answer.get(header::ETAG)?.as_bytes().strip_prefix(b"\"")?.strip_suffix(b"\"")
}

fn weak(opaque: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(&[b"W/\"", opaque, b"\""].concat()).ok()
}
