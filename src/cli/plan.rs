//! What a configuration comes to: requests, keys and tables.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::outcome::CliError;
use super::question::Counting;
use super::table::span;
use crate::config::{Config, Source, Upstream};
use crate::domain::collection::{Collection, Known, Paginate};
use crate::domain::forecast::{Demand, Forecast};
use crate::domain::limit::Limits;
use crate::domain::resource::SourceId;
use crate::domain::schedule::{Cadence, has_lasted};
use crate::refresh::origins::plan::{KeyChanges, changes};
use crate::store::{Selection, SourceStatus, Status, Store};

/// No collection is looked further into.
const MOST_PAGES: u32 = 10_000;

/// What is to be asked of an upstream for a source, and what becomes of its keys.
struct Part<'c> {
    source: &'c Source,
    changes: KeyChanges,
    demands: Vec<Demand<'c>>,
}

/// Says what would be asked of each upstream from `now` on, and what would become of the keys.
#[expect(clippy::print_stdout, reason = "the command's result")]
pub(super) async fn show(config: &Config, counting: &Counting, now: DateTime<Utc>) -> Result<(), CliError> {
    let store = match counting {
        Counting::By { store, .. } => Some(store.as_ref()),
        Counting::Nobody(why) => {
            println!("plan: as if nothing were stored yet: {why}");
            None
        }
    };
    let status = match store {
        Some(store) => Some(store.status(now).await?),
        None => None,
    };
    let sweeps: Vec<_> = config.sources.iter().map(sweeps).collect();
    let mut parts = Vec::new();
    for (source, sweeps) in config.sources.iter().zip(&sweeps) {
        parts.push(part(store, status.as_ref(), (source, sweeps.as_ref()), now).await?);
    }
    for (name, upstream) in &config.upstreams {
        let of_it = parts.iter().filter(|part| part.source.upstream == *name);
        let demands: Vec<_> = of_it.flat_map(|part| part.demands.iter().cloned()).collect();
        let forecast = Forecast::of(&demands, &upstream.limits, now);
        for line in requests(&forecast, upstream, now) {
            println!("upstream {name}: {line}");
        }
    }
    for line in parts.iter().flat_map(keys).chain(status.iter().flat_map(|status| dropped(config, status))) {
        println!("{line}");
    }
    Ok(())
}

/// How often all pages of a collection are walked of which changes are asked for in between.
fn sweeps(source: &Source) -> Option<Cadence> {
    let changes = source.collection.as_ref()?.changes.as_ref()?;
    Some(Cadence::Every(changes.sweep_every))
}

async fn part<'c>(
    store: Option<&dyn Store>,
    status: Option<&Status>,
    (source, sweeps): (&'c Source, Option<&'c Cadence>),
    now: DateTime<Utc>,
) -> Result<Part<'c>, CliError> {
    let id = match store {
        Some(store) => store.source(&source.name).await?,
        None => None,
    };
    let known = store.zip(id);
    let mut changes = changes(known, source).await?;
    let of_source = |one: &&SourceStatus| one.name == source.name;
    let stored = status.and_then(|status| status.sources.iter().find(of_source));
    let demands = match &source.collection {
        Some(collection) => {
            let walked = walked(known, source, now).await?;
            if walked.pages == 0 && collection.paginate != Paginate::Never {
                changes.unread.push("its pages are not known yet; counted as one".into());
            }
            walks(&walked, (source, collection), sweeps, now)
        }
        None => vec![polls(known, source, stored, &changes, now).await?],
    };
    Ok(Part { source, changes, demands })
}

/// Resources are asked for one by one, or in batches.
async fn polls<'c>(
    known: Option<(&dyn Store, SourceId)>,
    source: &'c Source,
    stored: Option<&SourceStatus>,
    changes: &KeyChanges,
    now: DateTime<Utc>,
) -> Result<Demand<'c>, CliError> {
    let counts = stored.map(|stored| stored.counts).unwrap_or_default();
    let due = match known {
        Some((store, id)) => store.backlog(&Selection::Sources(vec![id]), now).await?.waiting,
        None => 0,
    };
    let overdue = due.saturating_sub(counts.pending);
    let settled = counts.keys.saturating_sub(counts.pending + counts.gone + overdue + changes.removed.count);
    let requests = |keys| source.requests_for(keys);
    let (cadence, jitter) = (&source.policy.cadence, source.policy.jitter);
    let new = requests(counts.pending + changes.added.count);
    Ok(Demand { cadence, jitter, new, overdue: requests(overdue), settled: requests(settled) })
}

