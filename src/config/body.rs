//! What a source's bodies must be, and which part of them is kept.

use crate::domain::content::{BodyRules, ContentKind, JsonPath};

use super::reader::Reader;
use super::section::Layers;
use super::setting::{Scope, Setting};
use super::settings as set;

/// Reads the rules of a source.
pub(super) fn read(reader: &mut Reader<'_>, layers: &Layers<'_, '_>) -> Option<BodyRules> {
    let kind = if layers.has(&set::CONTENT) { Some(layers.get(reader, &set::CONTENT)?) } else { None };
    let data = if layers.has(&set::DATA) { Some(layers.get(reader, &set::DATA)?) } else { None };
    let drop = layers.get(reader, &set::DROP)?;
    check_drop(reader, layers, &drop);
    let ignore_changes_in = layers.get(reader, &set::IGNORE_CHANGES_IN)?;
    let table = layers.optional(reader, &set::TABLE)?;
    match kind {
        None | Some(ContentKind::Json) => Some(BodyRules { kind, data, drop, ignore_changes_in, table }),
        Some(ContentKind::Text | ContentKind::Bytes) => {
            check_no_paths(reader, layers, &set::DATA);
            check_no_paths(reader, layers, &set::DROP);
            check_no_paths(reader, layers, &set::IGNORE_CHANGES_IN);
            check_no_paths(reader, layers, &set::TABLE);
            // What [defaults] say of JSON is not about this source.
            Some(BodyRules { kind, ..BodyRules::default() })
        }
    }
}

/// Notes a source's own path that can name nothing, since its bodies aren't parsed.
fn check_no_paths<T>(reader: &mut Reader<'_>, layers: &Layers<'_, '_>, setting: &Setting<T>) {
    let found = layers.find(reader, setting).filter(|found| found.scope == Scope::Source);
    if let Some(found) = found {
        reader.error(
            &found.at,
            "names parts of JSON, and content is something else",
            "set content = \"json\", or leave it out",
        );
    }
}

fn check_drop(reader: &mut Reader<'_>, layers: &Layers<'_, '_>, drop: &[JsonPath]) {
    if drop.iter().any(|path| path.as_str().trim() == "$")
        && let Some(found) = layers.find(reader, &set::DROP)
    {
        reader.error(
            &found.at,
            "`$` is all of the body, so nothing would be left",
            "name the parts to drop, like \"$.email\"",
        );
    }
}
