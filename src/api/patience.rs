//! How long a connection may keep us waiting.
//!
//! hyper has one timer for this, `header_read_timeout`: it runs from the end of one answer to the end of the next request's
//! headers, so that time to idle and time to send headers can't differ, and no timer for a client that stops taking its
//! answer. So hyper's timer is off, and the connection is watched here: by the bytes that move, and by the requests and
//! answers that begin and end.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::monotonic;

/// The longest waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a request's headers, from their first byte (or the connection's start) to their last.
    pub headers: Duration,
    /// For any sign of life while a request is being answered: longer than an answer may take to begin.
    pub answer: Duration,
    /// For the next request to begin, or for the client to take more of the last answer.
    pub idle: Duration,
}

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request's headers are coming in.
    Headers,
    /// The request is with its handler, or the answer's body is still being produced.
    Answering,
    /// The whole answer has been handed over; the client may still be reading it.
    Idle,
}

/// A connection's phase, and when it began or last showed a sign of life.
#[derive(Debug, Clone, Copy)]
struct Progress {
    phase: Phase,
    since: Instant,
}

impl Progress {
    fn read(&mut self, now: Instant) {
        // Only the first byte counts: a client that sends one now and then must not stretch its time.
        if self.phase == Phase::Idle {
            *self = Self { phase: Phase::Headers, since: now };
        }
    }

    fn written(&mut self, now: Instant) {
        if self.phase != Phase::Headers {
            self.since = now;
        }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        *self = Self { phase, since: now };
    }

    fn deadline(&self, patience: &Patience) -> Instant {
        let patience = match self.phase {
            Phase::Headers => patience.headers,
            Phase::Answering => patience.answer,
            Phase::Idle => patience.idle,
        };
        // What no clock can show is as good as never.
        self.since.checked_add(patience).unwrap_or(self.since + Duration::from_secs(86_400 * 365))
    }
}

/// Watches one connection. Clones watch the same one.
#[derive(Debug, Clone)]
pub struct Watch {
    patience: Patience,
    // A std mutex: held for an assignment, never across an await, and only one task takes it.
    progress: Arc<Mutex<Progress>>,
}

impl Watch {
    /// Watches a connection that begins now, and should send its first request.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        let progress = Progress { phase: Phase::Headers, since: monotonic() };
        Self { patience, progress: Arc::new(Mutex::new(progress)) }
    }

    /// A request's headers are complete. Its answer has been handed over when the returned guard is dropped.
    #[must_use]
    pub fn answering(&self) -> Answering {
        self.progress().enter(Phase::Answering, monotonic());
        Answering(self.clone())
    }

    /// Since when nothing was asked for on it that is still to be answered; `None` while a request is being answered.
    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        let progress = *self.progress();
        (progress.phase != Phase::Answering).then_some(progress.since)
    }

    /// Drives a connection to its end, or drops it when it has kept us waiting too long.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when it has.
    pub async fn attend<C: Future>(self, connection: C) -> io::Result<C::Output> {
        let mut connection = std::pin::pin!(connection);
        let mut timer = std::pin::pin!(tokio::time::sleep_until(self.deadline()));
        std::future::poll_fn(move |context| {
            if let Poll::Ready(end) = connection.as_mut().poll(context) {
                return Poll::Ready(Ok(end));
            }
            // Whatever moves the deadline happens within the poll above, so this is the only place that needs to look.
            let deadline = self.deadline();
            if timer.deadline() != deadline {
                timer.as_mut().reset(deadline);
            }
            timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }

    fn deadline(&self) -> tokio::time::Instant {
        self.progress().deadline(&self.patience).into()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives as long as an answer is being made.
#[derive(Debug)]
pub struct Answering(Watch);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.progress().enter(Phase::Idle, monotonic());
    }
}

/// A stream whose bytes are signs of life.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    watch: Watch,
}

impl<S> Watched<S> {
    /// Tells `watch` of the bytes that `stream` moves.
    #[must_use]
    pub fn new(stream: S, watch: Watch) -> Self {
        Self { stream, watch }
    }

    fn written(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(1..))) {
            self.watch.progress().written(monotonic());
        }
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.watch.progress().read(monotonic());
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { headers: Duration::from_secs(10), answer: Duration::from_secs(40), idle: Duration::from_secs(60) };

    /// The deadline, in seconds from the start, after these events, one each second: `r`ead, `w`rite, `q` the request is
    /// complete, `a` the answer has been handed over.
    fn deadline(events: &str) -> u64 {
        let start = monotonic();
        let mut progress = Progress { phase: Phase::Headers, since: start };
        for (event, second) in events.chars().zip(1..) {
            let now = start + Duration::from_secs(second);
            match event {
                'r' => progress.read(now),
                'w' => progress.written(now),
                'q' => progress.enter(Phase::Answering, now),
                'a' => progress.enter(Phase::Idle, now),
                other => panic!("{other}"),
            }
        }
        (progress.deadline(&PATIENCE) - start).as_secs()
    }

    #[test]
    fn each_phase_has_its_own_patience() {
        for (events, expected, why) in [
            ("", 10, "a new connection should send a request"),
            ("rrr", 10, "bytes of a header don't stretch its time"),
            ("rq", 42, "a request is being answered"),
            ("rqww", 44, "what is written is a sign of life"),
            ("rqrr", 42, "what is read while answering isn't one"),
            ("rqa", 63, "idle"),
            ("rqaww", 65, "the client is still taking the answer"),
            ("rqar", 14, "the next request has begun"),
            ("rqarrr", 14, "and its time isn't stretched either"),
            ("rqarw", 14, "nor by taking the last answer slowly"),
            ("rqarq", 45, "the next request is being answered"),
        ] {
            assert_eq!(deadline(events), expected, "{events:?}: {why}");
        }
    }
}
