//! Reading a body, up to a cap on its decompressed size.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header;
use reqwest::Response;

use super::trouble;
use crate::clock::monotonic;
use crate::domain::failure::{Failure, FailureKind};

/// The most that is read of a body that isn't wanted, so that its connection can be used again.
const DRAIN_BYTES: usize = 16 * 1024;
/// The longest that is waited for it.
const DRAIN_TIME: Duration = Duration::from_millis(500);
/// What is set aside for a body at first; it grows with what has come, not with what was announced.
const FIRST_ALLOCATION: u64 = 64 * 1024;

/// Reads the whole body, decompressed.
///
/// Memory is bounded by `max_body` (and while growing by its double), however well the body was compressed: what comes
/// out of the decompressor is counted piece by piece, and reading stops at the first byte too much.
///
/// # Errors
/// The failure, of kind [`FailureKind::TooLarge`] or [`FailureKind::Truncated`].
pub(super) async fn read(response: &mut Response, max_body: u64) -> Result<Bytes, Failure> {
    let status = response.status();
    let refuse = |kind, detail| Err(Failure { kind, status: Some(status.as_u16()), detail });
    let too_large = || refuse(FailureKind::TooLarge, format!("the body is larger than max_body, {max_body} bytes"));
    if let Some(encoding) = unknown_encoding(response) {
        let detail = format!("the body can't be decompressed: it is encoded as {encoding}, which was not asked for");
        return refuse(FailureKind::Truncated, detail);
    }
    // Known only for bodies that aren't compressed.
    let announced = response.content_length().unwrap_or_default();
    if announced > max_body {
        return too_large();
    }
    let mut body = Vec::with_capacity(usize::try_from(announced.min(FIRST_ALLOCATION)).unwrap_or_default());
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if (body.len() + chunk.len()) as u64 > max_body => return too_large(),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.into()),
            Err(error) => return Err(trouble::in_body(error, status)),
        }
    }
}

/// The Content-Encoding that the client left in place, because it is none that it can undo.
fn unknown_encoding(response: &Response) -> Option<String> {
    let encoding = response.headers().get(header::CONTENT_ENCODING)?.as_bytes().trim_ascii();
    let is_none = encoding.is_empty() || encoding.eq_ignore_ascii_case(b"identity");
    let readable = encoding.escape_ascii().take(40).map(char::from).collect();
    (!is_none).then_some(readable)
}

/// Reads a small unwanted body to its end and throws it away. A large, slow or broken one costs its connection instead,
/// and never the answer that it belongs to: at most half of what is left until `deadline` is spent on it.
pub(super) async fn drain(response: &mut Response, deadline: Instant) {
    let mut read = 0;
    drain_into(response, deadline, |chunk| {
        read += chunk.len();
        read <= DRAIN_BYTES
    })
    .await;
}

/// The same, with what was read of it.
pub(super) async fn beginning(response: &mut Response, deadline: Instant) -> Vec<u8> {
    let mut read = Vec::new();
    drain_into(response, deadline, |chunk| {
        read.extend_from_slice(chunk);
        read.len() <= DRAIN_BYTES
    })
    .await;
    read
}

async fn drain_into(response: &mut Response, deadline: Instant, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let left = deadline.saturating_duration_since(monotonic());
    let reading = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            if !goes_on(&chunk) {
                break;
            }
        }
    };
    _ = tokio::time::timeout(DRAIN_TIME.min(left / 2), reading).await;
}
