//! Counts what readers ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};

/// How often the read API was asked for something.
#[derive(Debug, Clone, Default)]
pub struct Reads(Arc<AtomicU64>);

impl Reads {
    /// The number so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The router, with its requests counted here; those that ask about the process (`/healthz`) are left out.
    pub fn counted(&self, router: Router) -> Router {
        let reads = Arc::clone(&self.0);
        router.layer(from_fn(move |request: Request, next: Next| {
            if request.uri().path().starts_with("/v1/") {
                reads.fetch_add(1, Ordering::Relaxed);
            }
            next.run(request)
        }))
    }
}
