//! Everything that a request can fail with, and the one map from it to a response.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use super::bounds::Bound;
use super::history::NoVersion;
use super::missing::{Missing, MissingBecause};
use super::problem::Problem;
use super::reload::NotReloaded;
use super::resource_path::ResourcePath;
use crate::domain::resource::{BadKey, SourceName};
use crate::store::StoreError;

/// Seconds after which to ask again when we can't know better.
const SOON: u64 = 5;

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub enum ApiError {
    /// No route has this path.
    UnknownRoute {
        /// The path.
        path: String,
    },
    /// The path is there, but not for this method.
    MethodNotAllowed {
        /// The method.
        method: Method,
    },
    /// No token, or none that there is.
    Unauthorized,
    /// Not for this caller.
    Forbidden(Forbidden),
    /// The path, percent-decoded, is not UTF-8.
    UnreadablePath,
    /// There can be no such key.
    BadKey {
        /// Why.
        reason: BadKey,
    },
    /// A query parameter is wrong, or not one of the route's.
    BadParameter {
        /// Its name.
        parameter: String,
        /// The value that was given.
        value: String,
        /// What would be right, in a sentence.
        expected: String,
    },
    /// No source has this name.
    UnknownSource {
        /// The name.
        source: String,
    },
    /// The source has no such key.
    UnknownKey(ResourcePath),
    /// The key is known, but there is no content to answer with, or none that the request wants.
    Missing(Box<Missing>),
    /// There is no such version of it.
    Version(Box<NoVersion>),
    /// The key is not polled any more, so it can't be refreshed.
    NotPolled(ResourcePath),
    /// The body is not what the route takes.
    BadBody {
        /// What would be right, in a sentence.
        expected: &'static str,
    },
    /// The source can't ask for such a key.
    UnusableKey {
        /// The key.
        path: ResourcePath,
        /// Why, in words.
        why: String,
    },
    /// Readers have asked for more keys that nobody listed than the source allows in a minute.
    TooManyNewKeys {
        /// The source.
        source: SourceName,
        /// Seconds after which to ask again.
        retry_after: u64,
    },
    /// It is not erased, so there is nothing to allow.
    NotErased(ResourcePath),
    /// The key was not added by hand, so it can't be removed like that.
    ListedElsewhere {
        /// The key.
        path: ResourcePath,
        /// Where it comes from.
        origins: Vec<String>,
    },
    /// Accept-Encoding refuses whatever could be sent.
    NotAcceptable,
    /// If-Match or If-Unmodified-Since asked for other content than there is.
    PreconditionFailed,
    /// A header field is wrong.
    BadField {
        /// Its name.
        field: &'static str,
        /// What would be right, in a sentence.
        expected: &'static str,
    },
    /// As many answers that go on for long are under way as there may be.
    TooManyStreams {
        /// So many.
        most: usize,
    },
    /// The source's table is still being made.
    TableNotReady,
    /// The feed no longer has this place, or never had it.
    UnknownCursor,
    /// Some source has not tried each of its keys yet.
    NotReady,
    /// The configuration could not be read again.
    NotReloaded(NotReloaded),
    /// The store failed.
    Store(StoreError),
    /// The answer took longer than a request may take.
    TimedOut,
    /// A handler panicked.
    Panicked,
}

/// Why a request is refused, whoever sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forbidden {
    /// The token is good, but for something else.
    OtherToken,
    /// There are no admin tokens, and more than this machine can reach us.
    NoAdminTokens,
    /// There are no admin tokens, and a web page sent this.
    WebPage,
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Self::Store(error) = &self {
            // What exactly is wrong with the database is for its operator, not for readers.
            tracing::error!(%error, "a request failed because the store did");
        }
        self.problem().into_response()
    }
}

impl ApiError {
    /// Of a key of which nothing is stored, for who wants no request made.
    pub(super) fn not_cached(path: ResourcePath) -> Self {
        Self::missing(path, MissingBecause::Bound(Bound::OnlyIfCached))
    }

