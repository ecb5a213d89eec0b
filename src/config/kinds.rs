//! What settings take: how each kind of value is read.

use std::net::SocketAddr;
use std::time::Duration;

use bytesize::ByteSize;
use chrono_tz::Tz;
use http::{HeaderMap, HeaderValue, Method};
use rustls::pki_types::CertificateDer;
use url::Url;

use crate::domain::allowance::Fields;
use crate::domain::budget::Budgets;
use crate::domain::content::{ContentKind, JsonPath};
use crate::domain::governor::PauseScope;
use crate::domain::policy::Heed;
use crate::domain::schedule::{BadCron, CronRule};
use crate::domain::template::UrlTemplate;

use super::allowance;
use super::ask;
use super::budgets;
use super::certificates::{self, ClientCertificate};
use super::collection::{self, KINDS, Pages, Since, SourceKind};
use super::credentials::{self, Credentials};
use super::environment::Text;
use super::headers;
use super::keys_from::{self, KeysFrom};
use super::nearest::nearest;
use super::on_demand::{self, OnDemand};
use super::preset::Preset;
use super::reader::Reader;
use super::transport::{self, Proxy, RedirectHost};
use super::value::{Value, Wants, Wrong};

/// A kind of value.
pub(super) struct Kind<T> {
    /// What it is called.
    pub wants: Wants,
    /// Reads one; whatever is wrong with it is noted.
    pub read: fn(&mut Reader<'_>, Value<'_>, &Wants) -> Option<T>,
}

/// Longer spans would not fit into every database's and clock's numbers, and nobody means them.
const LONGEST_SPAN: Duration = Duration::from_secs(100 * 366 * 86_400);

/// The most that both databases keep in one row with room to spare.
const LARGEST_BODY: u64 = 512 * 1024 * 1024;

pub(super) static SPAN: Kind<Duration> = Kind {
    wants: Wants { noun: "a span of time", example: "\"15m\"" },
    read: |reader, value, wants| value.parsed(reader, wants, span),
};

pub(super) static POSITIVE_SPAN: Kind<Duration> = Kind {
    wants: Wants { noun: "a span of time", example: "\"15m\"" },
    read: |reader, value, wants| value.parsed(reader, wants, |text| at_least(text, Duration::from_nanos(1))),
};

pub(super) static INTERVAL: Kind<Duration> = Kind {
    wants: Wants { noun: "a span of time", example: "\"15m\"" },
    read: |reader, value, wants| value.parsed(reader, wants, |text| at_least(text, Duration::from_secs(1))),
};

pub(super) static SIZE: Kind<u64> = Kind {
    wants: Wants { noun: "a size", example: "\"16MiB\"" },
    read: |reader, value, wants| value.parsed(reader, wants, size),
};

pub(super) static COUNT: Kind<u32> = Kind {
    wants: Wants { noun: "a whole number of at least 1", example: "4" },
    read: |reader, value, wants| value.count(reader, wants),
};

pub(super) static RATE: Kind<f64> = Kind {
    wants: Wants { noun: "a number greater than 0", example: "20 or 0.5" },
    read: |reader, value, wants| value.number(reader, wants, |number| number > 0.0),
};

pub(super) static SHARE: Kind<f64> = Kind {
    wants: Wants { noun: "a number from 0 to 1", example: "0.1" },
    read: |reader, value, wants| value.number(reader, wants, |number| (0.0..=1.0).contains(&number)),
};

pub(super) static FLAG: Kind<bool> = Kind {
    wants: Wants { noun: "true or false", example: "true" },
    read: |reader, value, wants| value.flag(reader, wants),
};

pub(super) static ADDRESS: Kind<SocketAddr> = Kind {
    wants: Wants { noun: "an IP address with a port", example: "\"127.0.0.1:8080\"" },
    read: |reader, value, wants| {
        value.parsed(reader, wants, |text| text.parse().map_err(|_| "not an IP address with a port".into()))
    },
};

pub(super) static DATABASE_URL: Kind<Text> = Kind {
    wants: Wants { noun: "a database URL", example: "\"sqlite://headpond.db\" or \"postgres://user@host/database\"" },
    read: |reader, value, wants| {
        let expanded = value.text(reader, wants)?;
        value.parsed(reader, wants, database_url).map(|()| expanded)
    },
};

pub(super) static NAME: Kind<Text> = Kind {
    wants: Wants { noun: "the name of an upstream", example: "\"metno\"" },
    read: |reader, value, wants| value.text(reader, wants),
};

