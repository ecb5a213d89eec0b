//! A table within a setting, like `auth = { basic = { user = "…", password = "…" } }`.

use std::ops::Range;

use toml::de::DeTable;

use super::reader::{Reader, Shows, Spot};
use super::section::did_you_mean;
use super::value::{Value, Wants, dotted};

/// Such a table; its names are known ones, or that has been noted.
pub(super) struct Fields<'v> {
    path: &'v str,
    span: Range<usize>,
    shows: Shows,
    table: &'v DeTable<'v>,
    wants: &'v Wants,
}

impl<'v> Fields<'v> {
    /// Opens a table that may have these names, and notes others.
    pub(super) fn open(
        reader: &mut Reader<'_>,
        value: Value<'v>,
        wants: &'v Wants,
        known: &[&'static str],
    ) -> Option<Self> {
        let table = value.table(reader, wants)?;
        for name in table.keys().filter(|name| !known.contains(&name.get_ref().as_ref())) {
            let at = Spot { path: dotted(value.path, name.get_ref()), span: name.span(), shows: Shows::Name };
            let remedy = did_you_mean(name.get_ref(), known.iter().copied());
            reader.error(&at, "there is no such setting here", remedy);
        }
        Some(Self { path: value.path, span: value.node.span(), shows: value.shows, table, wants })
    }

    /// Where the table is.
    pub(super) fn spot(&self) -> Spot {
        Spot { path: self.path.into(), span: self.span.clone(), shows: Shows::Name }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }

    /// What `read` makes of a value that must be there.
    pub(super) fn required<T>(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        read: impl FnOnce(&mut Reader<'_>, Value<'_>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(name) {
            reader.error(&self.spot(), format!("{name} is not set"), self.wants.remedy());
        }
        self.optional(reader, name, read)?
    }

    /// What `read` makes of a value, if it is there; the outer `None` is a wrong one.
    #[expect(clippy::option_option, reason = "absent and wrong are two things")]
    pub(super) fn optional<T>(
        &self,
        reader: &mut Reader<'_>,
        name: &str,
        read: impl FnOnce(&mut Reader<'_>, Value<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        let Some(node) = self.table.get(name) else { return Some(None) };
        let path = dotted(self.path, name);
        read(reader, Value { path: &path, shows: self.shows, node }).map(Some)
    }
}
