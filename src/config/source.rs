//! `[sources.NAME]`.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use url::{Host, Url};

use crate::domain::batch::Batch;
use crate::domain::fingerprint::{Asked, Fingerprint};
use crate::domain::resource::SourceName;
use crate::domain::table::Table;
use crate::domain::template::UrlTemplate;

use super::collection::{self, Beside};
use super::preset::Applied;
use super::reader::Reader;
use super::section::{Layers, Section, did_you_mean};
use super::upstream::DeclaredUpstreams;
use super::{RequestSettings, Source, ask, batch, headers, keys, on_demand, policy, settings as set, tokens};

impl Source {
    /// What it asks for.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let RequestSettings { method, body, headers, .. } = &self.request;
        let sent = body.as_ref().map(|body| (&body.template, &body.content_type));
        let asked = Asked { method, url: &self.url, headers, sent };
        let one = Fingerprint::of(&asked, &self.policy.body, self.policy.cache_control);
        let items = |batch: &Batch| format!("{} {}", batch.items.as_str(), batch.key.as_str());
        let more = self.collection.as_ref().map(|collection| collection.asks()).or(self.batch.as_ref().map(items));
        let one = more.map_or(one, |more| one.with(&more));
        self.coordinate_decimals.map_or(one, |decimals| one.with(&format!("{decimals} decimals of coordinates")))
    }

    /// Its typed table.
    #[must_use]
    pub fn table(&self) -> Option<&Table> {
        self.policy.body.table.as_deref()
    }

    /// How many requests it takes to ask for so many keys once; a collection's pages are not known, and count as one.
    #[must_use]
    pub fn requests_for(&self, keys: u64) -> u64 {
        if self.collection.is_some() {
            return 1;
        }
        keys.div_ceil(self.batch.as_ref().map_or(1, |batch| u64::from(batch.size).max(1)))
    }
}

/// Reads a source. What is wrong with it is noted, all of it.
pub(super) fn read(
    reader: &mut Reader<'_>,
    name: &str,
    section: &Section<'_>,
    upstreams: &DeclaredUpstreams<'_>,
    defaults: &Section<'_>,
) -> Option<Source> {
    let source_name = SourceName::new(name).map_err(|error| reader.error(&section.at, error.to_string(), ""));
    let upstream = section.find(reader, &set::UPSTREAM);
    let declared = upstream.as_ref().and_then(|upstream| upstreams.get(&upstream.value.text));
    if let (Some(named), None) = (&upstream, declared) {
        let remedy = if named.value.expanded || upstreams.is_empty() {
            "add the table, or leave this out".into()
        } else {
            did_you_mean(&named.value.text, upstreams.names())
        };
        reader.error(&named.at, "there is no such table in [upstreams]", remedy);
    }
    let preset = upstream.as_ref().and_then(|upstream| upstreams.preset(&upstream.value.text));
    let tables = [Some(section), declared, preset.map(|preset| &preset.settings), Some(defaults)];
    let layers = Layers { sections: tables.into_iter().flatten().collect() };
    let policy = policy::read(reader, &layers, name);
    if let (Some(preset), Some(policy)) = (preset, &policy) {
        preset.check_source(reader, &layers, policy);
    }
    let coordinate_decimals = layers.optional(reader, &set::COORDINATE_DECIMALS);
    let max_delete_share = layers.get(reader, &set::MAX_DELETE_SHARE);
    let history = layers.optional(reader, &set::HISTORY);
    let erase_gone = layers.get(reader, &set::ON_GONE);
    let read_tokens = tokens::of(reader, section, &set::READ_TOKENS);
    let url = url(reader, section);
    let request = request(reader, section, &layers, (url.as_ref(), preset));
    let keys = match (section.value(&set::KEYS), &url) {
        (Some(list), Some(url)) => {
            let body = request.as_ref().and_then(|request| request.body.as_ref());
            keys::read(reader, list, url, body.map(|body| &body.template))
        }
        _ => Vec::new(),
    };
    let beside = batch::Beside { url: url.as_ref(), request: request.as_ref(), policy: policy.as_ref() };
    let batch = batch::read(reader, section, &beside);
    let on_demand = on_demand::of(reader, section, url.as_ref(), request.as_ref());
    let lists_none = section.value(&set::KEYS).is_none_or(|list| list.is_empty_list());
    let beside = Beside { url: url.as_ref(), request: request.as_ref(), policy: policy.as_ref() };
    let collection = collection::read(reader, section, &layers, &beside);
    let has_keys =
        collection.as_ref().is_none_or(Option::is_some) || on_demand.is_none_or(|on_demand| on_demand.is_some());
    if !has_keys && lists_none && section.value(&set::KEYS_FROM).is_none() {
        reader.warn(&section.at, "has no keys, so nothing is refreshed", "add keys = [\"…\"]");
    }
    let keys_from = match section.value(&set::KEYS_FROM) {
        Some(_) => section.find(reader, &set::KEYS_FROM).map(|found| found.value),
        None => Some(Vec::new()),
    };
    let url = url?;
    Some(Source {
        name: source_name.ok()?,
        upstream: upstream.map_or_else(|| url.origin().to_owned(), |upstream| upstream.value.text),
        keys: keys.into(),
        keys_from: keys_from?,
        collection: collection?.map(Arc::new),
        batch: batch?,
        on_demand: on_demand?,
        read_tokens: read_tokens?,
        policy: policy?,
        max_delete_share: max_delete_share?,
        coordinate_decimals: coordinate_decimals?,
        history: history?,
        erase_gone: erase_gone?,
        request: request?,
        url,
    })
}

