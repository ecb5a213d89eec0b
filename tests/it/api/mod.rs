//! The read API over real sockets.

mod access;
mod bad_input;
mod connection;
mod cors;
mod encoding;
mod errors;
mod feed;
mod keys;
mod listing;
mod pond;
mod reading;
mod serving;
mod status;
mod validation;
