//! The read API over real sockets.

mod access;
mod bad_input;
mod bounds;
mod connection;
mod cors;
mod encoding;
mod errors;
mod events;
mod feed;
mod keys;
mod listing;
mod pond;
mod reading;
mod refreshing;
mod serving;
mod status;
mod terms;
mod validation;
mod waiting;
