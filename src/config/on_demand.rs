//! `on_demand` of a source: keys that exist because someone reads them.

use std::time::Duration;

use toml::de::DeValue;

use super::RequestSettings;
use super::fields::Fields;
use super::kinds::{COUNT, POSITIVE_SPAN, SPAN, at_least};
use super::reader::{Reader, Shows, Spot};
use super::section::Section;
use super::settings as set;
use super::value::{Value, Wants};
use crate::domain::template::{KEY, KEYS, UrlTemplate};

/// How keys come and go that readers ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDemand {
    /// After how long without a reader such a key is polled no longer.
    pub idle_after: Duration,
    /// How many such keys there may be: beyond that, those go that were not read for the longest time.
    pub max_keys: u32,
    /// How long the first reader of a key waits for it, if he doesn't say.
    pub wait: Duration,
    /// For how long a reader is told that there is nothing under a key, before it is asked for again.
    pub negative_for: Duration,
    /// How many keys one process adds in a minute at the most.
    pub new_keys_per_minute: u32,
}

impl OnDemand {
    /// What `true` stands for.
    pub const DEFAULT: Self = Self {
        idle_after: Duration::from_secs(14 * 86_400),
        max_keys: 100_000,
        wait: Duration::from_secs(5),
        negative_for: Duration::from_secs(600),
        new_keys_per_minute: 1_000,
    };
}

const FIELDS: [&str; 5] = ["idle_after", "max_keys", "wait", "negative_for", "new_keys_per_minute"];

/// Reads that keys were read are stored by the minute, each by its own process.
const LEAST_IDLE: Duration = Duration::from_secs(5 * 60);

/// Reads the setting; `None` inside is `false`.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
pub(super) fn read(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<Option<OnDemand>> {
    if let DeValue::Boolean(is_on) = value.node.get_ref() {
        return Some(is_on.then_some(OnDemand::DEFAULT));
    }
    let fields = Fields::open(reader, value, wants, &FIELDS)?;
    let idle_after = fields.optional(reader, "idle_after", |reader, value| {
        value.parsed(reader, &POSITIVE_SPAN.wants, |text| at_least(text, LEAST_IDLE))
    });
    let max_keys = fields.optional(reader, "max_keys", |reader, value| (COUNT.read)(reader, value, &COUNT.wants));
    let wait = fields.optional(reader, "wait", |reader, value| (SPAN.read)(reader, value, &SPAN.wants));
    let negative_for = fields.optional(reader, "negative_for", |reader, value| (SPAN.read)(reader, value, &SPAN.wants));
    let new_keys =
        fields.optional(reader, "new_keys_per_minute", |reader, value| (COUNT.read)(reader, value, &COUNT.wants));
    let otherwise = OnDemand::DEFAULT;
    Some(Some(OnDemand {
        idle_after: idle_after?.unwrap_or(otherwise.idle_after),
        max_keys: max_keys?.unwrap_or(otherwise.max_keys),
        wait: wait?.unwrap_or(otherwise.wait),
        negative_for: negative_for?.unwrap_or(otherwise.negative_for),
        new_keys_per_minute: new_keys?.unwrap_or(otherwise.new_keys_per_minute),
    }))
}

/// The setting of a source. A reader names a key and nothing else, so that notes it where the source asks for more.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
pub(super) fn of(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    url: Option<&UrlTemplate>,
    request: Option<&RequestSettings>,
) -> Option<Option<OnDemand>> {
    let Some(value) = section.value(&set::ON_DEMAND) else { return Some(None) };
    let at = Spot { path: value.path.into(), span: value.node.span(), shows: Shows::Name };
    let on_demand = section.find(reader, &set::ON_DEMAND)?.value;
    let (Some(url), Some(request), Some(_)) = (url, request, on_demand) else { return Some(on_demand) };
    let body = request.body.as_ref().map(|body| body.template.variables()).unwrap_or_default();
    let variables: Vec<_> = url.variables().iter().chain(&body).map(String::as_str).collect();
    if let Some(other) = variables.iter().find(|name| ![KEY, KEYS].contains(name)) {
        let problem = format!("a reader names a key and nothing else, and {{{other}}} needs a value too");
        reader.error(&at, problem, "let `url` and `body` have no variable but {key}, or list the keys");
    } else if variables.is_empty() {
        reader.error(&at, "`url` has no {key}: all keys would be the same resource", "put {key} into `url`");
    }
    Some(on_demand)
}
