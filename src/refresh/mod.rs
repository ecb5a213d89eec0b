//! The sequences: claim → fetch → decide → apply → announce.
//!
//! Each upstream has a [lane] of its own, so that a slow or paused one never delays another. A lane claims what is due,
//! as much as the upstream's limits allow; each claim becomes a [flight] that fetches and decides, or, of a collection, walks from page to page; and the [committer]
//! stores what the flights of all lanes bring, many outcomes in one transaction. `serve` flies a [fleet] of lanes until it is
//! told to stop; [`once`] runs them until nothing is left.
//!
//! What there is to be refreshed may live elsewhere: [`origins`] keeps the keys of sources as files, queries and the copies of
//! other sources say.
//!
//! Typed tables are made, filled and changed by [`tables`].
//!
//! A [`Refresher`] never changes. Another configuration makes another refresher, which takes the place of the last one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::announce::Announcer;
use crate::clock::Clock;
use crate::config::{Config, Source, TableHome, Webhook};
use crate::domain::fingerprint::Fingerprint;
use crate::domain::limit::Limits;
use crate::domain::resource::{SourceId, UpstreamId};
use crate::store::{Claim, Registered, Store, Together};
use crate::upstream::{Fetchers, Quiet, lease_for};

pub mod batch;
pub mod clockwork;
pub mod committer;
mod complaint;
pub mod fleet;
pub mod flight;
pub mod follow;
pub mod lane;
mod notices;
pub mod once;
pub mod origins;
pub mod ownership;
pub mod readers;
mod releases;
pub mod tables;
pub mod tally;
pub mod task;
mod turns;
mod walk;
pub mod webhooks;

/// What every part of a running refresher shares.
#[derive(Debug)]
pub struct Refresher {
    /// Where resources are kept.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How requests are sent.
    pub fetchers: Fetchers,
    /// Who hears of what was done.
    pub announcer: Announcer,
    /// What is refreshed.
    pub roster: Roster,
    /// The name under which leases are taken.
    pub worker: String,
    /// What upstreams have just asked for.
    pub quiet: Quiet,
}

/// The sources that this process refreshes, by the ids that the store gave them.
#[derive(Debug)]
pub struct Roster {
    sources: HashMap<SourceId, (Arc<Source>, Fingerprint)>,
    upstreams: Vec<UpstreamSettings>,
    /// What holds for all typed tables.
    pub tables: TableRules,
    /// Who is told of changes.
    pub webhooks: Vec<Webhook>,
}

/// What holds for all typed tables.
#[derive(Debug, Clone)]
pub struct TableRules {
    /// Where their views are, and who may read them.
    pub home: TableHome,
    /// Whether apps may lose columns, rows or whole tables that they read.
    pub may_lose: bool,
}

/// One upstream of the roster.
#[derive(Debug, Clone)]
pub struct UpstreamSettings {
    /// Its id.
    pub id: UpstreamId,
    /// Its name.
    pub name: String,
    /// Its limits.
    pub limits: Limits,
    /// How long a claim of it is leased.
    pub lease_for: Duration,
    /// Its sources.
    pub sources: Vec<SourceId>,
    /// Those of which one request asks for many keys.
    pub together: Together,
}

impl Refresher {
    /// The same by another configuration: what it refreshes, and how it asks.
    #[must_use]
    pub fn with(&self, fetchers: Fetchers, roster: Roster) -> Self {
        Self {
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            fetchers,
            announcer: self.announcer.clone(),
            roster,
            worker: self.worker.clone(),
            quiet: self.quiet.clone(),
        }
    }
}

impl Roster {
    /// Joins the config with the ids that [`Store::register`] gave to its sources, in the config's order.
    #[must_use]
    pub fn new(config: &Config, registered: &[Registered]) -> Self {
        let mut sources = HashMap::new();
        let mut upstreams: Vec<UpstreamSettings> = Vec::new();
        for (source, ids) in config.sources.iter().zip(registered) {
            sources.insert(ids.source, (Arc::new(source.clone()), source.fingerprint()));
            let together = source.batch.iter().map(|batch| (ids.source, batch.size));
            if let Some(upstream) = upstreams.iter_mut().find(|upstream| upstream.id == ids.upstream) {
                upstream.sources.push(ids.source);
                upstream.together.extend(together);
            } else if let Some(settings) = config.upstreams.get(&source.upstream) {
                upstreams.push(UpstreamSettings {
                    id: ids.upstream,
                    name: source.upstream.clone(),
                    limits: settings.limits,
                    lease_for: lease_for(settings.longest_timeout),
                    sources: vec![ids.source],
                    together: together.collect(),
                });
            }
        }
        let tables = TableRules { home: config.database.tables.clone(), may_lose: config.database.allow_table_changes };
        Self { sources, upstreams, tables, webhooks: config.webhooks.clone() }
    }

    /// All sources, with their ids.
    pub fn sources(&self) -> impl Iterator<Item = (SourceId, &Arc<Source>)> {
        self.sources.iter().map(|(id, (source, _))| (*id, source))
    }

    /// The source of that id, if the config has it.
    #[must_use]
    pub fn source(&self, id: SourceId) -> Option<&Arc<Source>> {
        self.sources.get(&id).map(|(source, _)| source)
    }

    /// The source of a claim, if the config has it and asks for the same as the configuration that holds.
    #[must_use]
    pub fn source_of(&self, claim: &Claim) -> Option<&Arc<Source>> {
        let (source, asks) = self.sources.get(&claim.source)?;
        claim.fingerprint.is_none_or(|fingerprint| fingerprint == *asks).then_some(source)
    }

    /// All upstreams that have sources.
    #[must_use]
    pub fn upstreams(&self) -> &[UpstreamSettings] {
        &self.upstreams
    }
}
