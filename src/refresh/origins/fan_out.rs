//! Keys from the copies of another source.

use serde_json::Value;

use super::NotGathered;
use super::spool::{Spool, Spooler};
use crate::config::{FanOut, Source};
use crate::domain::json_path::JsonPath;
use crate::domain::resource::{Key, Params, SourceName, scalar};
use crate::store::{Bodies, ListRequest, Listed, Store};

/// How many copies are read at once, and how many bytes of them.
const PAGE: u32 = 100;
const BYTES: u64 = 8 * 1024 * 1024;

/// Looks through all copies of the other source. Items without a usable key are left out.
///
/// # Errors
/// A copy that is no JSON, or a failing store. Then nothing of it counts.
pub async fn gather(store: &dyn Store, source: &Source, fan_out: &FanOut) -> Result<Spool, NotGathered> {
    let parent = SourceName::new(&fan_out.source).map_err(|error| NotGathered::Problem(error.to_string()))?;
    let mut spooler = Spooler::new().map_err(|error| NotGathered::spool(&error))?;
    let mut after: Option<Key> = None;
    loop {
        let request = ListRequest { after, limit: PAGE, state: None, bodies: Bodies::UpTo(BYTES) };
        let Some(page) = store.list(&parent, &request).await? else { break };
        for listed in &page.items {
            items(source, fan_out, listed, &mut spooler)?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    spooler.done().map_err(|error| NotGathered::spool(&error))?.unless_useless()
}

fn items(source: &Source, fan_out: &FanOut, listed: &Listed, spooler: &mut Spooler) -> Result<(), NotGathered> {
    // Nothing was fetched yet, or it is gone: there is nothing in it.
    let Some(body) = listed.content.as_ref().and_then(|content| content.body.as_ref()) else { return Ok(()) };
    let document: Value = serde_json::from_slice(body).map_err(|error| {
        NotGathered::Problem(format!("the copy of {}/{} is no JSON: {error}", fan_out.source, listed.key))
    })?;
    for item in fan_out.items.nodes(&document) {
        let named = fan_out.params.iter().filter_map(|(name, path)| Some((name.clone(), one(path, item)?)));
        let params: Params = named.collect();
        let key = one(&fan_out.key, item);
        if key.is_none() {
            let place = &listed.key;
            spooler.left_out.note(|| format!("an item of {}/{place} has no key", fan_out.source));
            continue;
        }
        spooler.add(source, key.as_deref(), &params).map_err(|error| NotGathered::spool(&error))?;
    }
    Ok(())
}

/// The text or number that a path names within an item, if it names one.
fn one(path: &JsonPath, item: &Value) -> Option<String> {
    match path.nodes(item)[..] {
        [value] => scalar(value),
        _ => None,
    }
}
