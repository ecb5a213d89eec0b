//! One table of the document, and the order in which a source's settings are looked up.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::nearest::nearest;
use super::reader::{Reader, Shows, Spot};
use super::setting::{AnySetting, Scope, Setting};
use super::settings;
use super::value::{Value, Wants, dotted};

/// A table whose names are known ones and whose values have been checked.
pub(super) struct Section<'a> {
    /// Which kind of table.
    pub scope: Scope,
    /// Where it begins, under its whole name.
    pub at: Spot,
    /// The names of the settings that it has, whole, with their values.
    entries: Vec<(String, &'static dyn AnySetting, Node<'a>)>,
}

/// A value, unread.
enum Node<'a> {
    /// It is written in the document.
    There(&'a Spanned<DeValue<'a>>),
    /// Something else that is written there stands for it.
    StoodFor(Spanned<DeValue<'static>>),
}

/// A value that was found, and where.
pub(super) struct Found<T> {
    pub value: T,
    pub at: Spot,
    /// The kind of table that it is in.
    pub scope: Scope,
}

impl<'a> Section<'a> {
    /// A table that isn't there.
    pub(super) fn absent(scope: Scope, path: &str) -> Self {
        Self { scope, at: Spot { path: path.into(), span: 0..0, shows: Shows::Name }, entries: Vec::new() }
    }

    /// Reads a table. All unknown names and all wrong values in it are noted, also those that no source will ask for.
    pub(super) fn open(reader: &mut Reader<'_>, scope: Scope, at: Spot, node: &'a Spanned<DeValue<'a>>) -> Self {
        let entries = if let Some(table) = node.get_ref().as_table() {
            entries(reader, scope, &at.path, table)
        } else {
            let wants = Wants { noun: "a table", example: scope.heading() };
            Value { path: &at.path, shows: Shows::Value, node }.wrong_type(reader, &wants);
            Vec::new()
        };
        Self { scope, at, entries }
    }

    /// The settings that a value of the document stands for, as TOML. All of them are at its place.
    pub(super) fn standing_for(scope: Scope, at: &Spot, settings: &'static str) -> Self {
        let table = DeTable::parse(settings).map(Spanned::into_inner).unwrap_or_default();
        let entry = |(name, node): (Spanned<DeString<'static>>, _)| {
            let setting = settings::of(scope).find(|setting| setting.name() == name.get_ref())?;
            Some((at.path.clone(), setting, Node::StoodFor(at_place(node, &at.span))))
        };
        Self { scope, at: at.clone(), entries: table.into_iter().filter_map(entry).collect() }
    }

    /// The value of a setting, unread.
    pub(super) fn value<T>(&self, setting: &Setting<T>) -> Option<Value<'_>> {
        let (path, known, node) = self.entries.iter().find(|(_, known, _)| known.name() == setting.name)?;
        let node = match node {
            Node::There(node) => *node,
            Node::StoodFor(node) => node,
        };
        Some(Value { path, shows: known.shows(), node })
    }

    /// The value of a setting; `None` when it isn't there or is wrong.
    pub(super) fn find<T>(&self, reader: &mut Reader<'_>, setting: &Setting<T>) -> Option<Found<T>> {
        let value = self.value(setting)?;
        let read = (setting.kind.read)(reader, value, &setting.kind.wants)?;
        Some(Found { value: read, at: value.spot(), scope: self.scope })
    }
}

fn entries<'a>(
    reader: &mut Reader<'_>,
    scope: Scope,
    path: &str,
    table: &'a DeTable<'a>,
) -> Vec<(String, &'static dyn AnySetting, Node<'a>)> {
    let mut entries = Vec::new();
    for (name, node) in table {
        let path = dotted(path, name.get_ref());
        if let Some(setting) = settings::of(scope).find(|setting| setting.name() == name.get_ref()) {
            setting.check(reader, Value { path: &path, shows: setting.shows(), node });
            entries.push((path, setting, Node::There(node)));
        } else {
            unknown(reader, scope, &Spot { path, span: name.span(), shows: Shows::Name }, name.get_ref());
        }
    }
    entries
}

/// A value with all that is in it at one place.
fn at_place(value: Spanned<DeValue<'static>>, span: &Range<usize>) -> Spanned<DeValue<'static>> {
    let value = match value.into_inner() {
        DeValue::Array(all) => DeValue::Array(all.into_iter().map(|one| at_place(one, span)).collect()),
        DeValue::Table(all) => {
            let placed = |(name, one): (Spanned<DeString<'static>>, _)| {
                (Spanned::new(span.clone(), name.into_inner()), at_place(one, span))
            };
            DeValue::Table(all.into_iter().map(placed).collect())
        }
        other => other,
    };
    Spanned::new(span.clone(), value)
}

/// Notes a name that isn't a setting of its table, with the one that was probably meant.
fn unknown(reader: &mut Reader<'_>, scope: Scope, at: &Spot, name: &str) {
    let elsewhere: Vec<_> = Scope::ALL
        .into_iter()
        .filter(|scope| settings::of(*scope).any(|setting| setting.name() == name))
        .map(Scope::heading)
        .collect();
    let remedy = if elsewhere.is_empty() {
        did_you_mean(name, settings::of(scope).map(AnySetting::name))
    } else {
        format!("it belongs in {}", elsewhere.join(" or "))
    };
    reader.error(at, format!("there is no such setting in {}", scope.heading()), remedy);
}

/// What would be right in place of an unknown name.
pub(super) fn did_you_mean<'k>(name: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.clone().next().is_none() => "leave it out".into(),
        None => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// The tables in which a source's or upstream's settings are looked up, nearest first.
pub(super) struct Layers<'s, 'a> {
    pub sections: Vec<&'s Section<'a>>,
}

impl<'s> Layers<'s, '_> {
    /// The nearest value of a setting, unread.
    pub(super) fn has<T>(&self, setting: &Setting<T>) -> bool {
        self.sections.iter().any(|section| section.value(setting).is_some())
    }

    /// The nearest value; `None` when there is none or it is wrong.
    pub(super) fn find<T>(&self, reader: &mut Reader<'_>, setting: &Setting<T>) -> Option<Found<T>> {
        let section = self.sections.iter().find(|section| section.value(setting).is_some())?;
        section.find(reader, setting)
    }

    /// The nearest value, or the default; `None` when there is neither, or the value is wrong.
    pub(super) fn get<T>(&self, reader: &mut Reader<'_>, setting: &Setting<T>) -> Option<T> {
        if self.has(setting) { self.find(reader, setting).map(|found| found.value) } else { setting.default(reader) }
    }

    /// The nearest value, if there is one; the outer `None` is a wrong one.
    #[expect(clippy::option_option, reason = "absent and wrong are two things")]
    pub(super) fn optional<T>(&self, reader: &mut Reader<'_>, setting: &Setting<T>) -> Option<Option<T>> {
        if self.has(setting) { self.find(reader, setting).map(|found| Some(found.value)) } else { Some(None) }
    }

    /// The table that the settings are for.
    pub(super) fn own(&self) -> Option<&'s Section<'_>> {
        self.sections.first().copied()
    }
}