    /// Of a key of which nothing more is to be told than this.
    pub(super) fn missing(path: ResourcePath, because: MissingBecause) -> Self {
        Self::Missing(Box::new(Missing { path, because, fields: HeaderMap::new() }))
    }

    fn problem(self) -> Problem {
        match self {
            Self::UnknownRoute { path } => {
                let detail = "Nothing is served under this path. Resources are under /v1/{source}/{key}; a `/` in a key is \
                              written %2F.";
                Problem::new(StatusCode::NOT_FOUND, "unknown-route", "Unknown route", detail).with("path", path)
            }
            Self::MethodNotAllowed { method } => {
                let detail = format!("{method} is not possible here; the Allow header says what is.");
                Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed", detail)
            }
            Self::Unauthorized => {
                let detail = "This needs a token that the configuration lists, sent as `Authorization: Bearer TOKEN`.";
                // RFC 6750 §3. Without an error code: whether a token was missing or wrong is not for guessers.
                Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Unauthorized", detail)
                    .with_field(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
            }
            Self::Forbidden(why) => Problem::new(StatusCode::FORBIDDEN, "forbidden", "Forbidden", why.detail()),
            Self::UnreadablePath => bad_request(
                "unreadable-path",
                "Unreadable path",
                "The path, percent-decoded, must be UTF-8, and it is not.",
            ),
            Self::BadKey { reason } => {
                bad_request("impossible-key", "Impossible key", format!("There is no such key: {reason}."))
            }
            Self::BadParameter { parameter, value, expected } => bad_parameter(parameter, value, expected),
            Self::UnknownSource { source } => {
                let detail = format!("There is no source `{source}` in the configuration.");
                Problem::new(StatusCode::NOT_FOUND, "unknown-source", "Unknown source", detail).with("source", source)
            }
            Self::TableNotReady => table_not_ready(),
            Self::UnknownKey(path) => {
                let detail = format!("The source `{}` has no such key.", path.source);
                about(&path, Problem::new(StatusCode::NOT_FOUND, "unknown-key", "Unknown key", detail))
            }
            Self::Missing(missing) => missing.problem(),
            Self::Version(missing) => missing.problem(),
            Self::NotPolled(path) => {
                let detail = "The configuration no longer has this key, so it is not refreshed. What there is of it is served \
                              until its retention ends.";
                about(&path, Problem::new(StatusCode::CONFLICT, "not-polled", "Not polled", detail))
            }
            Self::BadBody { expected } => bad_request("bad-body", "Bad body", format!("The body is wrong: {expected}")),
            Self::UnusableKey { path, why } => {
                let detail = format!("The source `{}` can't ask for this key: {why}.", path.source);
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                about(&path, Problem::new(status, "unusable-key", "Unusable key", detail))
            }
            Self::TooManyNewKeys { source, retry_after } => too_many_new_keys(&source, retry_after),
            Self::NotErased(path) => not_erased(&path),
            Self::ListedElsewhere { path, origins } => listed_elsewhere(&path, origins),
            Self::NotAcceptable => {
                let detail = "Accept-Encoding refuses everything that could be sent: leave `identity` possible, or accept \
                              gzip, br or zstd.";
                Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "Not acceptable", detail)
            }
            Self::PreconditionFailed => {
                let detail = "The content is not what If-Match or If-Unmodified-Since asks for.";
                Problem::new(StatusCode::PRECONDITION_FAILED, "precondition-failed", "Precondition failed", detail)
            }
            Self::BadField { field, expected } => {
                let detail = format!("The header field {field} is wrong: {expected}");
                bad_request("bad-field", "Bad header field", detail).with("field", field).with("expected", expected)
            }
            Self::TooManyStreams { most } => {
                let detail = format!("There are {most} streams already, as many as `max_streams` allows.");
                unavailable("too-many-streams", "Too many streams", &detail, SOON)
            }
            Self::UnknownCursor => {
                let detail = "The feed does not have this place: it is older than what is kept, or of another database. \
                              Resync from the list, then follow the feed from its present end.";
                Problem::new(StatusCode::GONE, "unknown-cursor", "Unknown cursor", detail)
            }
            Self::NotReady => {
                let detail = "Not every source has tried each of its keys once. This passes by itself.";
                unavailable("not-ready", "Not ready", detail, SOON)
            }
            Self::NotReloaded(NotReloaded::Invalid(errors)) => {
                let detail = "The configuration file is wrong. The old configuration stays in force.";
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "bad-configuration", "Bad configuration", detail)
                    .with("errors", errors)
            }
            Self::NotReloaded(NotReloaded::Unavailable(why)) => unavailable(
                "not-reloaded",
                "Not reloaded",
                &format!("The configuration was not reloaded: {why}."),
                SOON,
            ),
            Self::Store(error) if error.is_passing() => {
                let detail = "The database can't be used at the moment. The log says why.";
                unavailable("store-unavailable", "Store unavailable", detail, SOON)
            }
            // Asking again would not help: no Retry-After.
            Self::Store(_) => internal("The database holds or answered something unusable. The log says what."),
            Self::TimedOut => {
                let detail = "The answer took longer than `request_timeout`. The database may be overloaded or locked.";
                unavailable("timed-out", "Timed out", detail, SOON)
            }
            Self::Panicked => internal("This is a fault in Headpond. The log says where."),
        }
    }
}

