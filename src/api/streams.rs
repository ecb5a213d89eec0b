//! Answers that go on for long. Each holds a connection that can't be made to give way to another, so there are at most so
//! many of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ApiState;
use super::error::ApiError;
use crate::telemetry::metrics;

/// The streams of this process.
#[derive(Debug, Clone, Default)]
pub struct Streams(Arc<AtomicUsize>);

/// One stream's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    streams: Streams,
    _counted: metrics::Streams,
}

impl Streams {
    /// How many there are now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl ApiState {
    /// A place for one more stream of this kind.
    ///
    /// # Errors
    /// When there are as many as `max_streams` already.
    pub(super) fn stream(&self, kind: &'static str) -> Result<Place, ApiError> {
        let most = self.settings().max_streams;
        let more = |open: usize| (open < most).then_some(open + 1);
        // Relaxed: nothing but the number itself is told by it.
        match self.streams.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Place { streams: self.streams.clone(), _counted: metrics::Streams::of(kind) }),
            Err(_) => Err(ApiError::TooManyStreams { most }),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.0.fetch_sub(1, Ordering::Relaxed);
    }
}
