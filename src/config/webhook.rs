//! `[[webhooks]]`.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::de::DeTable;
use url::Url;

use super::kinds::Kind;
use super::reader::{Reader, Shows, Spot};
use super::section::{Layers, Section, did_you_mean};
use super::setting::Scope;
use super::settings as set;
use super::value::{Value, Wants, Wrong};
use super::{Source, Webhook};
use crate::domain::change::ChangeKind;
use crate::domain::resource::SourceName;
use crate::domain::webhook::Secret;

/// The name of the list.
const LIST: &str = "webhooks";

pub(super) static NAME: Kind<String> = Kind {
    wants: Wants { noun: "a name of letters, digits, `-` and `_`", example: "\"backend\"" },
    read: |reader, value, wants| {
        value.parsed(reader, wants, |text| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            let is_name = (1..=64).contains(&text.len()) && text.bytes().all(fits);
            if is_name { Ok(text.to_owned()) } else { Err("no name of up to 64 such characters".into()) }
        })
    },
};

pub(super) static ENDPOINT: Kind<Url> = Kind {
    wants: Wants { noun: "an http or https URL", example: "\"https://app.example/hooks\"" },
    read: |reader, value, wants| {
        value.parsed(reader, wants, |text| match Url::parse(text) {
            Ok(url) if ["http", "https"].contains(&url.scheme()) => Ok(url),
            Ok(_) => Err("no http or https URL".into()),
            Err(error) => Err(format!("not a URL ({error})").into()),
        })
    },
};

pub(super) static SECRET: Kind<Secret> = Kind {
    wants: Wants { noun: "a signing secret", example: "\"${env:WEBHOOK_SECRET}\"" },
    read: |reader, value, wants| {
        let text = value.text(reader, wants)?.text;
        Secret::parse(&text)
            .map_err(|problem| {
                reader.error(&value.spot(), problem, "make one with `echo whsec_$(openssl rand -base64 32)`");
            })
            .ok()
    },
};

pub(super) static SOURCES: Kind<Vec<SourceName>> = Kind {
    wants: Wants { noun: "a list of sources", example: "[\"users\"]" },
    read: |reader, value, wants| {
        list(reader, value, wants, |text| SourceName::new(text).map_err(|error| error.to_string().into()))
    },
};

pub(super) static KINDS: Kind<Vec<ChangeKind>> = Kind {
    wants: Wants {
        noun: "a list of \"created\", \"changed\", \"gone\", \"returned\" and \"erased\"",
        example: "[\"created\", \"changed\"]",
    },
    read: |reader, value, wants| {
        list(reader, value, wants, |text| {
            ChangeKind::parse(text).ok_or_else(|| "there is no such kind of change".into())
        })
    },
};

pub(super) static INCLUDE: Kind<bool> = Kind {
    wants: Wants { noun: "\"data\" or \"nothing\"", example: "\"data\"" },
    read: |reader, value, wants| {
        value.parsed(reader, wants, |text| match text {
            "data" => Ok(true),
            "nothing" => Ok(false),
            _ => Err("there is nothing else to include".into()),
        })
    },
};

fn list<T>(
    reader: &mut Reader<'_>,
    value: Value<'_>,
    wants: &Wants,
    read: impl Fn(&str) -> Result<T, Wrong>,
) -> Option<Vec<T>> {
    let elements = value.list(reader, wants)?.iter().map(|node| Value { node, ..value });
    let read: Vec<_> = elements.map(|element| element.parsed(reader, wants, &read)).collect();
    read.into_iter().collect()
}

/// Reads all of them.
pub(super) fn all(reader: &mut Reader<'_>, root: &DeTable<'_>, sources: &[Source]) -> Option<Vec<Webhook>> {
    let Some((name, node)) = root.get_key_value(LIST) else { return Some(Vec::new()) };
    let Some(tables) = node.get_ref().as_array() else {
        let wants = Wants { noun: "a list of tables", example: Scope::Webhook.heading() };
        Value { path: LIST, shows: Shows::Name, node }.wrong_type(reader, &wants);
        return None;
    };
    let mut names = BTreeSet::new();
    let mut webhooks = Vec::with_capacity(tables.len());
    for (number, node) in tables.iter().enumerate() {
        let at = Spot { path: format!("{LIST}[{number}]"), span: name.span(), shows: Shows::Name };
        let section = Section::open(reader, Scope::Webhook, at, node);
        webhooks.push(one(reader, &section, sources, &mut names));
    }
    webhooks.into_iter().collect()
}

fn one(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    sources: &[Source],
    names: &mut BTreeSet<String>,
) -> Option<Webhook> {
    for (is_there, name) in [
        (section.value(&set::WEBHOOK_NAME).is_some(), "name"),
        (section.value(&set::WEBHOOK_URL).is_some(), "url"),
        (section.value(&set::WEBHOOK_SECRET).is_some(), "secret"),
    ] {
        if !is_there {
            reader.error(&section.at, format!("{name} is not set"), "a webhook has a name, a url and a secret");
        }
    }
    let layers = Layers { sections: vec![section] };
    let name = section.find(reader, &set::WEBHOOK_NAME);
    if let Some(name) = name.as_ref().filter(|name| !names.insert(name.value.clone())) {
        reader.error(&name.at, "another webhook has this name", "give each its own");
    }
    let only = layers.optional(reader, &set::WEBHOOK_SOURCES);
    if let (Some(Some(only)), Some(value)) = (&only, section.value(&set::WEBHOOK_SOURCES)) {
        let is_known = |name: &&SourceName| sources.iter().any(|source| source.name == **name);
        if let Some(unknown) = only.iter().find(|name| !is_known(name)) {
            let known = sources.iter().map(|source| source.name.as_str());
            reader.error(&value.spot(), format!("there is no source {unknown}"), did_you_mean(unknown.as_str(), known));
        }
    }
    let kinds = layers.optional(reader, &set::WEBHOOK_KINDS);
    let url = layers.optional(reader, &set::WEBHOOK_URL);
    let secret = layers.optional(reader, &set::WEBHOOK_SECRET);
    let includes_data = layers.get(reader, &set::INCLUDE);
    let timeout: Option<Duration> = layers.get(reader, &set::WEBHOOK_TIMEOUT);
    let give_up_after = layers.get(reader, &set::GIVE_UP_AFTER);
    Some(Webhook {
        name: name?.value,
        url: url??,
        secret: secret??,
        sources: only?,
        kinds: kinds?,
        includes_data: includes_data?,
        timeout: timeout?,
        give_up_after: give_up_after?,
    })
}
