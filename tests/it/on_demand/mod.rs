//! Keys that exist because someone reads them, and copies that are refreshed because someone reads them: the whole program.

mod first_reads;
mod refused;
mod staying;
mod together;

use std::time::Duration;

use crate::support::program::{Headpond, Printed};
use crate::support::store::Database;

/// No test waits longer for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration with the source `users`, whose readers may ask for keys; `more` goes into it.
pub fn config(database: &Database, origin: &str, more: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[database]\nurl = \"{}\"\n\
         [sources.users]\nurl = \"{origin}/users/{{key}}.json\"\n{more}\n",
        database.url()
    )
}

/// Status, Cache-Status and body of an answer.
pub async fn read(client: &reqwest::Client, url: String) -> (u16, String, String) {
    let answer = client.get(url).send().await.unwrap();
    let way = answer.headers().get("cache-status").map(|way| way.to_str().unwrap().to_owned());
    (answer.status().as_u16(), way.unwrap_or_default(), answer.text().await.unwrap())
}

/// The lines of `headpond keys list`.
pub async fn listed(headpond: &Headpond) -> Vec<String> {
    let Printed { stdout, .. } = headpond.run(&["keys", "list", "users"]).await;
    stdout.lines().map(str::to_owned).collect()
}
