//! Which kind of failure an error of the HTTP client is, said in a sentence without URLs.

use std::error::Error;
use std::io;

use http::StatusCode;

use crate::domain::failure::{Failure, FailureKind};

/// Why no answer came.
pub(super) fn without_answer(error: reqwest::Error, is_tls: bool) -> Failure {
    // The URL may have a secret in its query.
    let error = error.without_url();
    let (kind, what) = kind_of(&error, is_tls);
    Failure { kind, status: None, detail: format!("{what}: {}", root_cause(&error)) }
}

/// Why a body did not arrive whole.
pub(super) fn in_body(error: reqwest::Error, status: StatusCode) -> Failure {
    let error = error.without_url();
    let broke_off = find::<hyper::Error>(&error).is_some();
    let what = if broke_off { "the body broke off before its end" } else { "the body can't be decompressed" };
    Failure {
        kind: FailureKind::Truncated,
        status: Some(status.as_u16()),
        detail: format!("{what}: {}", root_cause(&error)),
    }
}

fn kind_of(error: &reqwest::Error, is_tls: bool) -> (FailureKind, &'static str) {
    if error.is_builder() {
        return (FailureKind::BadRequest, "no request can be made of this URL");
    }
    if find::<rustls::Error>(error).is_some() {
        return (FailureKind::Tls, "no secure connection could be made");
    }
    if error.is_dns() {
        return (FailureKind::Dns, "the host name could not be resolved");
    }
    if error.is_connect() {
        return match find::<io::Error>(error).map(io::Error::kind) {
            // TCP gets refused or finds no way; what breaks off after that does so in the handshake.
            Some(kind) if is_tls && breaks_off(kind) => (FailureKind::Tls, "the TLS handshake broke off"),
            _ => (FailureKind::Connect, "no connection could be made"),
        };
    }
    match find::<hyper::Error>(error) {
        Some(http) if http.is_parse() => (FailureKind::Broken, "the answer is not valid HTTP"),
        _ => (FailureKind::Broken, "the connection broke before the answer's headers were complete"),
    }
}

fn breaks_off(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, UnexpectedEof};
    matches!(kind, UnexpectedEof | InvalidData | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// The first error of this type on the way to the root.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    chain(error).find_map(|cause| cause.downcast_ref())
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// The error and its causes.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

/// The next cause. Unlike `source`, it doesn't step over the error that an `io::Error` was made from.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(made_from) => Some(made_from),
        None => error.source(),
    }
}
