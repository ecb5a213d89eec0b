//! Settings from environment variables.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use headpond::config::{Config, Environment, load};
use headpond::domain::schedule::Cadence;
use secrecy::ExposeSecret;

use super::{Outside, now};

/// A file with an upstream and two sources, and nothing that a variable would have to leave alone.
const FILE: &str = "\
[server]
listen = '127.0.0.1:1'
[upstreams.metno]
requests_per_second_limit = 1
[sources.weather]
upstream = 'metno'
url = 'http://localhost/{key}'
keys = ['a', 'b']
refresh_every = '1h'
[sources.a__b]
url = 'http://localhost/{key}'
keys = ['a']
refresh_cron = '0 3 * * *'
";

/// What is read with these variables, or all that is wrong.
fn with(variables: &[(&'static str, &'static str)]) -> Result<Config, String> {
    let outside =
        Outside { variables: variables.iter().copied().collect(), files: HashMap::from([("c.toml", FILE.into())]) };
    load(Path::new("c.toml"), &outside, now()).map(|loaded| loaded.config).map_err(|errors| errors.to_string())
}

fn errors(variables: &[(&'static str, &'static str)]) -> String {
    with(variables).map_or_else(|errors| errors, |_| String::new())
}

#[test]
fn a_variable_wins_over_the_file_in_every_table() {
    let config = with(&[
        ("HEADPOND__SERVER__LISTEN", "127.0.0.1:2"),
        ("HEADPOND__DATABASE__URL", "sqlite://elsewhere.db"),
        ("HEADPOND__DEFAULTS__TIMEOUT", "7s"),
        ("HEADPOND__UPSTREAMS__METNO__REQUESTS_PER_SECOND_LIMIT", "5.5"),
        ("HEADPOND__SOURCES__WEATHER__REFRESH_EVERY", "10m"),
        ("headpond_and_other_names", "are nobody's affair"),
        ("HEADPOND_LOG", "debug"),
    ])
    .unwrap();
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.database.url.expose_secret(), "sqlite://elsewhere.db", "also where the file has no such table");
    assert_eq!(config.upstreams["metno"].limits.requests_per_second, Some(5.5));
    let weather = &config.sources[1];
    assert!(matches!(weather.policy.cadence, Cadence::Every(every) if every == Duration::from_secs(600)));
    assert_eq!(weather.request.timeout, Duration::from_secs(7));
}

#[test]
fn names_are_found_in_any_case_and_with_underscores_in_them() {
    let config =
        with(&[("HEADPOND__Sources__A__B__timeout", "3s"), ("HEADPOND__sources__weather__max_body", "1KB")]).unwrap();
    let [strange, weather] = &config.sources[..] else { panic!("two sources") };
    assert_eq!((strange.request.timeout, weather.request.max_body), (Duration::from_secs(3), 1000));
}

#[test]
fn text_needs_no_quotes_and_everything_else_is_as_in_the_file() {
    let config = with(&[
        ("HEADPOND__DEFAULTS__USER_AGENT", "123"),
        ("HEADPOND__SERVER__ALLOW_ANONYMOUS_READS", "true"),
        ("HEADPOND__DATABASE__READERS", "1_0"),
        ("HEADPOND__SOURCES__WEATHER__KEYS", "[\"x\", { key = \"y\" }, 5.50]"),
        ("HEADPOND__SOURCES__WEATHER__IGNORE_CHANGES_IN", "['$.at']"),
        ("HEADPOND__SOURCES__WEATHER__HEADERS", "{ x-one = 'Bearer 1' }"),
        ("HEADPOND__SOURCES__A__B__REFRESH_CRON", "7 * * * *"),
        ("HEADPOND__SOURCES__A__B__TIMEZONE", "Europe/Berlin"),
    ])
    .unwrap();
    let [strange, weather] = &config.sources[..] else { panic!("two sources") };
    assert_eq!(weather.request.user_agent, "123");
    assert_eq!(config.database.readers, 10);
    assert_eq!(weather.keys.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["x", "y", "5.50"]);
    assert_eq!(weather.policy.ignore_changes_in.len(), 1);
    assert!(weather.request.headers["x-one"].is_sensitive(), "what comes from outside may be a secret");
    assert_eq!(strange.policy.cadence.to_string(), "at 7 * * * * Europe/Berlin");
}

#[test]
fn references_are_put_into_a_variable_too() {
    let config = with(&[("HEADPOND__SERVER__LISTEN", "127.0.0.1:${env:PORT}"), ("PORT", "81")]).unwrap();
    assert_eq!(config.server.listen.port(), 81);
}

