//! A trouble that lasts is told once a minute, and not with each attempt.

use std::time::{Duration, Instant};

/// How long the same trouble is not told again.
const QUIET: Duration = Duration::from_secs(60);

/// What was told last, and when.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    told: Option<(String, Instant)>,
}

impl Complaint {
    /// Whether a trouble is to be told: it is another one than was told last, or that was more than a minute ago.
    pub(super) fn is_due(&mut self, trouble: String, now: Instant) -> bool {
        let is_known = self.told.as_ref().is_some_and(|(told, at)| *told == trouble && now < *at + QUIET);
        if !is_known {
            self.told = Some((trouble, now));
        }
        !is_known
    }

    /// All is well: the next trouble is a new one.
    pub(super) fn is_over(&mut self) {
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    #[test]
    fn the_same_trouble_is_told_once_a_minute_and_another_one_at_once() {
        let (mut complaint, start) = (Complaint::default(), monotonic());
        for (second, trouble, is_due) in [
            (0, "away", true),
            (1, "away", false),
            (2, "read-only", true),
            (61, "read-only", false),
            (62, "read-only", true),
        ] {
            let at = start + Duration::from_secs(second);
            assert_eq!(complaint.is_due(trouble.into(), at), is_due, "{trouble} at {second} s");
        }
        complaint.is_over();
        assert!(complaint.is_due("read-only".into(), start + Duration::from_secs(63)));
    }
}
