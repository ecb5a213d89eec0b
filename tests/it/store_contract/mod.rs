//! What the store promises, on each database. Every method of the trait appears.

mod applies;
mod archive;
mod authority;
mod census;
mod claims;
mod databases;
mod feed;
mod gone;
mod hasten;
mod keys;
mod letter;
mod limits;
mod listing;
mod origins;
mod pauses;
mod postgres_servers;
mod prune;
mod reads;
mod refusals;
mod reloads;
mod sqlite_files;
mod status;
mod tables;
mod walks;
mod wishes;
