//! `batch` of a source: one request for many keys.

use super::reader::Reader;
use super::section::Section;
use super::setting::Setting;
use super::{RequestSettings, settings as set};
use crate::domain::batch::Batch;
use crate::domain::content::ContentKind;
use crate::domain::policy::Policy;
use crate::domain::template::{KEYS, UrlTemplate};

/// What else of a source a batch is held against; what is wrong by itself is missing.
pub(super) struct Beside<'a> {
    pub(super) url: Option<&'a UrlTemplate>,
    pub(super) request: Option<&'a RequestSettings>,
    pub(super) policy: Option<&'a Policy>,
}

/// Reads how many keys are asked for at once. The outer `None` is something wrong, which has been noted.
#[expect(clippy::option_option, reason = "absent and wrong are two things")]
pub(super) fn read(reader: &mut Reader<'_>, section: &Section<'_>, beside: &Beside<'_>) -> Option<Option<Batch>> {
    if section.value(&set::BATCH).is_none() {
        return check_absent(reader, section, beside).then_some(None);
    }
    let fits = check_beside(reader, section, beside);
    let size = section.find(reader, &set::BATCH);
    let items = required(reader, section, &set::ITEMS);
    let key = required(reader, section, &set::ITEM_KEY);
    let absent_means_gone = match section.value(&set::ABSENT_MEANS_GONE) {
        Some(_) => section.find(reader, &set::ABSENT_MEANS_GONE).map(|found| found.value),
        None => set::ABSENT_MEANS_GONE.default(reader),
    };
    let batch = Batch { size: size?.value, items: items?, key: key?, absent_means_gone: absent_means_gone? };
    fits.then_some(Some(batch))
}

fn required<T>(reader: &mut Reader<'_>, section: &Section<'_>, setting: &Setting<T>) -> Option<T> {
    if section.value(setting).is_none() {
        let problem = format!("{} is not set, which batch needs", setting.name);
        reader.error(&section.at, problem, setting.kind.wants.remedy());
    }
    section.find(reader, setting).map(|found| found.value)
}

/// Notes what makes sense with `batch` alone.
fn check_absent(reader: &mut Reader<'_>, section: &Section<'_>, beside: &Beside<'_>) -> bool {
    let mut fits = true;
    if let Some(value) = section.value(&set::ABSENT_MEANS_GONE) {
        reader.error(&value.spot(), "has no meaning without batch", "add batch = 100, or leave it out");
        fits = false;
    }
    let is_collection = section.value(&set::KIND).is_some();
    let items = [section.value(&set::ITEMS), section.value(&set::ITEM_KEY)];
    for value in items.into_iter().flatten().filter(|_| !is_collection) {
        let remedy = "add batch = 100 or kind = \"collection\", or leave it out";
        reader.error(&value.spot(), "has no meaning without batch, but for collections alone", remedy);
        fits = false;
    }
    if beside.url.is_some_and(|url| url.variables().contains(KEYS))
        && let Some(url) = section.value(&set::URL)
    {
        reader.error(
            &url.spot(),
            "{keys} stands for many keys, and batch is not set",
            "add batch = 100, or write {key}",
        );
        fits = false;
    }
    fits
}

/// Notes what a batch can't be combined with.
fn check_beside(reader: &mut Reader<'_>, section: &Section<'_>, beside: &Beside<'_>) -> bool {
    let mut fits = true;
    if let (Some(template), Some(url)) = (beside.url, section.value(&set::URL)) {
        let other = template.variables().iter().find(|name| *name != KEYS);
        if !template.variables().contains(KEYS) {
            reader.error(
                &url.spot(),
                "batch is set, and no {keys} says where the keys go",
                "write it like ?ids={keys}",
            );
            fits = false;
        } else if let Some(other) = other {
            let problem = format!("one request for many keys can't have {{{other}}}, which differs from key to key");
            reader.error(&url.spot(), problem, "let it have no variable but {keys}");
            fits = false;
        }
    }
    let body = beside.request.and_then(|request| request.body.as_ref());
    if let (Some(body), Some(value)) = (body, section.value(&set::BODY))
        && let Some(variable) = body.template.variables().iter().next()
    {
        let problem = format!("one request for many keys can't have {{{variable}}} in its body");
        reader.error(&value.spot(), problem, "put {keys} into `url`, and no variable into the body");
        fits = false;
    }
    let kind = beside.policy.and_then(|policy| policy.body.kind);
    if let Some(content) = section.value(&set::CONTENT).filter(|_| kind.is_some_and(|kind| kind != ContentKind::Json)) {
        reader.error(&content.spot(), "the answers of a batch are JSON", "leave it out");
        fits = false;
    }
    fits
}
