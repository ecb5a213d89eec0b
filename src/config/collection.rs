//! `kind = "collection"`: one walk over the pages of a list brings many resources.

use std::time::Duration;

use humantime::format_duration;

use super::fields::Fields;
use super::kinds::{COUNT, PATH, SPAN};
use super::reader::Reader;
use super::section::{Layers, Section};
use super::setting::Setting;
use super::value::{Value, Wants};
use super::{RequestSettings, settings as set};
use crate::domain::collection::{ChangesSince, Collection, Paginate};
use crate::domain::content::{ContentKind, JsonPath};
use crate::domain::policy::{Heed, Policy};
use crate::domain::template::UrlTemplate;

/// The most pages of a walk, where the configuration does not say.
const MAX_PAGES: u32 = 10_000;
/// The overlap, where the configuration does not say.
const OVERLAP: Duration = Duration::from_secs(5 * 60);
/// How often all members are walked where changes are asked for, if the configuration does not say.
const SWEEP_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceKind {
    /// Each key is asked for by itself.
    Keys,
    /// One walk brings all.
    Collection,
}

/// The names of kinds.
pub(super) const KINDS: [(&str, SourceKind); 2] = [("keys", SourceKind::Keys), ("collection", SourceKind::Collection)];

/// What else of a source a collection is held against.
pub(super) struct Beside<'a> {
    pub(super) url: Option<&'a UrlTemplate>,
    pub(super) request: Option<&'a RequestSettings>,
    pub(super) policy: Option<&'a Policy>,
}

/// What `paginate` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pages {
    paginate: Paginate,
    max_pages: u32,
}

/// What `updated_since` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Since {
    param: String,
    path: JsonPath,
    overlap: Duration,
}

