//! The reference of settings, from the same list that the reader goes by.

use std::fmt::Write;

use super::setting::{Fallback, Scope};
use super::settings;

/// All settings with what they take, their defaults and meanings, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = String::new();
    for scope in Scope::ALL {
        // Writing to a String can't fail.
        _ = writeln!(text, "## `{}`\n\n| setting | takes | default | meaning |\n|---|---|---|---|", scope.heading());
        for setting in settings::of(scope) {
            let default = match setting.fallback() {
                Fallback::Is(value) => format!("`{value}`"),
                Fallback::Described(words) => words.to_owned(),
            };
            let wants = setting.wants();
            let (name, meaning) = (setting.name(), setting.meaning());
            _ = writeln!(text, "| `{name}` | {}, like `{}` | {default} | {meaning} |", wants.noun, wants.example);
        }
        text.push('\n');
    }
    text
}
