//! `[upstreams.NAME]`, and the upstreams that sources without one share by origin.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::header;
use url::{Host, Url};

use crate::domain::limit::Limits;
use crate::domain::network::is_public;
use crate::domain::resource::SourceName;

use super::preset::Applied;
use super::reader::Reader;
use super::section::{Layers, Section};
use super::shortfall::Shortfall;
use super::{Credentials, Proxy, Source, Transport, Upstream, settings as set};

/// The tables in `[upstreams]`.
pub(super) struct DeclaredUpstreams<'a> {
    tables: BTreeMap<String, Section<'a>>,
    presets: BTreeMap<String, Applied<'a>>,
}

impl<'a> DeclaredUpstreams<'a> {
    /// Checks their names.
    pub(super) fn new(reader: &mut Reader<'_>, tables: BTreeMap<String, Section<'a>>) -> Self {
        for (name, section) in &tables {
            if SourceName::new(name.as_str()).is_err() {
                let problem = "an upstream's name is a lower-case letter, then lower-case letters, digits or `_`, at most \
                               63 bytes in all";
                reader.error(&section.at, problem, "");
            }
        }
        let preset = |(name, section): (&String, _)| Some((name.clone(), Applied::of(reader, section)?));
        let presets = tables.iter().filter_map(preset).collect();
        Self { tables, presets }
    }

    /// What the table's preset stands for.
    pub(super) fn preset(&self, name: &str) -> Option<&Applied<'a>> {
        self.presets.get(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Section<'a>> {
        self.tables.get(name)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.tables.keys().map(String::as_str)
    }

    /// All upstreams that there are, with the limits of their tables or of `[defaults]`.
    pub(super) fn resolve(
        &self,
        reader: &mut Reader<'_>,
        sources: &[Source],
        defaults: &Section<'_>,
    ) -> BTreeMap<String, Upstream> {
        let mut upstreams = BTreeMap::new();
        let names: Vec<&str> = self.names().chain(sources.iter().map(|source| source.upstream.as_str())).collect();
        for name in names {
            if upstreams.contains_key(name) {
                continue;
            }
            let preset = self.preset(name);
            let tables = [self.get(name), preset.map(|preset| &preset.settings), Some(defaults)];
            let layers = Layers { sections: tables.into_iter().flatten().collect() };
            if let Some(upstream) = upstream(reader, &layers, name, sources) {
                if let Some(preset) = preset {
                    let members = sources.iter().filter(|source| source.upstream == name);
                    preset.check_upstream(reader, &layers, &upstream.limits, (&upstream.credentials, members));
                }
                upstreams.insert(name.to_owned(), upstream);
            }
        }
        for (name, section) in &self.tables {
            if !sources.iter().any(|source| source.upstream == *name) {
                reader.warn(
                    &section.at,
                    "no source uses this upstream",
                    format!("write upstream = {name:?} in a source"),
                );
            }
        }
        upstreams
    }
}

fn upstream(reader: &mut Reader<'_>, layers: &Layers<'_, '_>, name: &str, sources: &[Source]) -> Option<Upstream> {
    let limits = limits(reader, layers);
    let timeout = layers.get(reader, &set::TIMEOUT);
    let members = || sources.iter().filter(|source| source.upstream == name);
    if let (Some(limit), Some(limits)) = (layers.find(reader, &set::REQUESTS_PER_SECOND_LIMIT), &limits) {
        let needed: f64 =
            members().map(|source| requests_per_second(source, source.keys.len() as u64, reader.now)).sum();
        let allowed = limits.refill_per_second();
        if needed > allowed {
            let problem = format!(
                "the sources of {name} need {} requests per second, more than the {} that limit and burst allow on \
                 average, so they are refreshed less often",
                two_digits(needed),
                two_digits(allowed)
            );
            reader.warn(&limit.at, problem, "raise the limit, or the sources' intervals");
        }
    }
    if let (Some(limits), true) = (&limits, layers.has(&set::BUDGETS)) {
        check_budgets(reader, layers, name, limits, members());
    }
    let longest_timeout = members().map(|source| source.request.timeout).max();
    let transport = transport(reader, layers, members());
    let credentials = credentials(reader, layers, members());
    Some(Upstream {
        limits: limits?,
        longest_timeout: longest_timeout.or(timeout)?,
        transport: transport?,
        credentials: credentials?,
    })
}

/// What it takes to keep so many keys of each source fresh: requests per second, and the interval.
#[must_use]
pub fn needed<'s>(sources: impl Iterator<Item = (&'s Source, u64)>, now: DateTime<Utc>) -> Vec<(f64, Duration)> {
    let of = |(source, keys): (&Source, u64)| {
        let interval = source.policy.cadence.interval(now);
        (requests_per_second(source, keys, now), interval)
    };
    let polled = sources.filter(|(source, _)| source.policy.cadence.is_polled());
    polled.map(of).filter(|(needed, _)| *needed > 0.0).collect()
}

/// Notes with each source how far its upstream's budgets stretch the intervals.
pub(super) fn stretch(sources: &mut [Source], upstreams: &BTreeMap<String, Upstream>, now: DateTime<Utc>) {
    for (name, Upstream { limits, .. }) in upstreams {
        let members = sources.iter().filter(|source| source.upstream == *name);
        let needed = needed(members.map(|source| (source, source.keys.len() as u64)), now);
        let shortfalls =
            limits.budgets.iter().filter_map(|budget| Shortfall::of(budget, limits.send_window(), &needed));
        let Some(stretch) = shortfalls.map(|shortfall| shortfall.stretch()).max_by(f64::total_cmp) else { continue };
        for source in sources.iter_mut().filter(|source| source.upstream == *name) {
            source.policy.stretch = stretch;
        }
    }
}