/// Whether a source is a collection; `None` for a wrong kind.
pub(super) fn is_one(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<bool> {
    match section.value(&set::KIND) {
        Some(_) => section.find(reader, &set::KIND).map(|kind| kind.value == SourceKind::Collection),
        None => Some(false),
    }
}

/// Reads what makes a source a collection. The outer `None` is something wrong, which has been noted.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
pub(super) fn read(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    layers: &Layers<'_, '_>,
    beside: &Beside<'_>,
) -> Option<Option<Collection>> {
    if !is_one(reader, section)? {
        return check_absent(reader, section).then_some(None);
    }
    let fits = check_beside(reader, section, layers, beside);
    let items = required(reader, section, &set::ITEMS);
    let key = required(reader, section, &set::ITEM_KEY);
    let pages = match section.value(&set::PAGINATE) {
        Some(_) => section.find(reader, &set::PAGINATE).map(|found| found.value),
        None => Some(Pages { paginate: Paginate::Never, max_pages: 1 }),
    };
    let changes = changes(reader, section, beside.policy);
    let Pages { paginate, max_pages } = pages?;
    let counted = matches!(paginate, Paginate::PageNumber { .. });
    // What moves from page to page while they are counted can be missed once without being gone.
    let gone_after = match section.find(reader, &set::GONE_AFTER) {
        Some(found) => found.value,
        None => {
            if counted {
                2
            } else {
                1
            }
        }
    };
    let collection = Collection { items: items?, key: key?, paginate, max_pages, changes: changes?, gone_after };
    fits.then_some(Some(collection))
}

fn required<T>(reader: &mut Reader<'_>, section: &Section<'_>, setting: &Setting<T>) -> Option<T> {
    if section.value(setting).is_none() {
        let problem = format!("{} is not set, which a collection needs", setting.name);
        reader.error(&section.at, problem, setting.kind.wants.remedy());
    }
    section.find(reader, setting).map(|found| found.value)
}

/// Notes settings of collections in a source that is none.
fn check_absent(reader: &mut Reader<'_>, section: &Section<'_>) -> bool {
    let given = [section.value(&set::PAGINATE), section.value(&set::UPDATED_SINCE), section.value(&set::SWEEP_EVERY)];
    let mut fits = true;
    for value in given.into_iter().flatten() {
        let remedy = "add kind = \"collection\", or leave this out";
        reader.error(&value.spot(), "has a meaning for collections alone", remedy);
        fits = false;
    }
    fits
}

/// Notes what a collection can't be combined with.
fn check_beside(reader: &mut Reader<'_>, section: &Section<'_>, layers: &Layers<'_, '_>, beside: &Beside<'_>) -> bool {
    let mut wrong: Vec<(Value<'_>, String, &str)> = Vec::new();
    let listed = "the keys of a collection are those that the upstream lists";
    if let Some(keys) = section.value(&set::KEYS) {
        wrong.push((keys, listed.into(), "leave it out"));
    }
    if let Some(keys) = section.value(&set::KEYS_FROM) {
        wrong.push((keys, listed.into(), "leave it out"));
    }
    if let Some(on_demand) = section.value(&set::ON_DEMAND) {
        wrong.push((on_demand, format!("{listed}, and no reader adds any"), "leave it out"));
    }
    if let Some(poll) = section.value(&set::POLL) {
        wrong.push((poll, "a collection is walked by its schedule, not when a member is read".into(), "leave it out"));
    }
    if let Some(batch) = section.value(&set::BATCH) {
        wrong.push((batch, "a page of a collection brings as many members as it has".into(), "leave it out"));
    }
    let variable = beside.url.and_then(|url| url.variables().first());
    if let (Some(variable), Some(url)) = (variable, section.value(&set::URL)) {
        let problem = format!("has {{{variable}}} in it, but a collection is asked for as a whole");
        wrong.push((url, problem, "write the URL of the first page"));
    }
    if let Some(method) =
        section.value(&set::METHOD).filter(|_| beside.request.is_some_and(|r| r.method != http::Method::GET))
    {
        wrong.push((method, "a collection is asked for by GET".into(), "leave it out"));
    }
    if let Some(body) = section.value(&set::BODY) {
        wrong.push((body, "a collection is asked for by GET, which has no body".into(), "leave it out"));
    }
    let kind = beside.policy.and_then(|policy| policy.body.kind);
    if let Some(content) = section.value(&set::CONTENT).filter(|_| kind.is_some_and(|kind| kind != ContentKind::Json)) {
        wrong.push((content, "the pages of a collection are JSON".into(), "leave it out"));
    }
    let fits = wrong.is_empty();
    for (value, problem, remedy) in wrong {
        reader.error(&value.spot(), problem, remedy);
    }
    let respects = beside.policy.is_some_and(|policy| policy.cache_control == Heed::Respect);
    if respects {
        let at = layers.find(reader, &set::CACHE_CONTROL).map_or_else(|| section.at.clone(), |found| found.at);
        let problem = "\"respect\" is about answers to single resources, and a collection comes in pages";
        reader.error(&at, problem, "write cache_control = \"schedule\" in this source");
    }
    fits && !respects
}

#[expect(clippy::option_option, reason = "absent and wrong are two things")]
fn changes(reader: &mut Reader<'_>, section: &Section<'_>, policy: Option<&Policy>) -> Option<Option<ChangesSince>> {
    let sweep = section.find(reader, &set::SWEEP_EVERY);
    let Some(value) = section.value(&set::UPDATED_SINCE) else {
        if let Some(sweep) = sweep {
            let remedy = "add updated_since, or leave it out";
            reader.error(&sweep.at, "has no meaning without updated_since: each walk looks at all members", remedy);
            return None;
        }
        return section.value(&set::SWEEP_EVERY).is_none().then_some(None);
    };
    let at = value.spot();
    let since = section.find(reader, &set::UPDATED_SINCE)?.value;
    let interval = policy?.cadence.interval(reader.now);
    let sweep_every = match &sweep {
        Some(sweep) => sweep.value,
        None if section.value(&set::SWEEP_EVERY).is_some() => return None,
        None => SWEEP_EVERY.max(interval),
    };
    if sweep_every < interval {
        let at = sweep.map_or(at, |sweep| sweep.at);
        let problem = format!("shorter than the interval ({})", format_duration(interval));
        reader.error(&at, problem, "raise it, or leave updated_since out");
        return None;
    }
    if let Some(stale_after) = section.find(reader, &set::STALE_AFTER).filter(|stale| stale.value < sweep_every) {
        let problem = format!(
            "shorter than sweep_every ({}): members that do not change are stale before a walk sees them again",
            format_duration(sweep_every)
        );
        reader.warn(&stale_after.at, problem, "raise it, or sweep more often");
    }
    let Since { param, path, overlap } = since;
    Some(Some(ChangesSince { param, path, overlap, sweep_every }))
}

const BY: Wants =
    Wants { noun: "one of \"link_header\", \"json_link\", \"cursor\" and \"page_number\"", example: "\"link_header\"" };
const PARAM: Wants = Wants { noun: "the name of a query parameter", example: "\"cursor\"" };

/// Reads `paginate`.
pub(super) fn pages(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<Pages> {
    let table = value.table(reader, wants)?;
    let by = table.get("by").map(|node| Value { path: value.path, node, ..value });
    let Some(by) = by else {
        reader.error(&value.spot().named(value.path), "by is not set", wants.remedy());
        return None;
    };
    let by = by.parsed(reader, &BY, |text| match text {
        "link_header" | "json_link" | "cursor" | "page_number" => Ok(text.to_owned()),
        _ => Err("there is no such way to paginate".into()),
    })?;
    let known: &[&'static str] = match by.as_str() {
        "link_header" => &["by", "max_pages"],
        "json_link" => &["by", "max_pages", "next"],
        "cursor" => &["by", "max_pages", "next", "param", "more"],
        _ => &["by", "max_pages", "param", "first", "size", "last"],
    };
    let fields = Fields::open(reader, value, wants, known)?;
    let max_pages = fields.optional(reader, "max_pages", count);
    let paginate = match by.as_str() {
        "link_header" => Some(Paginate::LinkHeader),
        "json_link" => fields.required(reader, "next", path).map(|next| Paginate::JsonLink { next }),
        "cursor" => cursor(reader, &fields),
        _ => page_number(reader, &fields),
    };
    Some(Pages { paginate: paginate?, max_pages: max_pages?.unwrap_or(MAX_PAGES) })
}

fn cursor(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Paginate> {
    let param = fields.required(reader, "param", param);
    let next = fields.required(reader, "next", path);
    let more = fields.optional(reader, "more", path);
    Some(Paginate::Cursor { param: param?, next: next?, more: more? })
}

fn page_number(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Paginate> {
    const FIRST: Wants = Wants { noun: "0 or 1", example: "1" };
    let param = fields.required(reader, "param", param);
    let first = fields.optional(reader, "first", |reader, value| {
        let number = value.number(reader, &FIRST, |number| [0.0, 1.0].iter().any(|fit| (number - fit).abs() < 1e-9))?;
        Some(u32::from(number > 0.5))
    });
    let size = fields.optional(reader, "size", count);
    let last = fields.optional(reader, "last", path);
    Some(Paginate::PageNumber { param: param?, first: first?.unwrap_or(1), size: size?, last: last? })
}

/// Reads `updated_since`.
pub(super) fn since(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<Since> {
    let fields = Fields::open(reader, value, wants, &["param", "path", "overlap"])?;
    let param = fields.required(reader, "param", param);
    let path = fields.required(reader, "path", path);
    let overlap = fields.optional(reader, "overlap", |reader, value| (SPAN.read)(reader, value, &SPAN.wants));
    Some(Since { param: param?, path: path?, overlap: overlap?.unwrap_or(OVERLAP) })
}

fn path(reader: &mut Reader<'_>, value: Value<'_>) -> Option<JsonPath> {
    (PATH.read)(reader, value, &PATH.wants)
}

fn count(reader: &mut Reader<'_>, value: Value<'_>) -> Option<u32> {
    (COUNT.read)(reader, value, &COUNT.wants)
}

fn param(reader: &mut Reader<'_>, value: Value<'_>) -> Option<String> {
    value.parsed(reader, &PARAM, |text| if text.is_empty() { Err("is empty".into()) } else { Ok(text.to_owned()) })
}