#[test]
fn a_variable_for_no_setting_is_told_the_nearest() {
    for (variable, near) in [
        ("HEADPOND__SERVER__LISTN", "HEADPOND__SERVER__LISTEN"),
        ("HEADPOND__SERVER_LISTEN", "HEADPOND__SERVER__LISTEN"),
        ("HEADPOND__SOURCES__WEATHR__REFRESH_EVERY", "HEADPOND__SOURCES__WEATHER__REFRESH_EVERY"),
        ("HEADPOND__UPSTREAMS__METNO__REQUEST_PER_SECOND", "HEADPOND__UPSTREAMS__METNO__REQUESTS_PER_SECOND_LIMIT"),
    ] {
        assert_eq!(
            errors(&[(variable, "1")]),
            format!("{variable}: there is no such setting; did you mean `{near}`?"),
            "{variable}"
        );
    }
    let far = errors(&[("HEADPOND__X", "1")]);
    assert!(far.starts_with("HEADPOND__X: there is no such setting; "), "{far}");
}

#[test]
fn an_error_names_the_variable_and_what_would_be_right() {
    for (variable, value, said) in [
        (
            "HEADPOND__SERVER__LISTEN",
            "here",
            "server.listen = here: not an IP address with a port; write it like \"127.0.0.1:8080\"",
        ),
        (
            "HEADPOND__DATABASE__READERS",
            "many",
            "database.readers = many: text, not a whole number of at least 1; write it like 4",
        ),
        (
            "HEADPOND__SOURCES__WEATHER__REFRESH_EVERY",
            "15",
            "sources.weather.refresh_every = 15: a number without a unit of time; write it like \"15m\"",
        ),
        (
            "HEADPOND__SOURCES__WEATHER__KEYS",
            "['a', 'b', 'a']",
            "sources.weather.keys = 'a': listed twice, first in HEADPOND__SOURCES__WEATHER__KEYS; list each key once",
        ),
        (
            "HEADPOND__SOURCES__WEATHER__REFRESH_CRON",
            "0 3 * * *",
            "sources.weather.refresh_cron = 0 3 * * *: refresh_every is set too; keep one of the two",
        ),
    ] {
        assert_eq!(errors(&[(variable, value)]), format!("{variable}: {said}"));
    }
}

#[test]
fn errors_of_the_file_keep_their_places() {
    let said =
        errors(&[("HEADPOND__SERVER__LISTN", "1"), ("HEADPOND__SOURCES__WEATHER__URL", "http://localhost/{lat}")]);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("HEADPOND__SERVER__LISTN: "), "{said}");
    assert!(lines[1].starts_with("c.toml:8:9: sources.weather.keys = 'a': `url` needs a value for {lat}"), "{said}");
}

#[test]
fn no_error_shows_what_may_be_a_secret() {
    for (variable, value) in [
        ("HEADPOND__SOURCES__WEATHER__URL", "http://localhost/canary/{+key}?token=canary"),
        ("HEADPOND__DATABASE__URL", "mysql://me:canary@db/app"),
        ("HEADPOND__SOURCES__WEATHER__HEADERS", "{ authorization = \"canary\\n\" }"),
        ("HEADPOND__SERVER__READ_TOKENS", "['canary']"),
        ("HEADPOND__SERVER__READ_TOKENS", "canary"),
    ] {
        let said = errors(&[(variable, value)]);
        assert!(said.starts_with(&format!("{variable}: ")) && !said.contains("canary"), "{said}");
    }
    let config = with(&[("HEADPOND__SOURCES__WEATHER__URL", "http://localhost/canary/{key}")]).unwrap();
    assert!(config.sources[1].url.has_secret_path(), "and neither does any command");
}

#[test]
fn two_variables_for_one_setting_are_an_error() {
    let said = errors(&[("HEADPOND__SERVER__LISTEN", "127.0.0.1:2"), ("HEADPOND__server__listen", "127.0.0.1:3")]);
    assert_eq!(
        said,
        "HEADPOND__server__listen: the variable `HEADPOND__SERVER__LISTEN` is the same setting; keep one of them"
    );
}

#[test]
fn a_value_that_is_no_text_is_an_error() {
    struct Bytes;

    impl Environment for Bytes {
        fn variable(&self, _: &str) -> Option<OsString> {
            Some(OsString::from_vec(vec![0xff]))
        }

        fn names(&self) -> Vec<OsString> {
            vec!["HEADPOND__SERVER__LISTEN".into(), OsString::from_vec(b"HEADPOND__\xff".to_vec())]
        }

        fn file(&self, _: &Path) -> io::Result<Vec<u8>> {
            Ok(FILE.into())
        }
    }

    let errors = load(Path::new("c.toml"), &Bytes, now()).unwrap_err();
    assert_eq!(errors.to_string(), "HEADPOND__SERVER__LISTEN: not UTF-8 text");
}
