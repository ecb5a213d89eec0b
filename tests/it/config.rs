//! What is read from a configuration, and what is said about a wrong one.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod budgets;
mod collections;
mod history;
mod overrides;
mod politeness;
mod presets;
mod tables;
mod webhooks;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, Utc};
use headpond::config::{Config, CorsOrigins, Environment, KeyFormat, KeyPlace, Loaded, OnDemand, Source, load};
use headpond::domain::content::{BodyRules, ContentKind, JsonPath};
use headpond::domain::policy::Heed;
use headpond::domain::schedule::Cadence;
use proptest::prelude::*;
use secrecy::ExposeSecret;

use crate::support::raw_server::{CERTIFICATE, CLIENT, CLIENT_KEY, EXPIRED};

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// A source on this machine, without its `url`, to put settings behind.
const SOURCE: &str = "[sources.s]\nkeys = ['k']\nurl = 'http://localhost/{key}'\n";

/// A whole source on this machine.
const SOURCE_BY_THE_HOUR: &str = "[sources.s]\nkeys = ['k']\nurl = 'http://localhost/{key}'\nrefresh_every = '1h'";

/// Files and variables of a test's own.
#[derive(Default)]
struct Outside {
    variables: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, Vec<u8>>,
}

impl Environment for Outside {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).map(Into::into)
    }

    fn names(&self) -> Vec<OsString> {
        self.variables.keys().map(Into::into).collect()
    }

    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        path.to_str().and_then(|path| self.files.get(path)).cloned().ok_or(io::ErrorKind::NotFound.into())
    }
}

/// A key behind a passphrase; only its label is looked at.
const LOCKED_KEY: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\naGVsbG8=\n-----END ENCRYPTED PRIVATE KEY-----\n";

fn now() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn load_bytes(toml: impl Into<Vec<u8>>) -> Result<Loaded, String> {
    let outside = Outside {
        variables: HashMap::from([
            ("EMPTY", ""),
            ("SECRET", "hunter2"),
            ("LONG_SECRET", "hunter2-hunter2-hunter2"),
            ("BROKEN", "hunter2\n"),
            ("HOST", "localhost"),
        ]),
        files: HashMap::from([
            ("c.toml", toml.into()),
            ("/run/token", b"from-a-file\n".into()),
            ("/tls/client.pem", CLIENT.into()),
            ("/tls/client.key", CLIENT_KEY.into()),
            ("/tls/expired.pem", EXPIRED.into()),
            ("/tls/both.pem", [EXPIRED, CLIENT].concat()),
            ("/tls/other.pem", CERTIFICATE.into()),
            ("/tls/locked.key", LOCKED_KEY.into()),
            ("/tls/cut.pem", b"-----BEGIN CERTIFICATE-----\nMIIB".into()),
        ]),
    };
    load(Path::new("c.toml"), &outside, now()).map_err(|errors| errors.to_string())
}

fn config(toml: &str) -> Config {
    load_bytes(toml).unwrap().config
}

fn source(toml: &str) -> Source {
    config(toml).sources.remove(0)
}

/// What is said of a source with these settings, each line after `c.toml:`.
fn said_of(settings: &str) -> String {
    errors(&format!("{SOURCE}{settings}"))
}

fn errors(toml: &str) -> String {
    match load_bytes(toml) {
        Ok(_) => String::new(),
        Err(errors) => errors.replace("c.toml:", ""),
    }
}

