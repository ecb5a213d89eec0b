//! Which resources were read, in memory: a read writes nothing, and once in a while all of them are written at once
//! ([`Store::note_reads`](super::Store::note_reads)).

use std::sync::{Mutex, MutexGuard, PoisonError};

use roaring::RoaringTreemap;

use crate::domain::resource::ResourceId;

/// The resources that were read since it was last taken note of: about one bit for each, since their ids are neighbours
/// mostly, and two bytes at the most.
#[derive(Debug, Default)]
pub struct Reads {
    // A std mutex: held for an insertion, never across an await.
    since: Mutex<RoaringTreemap>,
}

impl Reads {
    /// One was read.
    pub fn note(&self, resource: ResourceId) {
        self.since().insert(resource.0.unsigned_abs());
    }

    /// Takes out all that were read, in the order of their ids.
    #[must_use]
    pub fn take(&self) -> Vec<ResourceId> {
        let taken = std::mem::take(&mut *self.since());
        taken.into_iter().map(|id| ResourceId(id.cast_signed())).collect()
    }

    fn since(&self) -> MutexGuard<'_, RoaringTreemap> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_taken_once() {
        let reads = Reads::default();
        for id in [7, 3, 7] {
            reads.note(ResourceId(id));
        }
        assert_eq!(reads.take(), [ResourceId(3), ResourceId(7)]);
        assert_eq!(reads.take(), []);
    }
}
