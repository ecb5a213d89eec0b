//! Asks upstreams: one conditional request for one resource, and what came of it as an
//! [`Observation`](crate::domain::observation::Observation). Whatever an upstream or the network does is data here; only
//! a fault of our own store is an error.
//!
//! | file | what it knows |
//! |---|---|
//! | [`fetch`] | one exchange from the gate to the last byte: deadline, redirects, what each status means |
//! | [`gate`] | when a request may be sent: tokens and leases |
//! | `request` | the header fields that are sent, and which of them are secret |
//! | `redirect` | where a redirect leads, and whether we go there |
//! | `body` | reading a body up to its cap |
//! | `trouble` | which [`FailureKind`](crate::domain::failure::FailureKind) an error of the HTTP client is |
//! | `progress` | how far an exchange has come, for telling where a timeout struck |
//! | `client` | how the HTTP client is set up |
//! | `fetchers` | which upstream's clients and credentials are used |
//! | `guard` | which addresses are asked, where private networks are blocked |
//! | `auth` | what an upstream is shown, and the access tokens for it |
//!
//! # How long things can take
//!
//! ```text
//! claim ──(wait to send: at most LONGEST_WAIT)── sent ──(at most timeout)── last byte ──(SETTLE)── applied
//! └────────────────────────────── lease_for(timeout) ──────────────────────────────────────────────────┘
//! ```
//!
//! `timeout` begins when the gate lets the first request pass, and covers everything from connecting to the last byte,
//! redirects and the tokens for them included. A worker sends nothing that could not be settled within its lease.
//!
//! An access token that must be asked for is waited for before the gate, so that neither the deadline nor the rate's token
//! runs meanwhile.
//!
//! # Credentials
//!
//! They go to the origins of the config's templates, and to each hop of a redirect there. Where a redirect leads to another
//! origin, which the configuration must name, neither they nor any configured header field goes along, nor do they come back. A query parameter is put into the
//! URL when the request is sent, and taken out of what a redirect says, so that no URL that is kept or compared has it.
//! After a 401 an access token is replaced once and the request sent once more, for a token of its own from the gate.
//! Requests to a token endpoint elsewhere are not counted against the upstream's limits: there is one for each life of a
//! token. One on the upstream's own origin is.
//!
//! # One token, one request
//!
//! Nothing is ever sent twice for one token. The client follows no redirects and repeats nothing by itself. One thing in
//! its connection pool looks like a repetition and is none: a request that was given a kept-alive connection which turns
//! out to be closed before its first byte was written is given another connection. As soon as a byte may have been
//! written, a closed connection is a failure of kind `broken`.
//!
//! A token is used up when its request is handed to the client, within
//! [send window](crate::domain::limit::Limits::send_window) of its grant. Where a connection must be made first, the request
//! reaches the upstream later by what that takes.
//!
//! Kept-alive connections are dropped after a few idle seconds, before the servers in use close them (Node.js and Apache
//! after 5 s, nginx after 75 s), so that requests and closings seldom meet on the way.

mod auth;
mod body;
mod client;
mod courier;
pub mod fetch;
mod fetchers;
pub mod gate;
mod guard;
mod progress;
mod quiet;
mod redirect;
mod request;
mod trouble;

pub use client::BadClient;
pub use courier::{Courier, Message};
pub use fetch::{Exchange, FetchRequest, Fetcher, Hop};
pub use fetchers::Fetchers;
pub use gate::{Advice, Gate, Halt, NoPass, OpenGate, TokenGate};
pub use quiet::Quiet;
pub use request::shown;

use std::time::Duration;

/// How long a claimed resource may wait to be sent. Claims bring their tokens along, so it waits only when this machine
/// was too busy to send in time and another token must be taken.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// The time kept at the end of a lease for deciding and committing.
pub const SETTLE: Duration = Duration::from_secs(10);

/// How long a lease must last for requests with this total deadline.
#[must_use]
pub fn lease_for(timeout: Duration) -> Duration {
    LONGEST_WAIT.saturating_add(timeout).saturating_add(SETTLE)
}
