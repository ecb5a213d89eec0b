//! Which kind of failure an error of the HTTP client is, said in a sentence without URLs.

use std::error::Error;
use std::io;

use chrono::DateTime;
use http::StatusCode;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use super::guard::Blocked;
use crate::domain::failure::{Failure, FailureKind};

/// Why no answer came.
pub(super) fn without_answer(error: reqwest::Error, is_tls: bool) -> Failure {
    // The URL may have a secret in its query.
    let error = error.without_url();
    let (kind, what) = kind_of(&error, is_tls);
    let why = chain(&error).find_map(out_of_its_time).unwrap_or_else(|| root_cause(&error));
    Failure { kind, status: None, detail: format!("{what}: {why}") }
}

/// Why a body did not arrive whole.
pub(super) fn in_body(error: reqwest::Error, status: StatusCode) -> Failure {
    let error = error.without_url();
    let broke_off = has_cause::<hyper::Error>(&error, |_| true);
    let what = if broke_off { "the body broke off before its end" } else { "the body can't be decompressed" };
    Failure {
        kind: FailureKind::Truncated,
        status: Some(status.as_u16()),
        detail: format!("{what}: {}", root_cause(&error)),
    }
}

/// Why a URL is not asked.
pub(super) fn blocked(why: &Blocked) -> Failure {
    Failure { kind: FailureKind::Blocked, status: None, detail: format!("{NOT_ASKED}: {why}") }
}

const NOT_ASKED: &str = "the host is not asked";

fn kind_of(error: &reqwest::Error, is_tls: bool) -> (FailureKind, &'static str) {
    if error.is_builder() {
        return (FailureKind::BadRequest, "no request can be made of this URL");
    }
    if has_cause::<Blocked>(error, |_| true) {
        return (FailureKind::Blocked, NOT_ASKED);
    }
    if has_cause::<rustls::Error>(error, |_| true) {
        return (FailureKind::Tls, "no secure connection could be made");
    }
    if error.is_dns() {
        return (FailureKind::Dns, "the host name could not be resolved");
    }
    if error.is_connect() {
        // TCP gets refused or finds no way; what breaks off after that does so in the handshake.
        return if is_tls && has_cause::<io::Error>(error, breaks_off) {
            (FailureKind::Tls, "the TLS handshake broke off")
        } else {
            (FailureKind::Connect, "no connection could be made")
        };
    }
    if has_cause(error, hyper::Error::is_parse) {
        return (FailureKind::Broken, "the answer is not valid HTTP");
    }
    (FailureKind::Broken, "the connection broke before the answer's headers were complete")
}

/// When a certificate expired, or begins. rustls tells it in seconds since 1970, and the time of asking, which would make each
/// failure another one.
fn out_of_its_time(error: &(dyn Error + 'static)) -> Option<String> {
    let rustls::Error::InvalidCertificate(why) = error.downcast_ref()? else { return None };
    let at = |time: UnixTime| DateTime::from_timestamp(i64::try_from(time.as_secs()).ok()?, 0);
    match why {
        CertificateError::ExpiredContext { not_after, .. } => {
            Some(format!("the server's certificate expired at {}", at(*not_after)?.to_rfc3339()))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            Some(format!("the server's certificate is not valid before {}", at(*not_before)?.to_rfc3339()))
        }
        _ => None,
    }
}

fn breaks_off(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | InvalidData | ConnectionReset | ConnectionAborted | BrokenPipe)
}

/// Whether one of the causes is an error of this type that fits.
fn has_cause<E: Error + 'static>(error: &(dyn Error + 'static), fits: impl Fn(&E) -> bool) -> bool {
    chain(error).filter_map(|cause| cause.downcast_ref()).any(fits)
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