fn warnings(toml: &str) -> String {
    let warnings = load_bytes(toml).unwrap().warnings;
    warnings.iter().map(|warning| warning.to_string().replace("c.toml:", "")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_read_once_it_has_a_name_to_ask_under() {
    let unnamed = errors(EXAMPLE);
    assert!(unnamed.lines().all(|error| error.contains("user_agent is not set")), "{unnamed}");
    let named = EXAMPLE.replace("# user_agent =", "user_agent =");
    let Loaded { config, warnings } = load_bytes(named).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.database.url.expose_secret(), "sqlite://headpond.db");
    let [users, weather] = &config.sources[..] else { panic!("two sources") };
    let berlin = &weather.keys[0];
    assert_eq!(
        weather.url.expand(&berlin.0, &berlin.1).unwrap().as_str(),
        "https://api.met.no/weatherapi/locationforecast/2.0/compact?lat=52.52&lon=13.405"
    );
    assert!(matches!(weather.policy.cadence, Cadence::Every(hour) if hour == Duration::from_secs(3600)));
    assert_eq!(weather.policy.stale_after, Some(Duration::from_secs(3 * 3600)));
    assert_eq!(weather.upstream, "metno");
    assert_eq!(config.upstreams["metno"].limits.requests_per_second, Some(10.0));
    assert_eq!(config.upstreams["metno"].longest_timeout, Duration::from_secs(20));
    assert_eq!(users.upstream, "https://api.github.com");
    assert_eq!(users.request.headers["accept"], "application/vnd.github+json");
    assert_eq!(users.request.user_agent, "acme-weather/1.0 ops@acme.example");
    let Cadence::Cron(cron) = &users.policy.cadence else { panic!("a cron rule") };
    assert_eq!(cron.next(now()), Some("2026-03-01T12:07:00Z".parse().unwrap()));
}

#[test]
fn defaults_follow_from_the_interval() {
    let every = source(&format!("{SOURCE}refresh_every = '3s'"));
    assert_eq!(every.policy.backoff.cap, Duration::from_secs(3));
    assert_eq!(every.policy.backoff.initial, Duration::from_secs(3), "no more than the cap");
    assert_eq!(every.policy.gone.window, Duration::from_secs(3600));
    assert_eq!(every.policy.stale_after, None);
    let daily = source(&format!("{SOURCE}refresh_every = '1d'"));
    assert_eq!(daily.policy.gone.window, Duration::from_secs(86_400));
    assert_eq!(daily.policy.backoff.initial, Duration::from_secs(5));
    let cron = source(&format!("{SOURCE}refresh_cron = '0 3 * * *'"));
    assert_eq!(cron.policy.backoff.cap, Duration::from_secs(3600));
    assert_eq!(cron.policy.gone.window, Duration::from_secs(86_400));
    assert_eq!(cron.request.user_agent, format!("headpond/{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_nearest_setting_wins() {
    let toml = "
        [defaults]
        timeout = '1s'
        max_body = '1KB'
        user_agent = 'defaults'
        refresh_cron = '0 * * * *'
        requests_per_second_limit = 25
        [upstreams.up]
        timeout = '2s'
        max_body = '2KB'
        burst = 7
        headers = { accept = 'a', x-one = '1' }
        [sources.mine]
        upstream = 'up'
        url = 'https://api.example/'
        timeout = '3s'
        headers = { Accept = 'b' }
        refresh_every = '1h'
        keys = ['k']
        [sources.plain]
        url = 'https://api.example/{key}'
        keys = ['k']
    ";
    let config = config(toml);
    let [mine, plain] = &config.sources[..] else { panic!("two sources") };
    assert_eq!((mine.request.timeout, mine.request.max_body), (Duration::from_secs(3), 2000));
    assert_eq!(mine.request.headers["accept"], "b");
    assert_eq!(mine.request.headers["x-one"], "1");
    assert!(matches!(mine.policy.cadence, Cadence::Every(_)), "its own way beats the defaults' other way");
    assert!(matches!(plain.policy.cadence, Cadence::Cron(_)));
    assert_eq!((plain.request.timeout, plain.request.max_body), (Duration::from_secs(1), 1000));
    assert_eq!(config.upstreams["up"].limits.burst, 7);
    assert_eq!(config.upstreams["up"].limits.requests_per_second, Some(25.0));
    assert_eq!(config.upstreams["up"].longest_timeout, Duration::from_secs(3));
    assert_eq!(config.upstreams["https://api.example"].limits.burst, 5, "a fifth of 25");
    assert_eq!(config.upstreams["https://api.example"].limits.max_concurrent, 8);
}

#[test]
fn references_are_put_in() {
    let toml = "
        database.url = 'postgres://me:${env:SECRET}@db/app'
        [sources.s]
        url = 'http://${env:HOST}/{key}'
        keys = ['${env:SECRET}-$${env:SECRET}']
        refresh_every = '1m'
        headers = { authorization = 'Bearer ${file:/run/token}' }
    ";
    let config = config(toml);
    assert_eq!(config.database.url.expose_secret(), "postgres://me:hunter2@db/app");
    assert_eq!(config.sources[0].url.origin(), "http://localhost");
    assert_eq!(config.sources[0].keys[0].0.as_str(), "hunter2-${env:SECRET}");
    assert_eq!(config.sources[0].request.headers["authorization"], "Bearer from-a-file");
}

#[test]
fn no_secret_is_shown() {
    let toml = "
        database.url = 'postgres://me:${env:SECRET}@db/app'
        [sources.s]
        url = 'http://localhost/{key}?token=${env:SECRET}'
        keys = ['k']
        refresh_every = '1m'
        user_agent = 'me ${env:SECRET}'
        headers = { authorization = 'hunter2', x-token = '${env:SECRET}', x-plain = 1.50 }
    ";
    let config = config(toml);
    let request = &config.sources[0].request;
    assert_eq!(config.database.url.expose_secret(), "postgres://me:hunter2@db/app");
    assert_eq!(request.headers["x-token"], "hunter2");
    assert!(request.headers["x-token"].is_sensitive() && request.headers["authorization"].is_sensitive());
    assert_eq!(request.headers["x-plain"], "1.50");
    assert!(!request.headers["x-plain"].is_sensitive());
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    assert!(config.sources[0].url.has_secret_path() && !source(SOURCE_BY_THE_HOUR).url.has_secret_path());
    let wrong = "
        database.url = 'mysql://me:hunter2@db/app'
        [sources.s]
        url = 'https://me:hunter2@api.example/{key}'
        keys = ['k']
        refresh_every = '${env:SECRET}'
        headers = { x-one = '${env:BROKEN}', authorization = \"hunter2\\n\" }
        [sources.t]
        url = 'https://api.example/{+key}?token=hunter2'
    ";
    assert_eq!(
        errors(wrong),
        "\
2:24: database.url: an unknown scheme: only sqlite and postgres are known; write it like \"sqlite://headpond.db\" or \
\"postgres://user@host/database\"
4:15: sources.s.url: a user or password in the URL would show up in logs: send credentials in a header; write it like \
\"https://api.example/users/{key}\"
6:25: sources.s.refresh_every = '${env:SECRET}': what it stands for is not a span of time; write it like \"15m\"
7:29: sources.s.headers.x-one = '${env:BROKEN}': has characters that a header can't carry; write visible ASCII in one line
7:62: sources.s.headers.authorization: has characters that a header can't carry; write visible ASCII in one line
8:18: sources.t: neither refresh_every nor refresh_cron is set; write one like refresh_every = \"15m\"
9:15: sources.t.url = 'https://api.example/{+key}?…: `{+…}` could change host or path: only {name}, {?name} and {&name} \
are allowed, without modifiers; write it like \"https://api.example/users/{key}\""
    );
}

#[test]
fn each_wrong_setting_of_a_source_is_explained() {
    for (settings, said) in [
        ("timeout = 'soon'", "4:11: sources.s.timeout = 'soon': not a span of time; write it like \"15m\""),
        ("timeout = '5'", "4:11: sources.s.timeout = '5': a number without a unit of time; write it like \"15m\""),
        (
            "timeout = '5 aeons'",
            "4:11: sources.s.timeout = '5 aeons': `aeons` is not a unit of time; write it like \"15m\"",
        ),
        ("timeout = 5", "4:11: sources.s.timeout = 5: an integer, not a span of time; write it like \"15m\""),
        ("timeout = '0s'", "4:11: sources.s.timeout = '0s': must be more than zero; write it like \"15m\""),
        ("timeout = '101y'", "4:11: sources.s.timeout = '101y': longer than 100 years; write it like \"15m\""),
        ("stale_after = '0s'", "4:15: sources.s.stale_after = '0s': must be more than zero; write it like \"15m\""),
        ("max_body = 'big'", "4:12: sources.s.max_body = 'big': not a size; write it like \"16MiB\""),
        (
            "max_body = '1GiB'",
            "4:12: sources.s.max_body = '1GiB': more than a database row can hold (512MiB); write it like \"16MiB\"",
        ),
        ("gone_after = 0", "4:14: sources.s.gone_after = 0: not a whole number of at least 1; write it like 4"),
        (
            "gone_after = 99999999999999999999",
            "4:14: sources.s.gone_after = 99999999999999999999: more than 4294967295; write it like 4",
        ),
        (
            "max_delete_share = nan",
            "4:20: sources.s.max_delete_share = nan: not a number from 0 to 1; write it like 0.1",
        ),
        (
            "ignore_changes_in = ['$.a', '$[', 5]",
            "4:29: sources.s.ignore_changes_in = '$[': not a JSONPath (RFC 9535); write it like \"$.meta.updated_at\"\n\
             4:35: sources.s.ignore_changes_in = 5: an integer, not a JSONPath (RFC 9535); write it like \
             \"$.meta.updated_at\"",
        ),
        (
            "user_agent = ' '",
            "4:14: sources.s.user_agent = ' ': a User-Agent can't be empty; write it like \
             \"acme-weather/1.0 ops@acme.example\"",
        ),
        (
            "timeout = '${env:NONE}'",
            "4:11: sources.s.timeout = '${env:NONE}': the environment variable `NONE` is not set",
        ),
        (
            "timeout = '${file:/none}'",
            "4:11: sources.s.timeout = '${file:/none}': `/none` can't be read: entity not found",
        ),
        (
            "timeout = '${NONE}'",
            "4:11: sources.s.timeout = '${NONE}': `${NONE}` is not `${env:NAME}` or `${file:PATH}`; write `$${` for a \
             literal `${`",
        ),
        (
            "refesh_every = '1h'",
            "4:1: sources.s.refesh_every: there is no such setting in [sources.NAME]; did you mean `refresh_every`?",
        ),
        ("listen = 3", "4:1: sources.s.listen: there is no such setting in [sources.NAME]; it belongs in [server]"),
        (
            "upstream = 'x'",
            "4:12: sources.s.upstream = 'x': there is no such table in [upstreams]; add the table, or leave this \
             out",
        ),
        (
            "headers = 'x'",
            "4:11: sources.s.headers: text, not a table of header names and values; write it like \
             { accept = \"application/json\" }",
        ),
        (
            "headers = { Host = 'x', user-agent = 'y', 'a b' = 'c', if-none-match = '*', referer = 'z', te = 't' }",
            "4:13: sources.s.headers.Host: the host is part of `url`; leave it out\n\
             4:25: sources.s.headers.user-agent: the User-Agent has its own setting; set `user_agent`\n\
             4:43: sources.s.headers.\"a b\": not a header name; write it like \"accept-language\"\n\
             4:56: sources.s.headers.if-none-match: Headpond makes its requests conditional itself; leave it out\n\
             4:77: sources.s.headers.referer: a Referer would tell one upstream about another; leave it out\n\
             4:92: sources.s.headers.te: it belongs to the connection, not to the request; leave it out",
        ),
        (
            "headers = { a = 'x', A = 'y' }",
            "4:11: sources.s.headers: has a header twice, in upper and lower case; write each header once",
        ),
        ("url = 'http://x/'", "4:1: `url` is there twice; keep one of them"),
        ("[sources.s]", "4:10: `s` is there twice; keep one of them"),
    ] {
        let said_of = errors(&format!("{SOURCE}{settings}\n[defaults]\nrefresh_every = '1h'"));
        assert_eq!(said_of, said, "{settings}");
    }
}

#[test]
fn each_wrong_schedule_is_explained() {
    let cron = "write it like \"7 * * * *\" (minute, hour, day of month, month, day of week)";
    for (settings, said) in [
        (
            "refresh_every = '0.5s'",
            "4:17: sources.s.refresh_every = '0.5s': must be at least 1s; write it like \"15m\"".into(),
        ),
        (
            "refresh_cron = 'hourly'",
            format!(
                "4:16: sources.s.refresh_cron = 'hourly': not a cron rule (Pattern must have 5 fields when seconds are \
                 disallowed); {cron}"
            ),
        ),
        (
            "refresh_cron = '61 * * * *'",
            format!("4:16: sources.s.refresh_cron = '61 * * * *': not a cron rule (Number out of bounds); {cron}"),
        ),
        (
            "refresh_cron = '0 0 30 2 *'",
            format!("4:16: sources.s.refresh_cron = '0 0 30 2 *': no date ever matches it; {cron}"),
        ),
        (
            "refresh_cron = '0 0 * * *'\ntimezone = 'Europe/Berln'",
            "5:12: sources.s.timezone = 'Europe/Berln': not an IANA time zone; did you mean \"Europe/Berlin\"?".into(),
        ),
        (
            "refresh_every = '1h'\ntimezone = 'UTC'",
            "5:12: sources.s.timezone = 'UTC': has no meaning for refresh_every; use refresh_cron, or leave it out"
                .into(),
        ),
        (
            "refresh_every = '1h'\nrefresh_cron = '0 0 * * *'",
            "5:16: sources.s.refresh_cron = '0 0 * * *': refresh_every is set too; keep one of the two".into(),
        ),
        (
            "",
            "1:10: sources.s: neither refresh_every nor refresh_cron is set; write one like refresh_every = \"15m\""
                .into(),
        ),
        (
            "refresh_every = '1h'\njitter = '2h'",
            "5:10: sources.s.jitter = '2h': longer than the interval (1h); write at most \"1h\"".into(),
        ),
        (
            "refresh_every = '1h'\nbackoff_initial = '2h'",
            "5:19: sources.s.backoff_initial = '2h': longer than the backoff_cap of source s (1h); lower it, or raise \
             backoff_cap"
                .into(),
        ),
    ] {
        assert_eq!(said_of(settings), said, "{settings}");
    }
}

#[test]
fn a_wrong_default_is_said_once_and_also_when_no_source_uses_it() {
    let toml = "
        [defaults]
        jitter = 5
        refresh_every = '1h'
        refresh_cron = '* * * * *'
        [sources.a]
        url = 'http://localhost/'
        keys = ['k']
        jitter = '1s'
        [sources.b]
        url = 'http://localhost/'
        keys = ['k']
    ";
    assert_eq!(
        errors(toml),
        "3:18: defaults.jitter = 5: an integer, not a span of time; write it like \"15m\"\n\
         5:24: defaults.refresh_cron = '* * * * *': refresh_every is set too; keep one of the two"
    );
}

#[test]
fn what_cache_control_is_heeded_for_is_one_of_three() {
    for (written, heeded) in [("", Heed::Schedule), ("respect", Heed::Respect), ("ignore", Heed::Ignore)] {
        let setting = if written.is_empty() { String::new() } else { format!("\ncache_control = '{written}'") };
        assert_eq!(source(&format!("{SOURCE_BY_THE_HOUR}{setting}")).policy.cache_control, heeded);
    }
    let said = |value: &str| errors(&format!("{SOURCE_BY_THE_HOUR}\ncache_control = '{value}'"));
    let meant = "5:17: sources.s.cache_control = 'respekt': there is no such choice; did you mean \"respect\"?";
    assert_eq!(said("respekt"), meant);
    let choices = "write one of \"schedule\", \"respect\", \"ignore\"";
    assert!(said("rfc9111").ends_with(choices), "{}", said("rfc9111"));
    let cap = format!("{SOURCE_BY_THE_HOUR}\ncache_control = 'ignore'\nfreshness_cap = '2h'");
    assert!(warnings(&cap).contains("freshness_cap = '2h': has no meaning with cache_control"), "{}", warnings(&cap));
}

#[test]
fn what_bodies_must_be_and_what_is_kept_of_them() {
    let rules = |settings: &str| source(&format!("{SOURCE_BY_THE_HOUR}\n{settings}")).policy.body;
    let text = |paths: &[JsonPath]| paths.iter().map(|path| path.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(rules(""), BodyRules::default());
    let all = rules("content = 'json'\ndata = '$.a'\ndrop = ['$.b', '$..c']\nignore_changes_in = ['$.d']");
    assert_eq!((all.kind, all.data.as_ref().map(JsonPath::as_str)), (Some(ContentKind::Json), Some("$.a")));
    assert_eq!(
        (text(&all.drop), text(&all.ignore_changes_in)),
        (vec!["$.b".into(), "$..c".into()], vec!["$.d".into()])
    );
    let defaults = "[defaults]\ncontent = 'bytes'\nignore_changes_in = ['$.d']\n";
    let inherited = source(&format!("{defaults}{SOURCE_BY_THE_HOUR}")).policy.body;
    assert_eq!(inherited, BodyRules { kind: Some(ContentKind::Bytes), ..BodyRules::default() });
}

#[test]
fn wrong_rules_for_bodies_are_explained() {
    for (settings, said) in [
        ("content = 'xml'", "there is no such choice; write one of \"json\", \"text\", \"bytes\""),
        ("data = 'a.b'", "sources.s.data = 'a.b': not a JSONPath (RFC 9535); write it like \"$.meta.updated_at\""),
        ("data = ['$.a']", "sources.s.data = ['$.a']: a list, not a JSONPath (RFC 9535)"),
        ("drop = '$.a'", "sources.s.drop = '$.a': text, not a list of JSONPaths (RFC 9535)"),
        ("drop = ['$.a', '$']", "`$` is all of the body, so nothing would be left; name the parts to drop"),
        (
            "content = 'text'\ndata = '$.a'",
            "sources.s.data = '$.a': names parts of JSON, and content is something else",
        ),
        ("content = 'bytes'\ndrop = ['$.a']", "sources.s.drop = ['$.a']: names parts of JSON"),
        ("content = 'text'\nignore_changes_in = ['$.a']", "ignore_changes_in = ['$.a']: names parts of JSON"),
    ] {
        let errors = errors(&format!("{SOURCE_BY_THE_HOUR}\n{settings}"));
        assert!(errors.contains(said) && errors.lines().count() == 1, "{settings}: {errors}");
    }
    let wrong = errors("[defaults]\ndrop = ['$.a']");
    assert!(wrong.contains("it belongs in [sources.NAME]"), "{wrong}");
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let toml = "
        [sources.Weather]
        url = 'https://api.example/{key'
        refresh_every = '1h'
        [server]
        listen = '0.0.0.0:80'
        [databse]
        [defaults]
        headers = { x = 'y' }
        [upstreams.a-b]
        burst = 0
    ";
    assert_eq!(
        errors(toml),
        "\
2:18: sources.Weather: a source name is a lower-case letter, then lower-case letters, digits or `_`, at most 63 bytes in all
3:15: sources.Weather.url = 'https://api.example/{key': not a URI template (RFC 6570); write it like \
\"https://api.example/users/{key}\"
6:18: server.listen = '0.0.0.0:80': whoever reaches this address could read everything, since read_tokens is not set; \
set read_tokens, listen on 127.0.0.1, or set allow_anonymous_reads = true
7:10: databse: there is no such table or setting; did you mean `database`?
9:9: defaults.headers: there is no such setting in [defaults]; it belongs in [upstreams.NAME] or [sources.NAME]
10:20: upstreams.a-b: an upstream's name is a lower-case letter, then lower-case letters, digits or `_`, at most 63 bytes \
in all
11:17: upstreams.a-b.burst = 0: not a whole number of at least 1; write it like 4"
    );
}

#[test]
fn streams_leave_connections_for_others() {
    let written = |settings: &str| format!("{SOURCE_BY_THE_HOUR}\n[server]\n{settings}");
    let streams = |settings: &str| config(&written(settings)).server.max_streams;
    assert_eq!(
        [streams(""), streams("max_connections = 100"), streams("max_streams = 30\nmax_connections = 40")],
        [1_000, 50, 30]
    );
    assert!(errors(&written("max_streams = 40\nmax_connections = 40")).contains(
        "server.max_streams = 40: would leave none of the 40 connections of max_connections for other readers; set it lower, \
         or max_connections higher"
    ));
}

/// What is said of an upstream with these settings, each line after `c.toml:`.
fn said_of_upstream(settings: &str) -> String {
    errors(&format!("{SOURCE_BY_THE_HOUR}\nupstream = 'up'\n[upstreams.up]\n{settings}"))
}

#[test]
fn wrong_credentials_are_explained_without_being_shown() {
    for (settings, said) in [
        (
            "auth = 'hunter2'",
            "7:8: upstreams.up.auth: text, not a table with one of bearer, basic, header, query and oauth2; write it like \
             { bearer = \"${env:TOKEN}\" }",
        ),
        (
            "auth = {}",
            "7:8: upstreams.up.auth: no way to authenticate is set; write it like { bearer = \"${env:TOKEN}\" }",
        ),
        (
            "auth = { bearr = 'hunter2' }",
            "7:8: upstreams.up.auth: no way to authenticate is set; write it like { bearer = \"${env:TOKEN}\" }\n\
             7:10: upstreams.up.auth.bearr: there is no such setting here; did you mean `bearer`?",
        ),
        (
            "auth = { bearer = 'hunter2', query = { name = 'a', value = 'hunter2' } }",
            "7:8: upstreams.up.auth: bearer and query are both set; keep one of them",
        ),
        (
            "auth = { bearer = '${env:EMPTY}' }",
            "7:19: upstreams.up.auth.bearer = '${env:EMPTY}': what it stands for is not a token; write it like \
             \"${env:TOKEN}\"",
        ),
        (
            "auth = { bearer = '${file:/run/none}' }",
            "7:19: upstreams.up.auth.bearer = '${file:/run/none}': `/run/none` can't be read: entity not found",
        ),
        (
            "auth = { bearer = '${env:BROKEN}' }",
            "7:19: upstreams.up.auth.bearer = '${env:BROKEN}': what it stands for is not a token; write it like \
             \"${env:TOKEN}\"",
        ),
        (
            "auth = { basic = { user = 'me:hunter2' } }",
            "7:18: upstreams.up.auth.basic: password is not set; write it like { user = \"me\", password = \
             \"${env:PASSWORD}\" }\n\
             7:27: upstreams.up.auth.basic.user: a user's name can't have a `:` in it; write it like \"me\"",
        ),
        (
            "auth = { header = { name = 'Host', value = 'hunter2' } }",
            "7:28: upstreams.up.auth.header.name: the host is part of `url`; leave it out",
        ),
        (
            "auth.oauth2 = { token_url = 'http://a.example/t?k=hunter2#x', client_id = 'me', secret_in = 'url' }",
            "7:15: upstreams.up.auth.oauth2: client_secret is not set; write it like { token_url = \
             \"https://auth.example/token\", client_id = \"…\", client_secret = \"${env:SECRET}\" }\n\
             7:29: upstreams.up.auth.oauth2.token_url = 'http://a.example/t?…: a fragment (`#…`) is never sent to a \
             server; write it like \"https://auth.example/token\"\n\
             7:93: upstreams.up.auth.oauth2.secret_in: neither header nor body; write it like \"header\" or \"body\"",
        ),
        (
            "auth = { bearer = 'hunter2' }\nheaders = { authorization = 'hunter2' }",
            "7:8: upstreams.up.auth: source s has authorization in its headers, or in this upstream's; keep one of the two",
        ),
        (
            "proxy = 'socks5://me:hunter2@localhost'",
            "7:9: upstreams.up.proxy: only HTTP proxies are known, at http:// or https://; write it like \
             \"http://proxy.example:3128\"",
        ),
        (
            "proxy = 'http://me:hun/ter2@localhost'",
            "7:9: upstreams.up.proxy: not a URL (invalid port number); special characters in a password are \
             percent-encoded; write it like \"http://proxy.example:3128\"",
        ),
        (
            "proxy = 'http://localhost/path'",
            "7:9: upstreams.up.proxy = 'http://localhost/path': a proxy is a host and a port, without anything behind; \
             write it like \"http://proxy.example:3128\"",
        ),
    ] {
        let all = said_of_upstream(settings);
        assert_eq!(all, said, "{settings}");
        assert!(!all.contains("hunter2"), "{all}");
    }
    let defaults = errors("[defaults]\nauth = { bearer = 'hunter2' }");
    assert_eq!(defaults, "2:1: defaults.auth: there is no such setting in [defaults]; it belongs in [upstreams.NAME]");
    let plain = "auth.oauth2 = { token_url = 'http://a.example/t', client_id = 'me', client_secret = 'x' }";
    assert_eq!(
        warnings(&format!("{SOURCE_BY_THE_HOUR}\nupstream = 'up'\n[upstreams.up]\n{plain}")),
        "7:29: upstreams.up.auth.oauth2.token_url: the client's secret is sent without encryption; use https"
    );
}

#[test]
fn certificates_that_can_not_be_used_are_named_with_their_file() {
    let pair = |certificate: &str, key: &str| {
        said_of_upstream(&format!("client_certificate = {{ certificate = '/tls/{certificate}', key = '/tls/{key}' }}"))
    };
    let (certificate, key) = ("upstreams.up.client_certificate.certificate", "upstreams.up.client_certificate.key");
    assert_eq!(pair("client.pem", "client.key"), "");
    for (names, said) in [
        (
            ("expired.pem", "client.key"),
            format!(
                "7:38: {certificate} = '/tls/expired.pem': the certificate expired at 2021-01-01T00:00:00+00:00; renew it"
            ),
        ),
        (
            ("none.pem", "client.key"),
            format!(
                "7:38: {certificate} = '/tls/none.pem': can't be read: entity not found; write it like \
                 \"/etc/headpond/client.pem\""
            ),
        ),
        (
            ("other.pem", "client.key"),
            format!(
                "7:38: {certificate} = '/tls/other.pem': certificate and key can't be used together: keys may not be \
                 consistent: KeyMismatch; name the key that the certificate was made for"
            ),
        ),
        (
            ("client.key", "client.key"),
            format!(
                "7:38: {certificate} = '/tls/client.key': has no certificate in PEM; it begins with \
                 -----BEGIN CERTIFICATE-----"
            ),
        ),
        (
            ("client.pem", "locked.key"),
            format!(
                "7:63: {key} = '/tls/locked.key': has no private key in PEM that can be read without a passphrase; it \
                 begins with -----BEGIN PRIVATE KEY-----, or the same with EC or RSA"
            ),
        ),
    ] {
        assert_eq!(pair(names.0, names.1), said);
    }
    let trusting = |file: &str| format!("ca_certificates = '/tls/{file}'");
    assert!(said_of_upstream(&trusting("none.pem")).contains("'/tls/none.pem': can't be read"));
    assert!(said_of_upstream(&trusting("cut.pem")).contains("is not readable as PEM"));
    assert_eq!(
        said_of_upstream(&trusting("expired.pem")),
        "7:19: upstreams.up.ca_certificates = '/tls/expired.pem': no certificate in it is valid now: the certificate \
         expired at 2021-01-01T00:00:00+00:00; renew it"
    );
    let both = format!("{SOURCE_BY_THE_HOUR}\nupstream = 'up'\n[upstreams.up]\n{}", trusting("both.pem"));
    assert_eq!(
        warnings(&both),
        "7:19: upstreams.up.ca_certificates = '/tls/both.pem': a certificate in it is not valid now: the certificate expired \
         at 2021-01-01T00:00:00+00:00; renew it, or remove it"
    );
    assert_eq!(config(&both).upstreams["up"].transport.authorities.len(), 2);
}

#[test]
fn a_body_makes_a_post_and_its_values_are_put_in_for_each_key() {
    let toml = "
        [sources.s]
        url = 'http://localhost/search'
        refresh_every = '1h'
        accept = 'application/json'
        keys = [{ key = 'berlin', size = 5 }]
        body = '{ \"q\": \"{key} ${env:SECRET}\", \"size\": {size} }'
    ";
    let source = source(toml);
    let body = source.request.body.as_ref().unwrap();
    assert_eq!((source.request.method.as_str(), &body.content_type), ("POST", &"application/json".parse().unwrap()));
    assert_eq!(source.request.headers["accept"], "application/json");
    let (key, params) = &source.keys[0];
    assert_eq!(source.ask(key, params).unwrap().body.unwrap(), r#"{ "q": "berlin hunter2", "size": 5 }"#);
    assert!(!format!("{source:?}").contains("hunter2"));
    let get = self::source(SOURCE_BY_THE_HOUR);
    assert_eq!((get.request.method.as_str(), get.request.body.is_none()), ("GET", true));
}

#[test]
fn wrong_requests_are_explained() {
    let body = "write {name} where a value of the key goes, or set content_type if it is something else";
    for (settings, said) in [
        (
            "method = 'HEAD'",
            "5:10: sources.s.method = 'HEAD': its answer has no content to keep; write it like \"POST\"".to_owned(),
        ),
        (
            "method = 'DELETE'",
            "5:10: sources.s.method = 'DELETE': it could change what is upstream, and a refresh is no reason to; write it \
             like \"POST\""
                .into(),
        ),
        ("method = 'get'", "5:10: sources.s.method = 'get': only GET and POST are known; write it like \"POST\"".into()),
        (
            "method = 'GET'\nbody = '{}'",
            "6:8: sources.s.body: a GET has no body; write method = \"POST\", or leave one of the two out".into(),
        ),
        (
            "content_type = 'text/plain'",
            "5:16: sources.s.content_type = 'text/plain': has no meaning without a body; set `body`, or leave it out".into(),
        ),
        (
            "body = '{ \"hunter2\": }'",
            format!(
                "5:8: sources.s.body: with values in it, it would not be JSON: expected value at line 1 column 14; {body}"
            ),
        ),
        (
            "body = '{ me { name } {size} }'\ncontent_type = 'application/graphql'",
            "3:9: sources.s.keys = 'k': `body` needs a value for {size}, and this key has none; write it like \
             { key = …, size = … }, or `{ size }` in `body` if braces are meant"
                .into(),
        ),
        (
            "accept = 'text/plain'\nheaders = { accept = 'text/html' }",
            "5:10: sources.s.accept = 'text/plain': `headers` has an accept too; keep one of the two".into(),
        ),
        (
            "headers = { content-type = 'text/html' }",
            "5:13: sources.s.headers.content-type: the type of a body has its own setting; set `content_type`, or leave it \
             out"
                .into(),
        ),
    ] {
        let toml = "[sources.s]\nurl = 'http://localhost/'\nkeys = ['k']\nrefresh_every = '1h'\n";
        assert_eq!(errors(&format!("{toml}{settings}")), said, "{settings}");
    }
}

#[test]
fn what_blocking_private_networks_can_not_go_with_is_explained() {
    let said = |url: &str, settings: &str| {
        errors(&format!(
            "[sources.s]\nupstream = 'up'\nkeys = ['k']\nuser_agent = 'me'\nrefresh_every = '1h'\nurl = '{url}'\n\
             [upstreams.up]\nblock_private_networks = true\n{settings}"
        ))
    };
    assert_eq!(said("https://api.example/{key}", ""), "");
    assert_eq!(said("https://8.8.8.8/{key}", ""), "");
    let at = "8:26: upstreams.up.block_private_networks = true";
    for url in ["http://2852039166", "http://169.254.169.254", "http://0xa9.254.169.254"] {
        assert_eq!(
            said(&format!("{url}/{{key}}"), ""),
            format!(
                "{at}: source s is at http://169.254.169.254, which is not public; give the source an upstream of its own, \
                 without this"
            )
        );
    }
    assert!(said("http://[::ffff:10.0.0.1]/{key}", "").contains("which is not public"));
    assert_eq!(
        said("https://api.example/{key}", "proxy = 'http://proxy.example:3128'"),
        format!(
            "{at}: can't be kept through a proxy, which resolves names itself; let the proxy block them, or set proxy = \
             \"none\""
        )
    );
}

#[test]
fn hosts_for_redirects_are_named_one_by_one() {
    for (host, said) in [
        ("https://cdn.example", "a host stands alone, without scheme and path"),
        ("cdn.example/x", "a host stands alone, without scheme and path"),
        ("me@cdn.example", "a host stands alone, without scheme and path"),
        ("*.example", "hosts are named one by one, without `*`"),
        ("cdn.example:x", "not a host (invalid port number)"),
        ("", "not a host (empty host)"),
    ] {
        let expected =
            format!("5:25: sources.s.allow_redirect_hosts = '{host}': {said}; write it like \"cdn.example\"");
        assert_eq!(errors(&format!("{SOURCE_BY_THE_HOUR}\nallow_redirect_hosts = ['{host}']")), expected);
    }
    let source = source(&format!("{SOURCE_BY_THE_HOUR}\nallow_redirect_hosts = ['CDN.example', '[::1]:80']"));
    assert_eq!(source.request.redirect_hosts.len(), 2);
}

#[test]
fn a_proxy_of_the_defaults_is_for_all_upstreams_but_those_that_want_none() {
    let toml = format!(
        "[defaults]\nproxy = 'http://me:hunter2@proxy.example:3128'\n{SOURCE_BY_THE_HOUR}\n[upstreams.direct]\n\
         proxy = 'none'\n[upstreams.through]\n"
    );
    let config = config(&toml);
    let proxy = |name: &str| config.upstreams[name].transport.proxy.as_ref();
    assert_eq!(proxy("through").unwrap().url.as_str(), "http://proxy.example:3128/");
    assert_eq!(proxy("http://localhost"), proxy("through"));
    assert_eq!(proxy("direct"), None);
    assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
}

#[test]
fn a_client_of_a_public_api_must_say_who_it_is() {
    let toml = "[sources.s]\nurl = 'https://api.example/{key}'\nkeys = ['k']\nrefresh_every = '1h'";
    assert_eq!(
        errors(toml),
        "1:10: sources.s: user_agent is not set: public APIs block clients that don't say who they are; write a name and a \
         contact, like user_agent = \"acme-weather/1.0 ops@acme.example\", here, in its upstream or in [defaults]"
    );
    for host in ["localhost", "127.0.0.1:1", "127.9.9.9", "[::1]:1"] {
        assert_eq!(errors(&toml.replace("https://api.example", &format!("http://{host}"))), "", "{host}");
    }
    for host in ["localhost.example", "10.0.0.1", "127.example", "[::2]"] {
        assert_ne!(errors(&toml.replace("api.example", host)), "", "{host}");
    }
}

#[test]
fn the_listening_address_is_this_machine_unless_reads_need_a_token_or_may_be_anonymous() {
    for (server, accepted) in [
        ("listen = '127.0.0.1:0'", true),
        ("listen = '[::1]:80'", true),
        ("listen = '[::]:80'", false),
        ("listen = '192.0.2.1:80'", false),
        ("listen = '192.0.2.1:80'\nallow_anonymous_reads = true", true),
        ("listen = '192.0.2.1:80'\nread_tokens = ['0123456789abcdef']", true),
        ("listen = '192.0.2.1:80'\nadmin_tokens = ['0123456789abcdef']", false),
        ("listen = '192.0.2.1:80'\nread_tokens = []", false),
        ("listen = 'localhost:80'", false),
    ] {
        assert_eq!(errors(&format!("[server]\n{server}")).is_empty(), accepted, "{server}");
    }
}

#[test]
fn tokens_are_kept_and_never_shown() {
    let config = config(&format!(
        "{SOURCE_BY_THE_HOUR}\nread_tokens = ['read-just-this-source']\n\
         [server]\nread_tokens = ['read-everything-1', 'read-everything-2']\nadmin_tokens = ['${{env:LONG_SECRET}}']"
    ));
    let shown = |tokens: &[secrecy::SecretString]| -> Vec<String> {
        tokens.iter().map(|token| token.expose_secret().to_owned()).collect()
    };
    assert_eq!(shown(&config.server.read_tokens), ["read-everything-1", "read-everything-2"]);
    assert_eq!(shown(&config.server.admin_tokens), ["hunter2-hunter2-hunter2"]);
    assert_eq!(shown(&config.sources[0].read_tokens), ["read-just-this-source"]);
    let debug = format!("{config:?}");
    for secret in ["read-", "hunter2"] {
        assert!(!debug.contains(secret), "{debug}");
    }
}

#[test]
fn tokens_that_protect_nothing_are_refused_without_being_shown() {
    let of_server = |setting: &str| errors(&format!("[server]\n{setting}"));
    for (setting, said) in [
        (
            "read_tokens = 'x'",
            "2:15: server.read_tokens: text, not a list of tokens; write it like [\"${env:READ_TOKEN}\"]",
        ),
        ("read_tokens = []", "2:15: server.read_tokens: an empty list lets nobody in; list a token, or leave it out"),
        (
            "admin_tokens = ['']",
            "2:17: server.admin_tokens: a token has at least 16 characters, this one has 0; make one with `openssl \
             rand -hex 32`",
        ),
        (
            "admin_tokens = ['0123456789abcde']",
            "2:17: server.admin_tokens: a token has at least 16 characters, this one has 15; make one with `openssl \
             rand -hex 32`",
        ),
        (
            "read_tokens = ['${env:SECRET}']",
            "2:16: server.read_tokens = '${env:SECRET}': a token has at least 16 characters, this one has 7; make one \
             with `openssl rand -hex 32`",
        ),
        (
            "read_tokens = ['0123456789 abcdef']",
            "2:16: server.read_tokens: has a character that no `Authorization: Bearer` can carry; make one with `openssl \
             rand -hex 32`",
        ),
        ("read_tokens = [1]", "2:16: server.read_tokens: an integer, not a token; write it like \"${env:READ_TOKEN}\""),
        (
            "read_tokens = ['0123456789abcdef', '0123456789abcdeg', '0123456789abcdef']",
            "2:56: server.read_tokens: is in the list twice; list each token once",
        ),
        (
            "read_tokens = ['0123456789abcdef']\nadmin_tokens = ['0123456789abcdef']",
            "2:15: server.read_tokens: has a token that is in admin_tokens too; give each role tokens of its own",
        ),
        (
            "admin_tokens = ['0123456789abcdef']\n[sources.s]\nkeys = ['k']\nurl = 'http://localhost/{key}'\n\
             refresh_every = '1h'\nread_tokens = ['0123456789abcdef']",
            "7:15: sources.s.read_tokens: has a token that is in admin_tokens too; give each role tokens of its own",
        ),
    ] {
        let errors = of_server(setting);
        assert_eq!(errors, said, "{setting}");
    }
    let shared = "[server]\nread_tokens = ['0123456789abcdef']\n".to_owned() + SOURCE_BY_THE_HOUR;
    assert_eq!(errors(&format!("{shared}\nread_tokens = ['0123456789abcdef']")), "", "one reader may have both");
    let beside = "[server]\nread_tokens = ['0123456789abcdef']\nallow_anonymous_reads = true\n";
    assert_eq!(
        warnings(&format!("{beside}{SOURCE_BY_THE_HOUR}")),
        "3:25: server.allow_anonymous_reads = true: has no effect beside read_tokens: who reads needs one; leave one of \
         them out"
    );
}

#[test]
fn origins_are_written_as_browsers_write_them() {
    let origins = |written: &str| config(&format!("[server]\ncors_origins = {written}")).server.cors_origins;
    assert_eq!(config("").server.cors_origins, CorsOrigins::These(vec![]));
    assert_eq!(origins("['*']"), CorsOrigins::All);
    let two = ["https://app.example", "http://localhost:3000"].map(http::HeaderValue::from_static);
    assert_eq!(origins("['https://app.example', 'http://localhost:3000']"), CorsOrigins::These(two.into()));
    for (origin, said) in [
        ("https://app.example/", "not as browsers write it; write \"https://app.example\""),
        ("https://App.Example:443", "not as browsers write it; write \"https://app.example\""),
        ("https://app.example/page?q", "not as browsers write it; write \"https://app.example\""),
        ("https://b\u{fc}cher.example", "not as browsers write it; write \"https://xn--bcher-kva.example\""),
        ("app.example", NO_ORIGIN),
        ("null", NO_ORIGIN),
        ("", NO_ORIGIN),
        ("https://", NO_ORIGIN),
        ("https://*.app.example", "a `*` can't be part of an origin; list each origin"),
        ("ftp://app.example", NO_ORIGIN),
    ] {
        let errors = errors(&format!("[server]\ncors_origins = ['{origin}']"));
        assert!(errors.starts_with(&format!("2:17: server.cors_origins = '{origin}': {said}")), "{origin}: {errors}");
    }
    assert_eq!(
        errors("[server]\ncors_origins = ['https://app.example', '*']"),
        "2:40: server.cors_origins = '*': stands for all origins, and others are listed beside it; list it alone"
    );
}

const NO_ORIGIN: &str = "not an origin: a scheme, http or https, and a host; write it like \"https://app.example\"";

#[test]
fn databases_of_unknown_kinds_are_refused() {
    for (url, accepted) in [
        ("sqlite://headpond.db", true),
        ("sqlite:///var/lib/headpond.db", true),
        ("postgres://me@localhost/app", true),
        ("postgresql:///app?host=/run/postgresql", true),
        ("mysql://localhost/app", false),
        ("headpond.db", false),
        ("sqlite://", false),
        ("sqlite::memory:", false),
        ("sqlite://headpond.db?mode=ro", false),
        ("postgres://me:a/b@localhost:x/app", false),
    ] {
        assert_eq!(errors(&format!("database.url = '{url}'")).is_empty(), accepted, "{url}");
    }
    assert_eq!(
        errors("[database]\nurl = 'sqlite://headpond.db?mode=ro'"),
        "2:7: database.url: nothing may follow a `?`: it is a path alone; write it like \"sqlite://headpond.db\""
    );
}

#[test]
fn files_that_can_not_be_a_configuration_are_explained() {
    let outside = Outside::default();
    let missing = load(Path::new("none.toml"), &outside, now()).unwrap_err();
    assert_eq!(missing.to_string(), "none.toml: there is no such file; `headpond init` writes one to start from");
    assert_eq!(
        load_bytes(*b"[server]\n# caf\xe9").unwrap_err(),
        "c.toml: line 2 is not UTF-8 text; save the file as UTF-8"
    );
    assert_eq!(
        errors("[server]\nlisten = \n[[x]\n"),
        "2:10: not TOML: string values must be quoted, expected literal string\n\
         3:5: not TOML: unclosed array table, expected `]`"
    );
    assert_eq!(
        errors("sources = 3"),
        "1:11: sources = 3: an integer, not a table of tables; write it like [sources.NAME]"
    );
    assert_eq!(errors("server = 3"), "1:10: server = 3: an integer, not a table; write it like [server]");
    assert_eq!(warnings(""), "1:1: there are no sources, so nothing is refreshed; add a table [sources.NAME]");
}

/// What is said of these keys of a source with this path and query.
fn said_of_keys(path: &str, keys: &str) -> String {
    errors(&format!("[sources.s]\nurl = 'http://localhost/{path}'\nrefresh_every = '1h'\nkeys = [{keys}]"))
}

#[test]
fn any_key_that_can_be_in_a_url_is_taken_as_it_is() {
    for key in ["a/b", "50%", "../../etc", "a b", "🦆", "?x=1#y", "a\\\\b", &"k".repeat(2048)] {
        let toml = format!("[sources.s]\nurl = 'http://localhost/x/{{key}}'\nrefresh_every = '1h'\nkeys = [\"{key}\"]");
        assert_eq!(source(&toml).keys[0].0.as_str(), key.replace("\\\\", "\\"));
    }
}

#[test]
fn wrong_keys_are_explained() {
    let long = format!("'{}'", "k".repeat(2049));
    let shown = "k".repeat(79);
    for (path, keys, said) in [
        (
            "{key}",
            "'a', '..'",
            "4:14: sources.s.keys = '..': with this key or parameter the URL's path would be another one (`.` and `..` are \
             steps in a path); put {key} into the query, or leave this key out"
                .into(),
        ),
        ("{key}", long.as_str(), format!("4:9: sources.s.keys = '{shown}…: a key has at most 2048 bytes, this one has 2049")),
        ("{key}", "''", "4:9: sources.s.keys = '': a key can't be empty".into()),
        ("{key}", "\"a\\n\"", "4:9: sources.s.keys = \"a\\n\": a key can't have control characters, this one has '\\n'".into()),
        (
            "{key}",
            "'a', { key = 'a' }",
            "4:22: sources.s.keys = 'a': listed twice, first at 4:9; list each key once".into(),
        ),
        (
            "{key}",
            "['a']",
            "4:9: sources.s.keys = ['a']: a list, not a key; write it like \"berlin\" or \
             { key = \"berlin\", lat = 52.52, lon = 13.405 }"
                .into(),
        ),
        (
            "{key}",
            "{ lat = 1 }",
            "4:9: sources.s.keys = { lat = 1 }: a table without `key`; write it like \"berlin\" or \
             { key = \"berlin\", lat = 52.52, lon = 13.405 }"
                .into(),
        ),
        (
            "x?lat={lat}&lon={lon}",
            "'berlin', { key = 'oslo', lat = 59.9 }, { key = 'rome', lat = 41.9, lon = [1] }",
            "4:9: sources.s.keys = 'berlin': `url` needs a value for {lat}, and this key has none; write it like \
             { key = …, lat = … }\n\
             4:19: sources.s.keys = { key = 'oslo', lat = 59.9 }: `url` needs a value for {lon}, and this key has none; \
             write it like { key = …, lon = … }\n\
             4:83: sources.s.keys.lon = [1]: a list, not the value of a parameter; write it like 52.52 or \"text\""
                .into(),
        ),
    ] {
        assert_eq!(said_of_keys(path, keys), said, "{keys}");
    }
}

#[test]
fn many_wrong_keys_are_counted() {
    let keys: Vec<_> = (0..1000).map(|number| format!("'{number}'")).collect();
    let said = said_of_keys("{name}", &keys.join(", "));
    assert_eq!(said.lines().count(), 11);
    assert!(said.ends_with("sources.s.keys: 990 more keys like these are wrong"), "{said}");
}

#[test]
fn parameters_are_written_into_the_url_as_they_are_in_the_file() {
    let toml = "
        [sources.s]
        url = 'http://localhost/{key}?a={a}&b={b}&c={c}&d={d}'
        refresh_every = '1h'
        keys = [{ key = 'k', a = 52.520, b = 1_000, c = true, d = 'x y' }]
    ";
    let source = source(toml);
    let (key, params) = &source.keys[0];
    assert_eq!(source.url.expand(key, params).unwrap().as_str(), "http://localhost/k?a=52.520&b=1000&c=true&d=x%20y");
}

#[test]
fn keys_come_from_elsewhere_too() {
    let toml = "
        [sources.index]
        url = 'http://localhost/index'
        refresh_every = '1h'
        keys = ['all']
        [sources.s]
        url = 'http://localhost/{key}'
        refresh_every = '1h'
        keys_from = [
            { file = '/etc/cities.CSV' }, { file = 'keys', format = 'jsonl' },
            { query = ' select a from b ', every = '1m', timeout = '2s' }, { query = 'WITH x AS (SELECT 1) SELECT * FROM x WHERE y = ${env:SECRET}' },
            { source = 'index', items = '$.a[*]', key = '$.id', params = { lat = '$.b' } },
        ]
    ";
    let config = load_bytes(toml).unwrap().config;
    let from = &config.sources[1].keys_from;
    let names: Vec<_> = from.iter().map(|from| (from.name.as_str(), from.place)).collect();
    assert_eq!(names, [("file", 10), ("file:2", 11), ("query", 12), ("query:2", 13), ("source", 14)]);
    let file = |path: &str, format| KeyPlace::File { path: path.into(), format };
    assert!(from[0].what == file("/etc/cities.CSV", KeyFormat::Csv));
    assert!(matches!(&from[1].what, KeyPlace::File { format: KeyFormat::JsonLines, .. }));
    let span = |seconds| std::time::Duration::from_secs(seconds);
    let KeyPlace::Query { every, timeout, .. } = &from[2].what else { panic!("{from:?}") };
    assert_eq!((*every, *timeout, from[2].about.as_str()), (span(60), span(2), "select a from b"));
    let KeyPlace::Query { every, timeout, .. } = &from[3].what else { panic!("{from:?}") };
    assert_eq!((*every, *timeout, from[3].about.as_str()), (span(300), span(30), "a query"));
    assert_eq!(from[4].about, "index $.a[*]");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn places_where_no_keys_can_come_from_are_refused() {
    for (written, said) in [
        ("'cities.csv'", "text, not a place where keys come from; write it like { file = \"cities.csv\" }"),
        ("{ fil = 'a.txt' }", "says neither file nor query nor source; write it like { file = \"cities.csv\" }"),
        ("{ file = 'a.txt', every = '1m' }", "there is no such setting here; known are file, format"),
        ("{ file = 'a.txt', query = 'SELECT 1' }", "file and query are in one table; write a table for each"),
        ("{ file = 'a' }", "its name doesn't say how it is written; add format = \"txt\", \"csv\" or \"jsonl\""),
        ("{ file = 'a.txt', format = 'xml' }", "there is no such format; write it like \"csv\""),
        ("{ file = '' }", "is empty"),
        ("{ query = 'DELETE FROM a' }", "not a SELECT, and all else could change the data"),
        ("{ query = '  ' }", "is empty"),
        ("{ query = 'SELECT 1', every = '1ms' }", "must be at least 1s"),
        ("{ source = 'index', items = '$.a' }", "key is not set"),
        ("{ source = 'index', items = 'a', key = '$.id' }", "not a JSONPath (RFC 9535)"),
        ("{ source = 'indx', items = '$.a', key = '$.id' }", "there is no source \"indx\"; did you mean \"index\"?"),
        (
            "{ source = 's', items = '$.a', key = '$.id' }",
            "sources take their keys in a circle: s ← s; let one of them",
        ),
        ("{ source = 'back', items = '$.a', key = '$.id' }", "sources take their keys in a circle: s ← back ← s"),
    ] {
        let toml = format!(
            "[defaults]\nrefresh_every = '1h'\n[sources.index]\nurl = 'http://localhost/'\nkeys = ['a']\n\
             [sources.back]\nurl = 'http://localhost/{{key}}'\n\
             keys_from = {{ source = 's', items = '$.a', key = '$.id' }}\n\
             [sources.s]\nurl = 'http://localhost/{{key}}'\nkeys_from = {written}"
        );
        let errors = errors(&toml);
        assert!(errors.contains(said) && errors.contains("sources.s.keys_from"), "{written}: {errors}");
    }
}

#[test]
fn readers_may_ask_for_keys_by_these_rules() {
    let on = |written: &str| {
        let toml =
            format!("[sources.s]\nurl = 'http://localhost/{{key}}'\nrefresh_every = '1h'\non_demand = {written}");
        assert_eq!(warnings(&toml), "", "a source without keys is no mistake then");
        source(&toml).on_demand
    };
    assert_eq!(on("true"), Some(OnDemand::DEFAULT));
    assert_eq!(on("{}"), Some(OnDemand::DEFAULT));
    assert_eq!(
        on("{ idle_after = '1d', max_keys = 5, wait = '0s', negative_for = '1m', new_keys_per_minute = 7 }"),
        Some(OnDemand {
            idle_after: Duration::from_secs(86_400),
            max_keys: 5,
            wait: Duration::ZERO,
            negative_for: Duration::from_secs(60),
            new_keys_per_minute: 7,
        })
    );
    assert_eq!(source(&format!("{SOURCE_BY_THE_HOUR}\non_demand = false")).on_demand, None);
}

#[test]
fn what_readers_can_not_ask_for_is_explained() {
    let table = "text, not true, or a table of how keys come and go that readers ask for";
    for (path, written, said) in [
        ("{key}", "'yes'", format!("on_demand = 'yes': {table}")),
        ("{key}", "{ idle_after = '1m' }", "on_demand.idle_after = '1m': must be at least 5m".into()),
        ("{key}", "{ max_keys = 0 }", "on_demand.max_keys = 0: not a whole number of at least 1".into()),
        (
            "{key}",
            "{ idle = '1d' }",
            "on_demand.idle: there is no such setting here; did you mean `idle_after`?".into(),
        ),
        (
            "{key}?lat={lat}",
            "true",
            "on_demand: a reader names a key and nothing else, and {lat} needs a value too".into(),
        ),
        ("all", "true", "on_demand: `url` has no {key}: all keys would be the same resource".into()),
    ] {
        let toml = format!("[sources.s]\nurl = 'http://localhost/{path}'\nrefresh_every = '1h'\non_demand = {written}");
        let errors = errors(&toml);
        assert!(errors.contains(&format!("sources.s.{said}")), "{written}: {errors}");
    }
    let body =
        "[sources.s]\nurl = 'http://localhost/'\nbody = '{ \"id\": \"{id}\" }'\nrefresh_every = '1h'\non_demand = true";
    assert!(errors(body).contains("{id} needs a value too"), "{}", errors(body));
}

/// What is said of a source with this path and query and these settings.
fn said_of_batch(path: &str, settings: &str) -> String {
    errors(&format!("[sources.s]\nkeys = ['k']\nurl = 'http://localhost/{path}'\nrefresh_every = '1h'\n{settings}"))
}

#[test]
fn one_request_may_be_for_many_keys() {
    let toml = "[sources.s]\nkeys = ['a', 'b,c']\nurl = 'http://localhost/u?ids={keys}'\nrefresh_every = '1h'\n\
                batch = 50\nitems = '$.data[*]'\nitem_key = '$.id'";
    assert_eq!(warnings(toml), "");
    let one = source(toml);
    let batch = one.batch.as_ref().unwrap();
    assert_eq!((batch.size, batch.items.as_str(), batch.absent_means_gone), (50, "$.data[*]", false));
    let keys: Vec<_> = one.keys.iter().map(|(key, _)| key).collect();
    assert_eq!(one.ask_all(&keys).unwrap().url.as_str(), "http://localhost/u?ids=a,b%2Cc");
    let other = source(&toml.replace("$.id", "$.key"));
    assert_ne!(other.fingerprint(), one.fingerprint(), "other items may be another resource");
    assert_eq!(source(&toml.replace("50", "60")).fingerprint(), one.fingerprint());
}

#[test]
fn what_one_request_for_many_keys_can_not_be_is_explained() {
    let all = "items = '$.a[*]'\nitem_key = '$.id'\nbatch = 10";
    for (path, settings, said) in [
        ("u?ids={keys}", all, ""),
        ("u?ids={keys}", "", "{keys} stands for many keys, and batch is not set; add batch = 100, or write {key}"),
        ("u/{key}", all, "batch is set, and no {keys} says where the keys go; write it like ?ids={keys}"),
        ("u?ids={keys}&x={key}", all, "one request for many keys can't have {key}, which differs from key to key"),
        ("u?ids={keys}", "batch = 10", "items is not set, which batch needs"),
        ("u?ids={keys}", "batch = 10\nitems = '$.a[*]'", "item_key is not set, which batch needs"),
        ("u?ids={keys}", "batch = 0\nitems = '$.a[*]'\nitem_key = '$.id'", "not a whole number of at least 1"),
        ("u/{key}", "items = '$.a[*]'", "sources.s.items = '$.a[*]': has no meaning without batch"),
        ("u/{key}", "absent_means_gone = true", "has no meaning without batch"),
        ("u?ids={keys}", &format!("{all}\ncontent = 'text'"), "the answers of a batch are JSON; leave it out"),
        ("u?ids={keys}", &format!("{all}\nbody = '{{ \"id\": \"{{key}}\" }}'"), "can't have {key} in its body"),
    ] {
        let errors = said_of_batch(path, settings);
        assert!(errors.contains(said) && (said.is_empty() == errors.is_empty()), "{path} {settings}: {errors}");
    }
}

#[test]
fn without_polling_no_interval_is_needed() {
    let cadence = |more: &str| source(&format!("{SOURCE}poll = false\n{more}")).policy.cadence.to_string();
    assert_eq!(cadence(""), "when read, as every 1h");
    assert_eq!(cadence("stale_after = '10m'"), "when read, as every 10m");
    assert_eq!(cadence("stale_after = '10m'\nrefresh_every = '1d'"), "when read, as every 1day");
    let said = said_of("poll = false\nrefresh_cron = '7 * * * *'");
    assert!(said.contains("nothing is refreshed by schedule with poll = false"), "{said}");
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let source = |url: &str, settings: &str| {
        warnings(&format!("[sources.s]\nurl = 'http://localhost/{url}'\nrefresh_every = '1h'\n{settings}"))
    };
    for (url, settings, said) in [
        ("", "keys = ['k']", ""),
        ("{key}", "", "1:10: sources.s: has no keys, so nothing is refreshed; add keys = [\"…\"]"),
        ("{key}", "keys = []", "1:10: sources.s: has no keys, so nothing is refreshed; add keys = [\"…\"]"),
        (
            "",
            "keys = ['a', 'b']",
            "4:8: sources.s.keys: 2 keys, but `url` has no variables: all have the same URL; put {key} into `url`",
        ),
        (
            "",
            "keys = [{ key = 'a', idd = 1 }, 'b']\nbody = '{}'",
            "4:8: sources.s.keys: 2 keys, but neither `url` nor `body` has variables: all have the same request; put {key} \
             into `url`\n\
             4:28: sources.s.keys.idd: neither `url` nor `body` has such a variable; leave it out",
        ),
        (
            "{latitude}",
            "keys = [{ key = 'a', latitude = 1, latitud = 1 }, { key = 'b', latitude = 1, latitud = 1 }]",
            "4:46: sources.s.keys.latitud: `url` has no such variable; did you mean `latitude`?",
        ),
        (
            "{key}{p}",
            "keys = [{ key = 'a', p = '${env:SECRET}' }]",
            "4:26: sources.s.keys.p = '${env:SECRET}': parameters are stored in the database and can be read there; if it \
             is a secret, put it into `url` or `headers`",
        ),
        (
            "{key}",
            "keys = ['${env:SECRET}']",
            "4:9: sources.s.keys = '${env:SECRET}': keys are stored in the database and can be read there; if it is a \
             secret, put it into `url` or `headers`",
        ),
        (
            "",
            "keys = ['k']\nstale_after = '30m'",
            "5:15: sources.s.stale_after = '30m': shorter than the interval (1h), so copies are stale before they are \
             refreshed, even when all is well; refresh at least every 30m, or raise stale_after to more than 1h",
        ),
        (
            "",
            "keys = ['k']\n[upstreams.u]\nburst = 3",
            "5:12: upstreams.u: no source uses this upstream; write upstream = \"u\" in a source\n\
             6:9: upstreams.u.burst = 3: has no meaning without requests_per_second_limit; set the limit, or leave it out",
        ),
        (
            "{key}",
            "keys = ['a', 'b', 'c']\n[defaults]\nrequests_per_second_limit = 0.0005",
            "6:29: defaults.requests_per_second_limit = 0.0005: the sources of http://localhost need 0.00083 requests per \
             second, more than the 0.00050 that limit and burst allow on average, so they are refreshed less often; raise the limit, or the sources' intervals",
        ),
    ] {
        assert_eq!(source(url, settings), said, "{settings}");
    }
}

proptest! {
    /// Cut, doubled or altered anywhere, a configuration is read or refused, with places that are in the file.
    #[test]
    fn whatever_is_in_the_file_reading_it_ends_well(
        edits in prop::collection::vec((0usize..EXAMPLE.len(), 0usize..40, "[\\[\\]{}=\"'#.,\n$ a-z0-9🦆]{0,6}"), 1..6),
        uncomment in any::<bool>(),
    ) {
        let mut toml = if uncomment { EXAMPLE.replace("\n# ", "\n") } else { EXAMPLE.to_owned() };
        for (at, length, put) in edits {
            let (from, to) = (toml.floor_char_boundary(at), toml.floor_char_boundary(at + length));
            toml.replace_range(from..to, &put);
        }
        let outside = Outside { files: HashMap::from([("c.toml", toml.clone().into())]), ..Outside::default() };
        if let Err(errors) = load(Path::new("c.toml"), &outside, now()) {
            prop_assert!(!errors.as_slice().is_empty());
            for error in errors.as_slice() {
                let (line, column) = error.place.unwrap();
                prop_assert!(line <= toml.matches('\n').count() + 1, "{error}");
                let width = toml.split('\n').nth(line - 1).unwrap().chars().count();
                prop_assert!(column <= width + 1, "{error}");
            }
        }
    }
}