pub(super) static TEMPLATE: Kind<UrlTemplate> = Kind {
    wants: Wants { noun: "a URL template", example: "\"https://api.example/users/{key}\"" },
    read: |reader, value, wants| {
        let expanded = value.text(reader, wants)?.expanded;
        let template =
            value.parsed(reader, wants, |text| UrlTemplate::new(text).map_err(|error| error.to_string().into()))?;
        Some(if expanded { template.with_secret_path() } else { template })
    },
};

/// Only checked to be a list: `keys.rs` reads the elements, which need the template.
pub(super) static KEYS: Kind<()> = Kind {
    wants: Wants { noun: "a list of keys", example: "[\"berlin\", \"prishtina\"]" },
    read: |reader, value, wants| value.list(reader, wants).map(|_| ()),
};

pub(super) static ON_DEMAND: Kind<Option<OnDemand>> = Kind {
    wants: Wants {
        noun: "true, or a table of how keys come and go that readers ask for",
        example: "{ idle_after = \"14d\", max_keys = 100_000 }",
    },
    read: on_demand::read,
};

pub(super) static ALLOWANCE: Kind<Option<Fields>> = Kind {
    wants: Wants {
        noun: "a table of two header names, or \"ignore\"",
        example: "{ remaining = \"x-ratelimit-remaining\", reset = \"x-ratelimit-reset\" }",
    },
    read: allowance::read,
};

pub(super) static PRESET: Kind<Preset> = Kind {
    wants: Wants { noun: "one of \"met-norway\" and \"github\"", example: "\"met-norway\"" },
    read: |reader, value, wants| value.parsed(reader, wants, |text| one_of(&Preset::ALL, text)),
};

pub(super) static PHRASES: Kind<Vec<String>> =
    Kind { wants: Wants { noun: "a list of phrases", example: "[\"rate limit exceeded\"]" }, read: allowance::phrases };

pub(super) static BUDGETS: Kind<Budgets> = Kind {
    wants: Wants { noun: "a list of budgets", example: "[{ requests = 10_000, per = \"1d\" }]" },
    read: budgets::read,
};

pub(super) static KEYS_FROM: Kind<Vec<KeysFrom>> = Kind {
    wants: Wants { noun: "a place where keys come from", example: "{ file = \"cities.csv\" }" },
    read: keys_from::read,
};

pub(super) static SOURCE_KIND: Kind<SourceKind> = Kind {
    wants: Wants { noun: "one of \"keys\" and \"collection\"", example: "\"collection\"" },
    read: |reader, value, wants| value.parsed(reader, wants, |text| one_of(&KINDS, text)),
};

pub(super) static PAGES: Kind<Pages> = Kind {
    wants: Wants { noun: "a table that says how one page leads to the next", example: "{ by = \"link_header\" }" },
    read: collection::pages,
};

pub(super) static SINCE: Kind<Since> = Kind {
    wants: Wants {
        noun: "a table with param and path",
        example: "{ param = \"updated_since\", path = \"$.updated_at\", overlap = \"5m\" }",
    },
    read: collection::since,
};

pub(super) static CRON: Kind<String> = Kind {
    wants: Wants { noun: "a cron rule", example: "\"7 * * * *\" (minute, hour, day of month, month, day of week)" },
    read: |reader, value, wants| {
        let now = reader.now;
        value.parsed(reader, wants, |text| match CronRule::new(text, Tz::UTC, now) {
            Ok(_) => Ok(text.to_owned()),
            Err(BadCron::Never) => Err(BadCron::Never.to_string().into()),
            Err(BadCron::Unreadable(detail)) => {
                let detail = detail.split_once(": ").map_or(detail.as_str(), |(_, detail)| detail);
                Err(format!("not a cron rule ({})", detail.trim_end_matches('.')).into())
            }
        })
    },
};

pub(super) static ZONE: Kind<Tz> = Kind {
    wants: Wants { noun: "an IANA time zone", example: "\"Europe/Berlin\"" },
    read: |reader, value, wants| value.parsed(reader, wants, zone),
};

pub(super) static HEADERS: Kind<HeaderMap> = Kind {
    wants: Wants { noun: "a table of header names and values", example: "{ accept = \"application/json\" }" },
    read: headers::read,
};

pub(super) static METHOD: Kind<Method> = Kind {
    wants: Wants { noun: "GET or POST", example: "\"POST\"" },
    read: |reader, value, wants| value.parsed(reader, wants, ask::method),
};

