//! `allowance` and `limit_phrases` of an upstream: which header fields say how much is left, and which words that it is too much.

use http::HeaderName;
use toml::de::DeValue;

use super::fields::Fields as Table;
use super::kinds::one_of;
use super::reader::Reader;
use super::value::{Value, Wants, Wrong};
use crate::domain::allowance::{Fields, ResetIs};

const FIELDS: [&str; 3] = ["remaining", "reset", "reset_is"];

const RESETS: [(&str, ResetIs); 3] = [
    (ResetIs::Auto.as_str(), ResetIs::Auto),
    (ResetIs::Epoch.as_str(), ResetIs::Epoch),
    (ResetIs::SecondsLeft.as_str(), ResetIs::SecondsLeft),
];

/// Reads the setting; `None` inside is `"ignore"`.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
pub(super) fn read(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<Option<Fields>> {
    if let DeValue::String(_) = value.node.get_ref() {
        return value.parsed(reader, wants, |text| match text {
            "ignore" => Ok(None),
            _ => Err(Wrong::with_remedy("there is no such choice", "write \"ignore\", or a table of header names")),
        });
    }
    let table = Table::open(reader, value, wants, &FIELDS)?;
    let remaining = table.optional(reader, "remaining", name);
    let reset = table.optional(reader, "reset", name);
    let reset_is = table.optional(reader, "reset_is", |reader, value| {
        let wants = Wants { noun: "what the number in the reset field is", example: "\"epoch\"" };
        value.parsed(reader, &wants, |text| one_of(&RESETS, text))
    });
    let otherwise = Fields::default();
    let fields = Fields {
        remaining: remaining?.unwrap_or(otherwise.remaining),
        reset: reset?.unwrap_or(otherwise.reset),
        reset_is: reset_is?.unwrap_or(otherwise.reset_is),
    };
    if fields.remaining == fields.reset {
        reader.error(&table.spot(), "remaining and reset are the same field", wants.remedy());
        return None;
    }
    Some(Some(fields))
}

/// Reads `limit_phrases`.
pub(super) fn phrases(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<Vec<String>> {
    let elements = value.list(reader, wants)?.iter().map(|node| Value { node, ..value });
    let wants = Wants { noun: "a phrase", example: "\"rate limit exceeded\"" };
    let phrase = |text: &str| {
        if text.trim().is_empty() {
            Err("is empty, and would be in every body".into())
        } else {
            Ok(text.to_lowercase())
        }
    };
    let phrases: Vec<_> = elements.map(|one| one.parsed(reader, &wants, phrase)).collect();
    phrases.into_iter().collect()
}

fn name(reader: &mut Reader<'_>, value: Value<'_>) -> Option<HeaderName> {
    let wants = Wants { noun: "a header name", example: "\"x-ratelimit-remaining\"" };
    value.parsed(reader, &wants, |text| HeaderName::from_bytes(text.as_bytes()).map_err(|_| "not a header name".into()))
}
