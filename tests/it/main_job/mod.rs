//! The main job, as a user does it: the real binary, a real nginx with files that nobody here serves, and both databases.

mod concurrent;
mod crash;
mod outage;
mod poll;

use crate::support::store::Database;

/// How many files stand behind nginx.
const FILES: u32 = 10_000;

/// A configuration for `count` JSON files behind nginx. `more` goes into the source.
fn config(database: &Database, origin: &str, count: u32, defaults: &str, more: &str) -> String {
    let keys: Vec<_> = (1..=count).map(|key| format!("\"{key}\"")).collect();
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n[defaults]\n\
         {defaults}\n[sources.users]\nurl = \"{origin}/users/{{key}}.json\"\nkeys = [{}]\n{more}\n",
        database.url(),
        keys.join(", ")
    )
}
