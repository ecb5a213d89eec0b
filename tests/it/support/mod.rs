//! What tests stand on.

pub mod outcomes;
pub mod store;