impl Forbidden {
    fn detail(self) -> &'static str {
        match self {
            Self::OtherToken => "The token is not one of those that this is for.",
            Self::NoAdminTokens => {
                "This needs an admin token, and none is configured: set server.admin_tokens. (Without them it is possible \
                 only while server.listen is this machine's own address.)"
            }
            Self::WebPage => {
                "This came from a web page, and without an admin token nobody can tell who wants it: set \
                 server.admin_tokens, or name the page's origin in server.cors_origins."
            }
        }
    }
}

fn bad_parameter(parameter: String, value: String, expected: String) -> Problem {
    let detail = format!("The query parameter `{parameter}` is wrong: {expected}");
    bad_request("bad-parameter", "Bad query parameter", detail)
        .with("parameter", parameter)
        .with("value", value)
        .with("expected", expected)
}

fn bad_request(kind: &str, title: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, kind, title, detail)
}

pub(super) fn unavailable(kind: &str, title: &'static str, detail: &str, retry_after: u64) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, kind, title, detail).with_field(header::RETRY_AFTER, retry_after)
}

fn internal(detail: &str) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error", detail)
}

fn too_many_new_keys(source: &SourceName, retry_after: u64) -> Problem {
    let detail = "Readers have asked for as many new keys of this source as it allows in a minute. Keys that are known are \
                  answered as always.";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-new-keys", "Too many new keys", detail)
        .with("source", source.as_str())
        .with_field(header::RETRY_AFTER, retry_after)
}

fn not_erased(path: &ResourcePath) -> Problem {
    let detail = "The key is not erased, so there is nothing to allow.";
    about(path, Problem::new(StatusCode::CONFLICT, "not-erased", "Not erased", detail))
}

fn listed_elsewhere(path: &ResourcePath, origins: Vec<String>) -> Problem {
    let detail = format!(
        "The key was not added by hand: it comes from {}, and is polled until it is taken out there.",
        origins.join(", ")
    );
    let problem = Problem::new(StatusCode::CONFLICT, "listed-elsewhere", "Listed elsewhere", detail);
    about(path, problem).with("origins", origins)
}

pub(super) fn about(path: &ResourcePath, problem: Problem) -> Problem {
    problem.with("source", path.source.as_str()).with("key", path.key.as_str())
}

fn table_not_ready() -> Problem {
    let detail = "The table of this source is still being made of the stored copies.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "table-not-ready", "Table not ready", detail)
        .with_field(header::RETRY_AFTER, HeaderValue::from(SOON))
}