/// What is known of a collection.
#[derive(Default)]
struct Walked {
    /// How many pages its last walk of all members has been on.
    pages: u32,
    swept_at: Option<DateTime<Utc>>,
    has_since: bool,
    is_due: bool,
}

async fn walked(
    known: Option<(&dyn Store, SourceId)>,
    source: &Source,
    now: DateTime<Utc>,
) -> Result<Walked, CliError> {
    let Some((store, id)) = known else { return Ok(Walked::default()) };
    let mut pages = 0;
    while pages < MOST_PAGES && store.walk_page(id, pages).await?.is_some() {
        pages += 1;
    }
    let Known { swept_at, since, .. } = store.walk(id, source.fingerprint()).await?;
    let is_due = store.backlog(&Selection::Sources(vec![id]), now).await?.waiting > 0;
    Ok(Walked { pages, swept_at, has_since: since.is_some(), is_due })
}

/// A collection is asked for as a whole: as many pages as its last walk has been on. Where changes are asked for it is one
/// page, and all the others only as often as it `sweeps`.
fn walks<'c>(
    walked: &Walked,
    (source, collection): (&'c Source, &Collection),
    sweeps: Option<&'c Cadence>,
    now: DateTime<Utc>,
) -> Vec<Demand<'c>> {
    let (cadence, jitter) = (&source.policy.cadence, source.policy.jitter);
    let (pages, is_new) = (u64::from(walked.pages.max(1)), walked.swept_at.is_none());
    let demand = |cadence, jitter, pages, is_due: bool| {
        let of = |is| if is { pages } else { 0 };
        Demand { cadence, jitter, new: of(is_new), overdue: of(!is_new && is_due), settled: of(!is_new && !is_due) }
    };
    match (sweeps, &collection.changes) {
        // Where no member says when it changed, there is nothing to ask from.
        (Some(sweeps), Some(changes)) if is_new || walked.has_since => {
            let is_over = walked.swept_at.is_some_and(|at| has_lasted(at, now, changes.sweep_every));
            vec![demand(cadence, jitter, 1, walked.is_due), demand(sweeps, Duration::ZERO, pages - 1, is_over)]
        }
        _ => vec![demand(cadence, jitter, pages, walked.is_due)],
    }
}

fn requests(forecast: &Forecast, Upstream { limits, .. }: &Upstream, now: DateTime<Utc>) -> Vec<String> {
    let Some((minute, most)) = forecast.busiest() else { return vec!["nothing is asked of it by schedule".into()] };
    let at = now + TimeDelta::minutes(i64::try_from(minute).unwrap_or_default());
    let mut lines = vec![format!(
        "{} requests in the next hour, {} in the next day, at most {most} in a minute (from {}){}",
        forecast.within(60),
        forecast.within(24 * 60),
        at.format("%H:%M:%S UTC"),
        let_through(limits)
    )];
    if forecast.new > 0 {
        let until = match forecast.full_copy_after {
            Some(after) => format!(
                "are all sent after {} by its limits",
                span(TimeDelta::from_std(after).unwrap_or(TimeDelta::MAX))
            ),
            None => format!("are sent as fast as it answers, {} at once", limits.max_concurrent),
        };
        lines.push(format!("{} requests for what was never fetched {until}", forecast.new));
    }
    if forecast.behind > 0 {
        lines.push(format!("{} requests are late after a day, held back by its limits", forecast.behind));
    }
    lines
}

fn let_through(limits: &Limits) -> String {
    match limits.per_second() {
        Some(rate) => format!(
            "; in the long run its limits let {:.0} an hour through, {:.0} a day",
            rate * 3600.0,
            rate * 86_400.0
        ),
        None => String::new(),
    }
}

fn keys(Part { source, changes, .. }: &Part<'_>) -> Vec<String> {
    let KeyChanges { added, removed, unread } = changes;
    let said = [(added, "would be added"), (removed, "would be polled no more")];
    let said = said.iter().filter(|(keys, _)| keys.count > 0).map(|(keys, what)| format!("{keys} keys {what}"));
    said.chain(unread.iter().cloned()).map(|line| format!("source {}: {line}", source.name)).collect()
}

/// Sources that have keys and are no longer configured.
fn dropped<'a>(config: &'a Config, status: &'a Status) -> impl Iterator<Item = String> + 'a {
    let is_configured = |name: &SourceStatus| config.sources.iter().any(|source| source.name == name.name);
    let dropped = status.sources.iter().filter(move |stored| stored.counts.keys > 0 && !is_configured(stored));
    dropped.map(|stored| {
        format!(
            "source {}: not in the configuration: its {} keys would be polled no more",
            stored.name, stored.counts.keys
        )
    })
}
