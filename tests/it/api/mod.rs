//! The read API over real sockets.

mod connection;
mod serving;
