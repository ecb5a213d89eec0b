//! What an operator should hear once of a source: something to change in the configuration, or to ask the upstream about.

use std::collections::HashSet;

use crate::domain::decision::{Metadata, Outcome};
use crate::domain::resource::{Key, SourceName};

/// Something to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Notice {
    Moved,
    Transformed,
}

/// What was told already. It is as long as the list of sources, at the most.
#[derive(Debug, Default)]
pub(super) struct Notices {
    told: HashSet<(SourceName, Notice)>,
}

impl Notices {
    /// Logs what is to be said of an outcome, unless it was said of its source before.
    pub(super) fn tell(&mut self, source: &SourceName, key: &Key, outcome: &Outcome) {
        let Some(metadata) = metadata(outcome) else { return };
        if let Some(path) = &metadata.moved_to
            && self.is_new(source, Notice::Moved)
        {
            tracing::warn!(
                %source, %key, path,
                "the upstream says that resources of this source have moved for good (301 or 308): each refresh costs a \
                 request more until its url is changed; this is logged once, and /meta says moved_to"
            );
        }
        if metadata.transformed && self.is_new(source, Notice::Transformed) {
            tracing::warn!(
                %source, %key,
                "the upstream answers 203: something in between changed the content, or the upstream means to say that what \
                 is asked for will go away; this is logged once, and /meta says transformed"
            );
        }
    }

    fn is_new(&mut self, source: &SourceName, notice: Notice) -> bool {
        self.told.insert((source.clone(), notice))
    }
}

/// What came with a content, as far as it is other than before.
fn metadata(outcome: &Outcome) -> Option<&Metadata> {
    match outcome {
        Outcome::Replaced(replacement) => Some(&replacement.metadata),
        Outcome::Confirmed { metadata, .. } => metadata.as_ref(),
        Outcome::Reset { .. } | Outcome::Deferred(_) | Outcome::Gone(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_told_once_of_a_source() {
        let source = |name| SourceName::new(name).unwrap();
        let mut notices = Notices::default();
        assert!(notices.is_new(&source("a"), Notice::Moved));
        assert!(notices.is_new(&source("a"), Notice::Transformed));
        assert!(notices.is_new(&source("b"), Notice::Moved));
        assert!(!notices.is_new(&source("a"), Notice::Moved));
    }
}