fn url(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<UrlTemplate> {
    if section.value(&set::URL).is_none() {
        reader.error(&section.at, "url is not set", set::URL.kind.wants.remedy());
    }
    section.find(reader, &set::URL).map(|url| url.value)
}

fn request(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    layers: &Layers<'_, '_>,
    (url, preset): (Option<&UrlTemplate>, Option<&Applied<'_>>),
) -> Option<RequestSettings> {
    let user_agent = user_agent(reader, layers, (url, preset));
    let limit_phrases = layers.get(reader, &set::LIMIT_PHRASES);
    let timeout = layers.get(reader, &set::TIMEOUT);
    let max_body = layers.get(reader, &set::MAX_BODY);
    let redirect_hosts = layers.get(reader, &set::ALLOW_REDIRECT_HOSTS);
    let mut all = Some(HeaderMap::new());
    for section in layers.sections.iter().rev().filter(|section| section.value(&set::HEADERS).is_some()) {
        let own = section.find(reader, &set::HEADERS);
        all = all.zip(own).map(|(all, own)| headers::merged(all, own.value));
    }
    let method = ask::method_of(reader, section);
    let body = method.as_ref().and_then(|method| ask::body(reader, section, method));
    let mut headers = all?;
    ask::accept(reader, layers, &mut headers);
    Some(RequestSettings {
        method: method?,
        body: body?,
        headers,
        user_agent: user_agent?,
        redirect_hosts: redirect_hosts?,
        limit_phrases: limit_phrases?,
        timeout: timeout?,
        max_body: max_body?,
    })
}

fn user_agent(
    reader: &mut Reader<'_>,
    layers: &Layers<'_, '_>,
    (url, preset): (Option<&UrlTemplate>, Option<&Applied<'_>>),
) -> Option<HeaderValue> {
    if layers.has(&set::USER_AGENT) {
        return layers.get(reader, &set::USER_AGENT);
    }
    let own = layers.own()?;
    if preset.is_some_and(|preset| preset.misses_identity(reader, &own.at)) {
        return None;
    }
    let origin = Url::parse(url?.origin()).ok();
    if origin.is_some_and(|origin| is_loopback(&origin)) {
        return Some(headers::own_user_agent());
    }
    let problem = "user_agent is not set: public APIs block clients that don't say who they are";
    let remedy = format!(
        "write a name and a contact, like user_agent = {}, here, in its upstream or in [defaults]",
        set::USER_AGENT.kind.wants.example
    );
    reader.error(&own.at, problem, remedy);
    None
}

/// Whether a URL is on this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