/// Notes each budget that is too small for the keys that the configuration lists.
fn check_budgets<'s>(
    reader: &mut Reader<'_>,
    layers: &Layers<'_, '_>,
    name: &str,
    limits: &Limits,
    sources: impl Iterator<Item = &'s Source>,
) {
    let Some(budgets) = layers.find(reader, &set::BUDGETS) else { return };
    let needed = needed(sources.map(|source| (source, source.keys.len() as u64)), reader.now);
    for budget in limits.budgets.iter() {
        if let Some(shortfall) = Shortfall::of(budget, limits.send_window(), &needed) {
            let problem = format!("{shortfall} for {name}");
            reader.warn(&budgets.at, problem, "raise the budget, or the sources' intervals");
        }
    }
}

/// How connections are made. What was wrong with it has been noted where it was read.
fn transport<'s>(
    reader: &mut Reader<'_>,
    layers: &Layers<'_, '_>,
    sources: impl Iterator<Item = &'s Source>,
) -> Option<Transport> {
    let proxy = layers.get(reader, &set::PROXY);
    let authorities = layers.optional(reader, &set::CA_CERTIFICATES);
    let certificate = layers.optional(reader, &set::CLIENT_CERTIFICATE);
    let block_private_networks = layers.get(reader, &set::BLOCK_PRIVATE_NETWORKS);
    if block_private_networks == Some(true) {
        check_blocked(reader, layers, proxy.as_ref(), sources);
    }
    Some(Transport {
        proxy: proxy?,
        authorities: authorities?.unwrap_or_default(),
        certificate: certificate?,
        block_private_networks: block_private_networks?,
    })
}

/// Notes what `block_private_networks` can't go with.
fn check_blocked<'s>(
    reader: &mut Reader<'_>,
    layers: &Layers<'_, '_>,
    proxy: Option<&Option<Proxy>>,
    sources: impl Iterator<Item = &'s Source>,
) {
    let Some(flag) = layers.find(reader, &set::BLOCK_PRIVATE_NETWORKS) else { return };
    if let Some(Some(_)) = proxy {
        let problem = "can't be kept through a proxy, which resolves names itself";
        reader.error(&flag.at, problem, "let the proxy block them, or set proxy = \"none\"");
    }
    for source in sources.filter(|source| has_private_address(source.url.origin())) {
        let problem = format!("source {} is at {}, which is not public", source.name, source.url.origin());
        reader.error(&flag.at, problem, "give the source an upstream of its own, without this");
    }
}

/// Whether an origin's host is written as an address that is not public.
fn has_private_address(origin: &str) -> bool {
    let address = Url::parse(origin).ok().and_then(|origin| match origin.host()? {
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address)),
        Host::Domain(_) => None,
    });
    address.is_some_and(|address| !is_public(address))
}

fn credentials<'s>(
    reader: &mut Reader<'_>,
    layers: &Layers<'_, '_>,
    mut sources: impl Iterator<Item = &'s Source>,
) -> Option<Credentials> {
    if !layers.has(&set::AUTH) {
        return Some(Credentials::None);
    }
    let auth = layers.find(reader, &set::AUTH)?;
    let field = match &auth.value {
        Credentials::Header(name, _) => Some(name),
        Credentials::OAuth2(_) => Some(&header::AUTHORIZATION),
        Credentials::None | Credentials::Query { .. } => None,
    };
    let twice = field.and_then(|field| {
        sources.find(|source| source.request.headers.contains_key(field)).map(|source| (field, &source.name))
    });
    if let Some((field, source)) = twice {
        let problem = format!("source {source} has {field} in its headers, or in this upstream's");
        reader.error(&auth.at.named(&auth.at.path), problem, "keep one of the two");
        return None;
    }
    Some(auth.value)
}

/// What keeping so many keys of a source fresh takes.
fn requests_per_second(source: &Source, keys: u64, now: DateTime<Utc>) -> f64 {
    let interval = source.policy.cadence.interval(now).max(Duration::from_secs(1));
    #[expect(clippy::cast_precision_loss, reason = "a number of keys has fewer than 52 bits")]
    let requests = source.requests_for(keys) as f64;
    requests / interval.as_secs_f64()
}

/// A number with two digits that say something.
fn two_digits(number: f64) -> String {
    let mut decimals = 0;
    let mut scaled = number;
    while scaled < 10.0 && decimals < 9 {
        scaled *= 10.0;
        decimals += 1;
    }
    format!("{number:.decimals$}")
}

fn limits(reader: &mut Reader<'_>, layers: &Layers<'_, '_>) -> Option<Limits> {
    let limited = layers.has(&set::REQUESTS_PER_SECOND_LIMIT);
    let requests_per_second = layers.get(reader, &set::REQUESTS_PER_SECOND_LIMIT);
    let burst = layers.find(reader, &set::BURST);
    if let (Some(burst), false) = (&burst, limited) {
        reader.warn(&burst.at, "has no meaning without requests_per_second_limit", "set the limit, or leave it out");
    }
    let burst = if layers.has(&set::BURST) { burst?.value } else { default_burst(requests_per_second) };
    let max_concurrent = layers.get(reader, &set::MAX_CONCURRENT_REQUESTS)?;
    let budgets = layers.get(reader, &set::BUDGETS)?;
    if limited && requests_per_second.is_none() {
        return None;
    }
    Some(Limits { requests_per_second, burst, max_concurrent, budgets })
}

/// A fifth of the limit, rounded up, and at least 2: see the meaning of `burst`.
fn default_burst(limit: Option<f64>) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 0; saturates")]
    let fifth = (limit.unwrap_or_default() / 5.0).ceil() as u32;
    fifth.max(2)
}
