//! The read API over real sockets.

mod access;
mod connection;
mod errors;
mod feed;
mod keys;
mod pond;
mod reading;
mod serving;
mod validation;
