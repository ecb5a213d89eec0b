//! What a setting is: its name, where it may stand, and what it takes.

use super::kinds::Kind;
use super::reader::{Reader, Shows};
use super::value::Value;

/// A table of the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Server,
    Database,
    Defaults,
    Upstream,
    Source,
    Webhook,
}

impl Scope {
    /// All of them, in the order of the example.
    pub(super) const ALL: [Self; 6] =
        [Self::Server, Self::Database, Self::Defaults, Self::Upstream, Self::Source, Self::Webhook];

    /// The table's heading.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Server => "[server]",
            Self::Database => "[database]",
            Self::Defaults => "[defaults]",
            Self::Upstream => "[upstreams.NAME]",
            Self::Source => "[sources.NAME]",
            Self::Webhook => "[[webhooks]]",
        }
    }
}

/// A setting whose values are `T`.
pub(super) struct Setting<T: 'static> {
    /// Its name within its table.
    pub name: &'static str,
    /// The tables that may have it; where several do, a source's wins over its upstream's, and that over the defaults'.
    pub scopes: &'static [Scope],
    /// What it takes.
    pub kind: &'static Kind<T>,
    /// What holds when it isn't there.
    pub default: Fallback,
    /// How much of its value errors may show.
    pub shows: Shows,
}

/// What holds when a setting isn't there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fallback {
    /// This value, as it is written in TOML.
    Is(&'static str),
    /// Nothing that could be written down once: what follows from other settings, or nothing at all.
    Computed,
}

impl<T> Setting<T> {
    /// Reads the default; `None` when there is no fixed one.
    pub(super) fn default(&self, reader: &mut Reader<'_>) -> Option<T> {
        let Fallback::Is(written) = self.default else { return None };
        let node = toml::de::DeValue::parse(written).ok()?;
        (self.kind.read)(reader, Value { path: self.name, shows: self.shows, node: &node }, &self.kind.wants)
    }
}

/// A setting of whatever type.
pub(super) trait AnySetting: Sync {
    fn name(&self) -> &'static str;
    fn scopes(&self) -> &'static [Scope];
    #[cfg(test)]
    fn fallback(&self) -> Fallback;
    fn shows(&self) -> Shows;

    /// Whether its values are text, to be written in quotes.
    fn takes_text(&self) -> bool;

    /// Notes what is wrong with a value.
    fn check(&self, reader: &mut Reader<'_>, value: Value<'_>);
}

impl<T> AnySetting for Setting<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn scopes(&self) -> &'static [Scope] {
        self.scopes
    }

    #[cfg(test)]
    fn fallback(&self) -> Fallback {
        self.default
    }

    fn shows(&self) -> Shows {
        self.shows
    }

    fn takes_text(&self) -> bool {
        self.kind.wants.is_text()
    }

    fn check(&self, reader: &mut Reader<'_>, value: Value<'_>) {
        _ = (self.kind.read)(reader, value, &self.kind.wants);
    }
}
