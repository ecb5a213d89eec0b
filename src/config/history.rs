//! `history` and `on_gone` of a source: what is kept of contents that were replaced, and of what is gone.

use std::time::Duration;

use super::fields::Fields;
use super::kinds::{COUNT, Kind, POSITIVE_SPAN, one_of};
use super::reader::Reader;
use super::value::{Value, Wants};
use crate::domain::history::History;

/// They are listed in one answer.
const MOST: u32 = 1_000;

const KEEP: Duration = Duration::from_secs(30 * 86_400);

pub(super) static HISTORY: Kind<History> = Kind {
    wants: Wants {
        noun: "a table that says how many replaced contents are kept, and for how long",
        example: "{ versions = 10, keep = \"30d\" }",
    },
    read,
};

/// Whether it is erased.
pub(super) static KEEP_OR_ERASE: Kind<bool> = Kind {
    wants: Wants { noun: "one of \"keep\" and \"erase\"", example: "\"keep\"" },
    read: |reader, value, wants| value.parsed(reader, wants, |text| one_of(&[("keep", false), ("erase", true)], text)),
};

const VERSIONS: Wants = Wants { noun: "a whole number from 1 to 1000", example: "10" };

fn read(reader: &mut Reader<'_>, value: Value<'_>, wants: &Wants) -> Option<History> {
    let fields = Fields::open(reader, value, wants, &["versions", "keep"])?;
    let versions = fields.required(reader, "versions", |reader, value| {
        let spot = value.spot();
        let versions = (COUNT.read)(reader, value, &VERSIONS)?;
        if versions > MOST {
            reader.error(&spot, format!("{versions} are more than are kept of one resource"), VERSIONS.remedy());
            return None;
        }
        Some(versions)
    });
    let keep =
        fields.optional(reader, "keep", |reader, value| (POSITIVE_SPAN.read)(reader, value, &POSITIVE_SPAN.wants));
    Some(History { versions: versions?, keep: keep?.unwrap_or(KEEP) })
}
