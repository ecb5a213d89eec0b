//! The demo's configuration: written as a user would write it, and read as any other.

use std::ffi::OsString;
use std::fmt::Write;
use std::io;
use std::path::Path;

use super::Site;
use super::upstream::{cities::CITIES, users};
use crate::config::Environment;

/// The limit group of the demo's sources. A database whose sources have another is not the demo's.
pub const UPSTREAM: &str = "simulated";

/// The text of the configuration, for a database at this URL.
#[must_use]
pub fn text(site: &Site, database_url: &str) -> String {
    let Site { api, upstream, .. } = site;
    let database = quoted(database_url);
    let cities = list(CITIES.iter().map(|city| city.key.to_owned()));
    let users = list((0..users::USERS).map(users::key));
    format!(
        "\
# The configuration of `headpond demo`: {cities_count} cities and {users_count} users of a simulated upstream.

[server]
listen = \"{api}\"
shutdown_grace = \"3s\"

[database]
url = {database}

[upstreams.{UPSTREAM}]
requests_per_second_limit = 200
max_concurrent_requests = 32
timeout = \"5s\"
# Its refusals are dice, and each is about one key.
pause_scope = \"key\"

# A forecast is new every 20 to 60 seconds.
[sources.weather]
upstream = \"{UPSTREAM}\"
url = \"http://{upstream}/weather/{{key}}\"
refresh_every = \"10s\"
stale_after = \"20s\"
keys = {cities}

# A profile changes about every 5 minutes.
[sources.users]
upstream = \"{UPSTREAM}\"
url = \"http://{upstream}/users/{{key}}\"
refresh_every = \"30s\"
stale_after = \"45s\"
keys = {users}
",
        cities_count = CITIES.len(),
        users_count = users::USERS,
    )
}

/// A TOML string. JSON's escapes are among TOML's; `${` would otherwise stand for something outside.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace("${", "$${")
}

/// A TOML array, ten keys to a line.
fn list(keys: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for (index, key) in keys.enumerate() {
        let before = if index % 10 == 0 { "\n    " } else { " " };
        // Writing to a String can't fail.
        _ = write!(text, "{before}\"{key}\",");
    }
    text + "\n]"
}

/// The surroundings of a configuration that is no file: its text, and nothing else.
#[derive(Debug)]
pub struct Text(pub String);

impl Environment for Text {
    fn variable(&self, _: &str) -> Option<OsString> {
        None
    }

    fn file(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::load;

    #[test]
    fn it_is_a_configuration_without_a_warning_whatever_the_database_is_called() {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for url in ["sqlite://headpond-demo.db", "sqlite:///tmp/a \"b\"\\ä$${env:X} ${env:Y}.db"] {
            let site =
                Site { api: loopback(8080), upstream: loopback(8081), database: String::new(), program: String::new() };
            let now = "2026-03-01T12:00:00Z".parse().unwrap();
            let loaded = load(Path::new("demo"), &Text(text(&site, url)), now).unwrap();
            assert_eq!(loaded.warnings, []);
            assert_eq!(loaded.config.database.url.expose_secret(), url);
            let keys: Vec<usize> = loaded.config.sources.iter().map(|source| source.keys.len()).collect();
            assert_eq!(keys, [2000, 200]);
        }
    }
}
