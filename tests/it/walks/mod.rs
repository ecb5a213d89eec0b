//! Collections: what a walk stores and what it makes gone, whatever becomes of its pages.

mod changes;
mod faults;
mod seeds;
mod served;
pub mod upstream;
mod whole;

use headpond::domain::change::ChangeKind;
use headpond::domain::resource::{Key, SourceName};
use headpond::refresh::tally::Counts;
use headpond::store::{Bodies, Changes, ListRequest, OriginStatus, Store};

use self::upstream::Upstream;
use crate::refresh::Process;
use crate::support::store::TestStore;

/// A collection with its upstream, walked once.
pub struct Pond<'a> {
    pub test: &'a TestStore,
    pub upstream: Upstream,
    pub process: Process<'a>,
}

impl<'a> Pond<'a> {
    /// `more` goes into the source's configuration.
    pub async fn walked(test: &'a TestStore, upstream: Upstream, more: &str) -> Pond<'a> {
        let process = Process::with_config(test, &upstream.config(more)).await;
        let pond = Pond { test, upstream, process };
        let counts = pond.process.refresh().await;
        assert_eq!((counts.failed, counts.new), (0, pond.upstream.state().users.len() as u64), "{counts:?}");
        pond.upstream.heal();
        pond
    }

    /// Walks now.
    pub async fn walk(&self) -> Counts {
        self.process.want_all().await;
        self.process.refresh().await
    }

    /// Keys of the members that are not gone, in the order of keys as numbers.
    pub async fn members(&self) -> Vec<u32> {
        let mut keys: Vec<u32> =
            self.listed().await.into_iter().filter(|(_, is_gone)| !is_gone).map(|(id, _)| id).collect();
        keys.sort_unstable();
        keys
    }

    /// Keys of the members that are gone.
    pub async fn gone(&self) -> Vec<u32> {
        let mut keys: Vec<u32> =
            self.listed().await.into_iter().filter(|(_, is_gone)| *is_gone).map(|(id, _)| id).collect();
        keys.sort_unstable();
        keys
    }

    async fn listed(&self) -> Vec<(u32, bool)> {
        let (mut all, mut after) = (Vec::new(), None::<Key>);
        loop {
            let request = ListRequest { after, limit: 500, state: None, bodies: Bodies::UpTo(0) };
            let page = self.store().list(&SourceName::new("users").unwrap(), &request).await.unwrap().unwrap();
            all.extend(page.items.iter().map(|item| (item.key.as_str().parse().unwrap(), item.gone_since.is_some())));
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    pub async fn content(&self, id: u32) -> String {
        let current = self.test.current("users", &id.to_string()).await;
        let body: serde_json::Value = serde_json::from_slice(&current.content.unwrap().body).unwrap();
        body["content"].as_str().unwrap().to_owned()
    }

    /// What the feed has since the beginning, of this kind.
    pub async fn changes(&self, kind: ChangeKind) -> Vec<String> {
        let Changes::Page { changes, .. } = self.store().changes(None, 10_000).await.unwrap() else { panic!() };
        changes.into_iter().filter(|change| change.kind == kind).map(|change| change.key.to_string()).collect()
    }

    /// How its members' origin stands.
    pub async fn origin(&self) -> OriginStatus {
        let status = self.store().status(self.test.now()).await.unwrap();
        let mut origins = status.sources.into_iter().flat_map(|source| source.origins);
        origins.find(|origin| origin.name == "walk").unwrap()
    }

    pub fn store(&self) -> &dyn Store {
        self.test.store.as_ref()
    }
}
