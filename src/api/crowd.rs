//! Who is connected, and who has to go when it gets full: else those who only hold their connections open would keep all
//! others out.

use std::collections::HashMap;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::{AbortHandle, Id, JoinSet};

use super::patience::Watch;

/// Open files that are left for all else: databases, upstreams, the log.
const LEFT_FOR_OTHERS: u64 = 512;
/// Connections that there is room for in any case.
const FEWEST: usize = 16;

/// The connections that are there.
#[derive(Debug)]
pub struct Crowd {
    most: usize,
    tasks: JoinSet<()>,
    members: HashMap<Id, (AbortHandle, Watch)>,
    newest: Option<Id>,
}

impl Crowd {
    /// Nobody yet, and at most so many.
    #[must_use]
    pub fn of_at_most(most: usize) -> Self {
        Self { most, tasks: JoinSet::new(), members: HashMap::new(), newest: None }
    }

    /// Whether another one may come: one more than there is room for, so that it is known that somebody waits.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.tasks.len() <= self.most
    }

    /// Whether there is that one too many.
    #[must_use]
    pub fn is_overfull(&self) -> bool {
        self.tasks.len() > self.most
    }

    /// A connection has come: `attend` serves it, and `watch` knows what it is at.
    pub fn join(&mut self, watch: Watch, attend: impl Future<Output = ()> + Send + 'static) {
        if self.tasks.len() >= self.most {
            self.dismiss_one();
        }
        let task = self.tasks.spawn(attend);
        self.newest = Some(task.id());
        self.members.insert(task.id(), (task, watch));
    }

    /// Closes the connection that has been idle for the longest time, if any is. The newest stays: it is the one that room
    /// is made for.
    pub fn dismiss_one(&mut self) {
        let others = self.members.iter().filter(|(id, _)| Some(**id) != self.newest);
        let idle = others.filter_map(|(id, (_, watch))| Some((watch.idle_since()?, *id)));
        if let Some((task, _)) = idle.min_by_key(|(since, _)| *since).and_then(|(_, id)| self.members.remove(&id)) {
            task.abort();
        }
    }

    /// Waits until one has ended; `None` when there is none.
    pub async fn ended(&mut self) -> Option<()> {
        // A panic in one has been reported by the panic hook.
        let id = self.tasks.join_next_with_id().await?.map_or_else(|error| error.id(), |(id, ())| id);
        self.members.remove(&id);
        Some(())
    }

    /// Closes all.
    pub async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Raises the process's limit of open files as far as so many connections need it and the system allows. Returns how many
/// there is room for.
pub fn make_room(connections: u32) -> usize {
    let needed = u64::from(connections) + LEFT_FOR_OTHERS;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: Some(limit.maximum.map_or(needed, |most| most.min(needed))), ..limit };
    if limit.current.is_some_and(|current| current < needed)
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
    let room = getrlimit(Resource::Nofile).current.map_or(u64::MAX, |limit| limit.saturating_sub(LEFT_FOR_OTHERS));
    let wanted = usize::try_from(connections).unwrap_or(usize::MAX);
    let room = usize::try_from(room).unwrap_or(usize::MAX).max(FEWEST);
    if room < wanted {
        tracing::warn!(max_connections = room, "the system's limit of open files leaves no room for more connections");
    }
    room.min(wanted)
}