pub(super) static BODY: Kind<Text> = Kind {
    wants: Wants { noun: "the text of a body", example: "\"\"\"{ \"id\": \"{key}\" }\"\"\"" },
    read: |reader, value, wants| value.text(reader, wants),
};

pub(super) static MEDIA_TYPES: Kind<HeaderValue> = Kind {
    wants: Wants { noun: "a media type", example: "\"application/json\"" },
    read: |reader, value, wants| value.parsed(reader, wants, ask::field),
};

pub(super) static HOSTS: Kind<Vec<RedirectHost>> = Kind {
    wants: Wants { noun: "a list of hosts", example: "[\"cdn.example\"]" },
    read: |reader, value, wants| {
        let elements = value.list(reader, wants)?.iter().map(|node| Value { node, ..value });
        let wants = Wants { noun: "a host", example: "\"cdn.example\"" };
        let hosts: Vec<_> = elements
            .map(|one| one.parsed(reader, &wants, |text| RedirectHost::new(text).map_err(Wrong::from)))
            .collect();
        hosts.into_iter().collect()
    },
};

pub(super) static CREDENTIALS: Kind<Credentials> = Kind {
    wants: Wants {
        noun: "a table with one of bearer, basic, header, query and oauth2",
        example: "{ bearer = \"${env:TOKEN}\" }",
    },
    read: credentials::read,
};

pub(super) static PROXY: Kind<Option<Proxy>> = Kind {
    wants: Wants { noun: "the URL of an HTTP proxy, or \"none\"", example: "\"http://proxy.example:3128\"" },
    read: |reader, value, wants| value.parsed(reader, wants, transport::proxy),
};

pub(super) static AUTHORITIES: Kind<Vec<CertificateDer<'static>>> = Kind {
    wants: Wants { noun: "the path of a PEM file", example: "\"/etc/headpond/ca.pem\"" },
    read: certificates::authorities,
};

pub(super) static CLIENT_CERTIFICATE: Kind<ClientCertificate> = Kind {
    wants: Wants {
        noun: "the paths of two PEM files",
        example: "{ certificate = \"/etc/headpond/client.pem\", key = \"/etc/headpond/client.key\" }",
    },
    read: certificates::client,
};

pub(super) static USER_AGENT: Kind<HeaderValue> = Kind {
    wants: Wants {
        noun: "a text for the User-Agent header (visible ASCII)",
        example: "\"acme-weather/1.0 ops@acme.example\"",
    },
    read: |reader, value, wants| {
        let expanded = value.text(reader, wants)?.expanded;
        let mut agent = value.parsed(reader, wants, user_agent)?;
        agent.set_sensitive(expanded);
        Some(agent)
    },
};

pub(super) static HEED: Kind<Heed> = Kind {
    wants: Wants { noun: "one of \"schedule\", \"respect\" and \"ignore\"", example: "\"schedule\"" },
    read: |reader, value, wants| value.parsed(reader, wants, |text| one_of(&HEEDS, text)),
};

const HEEDS: [(&str, Heed); 3] = [
    (Heed::Schedule.as_str(), Heed::Schedule),
    (Heed::Respect.as_str(), Heed::Respect),
    (Heed::Ignore.as_str(), Heed::Ignore),
];

pub(super) static PAUSE_SCOPE: Kind<PauseScope> = Kind {
    wants: Wants { noun: "one of \"upstream\", \"source\" and \"key\"", example: "\"upstream\"" },
    read: |reader, value, wants| value.parsed(reader, wants, |text| one_of(&PAUSE_SCOPES, text)),
};

const PAUSE_SCOPES: [(&str, PauseScope); 3] = [
    (PauseScope::Upstream.as_str(), PauseScope::Upstream),
    (PauseScope::Source.as_str(), PauseScope::Source),
    (PauseScope::Key.as_str(), PauseScope::Key),
];

pub(super) static CONTENT_KIND: Kind<ContentKind> = Kind {
    wants: Wants { noun: "one of \"json\", \"text\" and \"bytes\"", example: "\"json\"" },
    read: |reader, value, wants| value.parsed(reader, wants, |text| one_of(&CONTENT_KINDS, text)),
};

const CONTENT_KINDS: [(&str, ContentKind); 3] = [
    (ContentKind::Json.as_str(), ContentKind::Json),
    (ContentKind::Text.as_str(), ContentKind::Text),
    (ContentKind::Bytes.as_str(), ContentKind::Bytes),
];

