//! What Headpond knows and decides: pure values and functions. Nothing in here is async, does I/O, reads a clock or
//! draws a random number; whatever a decision needs is an argument.

pub mod archive;
pub mod batch;
pub mod body_template;
pub mod budget;
pub mod cache_control;
pub mod change;
pub mod collection;
pub mod content;
pub mod decision;
pub mod directive;
pub mod failure;
pub mod fingerprint;
pub mod freshness;
pub mod governor;
pub mod hop_by_hop;
pub mod json_path;
pub mod limit;
pub mod network;
pub mod observation;
pub mod origin;
pub mod policy;
pub mod project;
pub mod read_state;
pub mod refused;
pub mod resource;
pub mod retry_after;
pub mod row_query;
pub mod schedule;
pub mod snapshot;
pub mod table;
pub mod table_change;
pub mod template;
pub mod terms;
pub mod time;
pub mod validators;
