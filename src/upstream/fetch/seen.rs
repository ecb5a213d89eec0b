//! What is seen of an exchange that brings no content.

use std::time::Instant;

use chrono::{DateTime, SecondsFormat, Utc};
use http::StatusCode;
use reqwest::Response;

use super::body;
use crate::domain::failure::{Failure, FailureKind};
use crate::domain::observation::Seen;
use crate::upstream::auth::NoToken;
use crate::upstream::gate::Halt;

/// A redirect that is not to be followed before then.
pub(super) async fn left_for_later(mut response: Response, until: DateTime<Utc>, deadline: Instant) -> Seen {
    body::drain(&mut response, deadline).await;
    let (status, until) = (response.status().as_u16(), until.to_rfc3339_opts(SecondsFormat::Secs, true));
    let detail = format!("the upstream redirects ({status}), and wants to be asked nothing more before {until}");
    refused(&mut response, FailureKind::Redirect, detail)
}

/// An answer that brings no content.
pub(super) fn refused(response: &mut Response, kind: FailureKind, detail: String) -> Seen {
    let status = response.status();
    let failure = Failure { kind, status: Some(status.as_u16()), detail };
    Seen::Refused { status, headers: std::mem::take(response.headers_mut()), failure }
}

/// No whole answer.
pub(super) fn not_reached(kind: FailureKind, status: Option<StatusCode>, detail: String) -> Seen {
    Seen::Unreachable { failure: Failure { kind, status: status.map(|status| status.as_u16()), detail } }
}

/// What is seen of an upstream that there is no access token for.
pub(super) fn without_token(none: NoToken) -> Result<Seen, Halt> {
    match none {
        NoToken::Failed(failure) => Ok(Seen::Unreachable { failure }),
        NoToken::NoPass(no_pass) => Ok(not_reached(FailureKind::Limited, None, no_pass.too_late()?)),
    }
}

/// Whether an answer can be taken for a sign that the upstream knew who asked. One that was too busy did not look.
pub(super) fn speaks_of_the_resource(status: StatusCode) -> bool {
    !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS
}