pub(super) static PATH: Kind<JsonPath> = Kind {
    wants: Wants { noun: "a JSONPath (RFC 9535)", example: "\"$.data\"" },
    read: |reader, value, _| json_path(reader, value),
};

pub(super) static PATHS: Kind<Vec<JsonPath>> = Kind {
    wants: Wants { noun: "a list of JSONPaths (RFC 9535)", example: "[\"$.meta.updated_at\"]" },
    read: |reader, value, wants| {
        let elements = value.list(reader, wants)?.iter().map(|node| Value { node, ..value });
        let paths: Vec<_> = elements.map(|element| json_path(reader, element)).collect();
        paths.into_iter().collect()
    },
};

fn json_path(reader: &mut Reader<'_>, element: Value<'_>) -> Option<JsonPath> {
    let wants = Wants { noun: "a JSONPath (RFC 9535)", example: "\"$.meta.updated_at\"" };
    element.parsed(reader, &wants, |text| JsonPath::new(text).map_err(|_| "not a JSONPath (RFC 9535)".into()))
}

/// The value of that name.
pub(super) fn one_of<T: Copy>(known: &[(&str, T)], text: &str) -> Result<T, Wrong> {
    let found = known.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| format!("{name:?}")).collect();
        let remedy = match nearest(text, known.iter().map(|(name, _)| *name)) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("write one of {}", names.join(", ")),
        };
        Wrong::with_remedy("there is no such choice", remedy)
    })
}

fn span(text: &str) -> Result<Duration, Wrong> {
    use humantime::DurationError::{NumberOverflow, UnknownUnit};
    match humantime::parse_duration(text) {
        Ok(span) if span > LONGEST_SPAN => Err("longer than 100 years".into()),
        Ok(span) => Ok(span),
        Err(UnknownUnit { unit, .. }) if unit.is_empty() => Err("a number without a unit of time".into()),
        Err(UnknownUnit { unit, .. }) => Err(format!("`{unit}` is not a unit of time").into()),
        Err(NumberOverflow) => Err("longer than 100 years".into()),
        Err(_) => Err("not a span of time".into()),
    }
}

pub(super) fn at_least(text: &str, least: Duration) -> Result<Duration, Wrong> {
    let span = span(text)?;
    if span >= least {
        Ok(span)
    } else if least > Duration::from_millis(1) {
        Err(format!("must be at least {}", humantime::format_duration(least)).into())
    } else {
        Err("must be more than zero".into())
    }
}

fn size(text: &str) -> Result<u64, Wrong> {
    match text.parse::<ByteSize>() {
        Ok(ByteSize(0)) => Err("must be more than zero".into()),
        Ok(ByteSize(bytes)) if bytes > LARGEST_BODY => Err("more than a database row can hold (512MiB)".into()),
        Ok(ByteSize(bytes)) => Ok(bytes),
        Err(_) => Err("not a size".into()),
    }
}

fn database_url(text: &str) -> Result<(), Wrong> {
    let (scheme, rest) = text.split_once(':').ok_or("no scheme")?;
    match scheme {
        "sqlite" if rest.contains(":memory:") || rest.contains("mode=memory") => {
            Err("a database in memory keeps nothing".into())
        }
        "sqlite" if rest.contains('?') => Err(Wrong::with_remedy(
            "nothing may follow a `?`: it is a path alone",
            "write it like \"sqlite://headpond.db\"",
        )),
        "sqlite" if rest.trim_start_matches('/').is_empty() => Err("the path of the database file is missing".into()),
        "sqlite" => Ok(()),
        "postgres" | "postgresql" => match Url::parse(text) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(format!("not a URL ({error}); special characters in a password are percent-encoded").into())
            }
        },
        _ => Err("an unknown scheme: only sqlite and postgres are known".into()),
    }
}

fn zone(text: &str) -> Result<Tz, Wrong> {
    text.parse().map_err(|_| match nearest(text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())) {
        Some(near) => Wrong::with_remedy("not an IANA time zone", format!("did you mean {near:?}?")),
        None => "not an IANA time zone".into(),
    })
}

fn user_agent(text: &str) -> Result<HeaderValue, Wrong> {
    if text.trim().is_empty() {
        return Err("a User-Agent can't be empty".into());
    }
    HeaderValue::from_str(text).map_err(|_| "has characters that a header can't carry".into())
}
